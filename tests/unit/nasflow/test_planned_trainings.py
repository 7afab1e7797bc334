"""What a dry run says will be trained, against what real stages then train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from support.memory_context import MemoryStore, memory_context
from support.toy_search import SPACE, latency_model

from benchmarks._memory import learned_tensors, traced_peak
from nasflow.base.processes import usable_cores
from nasflow.cli.app import main
from nasflow.commands.planned_trainings import Images, PlannedTraining, counted_images, planned_trainings
from nasflow.commands.training_costs import Cost, Costs, busy_note
from stages.baseline import Baseline, BaselineConfig
from stages.data.config import DataConfig
from stages.documents import SearchResult, TrainedNetworks
from stages.finetune import Finetune
from stages.nas import step_costs
from stages.nas.config import SearchConfig
from stages.nas.step_costs import StepTimes, supernet_memory
from stages.nas.targets import TargetConfig
from stages.nn.network import Network
from stages.nn.supernet import Supernet
from stages.search import Search
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.training.budget import Pace
from stages.training.checkpoint import unpack
from stages.training.optimisation import sgd
from stages.training.recipe import TrainingConfig
from stages.training.step_memory import network_memory

DATA = DataConfig(train_images=230, architecture_images=100)
RECIPE = TrainingConfig(epochs=2, batch_size=50)
IMAGENET = Path(__file__).parents[3] / "examples/imagenet_proxyless/pipeline.yaml"


@pytest.mark.parametrize("estimator", ["posterior", "window", "two_path", "reinforce"])
def test_a_search_takes_the_steps_that_were_counted(estimator: str) -> None:
    keys = {"epochs": 2, "batch_size": 50, "architecture_every": 3, "architecture_batch_size": 30}
    config = SearchConfig.model_validate({"warmup_epochs": 1, "estimator": estimator, **keys})
    search = Search(config=config, target=TargetConfig(ms=0.08), space=SPACE, data=DATA, seed=1)
    planned = planned_trainings([search], counted_images([search]))
    assert [(p.epochs, p.steps, p.images) for p in planned] == [(1, 4, 200), (2, 8, 400)]
    assert [(p.architecture_steps, p.architecture_images) for p in planned] == [(0, 0), (2, 60)]
    store, scratch = MemoryStore(), memory_context("search").scratch
    context = memory_context("search", store=store, scratch=scratch)  # type: ignore[arg-type]
    result = search.run(context, latency=latency_model())
    assert isinstance(result, SearchResult)
    weights = load(store.read_bytes(result.supernet))
    seen = {int(weights[name]) for name in weights if name.startswith("stem") and "num_batches" in name}
    assert seen == {sum(p.steps for p in planned)}
    _, state = unpack(scratch.load("search.checkpoint") or b"")
    learned = state["estimator"]
    steps = {learned["step"]} if "step" in learned else {int(each["step"]) for each in learned["moments"]}
    assert steps == {planned[1].architecture_steps}


def test_networks_see_the_images_that_were_counted() -> None:
    baseline = Baseline(
        config=BaselineConfig(widths=(0.35,), published_widths=()),
        recipe=RECIPE,
        space=SPACE,
        data=DATA,
        seed=1,
    )
    (planned,) = planned_trainings([baseline], counted_images([baseline]))
    trained = baseline.run(memory_context("baseline"))
    assert isinstance(trained, TrainedNetworks)
    (network,) = trained.networks
    assert (planned.what, planned.networks) == (network.name, 1)
    assert planned.images == planned.steps * 50 == network.images_seen
    assert planned.epochs == len(network.curve)
    assert planned.net == network.net


def test_networks_that_the_search_will_find_are_counted_and_marked() -> None:
    finetune = Finetune(config=RECIPE, space=SPACE, data=DATA, seed=1, networks=4)
    (planned,) = planned_trainings([finetune], Images(train=30, architecture=10, choice=10))
    assert (planned.networks, planned.assumed, planned.steps, planned.images) == (4, True, 2, 60)


@pytest.mark.parametrize("name", shipped_spaces())
def test_parameters_are_those_of_the_modules(name: str) -> None:
    space = load_space(SpaceConfig(name=name))
    with torch.device("meta"):
        supernet, network = Supernet(space), Network(space.network(space.middle_path()))
    assert space.parameters == sum(parameter.numel() for parameter in supernet.parameters())
    assert network.net.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_counted_memory_is_within_a_quarter_of_what_a_step_takes() -> None:
    space = load_space(SpaceConfig())
    net = space.network(space.middle_path())
    network = Network(net)
    optimizer = sgd(network, RECIPE)
    x_NCHW, labels_N = torch.zeros(RECIPE.batch_size, 3, 32, 32), torch.zeros(RECIPE.batch_size).long()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(x_NCHW), labels_N).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    step()
    measured = traced_peak(step, lambda: learned_tensors([network], [optimizer]))
    assert network_memory(net, RECIPE).activations == pytest.approx(measured, rel=0.25)


def test_memory_of_a_search_follows_its_batches_and_its_paths() -> None:
    small, large = (
        supernet_memory(SPACE, SearchConfig(batch_size=size, architecture_batch_size=2), "32")
        for size in (16, 64)
    )
    assert large.activations == pytest.approx(4 * small.activations, rel=0.01)
    assert large.learned == small.learned > 8 * SPACE.parameters
    halved = supernet_memory(SPACE, SearchConfig(batch_size=64, architecture_batch_size=2), "bf16")
    assert halved.activations == large.activations // 2


def test_imagenet_is_planned_without_its_images(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_costs, "MACS_OF_A_BATCH", 1)  # two images
    monkeypatch.setattr(step_costs, "MOST_SECONDS", 0.0)  # as few steps as may be
    config = tmp_path / "pipeline.yaml"
    config.write_bytes(IMAGENET.read_bytes())
    words = ["run", "--dry-run", "--config", str(config), "--set", "space.resolution=32"]
    assert main([*words, "--json"]) == 0
    training = json.loads(capfd.readouterr().out)["training"]
    of = {row["what"]: row for row in training["trainings"]}
    assert training["images"]["train"] == 1_281_167 - 50_000
    assert of["supernet, warm-up"]["steps"] == 40 * (1_231_167 // 256)
    assert of["supernet, search"]["architecture_steps"] == 120 * (1_231_167 // 256 // 5)
    assert of["found and others"]["epochs"] == 300
    assert of["mobilenet_v2_1"]["parameters"] == 3_504_872
    hours = sum(row["device_hours"] for row in training["trainings"])
    unit = "gpu_hours" if torch.cuda.is_available() else "cpu_hours"
    assert training[unit] == pytest.approx(hours, rel=0.01)
    assert list(tmp_path.iterdir()) == [config]
    assert main([*words, "--set", "data.train_images=5120"]) == 0
    text = capfd.readouterr().out
    assert "does not exist" in text and "5,120, as data.train_images says" in text
    assert ("GPU-hours are not known" in text) == (unit == "cpu_hours")


@pytest.mark.parametrize(
    ("running", "said"), [(1.0, ""), (50.0 * usable_cores(), " Other programs ran meanwhile")]
)
def test_steps_that_were_timed_beside_other_programs_are_said_to_be(
    monkeypatch: pytest.MonkeyPatch, running: float, said: str
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (running, 0.0, 0.0))
    assert busy_note().startswith(said)
    assert bool(busy_note()) is bool(said)


def test_a_stage_costs_as_often_as_folds_have_it_to_run() -> None:
    pace = Pace(supernet_image_ms=1.0, baseline_image_ms=1.0, baseline_macs=10**6)
    times = StepTimes("cpu", 1, 0, pace, 1.0, (8, 8, 8), 1.0)
    images = Images(train=80, architecture=10, choice=10)
    net = SPACE.network(SPACE.middle_path())
    rows = tuple(
        Cost(PlannedTraining(stage, "one", 1, 1, 10, 80, net), net.parameters, 1, 1, seconds)
        for stage, seconds in (("finetune", 60.0), ("baseline", 6.0))
    )
    whole = Costs(images, times, rows, 3, "32")
    rest = Costs(images, times, rows, 3, "32", repeats={"finetune": 1, "baseline": 2})
    assert whole.wall_seconds == pytest.approx(3 * 66)
    assert rest.wall_seconds == pytest.approx(60 + 2 * 6)
    assert rest.device_hours == pytest.approx(72 / 3600)
    assert rest.document()["seconds"] == 72.0


def test_what_trains_nothing_still_needs_the_images_of_a_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "pipeline.yaml"
    config.write_text("data: {source: folder, path: nowhere}\n")
    assert main(["profile", "--dry-run", "--config", str(config)]) == 8
    assert "nowhere does not exist" in capfd.readouterr().err
