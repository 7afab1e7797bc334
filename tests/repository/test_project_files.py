"""The repository's promises about itself: versions, documents, commands."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nasflow.base import errors
from nasflow.cli.request import STAGE_NAMES
from nasflow.reference import configuration_md, pipeline_yaml

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_"))


def _requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    every = (Requirement(line) for line in (*project["dependencies"], *extras))
    return [requirement for requirement in every if requirement.name != project["name"]]  # its own extras


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("requirement", _requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(_pins()[canonicalize_name(requirement.name)])


def test_constraints_name_no_local_build() -> None:
    assert [version for version in _pins().values() if "+" in version] == []


def test_the_configuration_and_its_reference_are_rendered() -> None:
    again = "render them again: python -m nasflow.reference"
    assert (ROOT / "pipeline.yaml").read_text(encoding="utf-8") == pipeline_yaml(), again
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == configuration_md(), again


def test_the_error_tree_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^( +)(\w+)(?: \.{3,} +(\d+))?(?: .*)?$", errors.__doc__ or "", re.MULTILINE)
    tree = {name: (len(indent) // 2, code) for indent, name, code in drawn if hasattr(errors, name)}
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.NasflowError)
    }
    assert tree.keys() == classes.keys()
    for name, (_, code) in tree.items():
        kind = classes[name]
        if name == "RunInterruptedError":
            stopped = errors.RunInterruptedError("", signal_number=2)
            assert str(stopped.code) == code
        elif code:
            assert str(kind.exit_code) == code
        elif kind is not errors.NasflowError:
            parent = kind.__mro__[1]
            assert issubclass(parent, errors.NasflowError)
            assert tree[parent.__name__][0] == tree[name][0] - 1, f"{name} is not drawn below its base"
            assert kind.exit_code == getattr(parent, "exit_code", None)


def test_every_error_has_a_reference_of_its_own() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.NasflowError)]
    references = [kind.reference for kind in kinds]
    assert len(set(references)) == len(references)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", reference) for reference in references)
    assert all(kind.__name__.endswith("Error") for kind in kinds)


def test_the_readme_speaks_of_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made = set(re.findall(r"^\s*(?:\$ )?make (\w+)", readme, re.MULTILINE))
    called = set(re.findall(r"(?:^|`)\s*(?:\$ )?nasflow ([\w-]+)", readme, re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    phones = {"bench", "devices", "virtual-phone"}
    commands = {"run", *STAGE_NAMES, "status", "report", "ship", "clean", "doctor", "init", *phones}
    assert {"run", "test"} <= made <= targets
    assert {"run", "init", "doctor"} <= called <= commands


def test_ci_calls_make_test_strictly_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith(("#", "set "))] == [
        "NASFLOW_TESTS_STRICT=1 make test"
    ]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_quick_form(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--quick" in done.stdout


def test_there_are_benchmarks() -> None:
    assert BENCHMARKS
