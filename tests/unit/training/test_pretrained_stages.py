"""A space with pretrained weights: what starts from them, what is fitted, and what is the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from support.memory_context import MemoryStore, memory_context
from support.toy_search import EACH_STEP, SPACE, Stopped, StoppingScratch, latency_model

from nasflow.base.errors import NasflowError, UsageError
from pipeline.stage import Context
from stages.baseline import Baseline, BaselineConfig
from stages.data.config import DataConfig, open_dataset
from stages.documents import (
    PrunedNetwork,
    PrunedNetworks,
    ReferenceLatency,
    SearchResult,
    TrainedNetworks,
)
from stages.finetune import Finetune
from stages.nas.config import SearchConfig
from stages.nas.search_loop import run_search
from stages.nn.network import Network, load_network, save_weights
from stages.nn.pretrained import full_network, load_pretrained
from stages.nn.supernet import Supernet
from stages.nn.weights_source import weights_identity
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.space.search_space import Candidate, SearchSpace
from stages.training.distillation import TeacherConfig
from stages.training.optimisation import accuracy_percent
from stages.training.recipe import TrainingConfig, resolved_start
from stages.training.starting import FittedStart, pretrained_full, with_teacher
from stages.verification.rivals import counting

DATA = DataConfig(train_images=200, architecture_images=100)
STILL = TrainingConfig(epochs=1, batch_size=50, pretrained_rate=1e-9, ema_decay=0.0)
"""Trained so little that the weights are those of the start."""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    """The toy space with weights of its own: random ones, which stand for pretrained ones."""
    folder = tmp_path_factory.mktemp("weights")
    nested = SPACE.model_copy(
        update={"candidates": (Candidate(kernel=3, expansion=2), Candidate(kernel=5, expansion=4))}
    )
    torch.manual_seed(3)
    save_file(Network(nested.network(nested.largest_path())).state_dict(), folder / "own.safetensors")
    (folder / "own.yaml").write_text("weights: own.safetensors\nmean: [0.5]\nstd: [0.5]\nbn_epsilon: 0.001\n")
    return nested.model_copy(update={"pretrained": str(folder / "own.yaml")})


def pruned(space: SearchSpace, store: MemoryStore) -> PrunedNetworks:
    """The largest network as the found one, and a smaller one beside it; their weights are the supernet's."""
    torch.manual_seed(5)
    latency = latency_model(space)
    smaller = tuple(0 for _ in space.layers())
    networks = []
    for name, role, path in (("found", "found", space.largest_path()), ("random", "random", smaller)):
        net = space.network(path)
        networks.append(
            PrunedNetwork.model_validate(
                {
                    "name": name,
                    "role": role,
                    "choices": path,
                    "net": net,
                    "target_ms": 1.0,
                    "predicted_ms": latency.predict_ms(net),
                    "supernet_accuracy_percent": 50.0,
                    "weights": store.put_bytes(save_weights(Network(net)), ".safetensors"),
                }
            )
        )
    return PrunedNetworks(
        target_ms=1.0,
        considered=(),
        anchor=ReferenceLatency.model_validate(latency.reference.model_dump()),
        found=networks[0],
        randoms=(networks[1],),
        seconds=0.0,
    )


def trained(stage: Any, store: MemoryStore, **inputs: Any) -> TrainedNetworks:
    document = stage.run(memory_context(stage.name, store=store), **inputs)
    assert isinstance(document, TrainedNetworks)
    return document


def weights_of(document: TrainedNetworks, name: str, store: MemoryStore) -> dict[str, torch.Tensor]:
    (network,) = (network for network in document.networks if network.name == name)
    return load(store.read_bytes(network.weights))


def test_the_found_network_starts_from_pretrained_weights_and_says_whose(space: SearchSpace) -> None:
    store = MemoryStore()
    stage = Finetune(config=STILL, space=space, data=DATA, seed=0)
    document = trained(stage, store, pruned=pruned(space, store))
    full = full_network(space, load_pretrained(space)).state_dict()
    found = weights_of(document, "found", store)
    kernels = [name for name, tensor in full.items() if tensor.ndim == 4]
    assert kernels
    for name in kernels:
        torch.testing.assert_close(found[name], full[name], atol=1e-5, rtol=1e-5)
    assert {network.origin for network in document.networks} == {"pretrained"}
    assert {network.pretrained.name for network in document.networks if network.pretrained} == {
        "own.safetensors"
    }


def test_inherited_and_fresh_starts_are_there_on_request(space: SearchSpace) -> None:
    store = MemoryStore()
    for start in ("inherited", "fresh"):
        config = STILL.model_copy(update={"start": start})
        stage = Finetune(config=config, space=space, data=DATA, seed=0)
        document = trained(stage, store, pruned=pruned(space, store))
        assert {network.origin for network in document.networks} == {start}


