"""A search that was stopped, by whatever and wherever, ends as an undisturbed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.toy_search import EACH_STEP, SPACE, Stopped, StoppingScratch, latency_model

from nasflow.errors import TrainingDiverged, UsageError
from pipeline.events import Event, Metric
from pipeline.stage import Context
from stages.documents import SearchResult
from stages.search import SearchConfig
from stages.training.checkpoint import unpack
from stages.training.data import DataConfig
from stages.training.search_loop import CHECKPOINT, run_search

CONFIG = SearchConfig(
    warmup_epochs=1, epochs=2, batch_size=50, architecture_every=2, architecture_batch_size=50
)
DATA = DataConfig(train_images=300, validation_images=200)
LATENCY = latency_model()
TARGET_MS = 0.08
STEPS = 6
WRITES = 3 * (STEPS + 1)
"""One after each step, one after each epoch."""


def search(
    context: Context,
    config: SearchConfig = CONFIG,
    *,
    seed: int = 4,
    checkpoint_seconds: float = EACH_STEP,
) -> SearchResult:
    return run_search(
        config,
        SPACE,
        DATA,
        seed,
        latency=LATENCY,
        target_ms=TARGET_MS,
        context=context,
        checkpoint_seconds=checkpoint_seconds,
    )


def without_seconds(result: SearchResult) -> SearchResult:
    """A result without what the clock says."""
    history = tuple(point.model_copy(update={"seconds": 0.0}) for point in result.history)
    return result.model_copy(update={"history": history, "seconds": 0.0})


@dataclass(frozen=True)
class Undisturbed:
    """A search's result, and everything that its last checkpoint holds, but for the clock."""

    result: SearchResult
    state: Mapping[str, object]


def end_state(scratch: MemoryScratch) -> Mapping[str, object]:
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    for point in (numbers["now"], *numbers["history"]):
        point.pop("seconds")
        point.pop("epoch_seconds", None)
    return {**{name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, "numbers": numbers}


@pytest.fixture(scope="module")
def undisturbed() -> Undisturbed:
    scratch = MemoryScratch()
    result = search(memory_context("search", scratch=scratch), checkpoint_seconds=1e9)
    return Undisturbed(without_seconds(result), end_state(scratch))


@pytest.mark.parametrize(
    ("write", "kept"),
    [
        *((write, True) for write in (1, 6, 7, 8, 9, 13, 14, 17, WRITES)),
        (1, False),
        (7, False),
        (WRITES, False),
    ],
)
def test_stopped_at_any_checkpoint_it_ends_as_if_undisturbed(
    undisturbed: Undisturbed, write: int, kept: bool
) -> None:
    """Of each epoch's seven writes the first six follow a step, the seventh closes it."""
    scratch = StoppingScratch(stop_at=write, kept=kept)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch))
    resumed = search(memory_context("search", scratch=scratch))
    assert without_seconds(resumed) == undisturbed.result
    assert end_state(scratch) == undisturbed.state


def test_stopped_three_times_it_ends_as_if_undisturbed(undisturbed: Undisturbed) -> None:
    scratch, told = StoppingScratch(), Told()
    for write in (4, 9, 12):
        scratch.stop_at = write
        with pytest.raises(Stopped):
            search(memory_context("search", scratch=scratch))
    resumed = search(memory_context("search", scratch=scratch, told=told))
    assert without_seconds(resumed) == undisturbed.result
    # Of 12 writes, one closed the warm-up.
    assert any("going on at epoch 1, step 5" in str(event) for event in told.events)


@pytest.mark.parametrize("event", [0, 1, 3])
def test_stopped_while_it_tells_of_an_epoch_it_ends_as_if_undisturbed(
    undisturbed: Undisturbed, event: int
) -> None:
    scratch, seen = MemoryScratch(), 0

    def emit(told: Event) -> None:
        nonlocal seen
        seen += isinstance(told, Metric)
        if seen == event + 1:
            raise Stopped

    with pytest.raises(Stopped):
        search(Context("search", "0" * 64, MemoryStore(), scratch, emit))
    assert without_seconds(search(memory_context("search", scratch=scratch))) == undisturbed.result


def test_a_finished_search_is_not_done_again(undisturbed: Undisturbed) -> None:
    scratch = StoppingScratch(stop_at=WRITES)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch))
    writes = len(scratch.saved)
    assert without_seconds(search(memory_context("search", scratch=scratch))) == undisturbed.result
    assert len(scratch.saved) == writes


def test_another_seed_gives_another_search(undisturbed: Undisturbed) -> None:
    other = search(memory_context("search"), seed=5, checkpoint_seconds=1e9)
    assert other.supernet != undisturbed.result.supernet
    assert other.log_probabilities != undisturbed.result.log_probabilities


def test_the_stored_supernet_and_probabilities_are_those_of_the_last_step(undisturbed: Undisturbed) -> None:
    result = undisturbed.result
    assert [point.phase for point in result.history] == ["warm-up", "search", "search"]
    last = [
        list(map(float, torch.tensor(row, dtype=torch.float64).exp())) for row in result.log_probabilities
    ]
    for row, point in zip(last, result.history[-1].probabilities, strict=True):
        assert row == pytest.approx(list(point))
        assert sum(row) == pytest.approx(1.0)
    assert result.expected_ms == result.history[-1].expected_ms


@pytest.mark.parametrize("warmup_epochs", [20, 0], ids=["in the warm-up", "in the search"])
def test_a_search_that_diverges_names_its_step_and_leaves_a_sound_checkpoint(warmup_epochs: int) -> None:
    explosive = CONFIG.model_copy(
        update={"learning_rate": 10.0, "weight_decay": 1.0, "warmup_epochs": warmup_epochs, "epochs": 20}
    )
    scratch = MemoryScratch()
    with pytest.raises(TrainingDiverged) as first:
        search(memory_context("search", scratch=scratch), explosive)
    assert first.value.step > 2
    assert f"at step {first.value.step}" in first.value.message
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    assert numbers["now"]["epoch"] * STEPS + numbers["now"]["step"] <= first.value.step
    with pytest.raises(TrainingDiverged) as second:
        search(memory_context("search", scratch=scratch), explosive)
    assert second.value.step == first.value.step


def test_epochs_without_an_architecture_step_are_refused() -> None:
    with pytest.raises(UsageError, match="architecture_every is 7, but an epoch has only 6 steps"):
        search(memory_context("search"), CONFIG.model_copy(update={"architecture_every": 7}))
