"""The events of a run in a file, for whoever looks on while it goes on: ``runs/<timestamp>/events.jsonl``.

One JSON object a line, as with ``--json``; the last one, of the event ``closed``, is missing where a run was
killed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nasflow.base.files import disk_faults
from pipeline.events import CLOSED, EVENTS, Event, Progress
from pipeline.reporters.reporters import JsonLinesReporter

NAME = "events.jsonl"
_PAUSE_S = 2.0
_KINDS: dict[str, TypeAdapter[Event]] = {name: TypeAdapter(kind) for name, kind in EVENTS.items()}


class EventFileReporter:
    """Writes every event into ``folder``; of progress one report in two seconds, and the last of each row.

    Raises MachineError where the file cannot be made.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = folder / NAME
        with disk_faults(folder, "write"):
            self._file = self.path.open("x", encoding="utf-8")
        self._lines = JsonLinesReporter(self._file)
        self._clock = clock
        self._quiet_until = float("-inf")

    def __call__(self, event: Event) -> None:
        """Add one line."""
        if isinstance(event, Progress) and event.done < event.total:
            now = self._clock()
            if now < self._quiet_until:
                return
            self._quiet_until = now + _PAUSE_S
        self._lines(event)

    def close(self) -> None:
        """Write that the run has ended, and close the file. May be called twice."""
        if not self._file.closed:
            self._lines.closed()
            self._file.close()


@dataclass
class EventFileReader:
    """Reads what was added to a run's event file since the last time."""

    path: Path
    _at: int = 0
    _rest: bytes = b""
    closed: bool = False
    """Whether the run has said that it ended."""
    last_at: datetime | None = field(default=None)
    """When the last event was written."""

    def read(self) -> list[tuple[datetime, Event]]:
        """New events with the time of each; a last line that is not whole yet is left for later.

        Lines that are no events of this version are passed over. Raises MachineError.
        """
        with disk_faults(self.path, "read"), self.path.open("rb") as file:
            file.seek(self._at)
            added = file.read()
        self._at += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        events = []
        for line in lines:
            parsed = _parsed(line)
            if parsed is None:
                continue
            at, kind, fields = parsed
            self.last_at = at
            self.closed = self.closed or kind == CLOSED
            if (event := _event(kind, fields)) is not None:
                events.append((at, event))
        return events


def _parsed(line: bytes) -> tuple[datetime, str, dict[str, Any]] | None:
    try:
        fields = json.loads(line)
        at, kind = datetime.fromisoformat(fields.pop("time")), fields.pop("event")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    return (at, kind, fields) if at.tzinfo is not None and isinstance(kind, str) else None


def _event(kind: str, fields: dict[str, Any]) -> Event | None:
    """The event of a line; None where its fields are not those of its kind. NaN, written as null, is none."""
    if kind not in _KINDS:
        return None
    try:
        return _KINDS[kind].validate_python(fields)
    except ValidationError:
        return None


def newest_events(runs: Path) -> Path | None:
    """The event file that was written to last; None where there is none. Raises MachineError."""
    with disk_faults(runs, "read"):
        found = sorted(runs.glob(f"*/{NAME}"), key=lambda path: (path.stat().st_mtime, path.parent.name))
    return found[-1] if found else None
