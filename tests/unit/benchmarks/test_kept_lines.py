"""What is done is kept, a torn line is done again, and other settings begin anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import _kept_lines
from benchmarks._kept_lines import Job, KeptLines


def squared(job: Job) -> list[int]:
    (number,) = map(int, job)
    if number < 0:
        raise ValueError
    return [number * number]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_kept_lines, "user_cache_path", lambda _name: tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    return tmp_path


def test_what_is_done_is_not_done_again() -> None:
    kept = KeptLines("squares", ["a"])
    assert dict(kept.results([(2,), (3,)], squared)) == {(2,): [4], (3,): [9]}
    changed = kept.path.read_text(encoding="utf-8").replace("9", "10")
    kept.path.write_text(changed + "[[4], [1", encoding="utf-8")
    assert dict(kept.results([(3,), (4,)], squared)) == {(3,): [10], (4,): [16]}
    assert len(kept.path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_job_that_fails_leaves_the_others() -> None:
    kept = KeptLines("squares", ["a"])
    with pytest.raises(ValueError):
        list(kept.results([(1,), (-1,)], squared))
    assert dict(KeptLines("squares", ["a"]).results([(1,)], squared)) == {(1,): [1]}


def test_other_settings_and_a_finished_benchmark_begin_anew(folder: Path) -> None:
    kept = KeptLines("squares", ["a"])
    list(kept.results([(2,)], squared))
    assert KeptLines("squares", ["b"]).path != kept.path
    kept.finish()
    assert not kept.path.exists()
    assert [path.suffixes for path in (folder / "benchmarks").iterdir()] == [[".done", ".jsonl"]]


WAITS_FOR_EVER = """
import threading
from benchmarks._kept_lines import KeptLines

def work(job):
    print("at work", flush=True)
    threading.Event().wait(60)

if __name__ == "__main__":
    list(KeptLines("waiting", []).results([(1,)], work, workers=1))
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text(WAITS_FOR_EVER, encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(Path(_kept_lines.__file__).parents[1]),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at work\n"
        parent.kill()
        # It ends only when no worker holds it any more: TimeoutExpired where one goes on.
        assert parent.communicate(timeout=30)[0] == ""
