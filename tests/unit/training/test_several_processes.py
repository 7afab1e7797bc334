"""Two processes with half a batch each do what one does with all of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load
from support.memory_context import MemoryStore, memory_context
from support.toy_search import SPACE, latency_model
from torch import nn

from stages.data.config import DataConfig
from stages.nas.config import SearchConfig
from stages.nas.search_loop import run_search
from stages.training.launch import launched_by
from stages.training.recipe import Recipe
from stages.training.task import Course, Outcome, Task
from stages.training.together import train_together

TESTS = Path(__file__).parents[2]
DATA = DataConfig(train_images=400, architecture_images=100)
CONFIG = SearchConfig(
    warmup_epochs=1, epochs=1, batch_size=100, architecture_every=2, architecture_batch_size=50
)


def train_and_search() -> tuple[bytes, bytes, list[list[float]]]:
    """A network's weights, a supernet's, and the architecture's log probabilities."""
    outcomes: list[Outcome] = []
    course = Course(Recipe(epochs=2, batch_size=100, clip=2.0), DATA, 0)
    task = Task("toy", SPACE.network((0, 1, 1, 1)))
    train_together([task], course, memory_context("x"), lambda _index, outcome: outcomes.append(outcome))
    store = MemoryStore()
    found = run_search(
        CONFIG,
        SPACE,
        DATA,
        1,
        latency=latency_model(),
        target_ms=0.08,
        context=memory_context("search", store=store),
    )
    return (
        outcomes[0].trained.weights,
        store.read_bytes(found.supernet),
        [list(row) for row in found.log_probabilities],
    )


def main(folder: Path) -> None:
    """What each of the two processes does."""
    from stages.nas.following import dismiss, follow

    if launched_by(os.environ)[0]:
        follow()
        return
    network, supernet, probabilities = train_and_search()
    (folder / "network").write_bytes(network)
    (folder / "supernet").write_bytes(supernet)
    (folder / "probabilities").write_text(json.dumps(probabilities))
    dismiss()


def test_two_processes_with_half_a_batch_end_with_the_weights_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_WORLD_SIZE": "1",
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "toy",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    network, supernet, probabilities = train_and_search()
    for alone, name in ((network, "network"), (supernet, "supernet")):
        together = load((tmp_path / name).read_bytes())
        for key, tensor in load(alone).items():
            if tensor.is_floating_point():
                difference = float((tensor - together[key]).abs().max())
                assert difference < 2e-3 * max(1.0, float(tensor.abs().max())), (name, key, difference)
            else:
                assert torch.equal(tensor, together[key]), (name, key)
    there = json.loads((tmp_path / "probabilities").read_text())
    assert nn.functional.l1_loss(torch.tensor(_flat(there)), torch.tensor(_flat(probabilities))) < 1e-3


def _flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def test_ranks_come_from_torchrun_or_slurm() -> None:
    assert launched_by({}) == (0, 1)
    assert launched_by(
        {"RANK": "3", "WORLD_SIZE": "8", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    ) == (3, 8)
    assert launched_by({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}) == (1, 4)
    assert launched_by({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == (0, 1), "a batch script"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
