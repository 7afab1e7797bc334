"""Who may import whom, and what must stay unloaded until it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "tensorflow", "onnx", "numpy", "scipy", "matplotlib", "rich", "ai_edge_litert")


def test_imports_run_one_way() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import nasflow.assemble",
        "import nasflow.commands.run",
        "from nasflow.assemble import PipelineConfig; from stages.space import load_space; "
        "load_space(PipelineConfig().space)",
    ],
)
def test_a_configuration_is_read_without_loading_anything_heavy(statement: str) -> None:
    program = f"{statement}\nimport json, sys; print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