def test_the_whole_pretrained_network_is_trained_beside_the_baselines(space: SearchSpace) -> None:
    store = MemoryStore()
    config = BaselineConfig(widths=(0.35,), published_widths=())
    stage = Baseline(config=config, recipe=STILL, space=space, data=DATA, seed=0)
    document = trained(stage, store)
    assert [(n.name, n.role, n.origin) for n in document.networks] == [
        ("toy_full", "full", "pretrained"),
        ("mobilenet_v2_0.35", "baseline", "fresh"),
    ]
    full = full_network(space, load_pretrained(space)).state_dict()
    kept = weights_of(document, "toy_full", store)
    torch.testing.assert_close(kept["blocks.0.0.weight"], full["blocks.0.0.weight"], atol=1e-5, rtol=1e-5)
    without = config.model_copy(update={"full": False})
    with pytest.raises(UsageError, match="no network with pretrained weights to compare"):
        Baseline(config=without, recipe=STILL, space=space, data=DATA, seed=0).check()


def test_a_pretrained_mobilenet_v2_of_ones_own_is_trained_as_the_found_network_is_and_counts(
    space: SearchSpace, tmp_path: Path
) -> None:
    torch.manual_seed(4)
    net = mobilenet_v2(
        resolution=space.resolution, classes=1000, input_channels=space.input_channels, width=0.35
    )
    theirs = Network(net).state_dict()
    save_file(theirs, tmp_path / "theirs.safetensors")
    path = tmp_path / "mobilenet.yaml"
    path.write_text("weights: theirs.safetensors\nlicence: MIT\n")
    config = BaselineConfig(
        widths=(0.35,), published_widths=(), pretrained=str(path), pretrained_width=0.35, full=False
    )
    stage = Baseline(config=config, recipe=STILL, space=space, data=DATA, seed=0)
    stage.check()
    assert [name for name, _ in stage.all_networks()] == [
        "mobilenet_v2_0.35_pretrained",
        "mobilenet_v2_0.35",
    ]
    store = MemoryStore()
    document = trained(stage, store)
    own, fresh = document.networks
    assert (own.role, own.origin, own.net.classes) == ("baseline_published", "pretrained", space.classes)
    assert own.pretrained is not None and own.pretrained.licence == "MIT"
    kept = weights_of(document, own.name, store)
    torch.testing.assert_close(kept["blocks.0.0.weight"], theirs["blocks.0.0.weight"], atol=1e-5, rtol=1e-5)
    found = own.model_copy(update={"name": "found", "role": "found"})
    assert counting([found, own, fresh]) == [own.name]
    # Another file is another result; where it lies is none.
    before = stage.environment()["mobilenet"]
    path.write_text("weights: theirs.safetensors\nlicence: none\n")
    assert stage.environment()["mobilenet"] != before
    assert str(tmp_path) not in json.dumps(stage.settings())


def test_a_pretrained_mobilenet_v2_beside_a_space_of_random_weights_is_refused(tmp_path: Path) -> None:
    config = BaselineConfig(pretrained=str(tmp_path / "mobilenet.yaml"))
    with pytest.raises(UsageError, match="start from random weights") as caught:
        Baseline(config=config, recipe=STILL, space=SPACE, data=DATA, seed=0).check()
    assert "lite0" in caught.value.hint


def test_a_mapping_file_that_is_not_there_is_found_before_anything_runs(
    space: SearchSpace, tmp_path: Path
) -> None:
    config = BaselineConfig(pretrained=str(tmp_path / "mobilenet.yaml"))
    with pytest.raises(NasflowError, match=r"mobilenet\.yaml"):
        Baseline(config=config, recipe=STILL, space=space, data=DATA, seed=0).check()


def test_each_network_starts_from_a_dense_layer_that_is_fitted_to_its_features(space: SearchSpace) -> None:
    full, start = pretrained_full(space, DATA, 0), FittedStart(space, DATA, 0)
    same, smaller = (
        start.network(space.network(path)) for path in (space.largest_path(), [0 for _ in space.layers()])
    )
    supernet = Supernet(space)
    start.fill(supernet)
    dense = full.blocks[-1].state_dict()
    for other in (same.blocks[-1], supernet.classifier):
        for name, tensor in other.state_dict().items():
            torch.testing.assert_close(tensor, dense[name], rtol=0, atol=0)
    assert not torch.equal(smaller.blocks[-1].state_dict()["dense.weight"], dense["dense.weight"])
    training = open_dataset(DATA).load("train").batches(100, torch.device("cpu"))
    chance = 100 / space.classes
    for network in (full, smaller):
        assert accuracy_percent(network, training.in_order()) > 2 * chance


