"""A ``pipeline`` folder of somebody else in the working directory must not be taken for ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nasflow

ROOT = Path(nasflow.__file__).resolve().parent.parent


def _foreign_packages(folder: Path) -> None:
    for name in ("pipeline", "stages", "android_bench"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('foreign')", encoding="utf-8")


def test_python_m_nasflow_ignores_packages_of_the_working_directory(tmp_path: Path) -> None:
    _foreign_packages(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "nasflow", "init", "made"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_empty_entry_of_pythonpath_is_ignored_too(tmp_path: Path) -> None:
    _foreign_packages(tmp_path)
    program = (
        "import sys; from nasflow.__main__ import main; sys.argv[1:] = ['init', 'made']; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_that_hides_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    _foreign_packages(tmp_path / "site")
    program = (
        "import sys; from nasflow.__main__ import main; sys.argv[1:] = ['run', '--json']; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 8
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == 8
    assert (
        f"'pipeline' hides nasflow's own: it comes from {tmp_path / 'site' / 'pipeline'}" in error["message"]
    )
    assert done.stderr.startswith("error: Another package named 'pipeline'")


def test_the_source_tree_stays_on_the_path(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nasflow", "init", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
