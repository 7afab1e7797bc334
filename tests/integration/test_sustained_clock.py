"""Phones whose clock falls under load, or late after a mode is switched on, measured at what they hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import BenchmarkRequest, LatencyMeasurement
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from benchmarks._fault_run import PhoneRest, Trap
from stages.conversion.flatbuffer import empty_model

pytestmark = pytest.mark.needs("bubblewrap")

SHARE = 0.8
REQUEST = BenchmarkRequest(name="m", model=empty_model(), warmup_ms=3, min_ms=20, min_runs=5)
MODE = "/data/system/power/fixed_performance"


@pytest.fixture
def rest() -> PhoneRest:
    return PhoneRest()


@pytest.fixture
def phone(rest: PhoneRest) -> Iterator[VirtualPhone]:
    """Its times are described, and its rests are its client's: the same on any computer, however busy."""
    with running_phone(description=PhoneDescription(run_us=20_000), rest_clock=rest) as phone:
        yield phone


class Client:
    """A device on it, and what it told. ``leap``: waiting takes a tenth of its time."""

    def __init__(self, phone: VirtualPhone, key: Path, rest: PhoneRest, *, leap: bool) -> None:
        self.now = 0.0
        self._rest = rest
        self.told: list[str] = []
        self.waited_s = 0.0
        self._leap = leap
        self.device = AndroidDevice(
            Trap(DirectTransport(phone.address, key=key), "connect", lambda: None, rest),
            runner=_no_runner,
            clock=self.clock,
            sleep=self.sleep,
            tell=self.told.append,
        )

    def clock(self) -> float:
        return time.monotonic() + self.now

    def sleep(self, seconds: float) -> None:
        self.waited_s += seconds
        self._rest.slept(seconds)
        real_s = seconds / 10 if self._leap else seconds
        self.now += seconds - real_s
        threading.Event().wait(real_s)


def _no_runner(abi: str) -> object:
    raise AssertionError(f"a virtual phone brings its own tool, and {abi} was asked for")


def measured(client: Client, count: int) -> list[LatencyMeasurement]:
    with closing(client.device) as device:
        return [result for _, result in device.benchmark_many([REQUEST] * count)]


def peak(phone: VirtualPhone, key: Path, rest: PhoneRest) -> LatencyMeasurement:
    (found,) = measured(Client(phone, key, rest, leap=True), 1)
    assert found.conditions is not None and found.conditions.core_mhz == 2914
    return found


def check_all_at(share: float, results: list[LatencyMeasurement], at_peak: LatencyMeasurement) -> None:
    for result in results:
        assert result.median_ms == pytest.approx(at_peak.median_ms / share, rel=0.01)
        assert result.conditions is not None
        assert result.conditions.cores == (8,)
        assert result.conditions.core_mhz == pytest.approx(2914 * share, abs=1)


def test_a_phone_that_sustains_less_than_its_peak_gives_all_results_at_what_it_sustains(
    phone: VirtualPhone, rest: PhoneRest, tmp_path: Path
) -> None:
    at_peak = peak(phone, tmp_path / "key", rest)
    phone.faults.set(FaultPlan(sustained_share=SHARE))
    client = Client(phone, tmp_path / "key", rest, leap=True)
    results = measured(client, 50)
    assert len(results) == 50
    check_all_at(SHARE, results, at_peak)
    assert len([line for line in client.told if "discarded" in line]) == 1
    (said,) = [line for line in client.told if "its sustained clock" in line]
    assert "core 8 at 2331 of 2914 MHz" in said


def test_a_clock_that_falls_late_is_worked_down_to_and_gives_all_results(
    phone: VirtualPhone, rest: PhoneRest, tmp_path: Path
) -> None:
    at_peak = peak(phone, tmp_path / "key", rest)
    phone.faults.set(FaultPlan(sustained_share=SHARE, sustained_after_s=6))
    client = Client(phone, tmp_path / "key", rest, leap=True)
    results = measured(client, 100)
    assert len(results) == 100
    slow = [r for r in results if r.conditions and r.conditions.core_mhz != 2914]
    check_all_at(SHARE, slow, at_peak)
    check_all_at(1.0, results[: 100 - len(slow)], at_peak)
    assert len(slow) >= 50
    assert len([line for line in client.told if "discarded" in line]) <= 2


def test_a_mode_that_takes_hold_late_costs_neither_a_stretch_nor_the_time_to_cool(
    phone: VirtualPhone, rest: PhoneRest, tmp_path: Path
) -> None:
    at_peak = peak(phone, tmp_path / "key", rest)
    phone.faults.set(FaultPlan(fixed_performance_share=SHARE))
    client = Client(phone, tmp_path / "key", rest, leap=False)
    assert client.device.info().identity()["fixed_performance"] == "true"
    results = measured(client, 3)
    check_all_at(SHARE, results, at_peak)
    assert client.told == []
    assert client.waited_s < 60


def test_who_asks_for_the_phone_while_another_measures_does_not_end_its_mode(
    phone: VirtualPhone, rest: PhoneRest, tmp_path: Path
) -> None:
    first = Client(phone, tmp_path / "key", rest, leap=True)
    results = first.device.benchmark_many([REQUEST])
    assert next(results)[0] == 0
    assert phone.storage(MODE).read_text() == "true\n"
    with closing(Client(phone, tmp_path / "key", rest, leap=True).device) as second:
        assert second.info() == first.device.info()
    assert phone.storage(MODE).read_text() == "true\n"
    first.device.close()
    assert phone.storage(MODE).read_text() == "false\n"
    assert not list(phone.storage("/data/local/tmp/nasflow").iterdir())
