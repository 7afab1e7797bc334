"""Fixed performance mode and stay-awake: switched on for a measurement, and always put back.

Before anything is changed, a note of what was there goes onto the phone. It is deleted when all is put
back; a note that is found at the start is that of a run which was killed, and is put back first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from android_bench.transport import Completed, Transport, plain_text
from nasflow.errors import DeviceError

NOTE = "/data/local/tmp/nasflow/settings-before.json"

_STAY = ("settings", "get", "global", "stay_on_while_plugged_in")
_STAY_ON_ALL_CHARGERS = "15"  # BatteryManager: AC 1, USB 2, wireless 4, dock 8
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Before:
    """What a run found and changed. ``stay_on`` None: not set, which is Android's default."""

    stay_changed: bool
    stay_on: str | None


def make_steady(transport: Transport) -> None:
    """Switch both on, as far as the phone allows; :func:`repair` puts them back.

    A phone that is lost keeps its note: the next start on it puts everything back. Raises DeviceLost,
    DeviceError.
    """
    repair(transport)
    value = _stay_on(transport)
    _write_note(transport, Before(value is not None, None if value == "null" else value))
    if value is not None:
        _run(transport, *_put_stay(_STAY_ON_ALL_CHARGERS))
    _run(transport, *_fixed("true"))


def repair(transport: Transport) -> None:
    """Put back what a note on the phone says, and delete the note. Raises DeviceLost, DeviceError."""
    done = _run(transport, "cat", NOTE)
    if done.exit_code != 0:
        return
    before = _read_note(done.stdout)
    # Android does not tell whether fixed performance was on; off is its default, and a restart's.
    _run(transport, *_fixed("false"))
    # Some phones let a setting be read and not written: what is as it was needs no writing.
    if before is not None and before.stay_changed and _stay_on(transport) != (before.stay_on or "null"):
        put_back = _run(transport, *_put_stay(before.stay_on))
        if put_back.exit_code != 0:
            raise DeviceError(
                "the phone does not let its stay-awake setting be put back: "
                f"{plain_text(put_back.stderr or put_back.stdout, limit=200) or put_back.exit_code}.",
                hint="Set it by hand: Settings, Developer options, Stay awake.",
            )
    _run(transport, "rm", "-f", NOTE)


def _write_note(transport: Transport, before: Before) -> None:
    text = json.dumps({"schema_version": 1, "stay_changed": before.stay_changed, "stay_on": before.stay_on})
    folder, _, _ = NOTE.rpartition("/")
    _run(transport, "mkdir", "-p", folder)
    transport.push(text.encode(), f"{NOTE}.new", timeout_s=_TIMEOUT_S)
    moved = _run(transport, "mv", f"{NOTE}.new", NOTE)
    if moved.exit_code != 0:
        raise DeviceError(
            f"{NOTE} cannot be written on the phone: {plain_text(moved.stderr or moved.stdout, limit=200)}.",
            hint="Look whether the phone's storage is full.",
        )


def _read_note(content: bytes) -> Before | None:
    """What the note says; None where it is damaged: then there is nothing to put back but the default."""
    try:
        note = json.loads(content[:10_000])
    except (ValueError, RecursionError):
        return None
    if not isinstance(note, dict):
        return None
    changed, value = note.get("stay_changed"), note.get("stay_on")
    if changed is not True or not (value is None or (isinstance(value, str) and _is_setting(value))):
        return None
    return Before(True, value)


def _stay_on(transport: Transport) -> str | None:
    """The setting as it is, ``null`` where it is not set; None where it cannot be read."""
    found = _run(transport, *_STAY)
    value = plain_text(found.stdout, limit=100)
    return value if found.exit_code == 0 and _is_setting(value) else None


def _is_setting(value: str) -> bool:
    return value == "null" or re.fullmatch(r"[0-9]{1,2}", value) is not None


def _put_stay(value: str | None) -> tuple[str, ...]:
    if value is None or value == "null":
        return ("settings", "delete", "global", "stay_on_while_plugged_in")
    return ("settings", "put", "global", "stay_on_while_plugged_in", value)


def _fixed(value: str) -> tuple[str, ...]:
    return ("cmd", "power", "set-fixed-performance-mode-enabled", value)


def _run(transport: Transport, *argv: str) -> Completed:
    return transport.run(argv, timeout_s=_TIMEOUT_S)
