"""Fine-tuning in the steps of int8 goes on where it was stopped."""

from __future__ import annotations

import pytest
import torch
from support.memory_context import MemoryScratch, Told, memory_context
from support.toy_search import EACH_STEP, SPACE, Stopped, StoppingScratch

from nasflow.base.errors import UsageError
from pipeline.events import Message
from stages.data.config import DataConfig, open_dataset
from stages.nn.network import Network, save_weights
from stages.training.quantization import fine_tune_for_int8
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime

DATA = DataConfig(train_images=250, architecture_images=100)
RECIPE = Recipe(batch_size=50)
STEPS, EPOCHS = 5, 3


def tuned(
    scratch: MemoryScratch | None = None,
    *,
    checkpoint_seconds: float = 1e9,
    told: Told | None = None,
    choices: tuple[int, ...] = (0, 0, 0, 1),
) -> bytes:
    runtime = start_runtime(0, checkpoint_seconds=checkpoint_seconds)
    torch.manual_seed(1)
    network = Network(SPACE.network(choices)).eval()
    images = open_dataset(DATA).load("train")
    return save_weights(
        fine_tune_for_int8(
            network,
            runtime.batches(images, RECIPE.batch_size),
            RECIPE,
            epochs=EPOCHS,
            seed=3,
            name="toy",
            key="toy.int8",
            context=memory_context("convert", scratch=scratch, told=told),
            runtime=runtime,
        )
    )


@pytest.fixture(scope="module")
def undisturbed() -> bytes:
    return tuned()


@pytest.mark.parametrize(("write", "kept"), [(1, True), (2, True), (2, False), (EPOCHS, True)])
def test_stopped_after_an_epoch_it_ends_as_if_undisturbed(undisturbed: bytes, write: int, kept: bool) -> None:
    scratch, told = StoppingScratch(stop_at=write, kept=kept), Told()
    with pytest.raises(Stopped):
        tuned(scratch)
    assert tuned(scratch, told=told) == undisturbed
    done = write if kept else write - 1
    (said,) = (event.text for event in told.events if isinstance(event, Message))
    assert said == f"toy in the steps of int8: resuming at epoch {done}, step 0."


@pytest.mark.parametrize("write", [3, STEPS + 2])
def test_stopped_amid_a_long_epoch_it_ends_as_if_undisturbed(undisturbed: bytes, write: int) -> None:
    scratch = StoppingScratch(stop_at=write)
    with pytest.raises(Stopped):
        tuned(scratch, checkpoint_seconds=EACH_STEP)
    assert tuned(scratch) == undisturbed


def test_what_another_network_has_kept_is_refused() -> None:
    scratch = StoppingScratch(stop_at=1)
    with pytest.raises(Stopped):
        tuned(scratch)
    with pytest.raises(UsageError, match="was made for something else"):
        tuned(scratch, choices=(0, 1, 1, 1))
