"""The runner on the phone: old ones go, one in use stays, and one that the phone kills gets another try."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import BenchmarkRequest
from android_bench.runner.download import Runner
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.base.errors import BadMeasurementError, DeviceError, KilledByPhoneError, NoUsableDeviceError
from stages.conversion.flatbuffer import empty_model

pytestmark = pytest.mark.needs("bubblewrap")

Open = Callable[..., AndroidDevice]
FOLDER = "/data/local/tmp/nasflow"
REQUEST = BenchmarkRequest(name="empty", model=empty_model(), warmup_ms=1, min_ms=2, min_runs=3)


@pytest.fixture(scope="module")
def shared_phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


@pytest.fixture
def phone(shared_phone: VirtualPhone) -> Iterator[VirtualPhone]:
    yield shared_phone
    shared_phone.faults.clear()


class Clock:
    """Time that passes when somebody sleeps, a part of it truly."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        threading.Event().wait(min(seconds / 4, 0.2))


def program(version: int) -> Runner:
    """A runner that is a script, so that it runs here: the phone's own tool, under a name of its own."""
    text = f'#!/system/bin/sh\n# version {version}\nexec /system/bin/benchmark_model "$@"\n'.encode()
    return Runner(text, hashlib.sha256(text).hexdigest(), f"benchmark_model {version}")


@pytest.fixture
def open_device(phone: VirtualPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    devices: list[AndroidDevice] = []

    def make(runner: Runner | None = None, told: list[str] | None = None) -> AndroidDevice:
        if runner is not None:  # a phone that is no virtual one, and a program that is no ELF file
            monkeypatch.setattr("android_bench.phone.tool.VIRTUAL_PROPERTY", "ro.nothing")
            monkeypatch.setattr("android_bench.phone.tool.check_abi", lambda *_, **__: None)
        clock = Clock()
        devices.append(
            AndroidDevice(
                DirectTransport(phone.address, key=tmp_path / "adbkey"),
                runner=runner or program(0),
                clock=clock,
                sleep=clock.sleep,
                tell=(told if told is not None else []).append,
            )
        )
        return devices[-1]

    yield make
    phone.faults.clear()
    for device in devices:
        device.close()


def runners(phone: VirtualPhone) -> set[str]:
    return {path.name for path in phone.storage(FOLDER).iterdir() if len(path.name) == 64}


def test_runners_of_earlier_runs_are_deleted_by_who_holds_the_lock_and_by_nobody_else(
    phone: VirtualPhone, open_device: Open
) -> None:
    old = phone.storage(f"{FOLDER}/{'0a' * 32}")
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(b"an old runner")
    device = open_device(program(1))
    assert device.info().runtime == "classic, benchmark_model 1"
    assert runners(phone) == {old.name, program(1).sha256}, "without the lock nothing is deleted"
    assert device.benchmark(REQUEST).runs >= 3
    assert runners(phone) == {program(1).sha256}
    device.close()
    assert runners(phone) == {program(1).sha256}, "the next run need not send it again"


def test_a_runner_that_another_run_has_deleted_is_there_again_when_it_is_needed(
    phone: VirtualPhone, open_device: Open
) -> None:
    waiting = open_device(program(1))
    waiting.info()
    other = open_device(program(2))
    other.benchmark(REQUEST)
    assert runners(phone) == {program(2).sha256}
    other.close()
    assert waiting.benchmark(REQUEST).runs >= 3
    assert runners(phone) == {program(1).sha256}


def test_a_timing_that_the_phone_kills_is_taken_again_twice(phone: VirtualPhone, open_device: Open) -> None:
    told: list[str] = []
    device = open_device(told=told)
    device.info()
    phone.faults.set(FaultPlan(tool_signal=9, tool_signal_times=2))
    assert device.benchmark(REQUEST).runs >= 3
    assert sum("repeated: the phone killed benchmark_model" in line for line in told) == 2


def test_a_timing_that_the_phone_kills_a_third_time_is_an_error_that_names_the_model(
    phone: VirtualPhone, open_device: Open
) -> None:
    told: list[str] = []
    device = open_device(told=told)
    device.info()
    phone.faults.set(FaultPlan(tool_signal=9))
    with pytest.raises(KilledByPhoneError, match=r"SIGKILL.*exit code 137.*timed empty"):
        device.benchmark(REQUEST)
    assert sum("repeated" in line for line in told) == 2


@pytest.mark.parametrize(
    ("plan", "told", "advice"),
    [
        (FaultPlan(tool_signal=4), "SIGILL: this processor lacks an instruction", "older processors"),
        (FaultPlan(tool_signal=6), "SIGABRT: the program aborted itself", "last line"),
        (FaultPlan(tool_signal=11), "SIGSEGV: it accessed invalid memory", "fault is in the runner"),
    ],
)
def test_a_tool_that_crashes_in_a_job_says_why(
    phone: VirtualPhone, open_device: Open, plan: FaultPlan, told: str, advice: str
) -> None:
    device = open_device()
    device.info()
    phone.faults.set(plan)
    with pytest.raises(DeviceError, match=rf"{told}.*timed empty") as caught:
        device.benchmark(REQUEST)
    assert advice in caught.value.hint


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (FaultPlan(tool_signal=4, tool_signal_at="start"), "SIGILL"),
        (FaultPlan(tool_link_error='library "libfoo.so" not found'), "lacks a library"),
        (FaultPlan(tool_forbidden=True), "is not allowed to run"),
        (FaultPlan(abi="x86_64"), "another processor"),
    ],
)
def test_a_phone_that_does_not_run_the_tool_is_no_usable_device(
    phone: VirtualPhone, open_device: Open, plan: FaultPlan, told: str
) -> None:
    phone.faults.set(plan)
    with pytest.raises(NoUsableDeviceError, match=told):
        open_device().info()


def test_a_model_below_a_microsecond_is_measured_and_one_that_takes_no_time_is_named(
    open_device: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_device()
    measured = device.benchmark(REQUEST)
    assert measured.resolution_ms == 0.001 and measured.min_ms > 0
    heading = "INFO: Running benchmark for at least 1 iterations\\nINFO: count=9 curr=0(all same)\\n"
    monkeypatch.setattr("android_bench.phone.planned_job.command", lambda *_, **__: ("printf", 2 * heading))
    with pytest.raises(BadMeasurementError, match=r"^empty was not measured.*0 microseconds for every run"):
        device.benchmark(REQUEST)
