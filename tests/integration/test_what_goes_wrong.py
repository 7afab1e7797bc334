"""Damage, divergence, gates and impossible wishes, end to end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.command_line import ProjectFolder

from nasflow.publish import MODEL, RESULT, WEIGHTS


def _result(project: ProjectFolder) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((project.latest / RESULT).read_bytes())
    return document


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(("stage", "hash_of"), [("finetune", "weights_sha256"), ("convert", "model_sha256")])
def test_a_damaged_file_in_the_store_is_named_and_made_again(
    project: ProjectFolder, stage: str, hash_of: str
) -> None:
    digest = _result(project)["network"][hash_of]
    (path,) = (project.artifacts / "objects").rglob(f"{digest}.*")
    whole = path.read_bytes()
    _damage(path)

    status = {entry["name"]: entry for entry in project.ask("status").document["stages"]}
    assert f"{path} is damaged" in status[stage]["why"]
    run = project.ask("run", "--until", stage)
    assert (run.exit_code, run.ran) == (0, [stage])
    assert any(f"{path} is damaged" in text for text in run.texts)
    assert path.read_bytes() == whole


def test_damaged_results_are_told_and_put_there_again(project: ProjectFolder) -> None:
    whole = {name: (project.latest / name).read_bytes() for name in (MODEL, WEIGHTS)}
    for name in whole:
        _damage(project.latest / name)
    run = project.ask("run")
    assert (run.exit_code, run.document["nothing_to_do"]) == (0, True)
    for name, content in whole.items():
        assert any(f"{project.latest / name} was changed or damaged" in text for text in run.texts)
        assert (project.latest / name).read_bytes() == content


def test_a_training_that_diverges_says_at_which_step_and_spoils_nothing(project: ProjectFolder) -> None:
    # With this decay every step multiplies the weights by -9.
    mad = ("--set", "training.learning_rate=10", "--set", "training.weight_decay=1")
    run = project.ask("run", *mad)
    error = run.document["error"]
    assert (run.exit_code, error["type"]) == (9, "TrainingDivergedError")
    assert f"at step {error['step']}" in error["message"]
    assert "learning_rate" in error["hint"]
    assert project.ask("run").document["nothing_to_do"]


def test_the_gate_decides_the_exit_code(project: ProjectFolder) -> None:
    strict = project.ask("run", "--set", "verify.max_ratio=0.001")
    assert (strict.exit_code, strict.document["verdict"], strict.ran) == (1, "fail", ["verify"])
    generous = project.ask("run", "--set", "verify.max_ratio=10")
    assert (generous.exit_code, generous.document["verdict"]) == (0, "pass")
    assert _result(project)["verification"]["max_ratio"] == 10
    repeated = project.ask("run", "--set", "verify.max_ratio=0.001")
    assert (repeated.exit_code, repeated.document["nothing_to_do"]) == (1, True)


def test_a_target_that_no_network_meets_is_refused_with_the_feasible_range(project: ProjectFolder) -> None:
    asked = ("--set", "search.target=null", "--set", "search.target_ms=0.0001")
    run = project.ask("run", *asked)
    error = run.document["error"]
    assert (run.exit_code, error["type"]) == (2, "InfeasibleTargetError")
    assert "0.0001 ms" in error["message"]
    fastest_ms, slowest_ms = (float(number) for number in re.findall(r"([\d.e-]+) ms", error["hint"]))
    assert 0.0001 < fastest_ms < slowest_ms


def test_a_target_that_every_network_meets_is_warned_of_and_served(project: ProjectFolder) -> None:
    run = project.ask(
        "run", "--set", "search.target.ratio=9", "--set", "search.warmup_epochs=0", "--until", "prune"
    )
    assert run.exit_code == 0, run.document
    assert any("every network of the space meets this target" in text for text in run.texts)
