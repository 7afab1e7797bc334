"""SIGKILL at every step that a run takes on the disk, in real processes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy_pipeline
from toy_pipeline import Toy, plain

from pipeline.artifact import sha256_hex
from pipeline.store.records import parse_record

SETTINGS = {"rows": 3}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs that complete a killed one need no fsync here: nothing cuts this machine's power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be had: these tests rename thousands of files."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


class Launcher:
    """Gives orders to a process that forks one child for each."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, toy_pipeline.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def do(self, root: Path, **order: Any) -> dict[str, Any]:
        process = self._process
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps({"root": str(root), "settings": SETTINGS, **order}).encode() + b"\n")
        process.stdin.flush()
        answer: dict[str, Any] = {}
        while "exit" not in answer:
            line = process.stdout.readline().lstrip(b".").strip()
            if line:
                answer |= json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        assert self._process.wait(10) == 0
        self._process.stdout.close()


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return plain(Toy(tmp_path_factory.mktemp("expected"), **SETTINGS).run())


def assert_nothing_half_written_counts(root: Path) -> None:
    """Whatever bears a final name is whole; only names that nothing reads may be torn."""
    for path in (root / "objects").rglob("*"):
        if path.is_file() and not path.name.endswith(".tmp"):
            assert sha256_hex(path.read_bytes()) == path.stem, path
    for path in (root / "records").rglob("*.json"):
        assert parse_record(path.read_bytes()) is not None, path


def test_a_run_killed_at_any_step_is_completed_by_the_next(
    folder: Path, launcher: Launcher, expected: dict[str, Any]
) -> None:
    steps = launcher.do(folder / "whole")["steps"]
    assert steps > 60
    chance = random.Random(0)
    for kill_at in range(chance.randrange(1, 3), steps + 1, 2):
        root = folder / "killed"
        killed = launcher.do(root, kill_at=kill_at, tear=chance.choice([0, 1, 7, 1000]))
        assert killed == {"exit": -signal.SIGKILL}
        assert_nothing_half_written_counts(root)
        toy = Toy(root, **SETTINGS)
        assert plain(toy.run()) == expected, kill_at
        assert toy.stale() == {}
        assert not list((root / "scratch").iterdir()) or all(
            path.name.endswith(".tmp") for path in (root / "scratch").iterdir()
        )
        shutil.rmtree(root)


def test_a_run_killed_again_and_again_goes_on_each_time(
    folder: Path, launcher: Launcher, expected: dict[str, Any]
) -> None:
    chance = random.Random(1)
    kills = 0
    while True:
        answer = launcher.do(folder, kill_at=chance.randrange(8, 40), tear=chance.choice([0, 5, 1000]))
        if answer["exit"] == 0:
            break
        kills += 1
    assert kills >= 2
    assert answer["documents"] == expected


def test_a_forced_run_killed_at_any_step_leaves_the_same_documents(
    folder: Path, launcher: Launcher, expected: dict[str, Any]
) -> None:
    before = folder / "before"
    launcher.do(before)
    shutil.copytree(before, folder / "counted")
    steps = launcher.do(folder / "counted", force=["double"])["steps"]
    for kill_at in range(1, steps + 1, 2):
        root = folder / "killed"
        shutil.copytree(before, root)
        assert launcher.do(root, force=["double"], kill_at=kill_at) == {"exit": -signal.SIGKILL}
        assert_nothing_half_written_counts(root)
        toy = Toy(root, **SETTINGS)
        assert plain(toy.run()) == expected
        assert toy.stale() == {}
        shutil.rmtree(root)


def test_a_sweep_killed_at_any_step_loses_nothing_that_counts(
    folder: Path, launcher: Launcher, expected: dict[str, Any]
) -> None:
    before = folder / "before"
    Toy(before, rows=3, bias=7).run()
    launcher.do(before)
    shutil.copytree(before, folder / "counted")
    steps = launcher.do(folder / "counted", do="sweep")["steps"]
    for kill_at in range(1, steps + 1, 2):
        root = folder / "killed"
        shutil.copytree(before, root)
        assert launcher.do(root, do="sweep", kill_at=kill_at) == {"exit": -signal.SIGKILL}
        toy = Toy(root, **SETTINGS)
        assert toy.stale() == {}
        assert plain(toy.run()) == expected
        shutil.rmtree(root)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_from_outside_at_a_random_moment_is_completed(
    folder: Path, expected: dict[str, Any], seed: int
) -> None:
    program = "import toy_pipeline, json, sys; toy_pipeline.obey(json.loads(sys.argv[1]), 1)"
    order = json.dumps({"root": str(folder), "settings": SETTINGS, "say": True})
    process = subprocess.Popen(
        [sys.executable, "-c", program, order],
        stdout=subprocess.PIPE,
        cwd=Path(toy_pipeline.__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(toy_pipeline.__file__).parent)},
    )
    with process:
        assert process.stdout
        heard = process.stdout.read(random.Random(seed).randrange(1, 14))
        process.kill()
    assert heard.startswith(b".")
    assert process.returncode == -signal.SIGKILL
    assert_nothing_half_written_counts(folder)
    assert plain(Toy(folder, **SETTINGS).run()) == expected


def test_steps_taken_before_a_kill_are_not_taken_again(folder: Path, launcher: Launcher) -> None:
    halfway = 0
    for kill_at in range(16, 32, 3):
        root = folder / str(kill_at)
        launcher.do(root, kill_at=kill_at)
        toy = Toy(root, **SETTINGS)
        kept = toy.store.scratch("draw", toy.pipeline.status()[0].fingerprint or "").rows("rows")
        toy.run()
        steps = [step for step in toy.notes.steps if step.startswith("draw")]
        assert steps == [f"draw {row}" for row in range(len(kept), 3)]
        halfway += 0 < len(kept) < 3
    assert halfway, "no kill came in the midst of the stage: has the number of steps changed?"
