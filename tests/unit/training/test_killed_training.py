"""SIGKILL amid a training and amid a search, in a process of its own, with checkpoints on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.memory_context import MemoryStore
from support.toy_search import DATA, EACH_STEP, SPACE, latency_model

from pipeline.artifact import document_bytes
from pipeline.events import Event
from pipeline.stage import Context
from pipeline.store.scratch import FolderScratch
from stages.data.config import open_dataset
from stages.nas.config import SearchConfig
from stages.nas.search_loop import run_search
from stages.nn.network import Network
from stages.training.loop import train
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime

TESTS = Path(__file__).parents[2]
CONFIG = SearchConfig(
    warmup_epochs=1, epochs=1, batch_size=50, architecture_every=2, architecture_batch_size=50
)
CONFIGS = {
    estimator: CONFIG.model_copy(update={"estimator": estimator})
    for estimator in ("posterior", "window", "two_path", "reinforce")
}


class TellingScratch(FolderScratch):
    """Prints a line for each checkpoint that is on the disk."""

    def save(self, name: str, payload: bytes) -> None:
        super().save(name, payload)
        sys.stdout.write("saved\n")
        sys.stdout.flush()


def ignore(event: Event) -> None:
    """Nobody listens."""


def perform(what: str, folder: Path) -> bytes:
    """A training or a search, with a checkpoint after each step; its outcome as bytes."""
    context = Context(what, "0" * 64, MemoryStore(), TellingScratch(folder, what, ignore), ignore)
    if what in CONFIGS:
        result = run_search(
            CONFIGS[what],
            SPACE,
            DATA,
            1,
            latency=latency_model(),
            targets_ms=[0.08],
            minimum_share=0.5,
            context=context,
            checkpoint_seconds=EACH_STEP,
        )
        history = tuple(point.model_copy(update={"seconds": 0.0}) for point in result.history)
        return document_bytes(
            result.model_copy(update={"history": history, "seconds": 0.0, "compute_cost": None})
        )
    runtime = start_runtime(0, checkpoint_seconds=EACH_STEP)
    outcome = train(
        Network(SPACE.network((0, 1, 1, 0))),
        open_dataset(DATA).load("train").batches(50, runtime.device),
        open_dataset(DATA).load("choice").batches(50, runtime.device),
        Recipe(epochs=2, batch_size=50),
        seed=1,
        name="toy",
        context=context,
        runtime=runtime,
    )
    return outcome.weights + repr([point.train_loss for point in outcome.curve]).encode()


@pytest.mark.parametrize(
    ("what", "saves"),
    [
        ("training", 7),
        ("two_path", 5),
        ("two_path", 14),
        ("reinforce", 17),
        ("posterior", 16),
        ("window", 14),
    ],
)
def test_killed_without_warning_it_ends_as_if_undisturbed(what: str, saves: int, tmp_path: Path) -> None:
    """The searches: in the warm-up, behind it, and by each estimator."""
    child = subprocess.Popen(
        [sys.executable, __file__, what, str(tmp_path / "killed")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
    )
    with child:
        assert child.stdout is not None
        for _ in range(saves):
            assert child.stdout.readline() == "saved\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL, "it had ended before"
    assert perform(what, tmp_path / "killed") == perform(what, tmp_path / "undisturbed")


if __name__ == "__main__":
    perform(sys.argv[1], Path(sys.argv[2]))
