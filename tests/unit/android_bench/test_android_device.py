"""The phone as a device, against the virtual phone: real jobs, real runs, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import BenchmarkRequest, LatencyMeasurement, RuntimeOptions
from android_bench.phone.conditions import Limits
from android_bench.phone.job import PhoneJob
from android_bench.phone.stretches import MAX_DROPS
from android_bench.transport import Transport
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.base.errors import (
    BadMeasurementError,
    DeviceError,
    DeviceLostError,
    NoUsableDeviceError,
    UsageError,
)
from stages.conversion.flatbuffer import empty_model

pytestmark = pytest.mark.needs("bubblewrap")

FOLDER = "/data/local/tmp/nasflow"
MODEL = empty_model()


class Clock:
    """Time that passes when somebody sleeps, a part of it truly: the phone computes meanwhile.

    ``on_sleep`` is called where a client waits for a job, and not before one has been started.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.on_sleep: Callable[[], None] = lambda: None
        self.is_measuring: Callable[[], bool] = lambda: True

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.is_measuring():
            self.on_sleep()
        threading.Event().wait(min(seconds / 4, 0.2))


@pytest.fixture(scope="module")
def shared_phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
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
        self.clock.is_measuring = lambda: any(phone.storage(FOLDER).glob("job-*/pid"))
        self.told: list[str] = []
        self.devices: list[AndroidDevice] = []

    def device(self, *, patience_s: float = 60.0, limits: Limits | None = None) -> AndroidDevice:
        def no_runner(abis: Sequence[str]) -> object:
            raise AssertionError(f"a virtual phone brings its own tool, and {abis} was asked for")

        device = AndroidDevice(
            DirectTransport(self.phone.address, key=self.key),
            runner=no_runner,  # type: ignore[arg-type]
            limits=limits,
            clock=self.clock,
            sleep=self.clock.sleep,
            tell=self.told.append,
            patience_s=patience_s,
            load_s=0.02,
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

    def counted(job: PhoneJob, transport: Transport, start_token: str) -> None:
        starts.append(job.folder)
        start(job, transport, start_token)

    monkeypatch.setattr(PhoneJob, "start", counted)
    bench.clock.on_sleep = break_it
    check(list(device.benchmark_many(requests(4))), 4)
    assert bench.phone.faults.fired >= 2
    assert any("is connected again" in line for line in bench.told)
    assert len(starts) == 1


def test_a_phone_that_stays_away_is_lost_in_time_and_the_next_device_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = bench.device(patience_s=50)
    device.info()
    polls = 0

    def go_away() -> None:
        nonlocal polls
        polls += 1
        if polls == 1:
            bench.phone.faults.set(FaultPlan(authorisation="refuse"))
            bench.phone.disconnect()

    bench.clock.on_sleep = go_away
    asked = requests(3, min_ms=150)
    with pytest.raises(DeviceLostError, match="did not reconnect within 50 s"):
        list(device.benchmark_many(asked))
    assert 50 <= bench.clock.now < 60
    device.close()
    bench.phone.faults.clear()

    def never(job: PhoneJob, transport: Transport, start_token: str) -> None:
        raise AssertionError(f"{job.folder} is measured again")

    monkeypatch.setattr(PhoneJob, "start", never)
    later = bench.device()
    check(list(later.benchmark_many(asked)), 3)
    assert any("measured in the meantime" in line for line in bench.told)
    later.close()
    assert bench.left() == []


def test_a_list_that_goes_on_behind_what_was_received_is_found_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("android_bench.phone.planned_job._STRETCH_TIMINGS", 2)
    device = bench.device(patience_s=5)
    asked = requests(6)
    results = device.benchmark_many(asked)
    check([next(results), next(results), next(results)], 3)
    bench.phone.faults.set(FaultPlan(authorisation="refuse"))
    bench.phone.disconnect()
    with pytest.raises(DeviceLostError):
        next(results)
    device.close()
    bench.phone.faults.clear()
    keys = []
    start = PhoneJob.start

    def counted(job: PhoneJob, transport: Transport, start_token: str) -> None:
        keys.append(len(job.keys))
        start(job, transport, start_token)

    monkeypatch.setattr(PhoneJob, "start", counted)
    found = list(bench.device().benchmark_many(asked[3:]))
    assert [index for index, _ in found] == [0, 1, 2]
    assert all(measured.runs >= 6 + index for index, measured in found)
    assert keys == []


def test_a_stretch_that_saw_throttling_is_dropped_and_taken_again(bench: Bench) -> None:
    device = bench.device()
    device.info()
    sleeps = 0

    def heat() -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == 1:
            bench.phone.faults.set(FaultPlan(thermal_status=3, slowdown=50))
        elif any("too hot" in line for line in bench.told):
            bench.phone.faults.clear()

    bench.clock.on_sleep = heat
    results = list(device.benchmark_many(requests(2, min_ms=300)))
    check(results, 2)
    assert any("discarded and repeated: the phone throttles" in line for line in bench.told)
    assert all(measured.conditions and measured.conditions.cpu_mhz == 2914 for _, measured in results)


def test_clocks_that_are_held_back_are_noticed_and_waited_for_whatever_the_heat_is_said_to_be(
    bench: Bench,
) -> None:
    device = bench.device(limits=Limits(cooling_s=20))
    bench.clock.is_measuring = lambda: True
    device.benchmark(requests(1)[0])
    bench.phone.faults.set(FaultPlan(slowdown=2))

    def cool() -> None:
        if any("phone throttles" in line for line in bench.told):
            bench.phone.faults.clear()

    bench.clock.on_sleep = cool
    check(list(device.benchmark_many(requests(2))), 2)
    assert any("the clock limit of core 8 is 1457 MHz, before it was 2914 MHz" in line for line in bench.told)
    bench.phone.faults.set(FaultPlan(slowdown=2))
    bench.clock.on_sleep = lambda: None
    begin = bench.clock.now
    assert device.benchmark(requests(1)[0]).conditions is not None
    assert 20 <= bench.clock.now - begin < 60
    assert any(
        "still throttles after 20 s, and is measured in this state: the clock limit of core 8" in line
        for line in bench.told
    )
    told = len(bench.told)
    device.benchmark(requests(1)[0])
    assert bench.told[told:] == [], "that is how it is now"


def test_a_phone_that_always_throttles_is_given_up_with_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "android_bench.phone.stretches.disturbance",
        lambda *_, **__: "the phone throttles: the clock limit of cores 0 to 3 is 500 MHz",
    )
    with pytest.raises(DeviceError, match=f"abandoned after {MAX_DROPS + 1} attempts: .*500 MHz"):
        list(bench.device().benchmark_many(requests(1)))
    assert not [name for name in bench.left() if name.startswith("job-")]


