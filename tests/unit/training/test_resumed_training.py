"""A training that was stopped, by whatever and wherever, ends as an undisturbed one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.toy_search import EACH_STEP, SPACE, Stopped, StoppingScratch

from nasflow.base.errors import TrainingDivergedError, UsageError
from pipeline.events import Event, Metric
from pipeline.stage import Context
from pipeline.store.scratch import FolderScratch
from stages.data.config import DataConfig, open_dataset
from stages.nn.network import Network, load_network
from stages.training.checkpoint import unpack
from stages.training.loop import Trained, _Run, train
from stages.training.partway import between
from stages.training.recipe import Recipe
from stages.training.runtime import TrainingRuntime, start_runtime

DATA = DataConfig(train_images=250, architecture_images=100)
RECIPE = Recipe(epochs=2, batch_size=50)
NET = SPACE.network((0, 0, 0, 1))
STEPS = 5
WRITES = 2 * (STEPS + 1)
"""One after each step, one after each epoch."""


def trained(
    context: Context,
    recipe: Recipe = RECIPE,
    *,
    checkpoint_seconds: float = EACH_STEP,
    pretrained: bool = False,
    accelerator: str = "auto",
) -> Trained:
    runtime = start_runtime(0, checkpoint_seconds=checkpoint_seconds, accelerator=accelerator)
    return train(
        Network(NET),
        open_dataset(DATA).load("train").batches(recipe.batch_size, runtime.device),
        open_dataset(DATA).load("choice").batches(recipe.batch_size, runtime.device),
        recipe,
        seed=3,
        name="toy",
        context=context,
        runtime=runtime,
        pretrained=pretrained,
    )


def without_seconds(outcome: Trained) -> Trained:
    curve = tuple(point.model_copy(update={"seconds": 0.0}) for point in outcome.curve)
    return replace(outcome, curve=curve, compute_cost=None)


@pytest.fixture(scope="module")
def undisturbed() -> Trained:
    return without_seconds(trained(memory_context("finetune"), checkpoint_seconds=1e9))


@pytest.mark.parametrize(
    ("write", "kept"),
    [*((write, True) for write in (1, 4, 5, 6, 7, 9, 11, WRITES)), (1, False), (6, False), (WRITES, False)],
)
def test_stopped_at_any_checkpoint_it_ends_as_if_undisturbed(
    undisturbed: Trained, write: int, kept: bool
) -> None:
    """Of each epoch's six writes the first five follow a step, the last closes it."""
    scratch = StoppingScratch(stop_at=write, kept=kept)
    with pytest.raises(Stopped):
        trained(memory_context("finetune", scratch=scratch))
    resumed = trained(memory_context("finetune", scratch=scratch))
    assert without_seconds(resumed) == undisturbed


@pytest.mark.parametrize("write", [3, 6, 9])
def test_a_stopped_training_of_pretrained_weights_ends_as_if_undisturbed(write: int) -> None:
    """It has another optimizer, and batch normalisation that keeps its statistics."""
    whole = trained(memory_context("finetune"), checkpoint_seconds=1e9, pretrained=True)
    scratch = StoppingScratch(stop_at=write)
    with pytest.raises(Stopped):
        trained(memory_context("finetune", scratch=scratch), pretrained=True)
    resumed = trained(memory_context("finetune", scratch=scratch), pretrained=True)
    assert without_seconds(resumed) == without_seconds(whole)


def test_what_a_checkpoint_holds_is_put_where_the_training_computes() -> None:
    """On the device without memory: tensors of two devices cannot be computed with there either."""
    scratch = StoppingScratch(stop_at=WRITES)
    with pytest.raises(Stopped):
        trained(memory_context("finetune", scratch=scratch), pretrained=True)
    images = open_dataset(DATA).load("choice").batches(50, torch.device("cpu"))
    context = memory_context("finetune", scratch=scratch)
    runtime = TrainingRuntime(torch.device("meta"))
    with pytest.warns(UserWarning, match="meta"):
        resumed = _Run(Network(NET), images, images, RECIPE, 3, "toy", context, runtime, pretrained=True)
    assert resumed.best.keys() == resumed.start.keys()
    kept = {**resumed.best, **resumed.start, **resumed.average.tensors, **resumed.network.state_dict()}
    assert {tensor.device.type for tensor in kept.values()} == {"meta"}
    assert all(t.device.type == "meta" for t in between(resumed.start, resumed.best, 0.5).values())


