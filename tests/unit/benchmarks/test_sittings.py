"""The conditions under which the latency model's benchmark measures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from android_bench.device import BenchmarkRequest
from benchmarks._sittings import CONDITIONS, StoppedDevice, beside_busy_process
from nasflow.errors import DeviceLost
from stages.conversion.flatbuffer import empty_model


def test_a_stopped_device_gives_what_was_measured_and_then_goes_away() -> None:
    request = BenchmarkRequest(name="empty", model=empty_model(), warmup_ms=0.1, min_ms=0.1)
    given = []
    with StoppedDevice(3) as device, pytest.raises(DeviceLost):
        for index, measured in device.benchmark_many([request] * 5):
            given.append((index, measured.median_ms > 0))
    assert given == [(0, True), (1, True), (2, True)]


def test_the_busy_process_runs_while_it_is_wanted_and_no_longer() -> None:
    before = set(children())
    with beside_busy_process(True):
        (busy,) = set(children()) - before
        assert Path(f"/proc/{busy}").exists()
    assert busy not in children()
    with beside_busy_process(False):
        assert set(children()) == before


def children() -> list[int]:
    """Processes that this one has started and that still run."""
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return [int(word) for word in own.read_text(encoding="ascii").split()]


def test_every_sitting_has_a_condition() -> None:
    assert all(len(found.busy) == len(found.shares) + 1 for found in CONDITIONS.values())
    assert {"quiet", "busy", "resumed", "resumed_busy"} == CONDITIONS.keys()
