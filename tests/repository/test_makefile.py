"""``make`` itself, in a copy of the files that it reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEBIAN_PACKAGES = "dataset-fashion-mnist bubblewrap mksh aapt android-framework-res chromium"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, folder)
    return folder


def _make(
    clone: Path, *words: str, apt: str = "0", path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    # Without the variables of a 'make test' around us, which would reach this make.
    outer = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *words],
        cwd=clone,
        env={**outer, "NASFLOW_APT": apt, "PATH": os.pathsep.join([str(path or clone), outer["PATH"]])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def _python_with(folder: Path) -> Path:
    """This Python, with the modules in ``folder`` before its own."""
    path, python = quote(str(folder)), quote(sys.executable)
    return _script(folder / "lacking", f'PYTHONPATH={path} exec {python} "$@"')


def _set_up(clone: Path) -> None:
    """Pretend that 'make install' has been there, with this test's own environment."""
    (clone / ".venv").mkdir()
    (clone / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (clone / ".venv" / ".installed").touch()


def test_make_alone_says_what_there_is(clone: Path) -> None:
    done = _make(clone)
    assert done.returncode == 0
    assert all(f"make {target}" in done.stdout for target in ("install", "run", "test", "bench", "clean"))


def test_a_python_that_is_not_there_is_named(clone: Path) -> None:
    done = _make(clone, "install", "PYTHON=python9.9")
    assert done.returncode != 0
    assert "there is no 'python9.9'" in done.stderr
    assert not (clone / ".venv" / ".installed").exists()


def test_a_python_that_is_too_old_is_named(clone: Path, tmp_path: Path) -> None:
    # Answers the version check as a Python 3.10 would.
    old = _script(tmp_path / "old", 'case "$1" in --version) echo Python 3.10.4;; *) exit 1;; esac')
    done = _make(clone, "install", f"PYTHON={old}")
    assert done.returncode != 0
    assert "is Python 3.10.4, but Python 3.11, 3.12 or 3.13 is needed" in done.stderr


def test_a_python_without_venv_is_told_what_to_install(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError", encoding="utf-8")
    lacking = _python_with(tmp_path)
    done = _make(clone, "install", f"PYTHON={lacking}")
    assert done.returncode != 0
    assert "it lacks ensurepip" in done.stderr
    assert "python3-venv" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize(
    ("user", "apt", "calls"),
    [
        ("0", "1", ["update", f"install -y --no-install-recommends {DEBIAN_PACKAGES}"]),
        ("0", "0", []),
        ("7", "1", []),
    ],
)
def test_debian_packages_are_installed_by_root_alone_and_only_if_allowed(
    clone: Path, tmp_path: Path, user: str, apt: str, calls: list[str]
) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError", encoding="utf-8")
    lacking = _python_with(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    _script(tools / "id", f"echo {user}")
    _script(tools / "dpkg-query", "exit 1")
    _script(tools / "apt-get", f'echo "$@" >> {quote(str(tmp_path))}/calls')
    done = _make(clone, "install", f"PYTHON={lacking}", apt=apt, path=tools)
    called = tmp_path / "calls"
    assert (called.read_text(encoding="utf-8").splitlines() if called.exists() else []) == calls
    announced = f"installing the Debian packages {DEBIAN_PACKAGES}" in done.stdout
    named = f"missing: sudo apt-get install {DEBIAN_PACKAGES}" in done.stdout
    assert (announced, named) == (bool(calls), not calls)


def test_only_what_is_missing_is_asked_for(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError", encoding="utf-8")
    lacking = _python_with(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("id", "apt-get"):
        _script(tools / name, "echo 7")
    _script(tools / "dpkg-query", 'for name; do :; done; [ "$name" = mksh ] || echo install ok installed')
    done = _make(clone, "install", f"PYTHON={lacking}", path=tools)
    assert "missing: sudo apt-get install mksh\n" in done.stdout
    assert "without mksh" in done.stdout
    assert "without bubblewrap" not in done.stdout
    assert "without dataset-fashion-mnist" not in done.stdout


def test_a_second_install_does_nothing(clone: Path) -> None:
    _set_up(clone)
    done = _make(clone, "install")
    assert (done.returncode, done.stdout) == (0, "make: Nothing to be done for 'install'.\n")


def test_new_requirements_are_installed(clone: Path) -> None:
    _set_up(clone)
    later = (clone / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(clone / "constraints.txt", (later, later))
    done = _make(clone, "--dry-run", "install")
    assert "pip install" in done.stdout


def test_every_benchmark_runs_even_if_one_is_below_its_bar(clone: Path) -> None:
    _set_up(clone)
    (clone / "benchmarks").mkdir()
    (clone / "benchmarks" / "__init__.py").touch()
    for name, code in (("_shared", 0), ("first", 1), ("second", 0)):
        program = f"import sys; print({name!r}, sys.argv[1:]); sys.exit({code})\n"
        (clone / "benchmarks" / f"{name}.py").write_text(program, encoding="utf-8")
    done = _make(clone, "bench")
    assert done.returncode != 0
    assert done.stdout.splitlines() == ["first ['--quick']", "second ['--quick']"]
    assert "below the bar: first" in done.stderr


def test_clean_keeps_the_environment_and_the_results(clone: Path) -> None:
    _set_up(clone)
    for name in ("dist", ".mypy_cache", "nasflow/__pycache__", "artifacts"):
        (clone / name).mkdir(parents=True)
    assert _make(clone, "clean").returncode == 0
    assert sorted(path.name for path in clone.iterdir() if path.is_dir()) == [".venv", "artifacts", "nasflow"]
    assert list((clone / "nasflow").iterdir()) == []