def test_a_phone_that_restarts_gets_everything_again(bench: Bench) -> None:
    device = bench.device()
    device.info()
    sleeps = 0

    def restart() -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == 1:
            for model in bench.phone.storage(FOLDER).glob("*.tflite"):
                model.unlink()
            bench.phone.reboot()

    bench.clock.on_sleep = restart
    check(list(device.benchmark_many(requests(2, min_ms=200))), 2)
    device.close()
    assert bench.left() == []


def test_a_tool_that_prints_nonsense_is_no_measurement_and_its_words_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "android_bench.phone.planned_job.command",
        lambda *_, **__: ("echo", "INFO: count=5 \x1b[31mavg=banana"),
    )
    with pytest.raises(BadMeasurementError) as caught:
        list(bench.device().benchmark_many(requests(1)))
    assert "avg=banana" in caught.value.raw
    assert "\x1b" not in caught.value.raw


def test_a_model_that_the_tool_refuses_ends_the_list_with_its_words(bench: Bench) -> None:
    broken = BenchmarkRequest(name="broken", model=b"no model")
    results = bench.device().benchmark_many([requests(1)[0], broken])
    assert next(results)[0] == 0
    with pytest.raises(DeviceError, match=r"could not read the model .* timed broken") as caught:
        next(results)
    assert caught.value.raw


def test_threads_and_cores_reach_the_command_line(bench: Bench) -> None:
    device = bench.device()
    options = RuntimeOptions(threads=2, cpu="big")
    results = device.benchmark_many(requests(2, options=options))
    next(results)
    (script,) = bench.phone.storage(FOLDER).glob("job-*/run.sh")
    (text,) = bench.phone.storage(FOLDER).glob("job-*/0000.0.txt")
    assert "one 0000 taskset f0 /system/bin/benchmark_model" in script.read_text()
    assert "#threads used for CPU inference: [2]" in text.read_text()
    results.close()  # type: ignore[attr-defined]
    assert not [name for name in bench.left() if name.startswith("job-")]


