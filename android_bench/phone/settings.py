"""Fixed performance mode, and a screen that stays on: for a measurement, and put back afterwards.

Before anything is changed, a note of what was there goes onto the phone. It is deleted when all is put back;
a note that is found at the start is that of a run which was killed, and is put back first. What a phone
refuses stops no measurement: the person is told the one command that helps, and the note stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from android_bench.phone.note import NOTE, Before, Changed, read_note, write_note
from android_bench.phone.screen import SLEEP_COMMAND, is_asleep, refusal, wake_up
from android_bench.transport import Completed, Transport
from nasflow.base.errors import DeviceError
from nasflow.base.text import plain_text

__all__ = ["NOTE", "SETTINGS", "Setting", "make_steady", "repair"]

_TIMEOUT_S = 20.0
_NOT_SET = "null"
_DELETE = f"adb shell rm -rf {NOTE}"


@dataclass(frozen=True)
class Setting:
    """One of Android's settings that a measurement raises to ``wanted``; ``pattern`` is what may be there.

    ``by_hand`` is where a person finds it on the phone.
    """

    space: str
    key: str
    wanted: str
    pattern: str
    means: str
    by_hand: str

    def is_value(self, value: str) -> bool:
        """Whether this may be its value; ``null``: it is not set."""
        return value == _NOT_SET or re.fullmatch(self.pattern, value) is not None

    def is_below(self, value: str) -> bool:
        """Whether it must be raised. Below zero is a maker's "never"."""
        return value == _NOT_SET or 0 <= int(value) < int(self.wanted)

    def put(self, value: str) -> tuple[str, ...]:
        """The command that sets it, or takes it away."""
        if value == _NOT_SET:
            return ("settings", "delete", self.space, self.key)
        return ("settings", "put", self.space, self.key, value)


SETTINGS = {
    setting.key: setting
    for setting in (
        # BatteryManager: AC 1, USB 2, wireless 4, dock 8. It holds only while the phone is plugged in.
        Setting(
            "global",
            "stay_on_while_plugged_in",
            "15",
            "[0-9]{1,2}",
            means="stay awake while plugged in",
            by_hand="Settings, Developer options, Stay awake",
        ),
        # Milliseconds: on battery, or while the cable is out, a phone falls asleep by this one.
        Setting(
            "system",
            "screen_off_timeout",
            "1800000",
            "-?[0-9]{1,10}",
            means="keep its screen on",
            by_hand="Settings, Display, Screen timeout: the longest",
        ),
    )
}


def make_steady(
    transport: Transport,
    *,
    sleep: Callable[[float], None],
    mode_answered: Callable[[str], None] = lambda _reason: None,
) -> tuple[str, ...]:
    """Switch all on, as far as the phone allows, and wake it; :func:`repair` puts it back.

    ``mode_answered`` hears why the phone does not go into fixed-performance mode; empty: it does.
    Returns what the phone refuses and a person should know, in sentences. A phone that is lost keeps its
    note: the next start on it puts everything back. Raises DeviceLostError, DeviceError (the note cannot be
    written), NoUsableDeviceError (the phone stays asleep).
    """
    found, refused = _put_back(transport)
    left = found or Before()
    plan = list(left.changed)
    for setting in SETTINGS.values():
        value = _value(transport, setting)
        if value is not None and setting.is_below(value) and all(c.key != setting.key for c in plan):
            plan.append(Changed(setting.key, value, setting.wanted))
    before = Before(tuple(plan), left.asleep or is_asleep(transport))
    write_note(transport, before)
    done = tuple(_changed(transport, wanted, refused) for wanted in plan)
    if done != before.changed:  # it keeps another value than it was given: that one is ours
        write_note(transport, Before(done, before.asleep))
    mode_answered(refusal(_run(transport, *_fixed("true"))))
    wake_up(transport, sleep=sleep)
    return tuple(refused)


def repair(transport: Transport) -> tuple[str, ...]:
    """Put back what a note on the phone says, switch the screen off if it was, and delete the note.

    Returns what the phone refuses, in sentences that name the command for it; the note then stays, and the
    next run tries again. Raises DeviceLostError, DeviceError.
    """
    left, refused = _put_back(transport)
    if left is None:
        return ()
    if left.asleep and not is_asleep(transport):
        _run(transport, *SLEEP_COMMAND)
    if not left.changed:
        if (done := _run(transport, "rm", "-f", NOTE)).exit_code != 0:
            refused.append(f"{NOTE} cannot be deleted{_because(done)}. Do it by hand: {_DELETE}")
    elif left.asleep:
        write_note(transport, Before(left.changed))
    return tuple(refused)


