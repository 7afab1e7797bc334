"""The phone's state: read through any transport, judged, waited for; and its settings always put back."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.phone.clocks import fastest_of, held_back
from android_bench.phone.conditions import (
    BATTERY_COMMAND,
    BOOT_ID_COMMAND,
    CPUFREQ_COMMAND,
    THERMAL_COMMAND,
    UPTIME_COMMAND,
    Limits,
    Reading,
    check_usable,
    disturbance,
    read_conditions,
    rebooted,
    too_hot,
    wait_until_ready,
)
from android_bench.phone.settings import NOTE, make_steady, repair
from android_bench.transport import Completed, Transport
from nasflow.errors import DeviceError, DeviceLost, NoUsableDevice

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "phone"
BOOT = "0f7a2b1c-1111-2222-3333-444455556666"
CPUFREQ = """policy0/related_cpus=0 1 2 3
policy0/scaling_cur_freq=600000
policy0/scaling_max_freq=1704000
policy0/cpuinfo_max_freq=1704000
policy4/related_cpus=4 5 6 7
policy4/scaling_cur_freq=2367000
policy4/scaling_max_freq=2367000
policy4/cpuinfo_max_freq=2367000
"""


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


class ScriptedPhone:
    """A phone behind a transport: texts by command, files, Android settings; it can be cut off."""

    serial = "scripted"

    def __init__(self) -> None:
        self.texts: dict[tuple[str, ...], str | Callable[[], str]] = {
            THERMAL_COMMAND: fixture("thermalservice_samsung_android12.txt"),
            BATTERY_COMMAND: fixture("battery.txt"),
            CPUFREQ_COMMAND: CPUFREQ,
            UPTIME_COMMAND: "1234.56 9876.54\n",
            BOOT_ID_COMMAND: f"{BOOT}\n",
        }
        self.files: dict[str, bytes] = {}
        self.settings = {"stay_on_while_plugged_in": "0"}
        self.fixed = False
        self.knows_fixed = True
        self.settings_locked = False
        self.commands_left: int | None = None
        self.log: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        assert timeout_s > 0
        words = tuple(argv)
        if self.commands_left is not None:
            if self.commands_left == 0:
                raise DeviceLost("the cable was pulled.")
            self.commands_left -= 1
        self.log.append(words)
        if words in self.texts:
            text = self.texts[words]
            return done(text() if callable(text) else text)
        match words:
            case ("settings", "get", "global", key):
                return done(self.settings.get(key, "null"))
            case ("settings", "put", "global", key, value) if not self.settings_locked:
                self.settings[key] = value
                return done()
            case ("settings", "delete", "global", key) if not self.settings_locked:
                self.settings.pop(key, None)
                return done()
            case ("cmd", "power", "set-fixed-performance-mode-enabled", value) if self.knows_fixed:
                self.fixed = value == "true"
                return done()
            case ("cat", path) if path in self.files:
                return Completed(self.files[path], b"", 0)
            case ("rm", "-f", path):
                self.files.pop(path, None)
                return done()
            case ("mv", old, new):
                self.files[new] = self.files.pop(old)
                return done()
            case ("mkdir", "-p", _):
                return done()
        return Completed(b"", f"{words[0]}: not found".encode(), 255)

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        assert mode == 0o644 and timeout_s > 0
        self.files[remote] = content

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        assert timeout_s > 0
        return self.files[remote]

    def state(self) -> str:
        return "device"

    def reconnect(self, *, timeout_s: float) -> None:
        assert timeout_s > 0

    def close(self) -> None:
        pass


def done(text: str = "") -> Completed:
    return Completed(text.encode(), b"", 0)


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
        "cores": None,
        "core_mhz": None,
        "skin_celsius": None,
        "thermal_status": None,
        "battery_percent": 94.0,
        "awake": None,
    }


def test_a_phone_that_tells_nothing_is_unknown_and_not_refused() -> None:
    phone = ScriptedPhone()
    phone.texts = {}
    got = reading(phone)
    assert (got.thermal, got.battery, got.policies, got.uptime_s, got.boot_id) == (None, None, (), None, None)
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
    with pytest.raises(NoUsableDevice, match=rf"{level} %") as caught:
        check_usable(reading(phone), Limits())
    assert caught.value.exit_code == 4


def test_a_thermal_status_set_by_hand_is_refused() -> None:
    phone = ScriptedPhone()
    phone.texts[THERMAL_COMMAND] = "IsStatusOverride: true\nThermal Status: 0\n"
    with pytest.raises(NoUsableDevice, match="thermalservice reset"):
        wait_until_ready(phone, Limits())


def test_a_battery_set_by_hand_is_refused() -> None:
    phone = ScriptedPhone()
    phone.texts[BATTERY_COMMAND] = (
        "Current Battery Service state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n  level: 100\n"
        "  scale: 100\n"
    )
    with pytest.raises(NoUsableDevice, match="dumpsys battery reset"):
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
    with pytest.raises(NoUsableDevice, match="after 600 s: thermal status 2"):
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
        "The phone throttles: cores 4 to 7 may run at 1800 MHz, before it was 2367. Waiting up to 10 min."
    ]
    phone.texts[CPUFREQ_COMMAND] = slow
    assert held_back(fastest, wait(phone, Limits()).policies) is not None
    assert clock.now == 620
    assert "still throttles after 600 s, and is measured so: cores 4 to 7" in told[-1]


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


def test_a_lost_phone_is_not_an_unknown_one() -> None:
    phone = ScriptedPhone()
    phone.commands_left = 2
    with pytest.raises(DeviceLost):
        reading(phone)


# Settings


@pytest.mark.parametrize("stay_on", ["0", "3", None])
def test_settings_are_on_for_a_measurement_and_as_before_after(stay_on: str | None) -> None:
    phone = ScriptedPhone()
    phone.settings = {} if stay_on is None else {"stay_on_while_plugged_in": stay_on}
    before = dict(phone.settings)
    make_steady(phone)
    assert phone.fixed and phone.settings == {"stay_on_while_plugged_in": "15"}
    assert NOTE in phone.files
    repair(phone)
    assert (phone.fixed, phone.settings, phone.files) == (False, before, {})
    words = len(phone.log)
    repair(phone)
    assert len(phone.log) == words + 1, "a second repair looks for the note, and has nothing to do"


@pytest.mark.parametrize("commands", range(4, 14))
def test_a_run_that_dies_anywhere_is_repaired_by_the_next(commands: int) -> None:
    phone = ScriptedPhone()
    phone.commands_left = commands
    try:
        make_steady(phone)
        repair(phone)
    except DeviceLost:
        pass
    phone.commands_left = None
    make_steady(phone)
    assert phone.fixed
    repair(phone)
    assert (phone.fixed, phone.settings["stay_on_while_plugged_in"], phone.files.get(NOTE)) == (
        False,
        "0",
        None,
    )


def test_a_cable_pulled_while_measuring_keeps_the_note() -> None:
    phone = ScriptedPhone()
    make_steady(phone)
    phone.commands_left = 0
    with pytest.raises(DeviceLost):
        repair(phone)
    phone.commands_left = None
    assert phone.fixed and NOTE in phone.files
    repair(phone)
    assert (phone.fixed, phone.settings["stay_on_while_plugged_in"]) == (False, "0")


def test_a_phone_that_grants_nothing_is_left_alone() -> None:
    phone = ScriptedPhone()
    phone.knows_fixed, phone.settings_locked = False, True
    phone.settings = {"stay_on_while_plugged_in": "Error: no permission"}
    make_steady(phone)
    assert not phone.fixed
    repair(phone)
    assert phone.settings == {"stay_on_while_plugged_in": "Error: no permission"}
    assert not any("put" in words or "delete" in words for words in phone.log)


def test_a_phone_whose_settings_can_only_be_read_is_measured_all_the_same() -> None:
    phone = ScriptedPhone()
    phone.settings_locked = True
    make_steady(phone)
    assert phone.fixed
    repair(phone)
    assert (phone.fixed, phone.settings, phone.files) == (False, {"stay_on_while_plugged_in": "0"}, {})


def test_a_setting_that_cannot_be_put_back_is_told_and_the_note_stays() -> None:
    phone = ScriptedPhone()
    make_steady(phone)
    phone.settings_locked = True
    with pytest.raises(DeviceError, match="put back"):
        repair(phone)
    assert NOTE in phone.files


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 5000,
        b"\xff\xfe",
        b'{"stay_changed": true, "stay_on": "1; reboot"}',
        b'{"stay_changed": 1, "stay_on": "3"}',
        b'{"stay_changed": true, "stay_on": 3}',
    ],
)
def test_a_damaged_note_puts_nothing_into_the_settings(note: bytes) -> None:
    phone = ScriptedPhone()
    phone.fixed, phone.files[NOTE] = True, note
    repair(phone)
    assert (phone.fixed, phone.settings, phone.files) == (False, {"stay_on_while_plugged_in": "0"}, {})


@settings(max_examples=1_000, deadline=None)
@given(
    st.binary(max_size=100)
    | st.builds(
        lambda changed, value: json.dumps({"stay_changed": changed, "stay_on": value}).encode(),
        st.booleans() | st.none(),
        st.none() | st.text(max_size=5) | st.integers(0, 200).map(str) | st.integers(),
    )
)
def test_any_note_leaves_a_plain_number_or_what_was_there(note: bytes) -> None:
    phone = ScriptedPhone()
    phone.fixed, phone.files[NOTE] = True, note
    repair(phone)
    value = phone.settings.get("stay_on_while_plugged_in")
    assert value is None or (value.isdecimal() and value.isascii() and len(value) <= 2)
    assert (phone.fixed, phone.files) == (False, {})


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.binary(max_size=80), min_size=5, max_size=5))
def test_a_phone_that_says_anything_is_read_judged_and_compared(texts: list[bytes]) -> None:
    phone = ScriptedPhone()
    phone.texts = dict(zip(phone.texts, (text.decode("latin-1") for text in texts), strict=True))
    got = reading(phone)
    try:
        check_usable(got, Limits())
    except NoUsableDevice:
        return
    assert too_hot(got, Limits()) is None or got.thermal is not None
    assert disturbance(got, got, Limits()) is None or got.thermal is not None
    assert got.conditions().at == got.at


def test_the_note_holds_no_more_than_what_is_to_be_put_back() -> None:
    phone = ScriptedPhone()
    make_steady(phone)
    assert json.loads(phone.files[NOTE]) == {"schema_version": 1, "stay_changed": True, "stay_on": "0"}
