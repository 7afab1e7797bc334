"""The phone's state: read through any transport, judged, waited for; and its settings always put back."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.device import CpuPolicy
from android_bench.phone.clocks import fastest_of, held_back
from android_bench.phone.conditions import (
    BATTERY_COMMAND,
    CPUFREQ_COMMAND,
    POWER_COMMAND,
    THERMAL_COMMAND,
    Limits,
    Reading,
    asleep,
    check_usable,
    clock_set,
    disturbance,
    read_conditions,
    rebooted,
    too_hot,
    wait_until_ready,
)
from android_bench.phone.screen import SETTLE_S, wake_up
from android_bench.transport import Transport
from nasflow.base.errors import DeviceLostError, NoUsableDeviceError
from tests.support.scripted_phone import BOOT, CPUFREQ, ScriptedPhone, fixture


def reading(phone: Transport | None = None) -> Reading:
    return read_conditions(phone or ScriptedPhone(), now=lambda: datetime(2026, 11, 23, tzinfo=UTC))


def test_a_phone_that_tells_everything_is_read() -> None:
    got = reading()
    assert (got.uptime_s, got.boot_id) == (1234.56, BOOT)
    assert [policy.cores for policy in got.policies] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert got.conditions().model_dump() == {
        "at": datetime(2026, 11, 23, tzinfo=UTC),
        "load_1min": None,
        "cpu_mhz": 2367.0,
        "skin_celsius": None,
        "thermal_status": 0,
        "battery_percent": 94.0,
        "awake": True,
    }


def test_a_phone_that_tells_nothing_is_unknown_and_not_refused() -> None:
    phone = ScriptedPhone()
    phone.texts = {}
    got = reading(phone)
    assert (got.thermal, got.battery, got.policies, got.uptime_s, got.boot_id) == (None, None, (), None, None)
    assert (got.wall_s, got.wakefulness, got.awake) == (None, None, None)
    check_usable(got, Limits())
    assert too_hot(got, Limits()) is None
    assert disturbance(got, got, Limits()) is None
    assert wait_until_ready(phone, Limits()).thermal is None


def test_nonsense_is_unknown_and_not_guessed() -> None:
    phone = ScriptedPhone()
    phone.texts = dict.fromkeys(phone.texts, "Can't find service: thermalservice\n\x1b[31mlevel\x00: soon\n")
    got = reading(phone)
    assert got.thermal is not None and got.thermal.status is None and got.thermal.temperatures == ()
    assert got.conditions().battery_percent is None
    check_usable(got, Limits())


@pytest.mark.parametrize(("level", "fine"), [(29, False), (30, True), (100, True), (0, False)])
def test_a_battery_below_the_limit_is_refused(level: int, fine: bool) -> None:
    phone = ScriptedPhone()
    phone.texts[BATTERY_COMMAND] = fixture("battery.txt").replace("level: 94", f"level: {level}")
    if fine:
        check_usable(reading(phone), Limits())
        return
    with pytest.raises(NoUsableDeviceError, match=rf"{level} %") as caught:
        check_usable(reading(phone), Limits())
    assert caught.value.exit_code == 4


NO_BATTERY = """Current Battery Service state:
  AC powered: true
  USB powered: false
  present: false
  level: 0
  scale: 100
  voltage: 0
