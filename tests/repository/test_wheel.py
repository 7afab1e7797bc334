"""What is built from this repository, and that it works away from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("android_bench", "nasflow", "pipeline", "stages")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True, capture_output=True)
    return folder


def _nasflow(installed: Path, here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nasflow", *words],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_the_four_packages_and_no_other(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_it_holds_every_source_file_and_all_package_data(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        # A clone may belong to another account, as where a container has it from outside.
        ["git", "-c", "safe.directory=*", "ls-files", *PACKAGES],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert set(tracked) <= packed
    assert {"nasflow/reference.py", "stages/space/fashion.yaml"} <= packed
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed
    assert not [name for name in packed if "__pycache__" in name]


def test_it_carries_its_licence_and_its_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert b"nasflow = nasflow.__main__:main" in archive.read(entry_points)
    assert [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]


def test_installed_it_writes_a_configuration_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = _nasflow(installed, tmp_path, "init")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "pipeline.yaml").read_bytes() == (ROOT / "pipeline.yaml").read_bytes()


def test_installed_it_examines_this_computer(installed: Path, tmp_path: Path) -> None:
    assert _nasflow(installed, tmp_path, "init").returncode == 0
    done = _nasflow(installed, tmp_path, "doctor", "--json")
    findings: dict[str, Any] = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in findings["checks"]}
    assert done.returncode == 0, findings
    assert states["own packages"] == states["runtime"] == states["package torch"] == "ok"
    own = next(check for check in findings["checks"] if check["name"] == "own packages")
    assert own["found"].endswith(str(installed))
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]
