"""A real process, a real stage, a real signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = (
    "profile.rounds=40",
    "profile.extra_rounds=0",
    "profile.interval_percent=100",
    "profile.min_ms=5",
    "profile.warmup_ms=1",
)


def _start(folder: Path, *words: str) -> subprocess.Popen[str]:
    assignments = [word for assignment in SETTINGS for word in ("--set", assignment)]
    return subprocess.Popen(
        [sys.executable, "-m", "nasflow", *words, *assignments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_measurement_says_how_to_go_on_and_does(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "pipeline.yaml").touch()
    process = _start(tmp_path, "profile", "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == "progress":
            process.send_signal(number)
            break
    out, _ = process.communicate(timeout=60)
    error = json.loads(out)["error"]
    assert (process.returncode, error["type"], error["signal_number"]) == (
        code,
        "RunInterruptedError",
        number,
    )
    assert f"--set {SETTINGS[0]}" in error["hint"]
    assert "nasflow run --set" in error["hint"]
    assert "--until profile --json" in error["hint"]

    planned = json.loads(_start(tmp_path, "profile", "--dry-run", "--json").communicate(timeout=60)[0])
    assert planned["stages"][0]["partly_done"]