def test_cores_that_the_phone_does_not_tell_are_no_usable_device(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("android_bench.phone.conditions.parse_cpufreq", lambda _text: ())
    with pytest.raises(NoUsableDeviceError, match="speed of its cores"):
        bench.device().benchmark(requests(1, options=RuntimeOptions(cpu="big"))[0])


def test_a_state_set_by_hand_and_an_empty_battery_are_refused(bench: Bench) -> None:
    for plan, words in (
        (FaultPlan(thermal_override=True), "set by hand"),
        (FaultPlan(battery_percent=10), "at 10 %"),
    ):
        bench.phone.faults.set(plan)
        with pytest.raises(NoUsableDeviceError, match=words):
            bench.device().benchmark(requests(1)[0])


def test_batches_are_refused_before_the_phone_is_asked(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"one image after the other; runtime\.batch is 2"):
        bench.device().benchmark(requests(1, options=RuntimeOptions(batch=2))[0])
    assert bench.left() == []


def test_what_a_killed_client_left_is_cleaned_at_the_next_start(bench: Bench) -> None:
    killed = bench.device()
    results = killed.benchmark_many(requests(3, min_ms=20_000))
    bench.clock.on_sleep = lambda: (_ for _ in ()).throw(Killed())
    killed._remove_job = lambda: None  # type: ignore[method-assign]
    with pytest.raises(Killed):
        next(results)
    bench.clock.on_sleep = lambda: None
    assert [name for name in bench.left() if name.startswith("job-")]
    assert bench.shell("settings get global stay_on_while_plugged_in").strip() == "15"
    check(list(bench.device().benchmark_many(requests(1))), 1)
    running = bench.shell("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null")
    assert "/run.sh" not in running
    assert "--min_secs=20" not in running


@pytest.mark.parametrize("before", ["3", "null"])
def test_settings_are_on_while_it_measures_and_as_before_when_a_measurement_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    setting = "global stay_on_while_plugged_in"
    bench.shell(f"settings delete {setting}" if before == "null" else f"settings put {setting} {before}")
    meanwhile = []
    bench.clock.on_sleep = lambda: meanwhile.append(bench.shell(f"settings get {setting}").strip())
    monkeypatch.setattr("android_bench.phone.planned_job.command", lambda *_, **__: ("echo", "avg=banana"))
    device = bench.device()
    with pytest.raises(BadMeasurementError):
        device.benchmark(requests(1)[0])
    assert meanwhile[-1] == "15"
    device.close()
    assert bench.shell(f"settings get {setting}").strip() == before
    bench.shell(f"settings delete {setting}")


class Killed(BaseException):
    """Ends a client between two words, as SIGKILL does."""


def test_what_a_phone_measured_while_it_throttled_alone_is_taken_again(bench: Bench) -> None:
    device = bench.device(patience_s=5)
    device.info()
    sleeps = 0

    def go_away_hot() -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == 1:
            bench.phone.faults.set(FaultPlan(authorisation="refuse", thermal_status=2, slowdown=30))
            bench.phone.disconnect()

    bench.clock.on_sleep = go_away_hot
    asked = requests(2, min_ms=200)
    with pytest.raises(DeviceLostError):
        list(device.benchmark_many(asked))
    device.close()
    folder = bench.phone.storage(FOLDER)
    while not list(folder.glob("job-*/0000.after")):
        threading.Event().wait(0.05)
    bench.phone.faults.clear()
    check(list(bench.device().benchmark_many(asked)), 2)
    assert any("discarded and repeated" in line for line in bench.told)
    assert not [name for name in bench.left() if name.startswith("job-")]


def test_a_tool_that_hangs_is_given_up_in_time_and_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("android_bench.phone.planned_job.command", lambda *_, **__: ("sleep", "4321"))
    monkeypatch.setattr("android_bench.android.longest_run_s", lambda _request: 5.0)
    with pytest.raises(DeviceError, match="not finished a timing on the phone for more than 37 s"):
        bench.device().benchmark(requests(1)[0])
    assert bench.clock.now < 60
    assert "sleep\n4321" not in bench.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'")


def test_a_phone_that_ends_every_job_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    script = PhoneJob.script
    monkeypatch.setattr(PhoneJob, "script", lambda job: script(job).replace("one 0000", "exit; one 0000"))
    with pytest.raises(DeviceError, match="ended a measurement 4 times"):
        bench.device().benchmark(requests(1)[0])


def test_outputs_are_refused_with_a_reason(bench: Bench) -> None:
    import numpy as np

    with pytest.raises(UsageError, match="does not return outputs"):
        bench.device().run_model(MODEL, np.zeros((1, 4, 4, 1), np.float32))
