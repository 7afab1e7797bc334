"""The note on a phone of what a measurement has changed there: what is put back, by whichever run is next."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError

from android_bench.transport import Transport
from nasflow.base.errors import DeviceError
from nasflow.base.text import plain_text

NOTE = "/data/local/tmp/nasflow/settings-before.json"

_MAX_BYTES = 10_000
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Changed:
    """A setting's value as it was found (``null``: not set), and as the run has made it."""

    key: str
    was: str
    made: str


@dataclass(frozen=True)
class Before:
    """What a run found and changed. ``asleep``: the screen was off."""

    changed: tuple[Changed, ...] = ()
    asleep: bool = False


class _Setting(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    key: StrictStr
    was: StrictStr
    made: StrictStr


class _Note(BaseModel):
    schema_version: Literal[2]
    settings: list[_Setting] = Field(max_length=10)
    asleep: StrictBool


class _FirstNote(BaseModel):
    """As runs wrote it that knew one setting."""

    schema_version: Literal[1] = 1
    stay_changed: StrictBool
    stay_on: StrictStr | None = None


def read_note(content: bytes, is_value: Callable[[str, str], bool]) -> Before | None:
    """What a note says; None where it is damaged. ``is_value``: may a setting of this name be that?"""
    content = content[:_MAX_BYTES]
    try:
        note = _Note.model_validate_json(content)
        changed = tuple(Changed(one.key, one.was, one.made) for one in note.settings)
        found = Before(changed, note.asleep)
    except ValidationError:
        try:
            first = _FirstNote.model_validate_json(content)
        except ValidationError:
            return None
        was = Changed("stay_on_while_plugged_in", first.stay_on or "null", "15")
        found = Before((was,) if first.stay_changed else ())
    plain = all(is_value(one.key, value) for one in found.changed for value in (one.was, one.made))
    return found if plain else None


def write_note(transport: Transport, before: Before) -> None:
    """Have it on the phone, whole or as it was. Raises DeviceLostError, DeviceError."""
    settings = [{"key": one.key, "was": one.was, "made": one.made} for one in before.changed]
    text = json.dumps({"schema_version": 2, "settings": settings, "asleep": before.asleep})
    folder, _, _ = NOTE.rpartition("/")
    transport.run(["mkdir", "-p", folder], timeout_s=_TIMEOUT_S)
    transport.push(text.encode(), f"{NOTE}.new", timeout_s=_TIMEOUT_S)
    moved = transport.run(["mv", f"{NOTE}.new", NOTE], timeout_s=_TIMEOUT_S)
    if moved.exit_code != 0:
        raise DeviceError(
            f"{NOTE} cannot be written on the phone: {plain_text(moved.stderr or moved.stdout, limit=200)}.",
            hint="Check whether the phone's storage is full.",
        )
