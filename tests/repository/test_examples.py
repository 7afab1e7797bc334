"""Every configuration in ``examples/`` is one that a run would take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from android_bench.local import LocalDevice
from nasflow.assemble import PipelineConfig, build_stages
from nasflow.cli import main
from nasflow.errors import Inconclusive
from pipeline.config import load_config
from stages.baseline import Baseline

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIGURATIONS = sorted(EXAMPLES.glob("*/pipeline.yaml"))
WORKFLOW = EXAMPLES / "ci" / "nasflow.yml"


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_an_example_is_valid_and_its_stages_can_be_made(path: Path) -> None:
    config = load_config(PipelineConfig, path)
    assert config != PipelineConfig()
    stages = build_stages(config, path.parent, LocalDevice())
    (baseline,) = (stage for stage in stages if isinstance(stage, Baseline))
    assert len(baseline.networks()) == len(config.baseline.widths) + len(config.baseline.published_widths)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_an_example_says_only_what_differs_from_the_defaults(path: Path) -> None:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    defaults = PipelineConfig().model_dump(mode="json")
    same = [
        f"{section}.{key}"
        for section, keys in written.items()
        for key, value in keys.items()
        if defaults[section].get(key) == value
    ]
    assert same == []


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == set(
        re.findall(r"^\| \[(\w+)\]", listed, re.MULTILINE)
    )


def _steps() -> list[dict[str, Any]]:
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    steps: list[dict[str, Any]] = job["steps"]
    return steps


def test_the_workflow_speaks_of_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for step in _steps() for line in step.get("run", "").splitlines()]
    commands = [re.split(r" > | \|\| ", line.strip())[0] for line in lines if "nasflow " in line]
    called = [shlex.split(command)[1:] for command in commands if command.startswith("nasflow ")]
    assert [words[0] for words in called] == ["doctor", "run", "clean"]
    for words in called:
        assert main([words[0], "--help"]) == 0
        helped = capsys.readouterr().out
        assert all(word in helped for word in words[1:])


def test_the_workflow_knows_the_gates_exit_codes() -> None:
    (script,) = (step["run"] for step in _steps() if "nasflow run" in step.get("run", ""))
    assert re.findall(r"^ *(\d+)\)", script, re.MULTILINE) == ["0", "1", str(Inconclusive.exit_code)]
    assert load_config(PipelineConfig, EXAMPLES / "ci" / "pipeline.yaml").verify.max_ratio is not None
