"""What a measurement changes on a phone is put back, whatever was left there and whatever is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.phone.note import NOTE
from android_bench.phone.screen import SLEEP_COMMAND
from android_bench.phone.settings import SETTINGS, make_steady, repair
from nasflow.base.errors import DeviceError, DeviceLostError, NoUsableDeviceError
from tests.support.scripted_phone import ScriptedPhone

STAY, OFF = "stay_on_while_plugged_in", "screen_off_timeout"
FOUND = {STAY: "0", OFF: "60000"}
WANTED = {key: setting.wanted for key, setting in SETTINGS.items()}


def steady(phone: ScriptedPhone) -> tuple[str, ...]:
    return make_steady(phone, sleep=lambda _seconds: None)


@pytest.mark.parametrize("stay_on", ["0", "3", None])
@pytest.mark.parametrize("screen_off", ["60000", None])
def test_settings_are_on_for_a_measurement_and_as_before_after(
    stay_on: str | None, screen_off: str | None
) -> None:
    phone = ScriptedPhone()
    phone.settings = {key: value for key, value in ((STAY, stay_on), (OFF, screen_off)) if value is not None}
    before = dict(phone.settings)
    assert steady(phone) == ()
    assert phone.fixed and phone.settings == WANTED
    assert NOTE in phone.files
    assert repair(phone) == ()
    assert (phone.fixed, phone.settings, phone.files) == (False, before, {})
    words = len(phone.log)
    repair(phone)
    assert len(phone.log) == words + 1, "a second repair looks for the note, and has nothing to do"


@pytest.mark.parametrize("value", ["1800000", "2147483647", "-1"])
def test_a_screen_that_stays_on_for_longer_is_left_so(value: str) -> None:
    phone = ScriptedPhone()
    phone.settings[OFF] = value
    steady(phone)
    assert phone.settings[OFF] == value
    repair(phone)
    assert phone.settings == {STAY: "0", OFF: value}


@pytest.mark.parametrize("commands", range(4, 26))
def test_a_run_that_dies_anywhere_is_repaired_by_the_next(commands: int) -> None:
    phone = ScriptedPhone()
    phone.wakefulness = "Asleep"
    phone.commands_left = commands
    try:
        steady(phone)
        repair(phone)
    except DeviceLostError:
        pass
    phone.commands_left = None
    steady(phone)
    assert phone.fixed and phone.settings == WANTED and phone.wakefulness == "Awake"
    repair(phone)
    assert (phone.fixed, phone.settings, phone.files) == (False, FOUND, {})
    assert phone.wakefulness == "Dozing"


def test_a_cable_pulled_while_measuring_keeps_the_note() -> None:
    phone = ScriptedPhone()
    steady(phone)
    phone.commands_left = 0
    with pytest.raises(DeviceLostError):
        repair(phone)
    phone.commands_left = None
    assert phone.fixed and NOTE in phone.files
    repair(phone)
    assert (phone.fixed, phone.settings) == (False, FOUND)


def test_the_note_holds_no_more_than_what_is_to_be_put_back() -> None:
    phone = ScriptedPhone()
    steady(phone)
    assert json.loads(phone.files[NOTE]) == {
        "schema_version": 2,
        "settings": [
            {"key": STAY, "was": "0", "made": "15"},
            {"key": OFF, "was": "60000", "made": "1800000"},
        ],
        "asleep": False,
    }


def test_a_value_that_the_phone_makes_of_ours_is_ours_to_put_back() -> None:
    phone = ScriptedPhone()
    phone.clamps = {STAY: "7", OFF: "600000"}
    steady(phone)
    assert phone.settings == {STAY: "7", OFF: "600000"}
    phone.clamps = {}
    repair(phone)
    assert phone.settings == FOUND


# Screen


def test_a_screen_that_was_off_is_off_again_after_the_settings_are_put_back() -> None:
    phone = ScriptedPhone()
    phone.wakefulness = "Asleep"
    steady(phone)
    assert phone.wakefulness == "Awake"
    repair(phone)
    assert phone.wakefulness == "Dozing"
    puts = [index for index, words in enumerate(phone.log) if words[:2] == ("settings", "put")]
    assert phone.log.index(SLEEP_COMMAND) > puts[-1]
    steady(phone)
    phone.wakefulness = "Asleep"  # it fell asleep by itself
    presses = phone.log.count(SLEEP_COMMAND)
    repair(phone)
    assert phone.log.count(SLEEP_COMMAND) == presses


def test_a_screen_that_was_on_stays_on() -> None:
    phone = ScriptedPhone()
    steady(phone)
    repair(phone)
    assert SLEEP_COMMAND not in phone.log


def test_a_phone_that_cannot_be_woken_gets_its_settings_back() -> None:
    phone = ScriptedPhone()
    phone.wakefulness, phone.wakes_by = "Asleep", set()
    with pytest.raises(NoUsableDeviceError, match="cannot be woken"):
        steady(phone)
    repair(phone)
    assert (phone.fixed, phone.settings, phone.files) == (False, FOUND, {})


# What was left on the phone, and what the phone refuses. Either the run goes on and all is well at its end,
# or it goes on and one command is named.

Left = Callable[[ScriptedPhone], None]


def nothing(_phone: ScriptedPhone) -> None:
    pass


def a_killed_run(phone: ScriptedPhone) -> None:
    locked, phone.locked = phone.locked, set()
    steady(phone)
    phone.locked = locked


def a_first_note(phone: ScriptedPhone) -> None:
    phone.settings[STAY] = "15"
    phone.files[NOTE] = b'{"schema_version": 1, "stay_changed": true, "stay_on": "0"}'


def a_note(stay_on: str) -> Left:
    """One of a run that found ``stay_on``, and has made it 15."""

    def leave(phone: ScriptedPhone) -> None:
        phone.settings[STAY] = "15"
        note = {
            "schema_version": 2,
            "settings": [{"key": STAY, "was": stay_on, "made": "15"}],
            "asleep": False,
        }
        phone.files[NOTE] = json.dumps(note).encode()

    return leave


def a_damaged_note(phone: ScriptedPhone) -> None:
    phone.settings[STAY] = "15"
    phone.files[NOTE] = b'{"schema_version": 2, "sett'


def a_folder(phone: ScriptedPhone) -> None:
    phone.settings[STAY] = "15"
    phone.unreadable[NOTE] = "Is a directory"


def a_folder_that_took_a_note_in(phone: ScriptedPhone) -> None:
    """As versions left it that moved their note into it."""
    a_note("0")(phone)
    phone.files[f"{NOTE}/settings-before.json.new"] = phone.files.pop(NOTE)
    phone.unreadable[NOTE] = "Is a directory"


def a_note_that_may_not_be_read(phone: ScriptedPhone) -> None:
    phone.settings[STAY] = "15"
    phone.unreadable[NOTE] = "Permission denied"


def a_note_and_a_person_who_chose_since(phone: ScriptedPhone) -> None:
    a_note("0")(phone)
    phone.settings[STAY] = "2"


BY_HAND = f"adb shell settings put global {STAY} 0"
RESET = f"adb shell settings delete global {STAY}"
ASLEEP = "may fall asleep while it is measured"


@pytest.mark.parametrize(
    ("left", "locked", "at_start", "at_end", "stay_on", "note_stays"),
    [
        (nothing, (), (), (), "0", False),
        (nothing, (STAY, OFF), (ASLEEP, ASLEEP), (), "0", False),
        (nothing, (STAY,), (ASLEEP,), (), "0", False),
        (nothing, (OFF,), (ASLEEP,), (), "0", False),
        (a_killed_run, (), (), (), "0", False),
        (a_killed_run, (STAY,), (BY_HAND,), (BY_HAND,), "15", True),
        (a_first_note, (), (), (), "0", False),
        (a_first_note, (STAY,), (BY_HAND,), (BY_HAND,), "15", True),
        (a_note("null"), (), (), (), "null", False),
        (a_note("null"), (STAY,), (RESET,), (RESET,), "15", True),
        (a_damaged_note, (), (RESET,), (), "15", False),
        (a_damaged_note, (STAY,), (RESET,), (), "15", False),
        (a_folder, (), (RESET,), (), "15", False),
        (a_folder_that_took_a_note_in, (), (), (), "0", False),
        (a_folder_that_took_a_note_in, (STAY,), (BY_HAND,), (BY_HAND,), "15", True),
        (a_note_that_may_not_be_read, (), (RESET,), (), "15", False),
        (a_note_and_a_person_who_chose_since, (), (), (), "2", False),
        (a_note_and_a_person_who_chose_since, (STAY,), (ASLEEP,), (), "2", False),
    ],
)
def test_the_next_run_gets_on_or_names_the_one_command(
    left: Left,
    locked: Sequence[str],
    at_start: Sequence[str],
    at_end: Sequence[str],
    stay_on: str,
    note_stays: bool,
) -> None:
    phone = ScriptedPhone()
    phone.locked = set(locked)
    left(phone)
    told = steady(phone)
    assert len(told) == len(at_start), told
    assert all(word in sentence for word, sentence in zip(at_start, told, strict=True))
    assert phone.fixed
    told = repair(phone)
    assert len(told) == len(at_end), told
    assert all(word in sentence for word, sentence in zip(at_end, told, strict=True))
    assert (phone.fixed, phone.settings.get(STAY, "null"), NOTE in phone.files) == (
        False,
        stay_on,
        note_stays,
    )


def test_what_cannot_be_taken_away_from_the_notes_place_is_told_with_the_command() -> None:
    phone = ScriptedPhone()
    a_folder(phone)
    phone.undeletable = {NOTE}
    for start in (lambda: steady(phone), lambda: repair(phone)):
        with pytest.raises(DeviceError, match="Permission denied") as caught:
            start()
        assert caught.value.hint == f"Delete it by hand: adb shell rm -rf {NOTE}"
    assert not any(words[:2] == ("settings", "put") for words in phone.log)


def test_a_note_that_stays_is_told_with_the_command() -> None:
    phone = ScriptedPhone()
    steady(phone)
    phone.unreadable[NOTE] = "Read-only file system"
    assert repair(phone) == (
        f"{NOTE} cannot be deleted (rm: {NOTE}: Read-only file system). "
        f"Do it by hand: adb shell rm -rf {NOTE}",
    )
    assert phone.settings == FOUND


@pytest.mark.parametrize(
    ("key", "advice"),
    [(STAY, "Developer options, Stay awake."), (OFF, "Display, Screen timeout: the longest.")],
)
def test_a_refused_setting_is_told_with_where_a_person_finds_that_one(key: str, advice: str) -> None:
    phone = ScriptedPhone()
    phone.settings[STAY] = "15" if key == OFF else "0"
    phone.locked = {key}
    (told,) = steady(phone)
    assert f"Do it by hand: Settings, {advice}" in told
    assert told.count("Settings, ") == 1


@pytest.mark.parametrize("knows", [True, False])
def test_whether_the_phone_goes_into_fixed_performance_mode_is_heard(knows: bool) -> None:
    phone = ScriptedPhone()
    phone.knows_fixed = knows
    heard: list[str] = []
    assert make_steady(phone, sleep=lambda _seconds: None, mode_answered=heard.append) == ()
    assert heard == ["" if knows else "cmd: not found"]


def test_a_refused_setting_is_put_back_once_the_phone_lets_it_or_a_person_has_done_it() -> None:
    for by_hand in (False, True):
        phone = ScriptedPhone()
        a_killed_run(phone)
        phone.locked = {STAY}
        steady(phone)
        (told,) = repair(phone)
        assert "WRITE_SECURE_SETTINGS" in told
        phone.locked = set()
        if by_hand:
            phone.settings[STAY] = "0"
        assert steady(phone) == ()
        assert repair(phone) == ()
        assert (phone.settings, phone.files) == (FOUND, {})


def test_a_phone_whose_settings_cannot_be_read_is_left_alone() -> None:
    phone = ScriptedPhone()
    phone.knows_fixed, phone.opaque = False, True
    assert steady(phone) == ()
    assert not phone.fixed
    assert repair(phone) == ()
    assert phone.settings == FOUND
    assert not any("put" in words or "delete" in words for words in phone.log)


def test_a_phone_that_cannot_be_read_for_a_while_keeps_its_note() -> None:
    phone = ScriptedPhone()
    steady(phone)
    phone.opaque = True  # right after its start, the service is not there yet
    phone.locked = set(FOUND)
    assert len(repair(phone)) == 2
    assert NOTE in phone.files
    phone.opaque, phone.locked = False, set()
    assert repair(phone) == ()
    assert (phone.settings, phone.files) == (FOUND, {})


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
        b'{"schema_version": 2, "settings": [{"key": "adb_on", "was": "0", "made": "1"}], "asleep": true}',
        b'{"schema_version": 2, "settings": [], "asleep": "yes"}',
        b'{"schema_version": 3, "settings": [], "asleep": false}',
    ],
)
def test_a_damaged_note_puts_nothing_into_the_settings(note: bytes) -> None:
    phone = ScriptedPhone()
    phone.fixed, phone.files[NOTE] = True, note
    assert repair(phone) == ()
    assert (phone.fixed, phone.settings, phone.files) == (False, FOUND, {})


values = st.none() | st.text(max_size=5) | st.integers(-1, 10**11).map(str) | st.integers()


@settings(max_examples=1_000)
@given(
    st.binary(max_size=100)
    | st.builds(
        lambda changed, value: json.dumps({"stay_changed": changed, "stay_on": value}).encode(),
        st.booleans() | st.none(),
        values,
    )
    | st.builds(
        lambda key, was, made, asleep: json.dumps(
            {
                "schema_version": 2,
                "settings": [{"key": key, "was": was, "made": made}],
                "asleep": asleep,
            }
        ).encode(),
        st.sampled_from([STAY, OFF, "adb_enabled"]),
        values,
        values,
        st.booleans(),
    ),
    st.sampled_from([FOUND, WANTED]),
)
def test_any_note_leaves_a_plain_number_or_what_was_there(note: bytes, found: dict[str, str]) -> None:
    phone = ScriptedPhone()
    phone.settings = dict(found)
    phone.fixed, phone.files[NOTE] = True, note
    repair(phone)
    assert set(phone.settings) <= set(SETTINGS)
    assert all(SETTINGS[key].is_value(value) for key, value in phone.settings.items())
    assert (phone.fixed, phone.files) == (False, {})