def _put_back(transport: Transport) -> tuple[Before | None, list[str]]:
    """Put the note's settings back. Returns what is left to do (None: there is no note), and refusals."""
    found = _run(transport, "cat", NOTE)
    if found.exit_code == 0:
        return _undone(transport, found.stdout)
    if "No such file or directory" in plain_text(found.stderr or found.stdout, limit=1000):
        return None, []
    # A folder, or a file that may not be read. In a folder lies the note of a run that moved it there.
    inside = _run(transport, "cat", f"{NOTE}/{NOTE.rpartition('/')[2]}.new")
    left, refused = _undone(transport, inside.stdout if inside.exit_code == 0 else b"")
    if (done := _run(transport, "rm", "-rf", NOTE)).exit_code != 0:
        raise DeviceError(
            f"{NOTE} on the phone is not a run's note, and cannot be deleted{_because(done)}.",
            hint=f"Delete it by hand: {_DELETE}",
        )
    write_note(transport, left)
    return left, refused


def _undone(transport: Transport, note: bytes) -> tuple[Before, list[str]]:
    """Put back what is in ``note``; what is left of it, and refusals."""
    before = read_note(note, lambda key, value: key in SETTINGS and SETTINGS[key].is_value(value))
    # Android does not tell whether fixed performance was on; off is its default, and a restart's.
    _run(transport, *_fixed("false"))
    if before is None:
        return Before(), _guessed(transport)
    left: list[Changed] = []
    refused: list[str] = []
    for changed in before.changed:
        setting = SETTINGS[changed.key]
        ours = (changed.made, setting.wanted)
        # What a person has chosen since is theirs. What cannot be read may be ours.
        if changed.was in ours or _value(transport, setting) not in (*ours, None):
            continue
        done = _run(transport, *setting.put(changed.was))
        if _value(transport, setting) != changed.was:
            left.append(changed)
            refused.append(
                f"The phone's setting {setting.key} cannot be restored{_because(done)}. Do it by hand: "
                f"adb shell {' '.join(setting.put(changed.was))}"
            )
    return Before(tuple(left), before.asleep), refused


def _changed(transport: Transport, wanted: Changed, refused: list[str]) -> Changed:
    """Raise a setting; what became of it. A refusal is added to ``refused``."""
    setting = SETTINGS[wanted.key]
    done = _run(transport, *setting.put(setting.wanted))
    value = _value(transport, setting)
    if value is not None and value == wanted.was:
        refused.append(
            f"The phone cannot be set to {setting.means}{_because(done)}, and may fall asleep while it is "
            f"measured. Do it by hand: {setting.by_hand}. On Xiaomi phones switch on 'USB debugging "
            "(Security settings)'."
        )
    return wanted if value is None else Changed(wanted.key, wanted.was, value)


def _guessed(transport: Transport) -> list[str]:
    """What a damaged note may have said: settings that have the very value that a measurement gives them."""
    return [
        f"The note of a killed run on the phone is damaged, and that run probably changed {setting.key}. "
        f"Unless you set it yourself: adb shell {' '.join(setting.put(_NOT_SET))}"
        for setting in SETTINGS.values()
        if _value(transport, setting) == setting.wanted
    ]


def _value(transport: Transport, setting: Setting) -> str | None:
    """The setting as it is, ``null`` where it is not set; None where it cannot be read."""
    found = _run(transport, "settings", "get", setting.space, setting.key)
    value = plain_text(found.stdout, limit=100)
    return value if found.exit_code == 0 and setting.is_value(value) else None


def _because(done: Completed) -> str:
    reason = refusal(done)
    return f" ({reason})" if reason else ""


def _fixed(value: str) -> tuple[str, ...]:
    return ("cmd", "power", "set-fixed-performance-mode-enabled", value)


def _run(transport: Transport, *argv: str) -> Completed:
    return transport.run(argv, timeout_s=_TIMEOUT_S)