"""


def test_a_device_without_a_battery_is_not_an_empty_one() -> None:
    phone = ScriptedPhone()
    phone.texts[BATTERY_COMMAND] = NO_BATTERY
    check_usable(reading(phone), Limits())
    assert reading(phone).conditions().battery_percent is None
    phone.texts[BATTERY_COMMAND] = NO_BATTERY.replace("present: false", "present: true")
    with pytest.raises(NoUsableDeviceError, match="at 0 %"):
        check_usable(reading(phone), Limits())


def test_a_light_thermal_status_is_measured_where_a_person_says_so_and_recorded() -> None:
    phone, clock = ScriptedPhone(), Clock()
    phone.texts[THERMAL_COMMAND] = "IsStatusOverride: false\nThermal Status: 1\n"
    with pytest.raises(NoUsableDeviceError, match="status 1") as caught:
        wait_until_ready(phone, Limits(), clock=clock, sleep=clock.sleep)
    assert "android.max_thermal_status: 1" in caught.value.hint
    got = wait_until_ready(phone, Limits(max_thermal_status=1), clock=clock, sleep=clock.sleep)
    assert disturbance(got, got, Limits(max_thermal_status=1)) is None
    assert got.conditions().thermal_status == 1
    phone.texts[THERMAL_COMMAND] = "IsStatusOverride: false\nThermal Status: 2\n"
    assert disturbance(got, reading(phone), Limits(max_thermal_status=1)) is not None


def test_a_status_that_no_key_accepts_is_not_advised() -> None:
    phone, clock = ScriptedPhone(), Clock()
    phone.texts[THERMAL_COMMAND] = "IsStatusOverride: false\nThermal Status: 4\n"
    with pytest.raises(NoUsableDeviceError, match="critical") as caught:
        wait_until_ready(phone, Limits(), clock=clock, sleep=clock.sleep)
    assert "max_thermal_status" not in caught.value.hint


def test_a_thermal_status_set_by_hand_is_refused() -> None:
    phone = ScriptedPhone()
    phone.texts[THERMAL_COMMAND] = "IsStatusOverride: true\nThermal Status: 0\n"
    with pytest.raises(NoUsableDeviceError, match="thermalservice reset"):
        wait_until_ready(phone, Limits())


def test_a_battery_set_by_hand_is_refused() -> None:
    phone = ScriptedPhone()
    phone.texts[BATTERY_COMMAND] = (
        "Current Battery Service state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n  level: 100\n"
        "  scale: 100\n"
    )
    with pytest.raises(NoUsableDeviceError, match="dumpsys battery reset"):
        wait_until_ready(phone, Limits())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_hot_phone_is_waited_for_and_it_is_said_once() -> None:
    phone, clock, told = ScriptedPhone(), Clock(), list[str]()
    hot, cool = fixture("thermalservice_throttling.txt"), fixture("thermalservice_samsung_android12.txt")
    answers = itertools.chain([hot, hot, hot], itertools.repeat(cool))
    phone.texts[THERMAL_COMMAND] = lambda: next(answers)
    got = wait_until_ready(phone, Limits(), clock=clock, sleep=clock.sleep, tell=told.append)
    assert got.thermal is not None and got.thermal.status == 0
    assert clock.slept == [10.0] * 3
    assert len(told) == 1 and "moderate" in told[0] and "44.6" in told[0]


def test_a_phone_that_stays_hot_is_given_up_after_ten_minutes() -> None:
    phone, clock = ScriptedPhone(), Clock()
    phone.texts[THERMAL_COMMAND] = fixture("thermalservice_throttling.txt")
    with pytest.raises(NoUsableDeviceError, match="after 600 s: thermal status 2"):
        wait_until_ready(phone, Limits(), clock=clock, sleep=clock.sleep, pause_s=7)
    assert clock.now == 600


def test_cores_that_are_held_back_are_waited_for_and_then_taken_as_they_are() -> None:
    phone, clock, told = ScriptedPhone(), Clock(), list[str]()
    fastest = fastest_of((), reading(phone).policies)
    slow = CPUFREQ.replace("scaling_max_freq=2367000", "scaling_max_freq=1800000")
    answers = itertools.chain([slow, slow], itertools.repeat(CPUFREQ))
    phone.texts[CPUFREQ_COMMAND] = lambda: next(answers)
    wait = functools.partial(
        wait_until_ready, clock=clock, sleep=clock.sleep, tell=told.append, fastest=fastest
    )
    assert held_back(fastest, wait(phone, Limits()).policies) is None
    assert clock.slept == [10.0] * 2
    assert told == [
        "The phone throttles: the clock limit of cores 4 to 7 is 1800 MHz, before it was 2367 MHz. Waiting "
        "up to 10 min."
    ]
    phone.texts[CPUFREQ_COMMAND] = slow
    assert held_back(fastest, wait(phone, Limits()).policies) is not None
    assert clock.now == 620
    assert (
        "still throttles after 600 s, and is measured in this state: the clock limit of cores 4 to 7"
        in told[-1]
    )


def test_throttling_between_two_readings_is_noticed() -> None:
    phone = ScriptedPhone()
    before = reading(phone)
    phone.texts[THERMAL_COMMAND] = fixture("thermalservice_throttling.txt")
    assert "thermal status 2" in str(disturbance(before, reading(phone), Limits()))
    assert disturbance(before, before, Limits()) is None


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (THERMAL_COMMAND, "IsStatusOverride: true\nThermal Status: 0\n"),
        (BATTERY_COMMAND, "(UPDATES STOPPED)"),
    ],
)
def test_a_state_set_by_hand_meanwhile_is_noticed(command: tuple[str, ...], text: str) -> None:
    phone = ScriptedPhone()
    before = reading(phone)
    phone.texts[command] = text
    assert "by hand" in str(disturbance(before, reading(phone), Limits()))


def test_a_reboot_is_noticed_by_boot_id_or_by_uptime() -> None:
    before = reading()
    assert not rebooted(before, replace(before, uptime_s=2000.0))
    assert rebooted(before, replace(before, boot_id=BOOT.replace("0", "1"), uptime_s=9999.0))
    unknown = replace(before, boot_id=None)
    assert rebooted(unknown, replace(unknown, uptime_s=3.0))
    assert not rebooted(unknown, replace(unknown, uptime_s=1300.0))
    assert not rebooted(unknown, replace(unknown, uptime_s=None))
    assert disturbance(before, replace(before, boot_id=BOOT.replace("0", "1")), Limits()) == (
        "the phone has restarted"
    )


@pytest.mark.parametrize("state", ["Asleep", "Dozing", "Dreaming"])
def test_a_phone_that_was_not_awake_spoils_its_stretch(state: str) -> None:
    awake = reading()
    sleeping = replace(awake, wakefulness=state)
    for pair in ((awake, sleeping), (sleeping, awake), (sleeping, sleeping)):
        assert f"mWakefulness={state}" in str(disturbance(*pair, Limits()))
    assert asleep(replace(awake, wakefulness=None), awake) is None, "what is not told is not held against it"


@pytest.mark.parametrize(
    ("wall_s", "uptime_s", "words"),
    [
        (15.0, 15.0, None),
        (15.4, 15.0, None),
        (15.0 + 2.0, 15.0, "forward by 2 s"),
        (15.0 + 7200.0, 15.0, "forward by 7200 s"),
        (15.0 - 28_800.0, 15.0, "back by 28800 s"),
        (3600.0, 3600.0, None),
    ],
)
def test_a_clock_that_was_set_between_two_readings_spoils_what_lies_between(
    wall_s: float, uptime_s: float, words: str | None
) -> None:
    before = reading()
    assert before.wall_s == 1_700_000_000.25
    assert before.uptime_s is not None
    after = replace(before, wall_s=before.wall_s + wall_s, uptime_s=before.uptime_s + uptime_s)
    reason = disturbance(before, after, Limits())
    assert reason is None if words is None else reason is not None and words in reason
    assert clock_set(before, replace(after, wall_s=None)) is None
    assert clock_set(before, replace(after, uptime_s=None)) is None
    assert clock_set(before, replace(after, boot_id=BOOT.replace("0", "1"))) is None


# Asleep


@pytest.mark.parametrize("ways", [{"input"}, {"cmd"}, {"input", "cmd"}])
def test_a_phone_is_woken_by_whichever_way_it_allows(ways: set[str]) -> None:
    phone, clock = ScriptedPhone(), Clock()
    phone.wakefulness, phone.wakes_by = "Dozing", ways
    wake_up(phone, sleep=clock.sleep)
    assert phone.wakefulness == "Awake"
    assert clock.slept == [SETTLE_S] * (1 if "input" in ways else 2)


def test_a_phone_that_cannot_be_woken_is_not_usable_and_it_is_said_what_to_do() -> None:
    phone, clock = ScriptedPhone(), Clock()
    phone.wakefulness, phone.wakes_by = "Asleep", set()
    with pytest.raises(
        NoUsableDeviceError, match=r"woken \(mWakefulness=Asleep\): .*INJECT_EVENTS"
    ) as caught:
        wake_up(phone, sleep=clock.sleep)
    assert "power button" in caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("text", ["", "mWakefulness=7", "mWakefulnessChanging=false"])
def test_a_phone_whose_wakefulness_is_not_told_is_left_as_it_is(text: str) -> None:
    phone, clock = ScriptedPhone(), Clock()
    phone.texts[POWER_COMMAND] = text
    wake_up(phone, sleep=clock.sleep)
    assert clock.slept == []
    assert reading(phone).conditions().awake is None


def test_an_awake_phone_gets_no_key() -> None:
    phone = ScriptedPhone()
    wake_up(phone, sleep=Clock().sleep)
    assert phone.log == [POWER_COMMAND]


def test_a_lost_phone_is_not_an_unknown_one() -> None:
    phone = ScriptedPhone()
    phone.commands_left = 2
    with pytest.raises(DeviceLostError):
        reading(phone)


def test_clusters_of_one_core_are_named_too() -> None:
    before = replace(reading(), policies=(CpuPolicy(7, (7,), None, 3_000_000, 3_000_000),))
    after = replace(before, policies=(CpuPolicy(7, (7,), None, 2_000_000, 3_000_000),))
    assert "2000 MHz" in str(held_back(before.policies, after.policies))


@settings(max_examples=1_000)
@given(st.lists(st.binary(max_size=80), min_size=7, max_size=7))
def test_a_phone_that_says_anything_is_read_judged_and_compared(texts: list[bytes]) -> None:
    phone = ScriptedPhone()
    phone.texts = dict(zip(phone.texts, (text.decode("latin-1") for text in texts), strict=True))
    got = reading(phone)
    try:
        check_usable(got, Limits())
    except NoUsableDeviceError:
        return
    assert too_hot(got, Limits()) is None or got.thermal is not None
    assert disturbance(got, got, Limits()) is None or got.thermal is not None
    assert got.conditions().at == got.at
