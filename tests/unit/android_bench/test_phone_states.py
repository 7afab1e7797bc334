"""Phones that sleep, refuse, have no battery, or set their clock: measured, or refused with advice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import BenchmarkRequest, LatencyMeasurement
from android_bench.phone.conditions import Limits
from android_bench.phone.job import PhoneJob
from android_bench.phone.performance_mode import ANSWER
from android_bench.transport import Transport
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.base.errors import DeviceError, DeviceLostError, NoUsableDeviceError
from stages.conversion.flatbuffer import empty_model

pytestmark = pytest.mark.needs("bubblewrap")

FOLDER = "/data/local/tmp/nasflow"
STAY = "settings get global stay_on_while_plugged_in"
OFF = "settings get system screen_off_timeout"


class Killed(BaseException):
    """Ends a client between two words, as SIGKILL does."""


class Bench:
    """Devices on one phone by one clock, which moves when somebody sleeps; and what they told."""

    def __init__(self, phone: VirtualPhone, key: Path) -> None:
        self.phone, self.key = phone, key
        self.now = 0.0
        self.told: list[str] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.devices: list[AndroidDevice] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()
        threading.Event().wait(min(seconds / 4, 0.1))

    def device(self, limits: Limits | None = None) -> AndroidDevice:
        def no_runner(abi: str) -> object:
            raise AssertionError(f"a virtual phone brings its own tool, and {abi} was asked for")

        device = AndroidDevice(
            DirectTransport(self.phone.address, key=self.key),
            runner=no_runner,  # type: ignore[arg-type]
            limits=limits,
            clock=lambda: self.now,
            sleep=self.sleep,
            tell=self.told.append,
            patience_s=5,
            load_s=0.05,
        )
        self.devices.append(device)
        return device

    def shell(self, text: str) -> str:
        with DirectTransport(self.phone.address, key=self.key) as transport:
            return transport.run(["sh", "-c", text], timeout_s=20).stdout.decode().strip()

    def wakefulness(self) -> str:
        return self.shell("dumpsys power | grep mWakefulness=").strip()

    def has_begun(self) -> bool:
        """Whether the state before the first stretch was written."""
        return bool(list(self.phone.storage(FOLDER).glob("job-*/0000.before")))

    def strike(self, **plan: object) -> None:
        """Put faults in force once a stretch has begun; its first timing waits for them."""
        self.phone.storage("/sdcard/wait").touch()

        def now() -> None:
            if self.has_begun() and self.phone.storage("/sdcard/wait").exists():
                self.phone.faults.set(FaultPlan.model_validate(plan))
                self.phone.storage("/sdcard/wait").unlink()

        self.on_sleep = now


@pytest.fixture(scope="module")
def shared_phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        tool = phone.folder.system / "bin" / "benchmark_model"
        tool.write_text(
            "#!/system/bin/sh\n"
            'case "$*" in *--result_file_path=*)\n'
            "  [ ! -f /sdcard/drowsy ] || input keyevent KEYCODE_SLEEP\n"
            "  if [ -f /sdcard/hang ]; then rm /sdcard/hang; exec sleep 4321; fi\n"
            "  while [ -f /sdcard/wait ]; do sleep 0.05; done ;;\n"
            "esac\n"
            f'exec /system/bin/benchmark_model_{phone.folder.description.tool} "$@"\n'
        )
        yield phone


@pytest.fixture
def bench(shared_phone: VirtualPhone, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(shared_phone, tmp_path / "adbkey")
    yield bench
    bench.on_sleep = lambda: None
    shared_phone.faults.clear()
    for name in ("wait", "hang", "drowsy"):
        shared_phone.storage(f"/sdcard/{name}").unlink(missing_ok=True)
    for device in bench.devices:
        device.close()
    bench.shell("settings delete global stay_on_while_plugged_in; settings delete system screen_off_timeout")
    assert not list(shared_phone.storage(FOLDER).iterdir())


def requests(count: int) -> list[BenchmarkRequest]:
    return [
        BenchmarkRequest(name=f"m{index}", model=empty_model(), warmup_ms=1, min_ms=2, min_runs=3 + index)
        for index in range(count)
    ]


def measure(device: AndroidDevice, count: int = 2) -> list[LatencyMeasurement]:
    found = list(device.benchmark_many(requests(count)))
    assert [index for index, _ in found] == list(range(count))
    return [measured for _, measured in found]


def awake(measured: LatencyMeasurement) -> bool | None:
    assert measured.conditions is not None
    return measured.conditions.awake


# Asleep


def test_a_sleeping_phone_is_woken_and_lies_down_again_at_the_end(bench: Bench) -> None:
    bench.phone.faults.set(FaultPlan(asleep=True))
    device = bench.device()
    assert [awake(measured) for measured in measure(device)] == [True, True]
    assert bench.wakefulness() == "mWakefulness=Awake"
    device.close()
    assert bench.wakefulness() == "mWakefulness=Asleep"
    assert (bench.shell(STAY), bench.shell(OFF)) == ("null", "null")
    assert bench.told == []


def test_a_phone_that_was_awake_stays_awake(bench: Bench) -> None:
    device = bench.device()
    measure(device)
    device.close()
    assert bench.wakefulness() == "mWakefulness=Awake"


def test_the_run_after_a_killed_one_switches_the_screen_off_that_this_had_switched_on(bench: Bench) -> None:
    bench.phone.faults.set(FaultPlan(asleep=True))
    killed = bench.device()
    killed._remove_job = lambda: None  # type: ignore[method-assign]

    def die() -> None:
        if bench.has_begun():
            raise Killed

    bench.on_sleep = die
    with pytest.raises(Killed):
        measure(killed)
    killed._lock.held = False  # its end tidies nothing
    bench.on_sleep = lambda: None
    assert bench.wakefulness() == "mWakefulness=Awake"
    later = bench.device()
    measure(later)
    later.close()
    assert bench.wakefulness() == "mWakefulness=Asleep"
    assert (bench.shell(STAY), bench.shell(OFF)) == ("null", "null")


def test_a_phone_that_stays_asleep_is_not_measured_and_is_left_as_it_was(bench: Bench) -> None:
    bench.phone.faults.set(FaultPlan(asleep=True, stays_asleep=True, refuse_input=True))
    device = bench.device()
    with pytest.raises(NoUsableDeviceError, match=r"cannot be woken .*INJECT_EVENTS") as caught:
        measure(device)
    assert "power button" in caught.value.hint
    device.close()
    assert (bench.shell(STAY), bench.shell(OFF)) == ("null", "null")


def test_a_phone_that_does_not_tell_whether_it_is_awake_is_measured_and_that_is_recorded(
    bench: Bench,
) -> None:
    bench.phone.faults.set(FaultPlan(asleep=True, missing_services=("power",)))
    assert [awake(measured) for measured in measure(bench.device())] == [None, None]


def test_a_phone_that_falls_asleep_while_it_is_measured_is_woken_and_measured_again(bench: Bench) -> None:
    bench.strike(asleep=True, sleep_slowdown=50)
    assert [awake(measured) for measured in measure(bench.device())] == [True, True]
    (told,) = bench.told
    assert told.startswith("2 timings are discarded and repeated: the phone was not awake (mWakefulness=")


def test_a_phone_that_can_no_longer_be_woken_ends_the_run_with_advice(bench: Bench) -> None:
    bench.strike(asleep=True, stays_asleep=True)
    with pytest.raises(NoUsableDeviceError, match="cannot be woken"):
        measure(bench.device())


def test_a_phone_on_battery_is_kept_awake_by_its_own_screen_time(bench: Bench) -> None:
    bench.phone.faults.set(FaultPlan(unplugged=True, sleeps_after_s=0.05))
    device = bench.device()
    assert [awake(measured) for measured in measure(device)] == [True, True]
    device.close()
    assert bench.shell(OFF) == "null"


def test_a_lock_screen_that_goes_dark_too_soon_is_told_with_what_helps(bench: Bench) -> None:
    bench.phone.storage("/sdcard/drowsy").touch()
    with pytest.raises(DeviceError, match=r"abandoned after 4 attempts: .*plug it in and unlock it"):
        measure(bench.device())


# What a phone refuses


def test_a_phone_whose_settings_may_not_be_written_is_measured_and_that_is_told_once(bench: Bench) -> None:
    bench.phone.faults.set(FaultPlan(refuse_settings=True))
    device = bench.device()
    for _ in range(2):
        measure(device)
        device.close()
    assert len(bench.told) == 2, bench.told
    assert all("WRITE_SECURE_SETTINGS" in line and "may fall asleep" in line for line in bench.told)


def test_what_a_killed_run_left_and_the_phone_refuses_to_put_back_stops_nobody(bench: Bench) -> None:
    bench.shell("settings put global stay_on_while_plugged_in 3")
    killed = bench.device()
    measure(killed)
    killed._lock.held = False  # it ends without putting anything back
    bench.phone.faults.set(FaultPlan(refuse_settings=True))
    device = bench.device()
    measure(device)
    device.close()
    assert any(
        line.endswith("by hand: adb shell settings put global stay_on_while_plugged_in 3")
        for line in bench.told
    ), bench.told
    assert bench.shell(STAY) == "15"
    bench.phone.faults.clear()
    last = bench.device()
    measure(last)
    last.close()
    assert bench.shell(STAY) == "3"


def test_a_phone_without_fixed_performance_services_or_battery_is_measured(bench: Bench) -> None:
    bench.phone.faults.set(
        FaultPlan(
            refuse_fixed_performance=True,
            no_battery=True,
            missing_services=("thermalservice", "power", "battery"),
        )
    )
    measure(bench.device())
    bench.phone.faults.set(FaultPlan(no_battery=True))
    (measured,) = measure(bench.device(), 1)
    assert measured.conditions is not None and measured.conditions.battery_percent is None


def test_a_phone_that_refuses_fixed_performance_when_it_is_measured_is_said_not_to_be_in_it(
    bench: Bench,
) -> None:
    device = bench.device()
    measure(device, 1)
    assert device.info().fixed_performance is True
    bench.phone.faults.set(FaultPlan(refuse_fixed_performance=True))
    for _ in range(2):
        device._steadiness.put_back()  # as where the phone has started anew
        measure(device, 1)
        assert device.info().identity()["fixed_performance"] == "false"
        assert bench.shell(f"cat {ANSWER}") == "false"
    (told,) = bench.told
    assert told.startswith("The phone now refuses fixed-performance mode; it sets its own clocks: Failed")
    bench.phone.faults.clear()
    device._steadiness.put_back()
    measure(device, 1)
    assert device.info().fixed_performance is True


def test_a_light_thermal_status_is_accepted_where_a_person_says_so_and_recorded(bench: Bench) -> None:
    bench.phone.faults.set(FaultPlan(thermal_status=1))
    (measured,) = measure(bench.device(Limits(max_thermal_status=1)), 1)
    assert measured.conditions is not None and measured.conditions.thermal_status == 1
    with pytest.raises(NoUsableDeviceError, match="status 1") as caught:
        measure(bench.device(Limits(cooling_s=1)), 1)
    assert "android.max_thermal_status: 1" in caught.value.hint


# The phone's clock


@pytest.mark.parametrize("offset_s", [2, -28_800])
def test_a_stretch_in_which_the_clock_was_set_is_taken_again_and_what_the_tool_said_is_not_even_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, offset_s: int
) -> None:
    from android_bench import android

    finished_run, told_before = android.finished_run, []

    def finished(*args: object, **named: object) -> LatencyMeasurement:
        told_before.append(len(bench.told))
        return finished_run(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(android, "finished_run", finished)
    bench.strike(clock_offset_s=offset_s)
    measure(bench.device())
    (told,) = bench.told
    assert "discarded and repeated: the phone's clock was set" in told
    assert told_before == [1, 1], "an output was read before its stretch was judged"


def test_a_tool_that_goes_on_for_hours_since_the_clock_was_set_back_is_begun_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("android_bench.android.longest_run_s", lambda _request: 100.0)
    bench.strike(clock_offset_s=-28_800)
    bench.phone.storage("/sdcard/hang").touch()
    measure(bench.device())
    assert any("discarded and repeated: the phone's clock was set back" in line for line in bench.told)


def test_what_a_phone_measured_alone_is_found_though_its_clock_was_set_meanwhile(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = bench.device()
    device.info()

    def go_away() -> None:
        if bench.has_begun():
            bench.on_sleep = lambda: None
            bench.phone.faults.set(FaultPlan(authorisation="refuse"))
            bench.phone.disconnect()

    bench.on_sleep = go_away
    with pytest.raises(DeviceLostError):
        measure(device)
    device.close()
    while not list(bench.phone.storage(FOLDER).glob("job-*/0000.after")):
        threading.Event().wait(0.05)

    def never(job: PhoneJob, transport: Transport, start_token: str) -> None:
        raise AssertionError(f"{job.folder} is measured again")

    monkeypatch.setattr(PhoneJob, "start", never)
    bench.phone.faults.set(FaultPlan(clock_offset_s=200 * 86_400))
    measure(bench.device())
    assert any("measured in the meantime" in line for line in bench.told)
