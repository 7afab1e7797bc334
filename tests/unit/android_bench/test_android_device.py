"""The phone as a device, against the virtual phone: real jobs, real runs, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from android_bench.adb_direct import DirectTransport
from android_bench.android import MAX_DROPS, AndroidDevice
from android_bench.device import BenchmarkRequest, LatencyMeasurement, RuntimeOptions
from android_bench.phone_job import PhoneJob
from android_bench.transport import Transport
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.errors import BadMeasurement, DeviceError, DeviceLost, NoUsableDevice, UsageError
from stages.conversion.flatbuffer import empty_model

FOLDER = "/data/local/tmp/nasflow"
MODEL = empty_model()


class Clock:
    """Time that passes when somebody sleeps, a fiftieth of it truly: the phone computes meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()
        threading.Event().wait(min(seconds / 4, 0.2))


@pytest.fixture(scope="module")
def shared_phone() -> Iterator[VirtualPhone]:
    with running_phone(inside="sandbox") as phone:
        yield phone


@pytest.fixture
def phone(shared_phone: VirtualPhone) -> Iterator[VirtualPhone]:
    yield shared_phone
    shared_phone.faults.clear()


class Bench:
    """Devices on one phone with one clock, and what they told."""

    def __init__(self, phone: VirtualPhone, key: Path) -> None:
        self.phone, self.key = phone, key
        self.clock = Clock()
        self.told: list[str] = []
        self.devices: list[AndroidDevice] = []

    def device(self, *, patience_s: float = 60.0) -> AndroidDevice:
        def no_runner(abi: str) -> object:
            raise AssertionError(f"a virtual phone brings its own tool, and {abi} was asked for")

        device = AndroidDevice(
            DirectTransport(self.phone.address, key=self.key),
            runner=no_runner,  # type: ignore[arg-type]
            clock=self.clock,
            sleep=self.clock.sleep,
            tell=self.told.append,
            patience_s=patience_s,
        )
        self.devices.append(device)
        return device

    def shell(self, text: str) -> str:
        with DirectTransport(self.phone.address, key=self.key) as transport:
            return transport.run(["sh", "-c", text], timeout_s=20).stdout.decode()

    def left(self) -> list[str]:
        folder = self.phone.storage(FOLDER)
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def bench(phone: VirtualPhone, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(phone, tmp_path / "adbkey")
    yield bench
    phone.faults.clear()
    for device in bench.devices:
        device.close()


def requests(count: int, **changes: object) -> list[BenchmarkRequest]:
    return [
        BenchmarkRequest.model_validate(
            {"name": f"m{index}", "model": MODEL, "warmup_ms": 1, "min_ms": 2, "min_runs": 3 + index}
            | changes
        )
        for index in range(count)
    ]


def check(results: list[tuple[int, LatencyMeasurement]], count: int) -> None:
    """Every request, in order, once: each was asked for another number of runs."""
    assert [index for index, _ in results] == list(range(count))
    for index, measured in results:
        assert measured.runs >= 3 + index
        assert measured.conditions is not None
        assert measured.conditions.battery_percent == 94


def test_a_list_is_measured_in_order_and_close_leaves_nothing(bench: Bench) -> None:
    device = bench.device()
    info = device.info()
    assert (info.kind, info.model, info.soc, info.virtual) == (
        "android",
        "Pixel 8 Pro",
        "Google Tensor G3",
        True,
    )
    assert len(info.binary_sha256) == 64
    check(list(device.benchmark_many(requests(4))), 4)
    assert device.benchmark(requests(1)[0]).rounds == 1
    device.close()
    device.close()
    assert bench.left() == []
    assert "run.sh" not in bench.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").replace(
        "cat /proc", ""
    )
    assert bench.shell("settings get global stay_on_while_plugged_in").strip() == "null"


def test_a_connection_that_breaks_costs_nothing_and_measures_nothing_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = bench.device()
    device.info()
    breaks = iter((0, 24, 100, 1000))

    def break_it() -> None:
        if (sent := next(breaks, None)) is not None:
            bench.phone.faults.set(FaultPlan(drop_after_sent_bytes=sent))

    starts: list[str] = []
    start = PhoneJob.start

    def counted(job: PhoneJob, transport: Transport) -> None:
        starts.append(job.folder)
        start(job, transport)

    monkeypatch.setattr(PhoneJob, "start", counted)
    bench.clock.on_sleep = break_it
    check(list(device.benchmark_many(requests(4))), 4)
    assert bench.phone.faults.fired >= 2
    assert any("is back" in line for line in bench.told)
    assert len(starts) == 1


def test_outputs_are_refused_with_a_reason(bench: Bench) -> None:
    import numpy as np

    with pytest.raises(UsageError, match="gives no outputs"):
        bench.device().run_model(MODEL, np.zeros((1, 4, 4, 1), np.float32))
