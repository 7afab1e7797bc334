"""A search needs no GPU, and asks for none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
SCRIPT = """
import torch

def refuse(*_):
    raise AssertionError("CUDA was asked for")

torch.cuda._lazy_init = refuse
assert not torch.cuda.is_available()
from support.memory_context import memory_context
from support.toy_search import DATA, SPACE, latency_model
from stages.search import Search, SearchConfig, TargetConfig

for estimator in ("posterior", "window", "two_path", "reinforce"):
    config = SearchConfig(warmup_epochs=1, epochs=1, batch_size=50, estimator=estimator)
    stage = Search(config=config, target=TargetConfig(ms=0.08), space=SPACE, data=DATA, seed=0)
    print(len(stage.run(memory_context("search"), latency=latency_model()).history))
"""


def test_a_search_runs_where_no_gpu_is_seen() -> None:
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2"] * 4
