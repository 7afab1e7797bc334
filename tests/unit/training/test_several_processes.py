"""Two processes with half a batch each do what one does with all of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from support.memory_context import MemoryStore, memory_context
from support.toy_search import SPACE, latency_model

from stages.data.augmentation import PRESETS
from stages.data.config import DataConfig
from stages.data.decoded import DecodedEachTime
from stages.data.fashion_mnist import cache_folder
from stages.data.geometry import Pixels
from stages.data.photos import Photos
from stages.data.view import View
from stages.documents import PathEvaluations, SearchResult
from stages.nas.config import SearchConfig
from stages.nas.search_loop import run_search
from stages.nn.network import Network, save_weights
from stages.training.distillation import ARCHITECTURE, WEIGHTS, TeacherConfig
from stages.training.launch import launched_by
from stages.training.loop import Trained
from stages.training.recipe import Recipe
from stages.training.runtime import TrainingRuntime, start_runtime
from stages.training.task import Course, Task
from stages.training.together import train_together

TESTS = Path(__file__).parents[2]
DATA = DataConfig(train_images=400, architecture_images=100)
CONFIG = SearchConfig(
    warmup_epochs=1, epochs=1, batch_size=100, architecture_every=2, architecture_batch_size=50
)


TEACHER = TeacherConfig(network="teacher")  # in the first process's folder alone
ESTIMATORS = ("posterior", "window", "two_path")


def train_and_search() -> tuple[bytes, bytes, dict[str, SearchResult], list[float]]:
    """A network's weights, a supernet's, what each estimator learned, and what the posterior learned from."""
    outcomes: list[Trained] = []
    course = Course(Recipe(epochs=2, batch_size=100, clip=2.0, teacher=TEACHER), DATA, 0)
    task = Task("toy", SPACE.network((0, 1, 1, 1)))
    train_together([task], course, memory_context("x"), lambda _index, outcome: outcomes.append(outcome))
    store = MemoryStore()
    found = {
        estimator: run_search(
            CONFIG.model_copy(update={"estimator": estimator, "architecture_every": 1}),
            SPACE,
            DATA,
            1,
            latency=latency_model(),
            targets_ms=[0.08, 0.0921],
            minimum_share=0.5,
            context=memory_context("search", store=store),
        )
        for estimator in ESTIMATORS
    }
    evaluations = found["posterior"].evaluations
    assert evaluations is not None
    return (
        outcomes[0].weights,
        store.read_bytes(found["posterior"].supernet),
        found,
        list(PathEvaluations.model_validate_json(store.read_bytes(evaluations)).value),
    )


def probabilities(found: SearchResult) -> list[list[float]]:
    """Of the candidates of each layer, for each target."""
    every = (found.log_probabilities, *(further.log_probabilities for further in found.further))
    return [torch.tensor(row).exp().tolist() for rows in every for row in rows]


def noise(number: int) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, (20 + number, 24, 3), np.uint8)


def photo_batches(runtime: TrainingRuntime) -> dict[str, torch.Tensor]:
    """Batches of seven photos, of which some presets mix all with each other; and photos in order."""
    labels_N = np.arange(17) % 3
    shown: dict[str, torch.Tensor] = {}
    for preset in ("light", "strong"):
        view = View(16, "crop", PRESETS[preset], classes=3)
        photos = Photos(DecodedEachTime(noise, 17), np.arange(17), labels_N, view, workers=0)
        batches = runtime.batches(photos, 7)
        for epoch in range(3):
            for index, (x_NCHW, labels) in enumerate(batches.training(1, epoch)):
                shown |= {f"{preset} {epoch} {index} x": x_NCHW, f"{preset} {epoch} {index} y": labels}
        for index, (x_NCHW, labels) in enumerate(batches.in_order(8)):
            shown |= {f"{preset} {index} x": x_NCHW, f"{preset} {index} y": labels}
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in shown.items()}


def main(folder: Path) -> None:
    """What each of the two processes does."""
    from stages.nas.following import dismiss, follow

    runtime = start_runtime(0, together=True)
    assert runtime.group is not None
    (folder / f"photos of {runtime.group.rank}").write_bytes(save(photo_batches(runtime)))
    if launched_by(os.environ)[0]:
        follow()
        return
    network, supernet, found, values = train_and_search()
    (folder / "network").write_bytes(network)
    (folder / "supernet").write_bytes(supernet)
    learned = {estimator: probabilities(each) for estimator, each in found.items()}
    (folder / "learned").write_text(json.dumps({"values": values, **learned}))
    dismiss()


def put_teacher(folder: Path) -> None:
    torch.manual_seed(7)
    network = Network(SPACE.network((0, 0, 0, 0)))
    (folder / "teacher").mkdir(parents=True)
    (folder / "teacher" / ARCHITECTURE).write_text(network.net.model_dump_json())
    (folder / "teacher" / WEIGHTS).write_bytes(save_weights(network))


def test_two_processes_with_half_a_batch_end_with_the_weights_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_teacher(tmp_path / "0")
    (tmp_path / "1").mkdir()
    (tmp_path / "cache" / "nasflow").mkdir(parents=True)
    (tmp_path / "cache" / "nasflow" / "fashion-mnist").symlink_to(cache_folder())  # where they may be
    monkeypatch.chdir(tmp_path / "0")
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
            env={
                **os.environ,
                **shared,
                "RANK": rank,
                "LOCAL_RANK": rank,
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
            },
            cwd=tmp_path / rank,
        )
        for rank in ("0", "1")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    network, supernet, found, values = train_and_search()
    for alone, name in ((network, "network"), (supernet, "supernet")):
        together = load((tmp_path / name).read_bytes())
        for key, tensor in load(alone).items():
            if tensor.is_floating_point():
                difference = float((tensor - together[key]).abs().max())
                assert difference < 2e-3 * max(1.0, float(tensor.abs().max())), (name, key, difference)
            else:
                assert torch.equal(tensor, together[key]), (name, key)
    shares = [load((tmp_path / f"photos of {rank}").read_bytes()) for rank in range(2)]
    for name, whole in photo_batches(start_runtime(0)).items():
        parts = [share[name] for share in shares if name in share]  # a last batch of one photo is one share
        torch.testing.assert_close(torch.cat(parts), whole)
    there = json.loads((tmp_path / "learned").read_text())
    assert there["values"] == pytest.approx(values, abs=2e-3)
    for estimator, each in found.items():
        rows, others = probabilities(each), there[estimator]
        assert len(rows) == len(others) == len(SPACE.layers()) * (1 if estimator == "two_path" else 2)
        assert any(max(row) > 1.02 / len(row) for row in rows), "nothing was learned"
        # A network drawn from the posterior is another one where two are equally good up to rounding.
        allowed = 0.05 if estimator == "posterior" else 2e-3
        for row, other in zip(rows, others, strict=True):
            assert other == pytest.approx(row, abs=allowed), estimator


def test_ranks_come_from_torchrun_or_slurm() -> None:
    assert launched_by({}) == (0, 1)
    assert launched_by(
        {"RANK": "3", "WORLD_SIZE": "8", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    ) == (3, 8)
    assert launched_by({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}) == (1, 4)
    assert launched_by({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == (0, 1), "a batch script"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
