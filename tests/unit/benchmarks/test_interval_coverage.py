"""The benchmark of the predictions' intervals: its device, its count, and its bars."""

from __future__ import annotations

import pytest

from android_bench.device import BenchmarkRequest
from benchmarks._noisy_device import NoiseSources, NoisyDevice
from benchmarks.interval_coverage import TIMINGS, _simulated_bars, summary


def device(*, placement: float, seed: int = 0) -> NoisyDevice:
    return NoisyDevice(lambda _: 1.0, NoiseSources(placement, own=0.0), seed=seed, throttle_at=TIMINGS)


def timed_ms(device: NoisyDevice, name: str, times: int = 40) -> float:
    request = BenchmarkRequest(name=name, model=b"")
    return sorted(device.benchmark(request).median_ms for _ in range(times))[times // 2]


def test_a_model_keeps_its_place_in_one_process_and_gets_another_in_the_next() -> None:
    own = device(placement=0.5)
    first = timed_ms(own, "a")
    assert timed_ms(own, "a") == pytest.approx(first, rel=0.05)
    own.renew()
    assert timed_ms(own, "a") != pytest.approx(first, rel=0.05)


def test_without_an_effect_of_the_place_models_and_processes_are_alike() -> None:
    own = device(placement=0.0)
    first = timed_ms(own, "a")
    own.renew()
    assert timed_ms(own, "b") == pytest.approx(first, rel=0.05)


def calibration(share: float) -> dict[str, float]:
    return {"share": share, "interval_percent": 5.0, "mean_error_percent": 2.0}


def test_calibrations_are_what_repeats() -> None:
    found = summary([calibration(share) for share in (0.9, 1.0, 0.7, 1.0)])
    assert found["mean_share"] == pytest.approx(0.9)
    low, high = found["mean_share_interval_95"]
    assert low < 0.9 < high <= 1.0
    assert (found["worst_share"], found["below_80_percent"], found["count"]) == (0.7, 1, 4)


@pytest.mark.parametrize(("share", "holds"), [(0.95, True), (0.92, False), (0.98, False)])
def test_intervals_that_hold_too_few_or_too_many_networks_keep_no_bar(share: float, holds: bool) -> None:
    bars = _simulated_bars(summary([calibration(share)] * 3))
    assert all(bar.holds for bar in bars) is holds
