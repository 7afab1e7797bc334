"""The simulated device that drifts: what the benchmark rests on, and that the anchor is what helps."""

from __future__ import annotations

import math
from statistics import correlation, pstdev

import pytest

from android_bench.device import BenchmarkRequest
from benchmarks._drift import DriftingDevice, drift_sessions


def test_the_device_drifts_as_it_is_said_to() -> None:
    device = DriftingDevice(lambda _: 2.0, seed=1, throttle_at=20_000)
    request = BenchmarkRequest(name="any", model=b"x")
    logs = [math.log(device.benchmark(request).median_ms / 2.0) for _ in range(40_000)]
    cool, hot = logs[:20_000], logs[20_000:]
    assert pstdev(cool) == pytest.approx(0.05, rel=0.05)
    assert correlation(cool[:-1], cool[1:]) == pytest.approx(0.8, abs=0.02)
    assert sum(hot) / len(hot) - sum(cool) / len(cool) == pytest.approx(math.log(1.25), abs=0.005)


def test_with_its_anchor_the_model_holds_and_without_it_does_not() -> None:
    figures = drift_sessions(1)
    assert figures["anchored_share_within_5_percent"] >= 0.95
    assert figures["plain_share_within_5_percent"] < 0.5