@pytest.mark.gpu
@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("write", [3, 6, 9, WRITES])
def test_on_a_gpu_a_stopped_training_has_the_curve_of_an_undisturbed_one(
    write: int, pretrained: bool
) -> None:
    whole = trained(memory_context("finetune"), accelerator="cuda", pretrained=pretrained)
    scratch = StoppingScratch(stop_at=write)
    with pytest.raises(Stopped):
        trained(memory_context("finetune", scratch=scratch), accelerator="cuda", pretrained=pretrained)
    resumed = trained(memory_context("finetune", scratch=scratch), accelerator="cuda", pretrained=pretrained)
    losses = [[point.train_loss for point in outcome.curve] for outcome in (resumed, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # a GPU adds up in no fixed order
    assert (resumed.kept is not None) == pretrained


@pytest.mark.parametrize("epoch", [0, 1])
def test_stopped_while_it_tells_of_an_epoch_it_ends_as_if_undisturbed(
    undisturbed: Trained, epoch: int
) -> None:
    scratch = MemoryScratch()

    def emit(event: Event) -> None:
        if isinstance(event, Metric) and event.step == epoch:
            raise Stopped

    with pytest.raises(Stopped):
        trained(Context("finetune", "0" * 64, MemoryStore(), scratch, emit))
    assert without_seconds(trained(memory_context("finetune", scratch=scratch))) == undisturbed


def test_without_its_checkpoint_it_starts_again(undisturbed: Trained) -> None:
    scratch = StoppingScratch(stop_at=9)
    with pytest.raises(Stopped):
        trained(memory_context("finetune", scratch=scratch))
    scratch.entries.clear()
    assert without_seconds(trained(memory_context("finetune", scratch=scratch))) == undisturbed


def test_a_checkpoint_damaged_on_the_disk_is_told_and_made_again(
    undisturbed: Trained, tmp_path: Path
) -> None:
    told = Told()
    scratch = FolderScratch(tmp_path / "scratch", "finetune", told)

    def emit(event: Event) -> None:
        if isinstance(event, Metric):
            raise Stopped

    with pytest.raises(Stopped):
        trained(Context("finetune", "0" * 64, MemoryStore(), scratch, emit))
    (entry,) = (tmp_path / "scratch").glob("toy.checkpoint*")
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    again = trained(Context("finetune", "0" * 64, MemoryStore(), scratch, told))
    assert without_seconds(again) == undisturbed
    assert len(told.warnings) == 1
    assert str(entry) in told.warnings[0]


def test_one_entry_of_scratch_holds_all_there_is() -> None:
    scratch = StoppingScratch(stop_at=9)
    with pytest.raises(Stopped):
        trained(memory_context("finetune", scratch=scratch))
    assert list(scratch.entries) == ["toy.checkpoint"]


def test_a_training_that_goes_on_with_other_threads_says_so_and_records_both() -> None:
    scratch, told = StoppingScratch(stop_at=7), Told()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with pytest.raises(Stopped):
            trained(memory_context("finetune", scratch=scratch))
        torch.set_num_threads(2)
        resumed = trained(memory_context("finetune", scratch=scratch, told=told))
    finally:
        torch.set_num_threads(before)
    (warning,) = told.warnings
    assert "toy: resumed on another processor or torch (threads 1 there and 2 here)" in warning
    assert [made_by.threads for made_by in resumed.made_by] == [1, 2]


def test_the_best_epoch_by_validation_is_kept(undisturbed: Trained) -> None:
    accuracies = [point.validation_accuracy_percent for point in undisturbed.curve]
    assert undisturbed.validation_accuracy_percent == max(accuracies)
    assert undisturbed.best_epoch == accuracies.index(max(accuracies))
    images = open_dataset(DATA).load("choice")
    network = load_network(NET, undisturbed.weights)
    with torch.no_grad():
        logits = network(torch.from_numpy(images.batch_NHWC(slice(None))).permute(0, 3, 1, 2))
    right = int((logits.argmax(1).numpy() == images.labels).sum())
    assert 100 * right / len(images) == pytest.approx(undisturbed.validation_accuracy_percent)
    assert undisturbed.images_seen == 2 * STEPS * 50


def test_of_equally_good_epochs_the_first_is_kept() -> None:
    still = RECIPE.model_copy(update={"learning_rate": 1e-12, "ema_decay": 0.0})
    outcome = trained(memory_context("finetune"), still.model_copy(update={"epochs": 4}))
    accuracies = [point.validation_accuracy_percent for point in outcome.curve]
    assert outcome.best_epoch == accuracies.index(max(accuracies))
    assert accuracies.count(max(accuracies)) > 1, "the test would not have noticed"


def test_a_training_that_diverges_names_its_step_and_leaves_a_sound_checkpoint() -> None:
    explosive = RECIPE.model_copy(update={"learning_rate": 10.0, "weight_decay": 1.0, "epochs": 40})
    scratch = MemoryScratch()
    with pytest.raises(TrainingDivergedError) as first:
        trained(memory_context("finetune", scratch=scratch), explosive)
    assert first.value.exit_code == 9
    assert f"at step {first.value.step}" in first.value.message
    tensors, numbers = unpack(scratch.entries["toy.checkpoint"])
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    done = numbers["now"]["epoch"] * STEPS + numbers["now"]["step"]
    assert 0 < done <= first.value.step
    with pytest.raises(TrainingDivergedError) as second:
        trained(memory_context("finetune", scratch=scratch), explosive)
    assert second.value.step == first.value.step


def test_a_loss_that_is_no_number_stops_at_once() -> None:
    runtime, scratch = start_runtime(0), MemoryScratch()
    network = Network(NET)
    next(network.parameters()).data.fill_(float("nan"))
    images = open_dataset(DATA).load("choice").batches(50, runtime.device)
    with pytest.raises(TrainingDivergedError, match=r"toy: the loss is nan at step 0; .* kept") as caught:
        train(
            network,
            images,
            images,
            RECIPE,
            seed=0,
            name="toy",
            context=memory_context("finetune", scratch=scratch),
            runtime=runtime,
        )
    assert caught.value.step == 0
    assert not scratch.entries


def test_a_checkpoint_of_another_network_is_refused_with_what_differs() -> None:
    scratch = StoppingScratch(stop_at=3)
    with pytest.raises(Stopped):
        trained(memory_context("finetune", scratch=scratch))
    runtime, other = start_runtime(0), SPACE.network((0, 0, 1, 1))
    images = open_dataset(DATA).load("train").batches(RECIPE.batch_size, runtime.device)
    with pytest.raises(UsageError, match=r"network\.blocks\.\d\.kernel is 3 there and 5 here") as caught:
        train(
            Network(other),
            images,
            images,
            RECIPE,
            seed=3,
            name="toy",
            context=memory_context("finetune", scratch=scratch),
            runtime=runtime,
        )
    assert caught.value.exit_code == 2
    assert "scratch/finetune-" in caught.value.hint
