"""The simulated devices of ``benchmarks/verify_power.py``, and what is counted of their gates."""

from __future__ import annotations

import pytest

from benchmarks import verify_power
from benchmarks.verify_power import GatedDevice, simulated
from nasflow.gate.measure import requests_of

REQUEST = requests_of({"anchor": b""})["anchor"]


def test_a_device_that_tells_of_its_throttling_tells_it_beside_each_timing() -> None:
    device = GatedDevice(1.0, kind="telling", seed="a")
    told = [device.benchmark(REQUEST).conditions for _ in range(700)]
    statuses = [one.thermal_status for one in told if one is not None]
    assert statuses == [int(throttled) for throttled in device.throttled]
    assert 20 <= sum(statuses) < 200
    assert GatedDevice(1.0, kind="drifting", seed="a").benchmark(REQUEST).conditions is None


def test_no_block_of_a_phone_that_tells_of_its_throttling_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_power, "BATCH", 12)
    telling = simulated(("telling_at_the_limit", 0))
    assert sum(one["dropped"] for one in telling) > 0
    assert [one["throttled_that_count"] for one in telling] == [0] * 12
    figures = verify_power._summary(telling)
    assert (figures["gates"], figures["throttled_blocks_that_count"]) == (12, 0)