def test_pretrained_networks_keep_their_statistics_and_others_learn_them(space: SearchSpace) -> None:
    store = MemoryStore()
    recipe = STILL.model_copy(update={"pretrained_rate": 1e-3})
    config = BaselineConfig(widths=(0.35,), published_widths=())
    document = trained(Baseline(config=config, recipe=recipe, space=space, data=DATA, seed=0), store)
    full = full_network(space, load_pretrained(space)).state_dict()
    kept, fresh = (weights_of(document, name, store) for name in ("toy_full", "mobilenet_v2_0.35"))
    statistics = [name for name in full if name.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(kept[name], full[name]) for name in statistics)
    assert not torch.equal(kept["blocks.0.0.weight"], full["blocks.0.0.weight"])
    means = [tensor for name, tensor in fresh.items() if name.endswith("running_mean")]
    assert all(bool(mean.any()) for mean in means)


def test_the_whole_network_may_be_everyones_teacher(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = MemoryStore()
    recipe = STILL.model_copy(update={"teacher": TeacherConfig(network="full", weight=1.0)})
    teacher = with_teacher(recipe, space, DATA, 0).teacher.load()
    assert teacher is not None
    full = pretrained_full(space, DATA, 0).state_dict()
    assert all(torch.equal(tensor, full[name]) for name, tensor in teacher.state_dict().items())
    taught, alone = (
        trained(Finetune(config=config, space=space, data=DATA, seed=0), store, pruned=pruned(space, store))
        for config in (recipe, STILL)
    )
    first = [document.networks[0].curve[0].train_loss for document in (taught, alone)]
    assert first[0] != first[1]
    fresh = SPACE.model_copy(update={"pretrained": None})
    with pytest.raises(UsageError, match=f"space {SPACE.name} has no pretrained weights"):
        Finetune(config=recipe, space=fresh, data=DATA, seed=0).check()


def test_a_search_starts_from_fitted_candidates_and_says_whose_weights(space: SearchSpace) -> None:
    store = MemoryStore()
    config = SearchConfig(
        warmup_epochs=1, epochs=1, batch_size=50, architecture_batch_size=50, pretrained_rate=1e-9
    )
    result = run_search(
        config,
        space,
        DATA,
        0,
        latency=latency_model(space),
        targets_ms=[latency_model(space).feasible_ms[1]],
        minimum_share=0.5,
        context=memory_context("search", store=store),
    )
    assert result.pretrained is not None
    supernet = Supernet(space)
    supernet.load_state_dict(load(store.read_bytes(result.supernet)))
    extracted = supernet.extract(space.largest_path()).state_dict()
    full = full_network(space, load_pretrained(space)).state_dict()
    for name in (name for name, tensor in full.items() if tensor.ndim == 4):
        torch.testing.assert_close(extracted[name], full[name], atol=1e-5, rtol=1e-5)
    for name in (name for name in full if name.endswith(("running_mean", "running_var"))):
        assert torch.equal(extracted[name], full[name])


def test_a_stopped_search_from_pretrained_weights_ends_as_if_undisturbed(space: SearchSpace) -> None:
    config = SearchConfig(
        warmup_epochs=1, epochs=1, batch_size=50, architecture_batch_size=50, architecture_every=2
    )

    def search(context: Context, checkpoint_seconds: float) -> SearchResult:
        latency = latency_model(space)
        target_ms = latency.feasible_ms[1]
        found = run_search(
            config, space, DATA, 0, latency=latency, targets_ms=[target_ms], minimum_share=0.5,
            context=context, checkpoint_seconds=checkpoint_seconds,
        )  # fmt: skip
        history = tuple(epoch.model_copy(update={"seconds": 0.0}) for epoch in found.history)
        return found.model_copy(update={"history": history, "seconds": 0.0, "compute_cost": None})

    whole = search(memory_context("search"), 1e9)
    scratch = StoppingScratch(stop_at=7)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch), EACH_STEP)
    assert search(memory_context("search", scratch=scratch), EACH_STEP) == whole


def test_other_weights_make_another_fingerprint(space: SearchSpace) -> None:
    with_weights, without = (
        Finetune(config=TrainingConfig(start=start), space=space, data=DATA, seed=0)
        for start in ("pretrained", "fresh")
    )
    assert weights_identity(space.pretrained).items() <= with_weights.environment().items()
    assert "pretrained" not in without.environment()


def test_a_start_that_the_space_does_not_have_is_refused_before_anything_runs() -> None:
    assert resolved_start("auto", SPACE) == "inherited"
    with pytest.raises(UsageError, match="no pretrained weights"):
        Finetune(config=TrainingConfig(start="pretrained"), space=SPACE, data=DATA, seed=0).check()


def test_weights_of_a_trained_network_load_as_any_others(space: SearchSpace, tmp_path: Path) -> None:
    net = space.network(space.largest_path())
    network = load_network(net, save_weights(full_network(space, load_pretrained(space))))
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
