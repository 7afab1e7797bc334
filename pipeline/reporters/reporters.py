"""Listeners that show events: plain lines, JSON lines, a log file. The terminal's is RichReporter.

Every reporter is a callable ``Event -> None`` with ``close()``, which may be called twice. A reader that
goes away (``nasflow run | head``) ends the reporting, not the run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

from nasflow.base.files import disk_faults, make_folder
from nasflow.base.text import Remaining, clock_time, human_count, human_duration, share
from pipeline.events import (
    CLOSED,
    Distribution,
    Event,
    Message,
    Metric,
    Planned,
    Progress,
    StageFailed,
    StageFinished,
    StageSkipped,
    StageStarted,
    event_name,
)
from pipeline.reporters.rich_reporter import RichReporter
from pipeline.reporters.streams import QuietStream

__all__ = ["FanOut", "JsonLinesReporter", "LogFileReporter", "PlainReporter", "Reporter", "RichReporter"]

_SHORTEST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 60.0


class Reporter(Protocol):
    """Something that is told every event."""

    def __call__(self, event: Event) -> None:
        """Show one event, or keep it, or ignore it."""

    def close(self) -> None:
        """Finish what is open. May be called twice."""


class FanOut:
    """Tells every event to several reporters, in order."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def __call__(self, event: Event) -> None:
        """Tell all of them."""
        for reporter in self._reporters:
            reporter(event)

    def close(self) -> None:
        """Close all of them, the last one first."""
        for reporter in reversed(self._reporters):
            reporter.close()


class PlainReporter:
    """Lines for a file or a build server: time since the start, stage, what happened.

    A progress line comes when another tenth is done, but never within 5 seconds of the one before, and
    at least once a minute while reports come in.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        names: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = QuietStream(stream)
        self._clock = clock
        self._started = clock()
        self._width = max(map(len, names), default=8)
        self._restart_progress()

    def __call__(self, event: Event) -> None:
        """Write what the event has to say."""
        if isinstance(event, StageStarted):
            self._restart_progress()
        text = self._progress_text(event) if isinstance(event, Progress) else _sentence(event)
        if text:
            at = clock_time(self._clock() - self._started)
            self._stream.write(f"[{at:>7}] {event.stage:<{self._width}}  {text}\n")
            self._stream.flush()

    def close(self) -> None:
        """Hand on what is buffered."""
        self._stream.flush()

    def _restart_progress(self) -> None:
        self._remaining = Remaining()
        self._tenth = 0
        self._last_at = self._clock()

    def _progress_text(self, event: Progress) -> str:
        now = self._clock()
        left = self._remaining.after(event.done, event.total, event.unit, now)
        tenth = int(10 * share(event.done, event.total) + 1e-9)
        if tenth < self._tenth:  # a new row of reports begins
            self._tenth = -1
        pause = now - self._last_at
        if pause < _SHORTEST_PAUSE_S or (tenth == self._tenth and pause < _LONGEST_PAUSE_S):
            return ""
        self._tenth, self._last_at = tenth, now
        return _progress_sentence(event, left)


class JsonLinesReporter:
    """One JSON object per event: ``time`` (UTC), ``event``, ``stage`` and the event's own fields."""

    def __init__(self, stream: TextIO, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._stream = QuietStream(stream)
        self._now = now

    def __call__(self, event: Event) -> None:
        """Write the event; NaN and infinity, which JSON lacks, become null."""
        fields = {name: _finite(value) for name, value in asdict(event).items()}
        line = {"time": _timestamp(self._now()), "event": event_name(type(event)), **fields}
        self._stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False, default=str) + "\n")
        self._stream.flush()

    def closed(self) -> None:
        """Write that nothing more will come."""
        line = {"time": _timestamp(self._now()), "event": CLOSED, "stage": ""}
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Hand on what is buffered."""
        self._stream.flush()


class LogFileReporter:
    """Every event of one run in ``<runs>/<timestamp>/run.log``.

    Raises MachineError where the file cannot be made. A log that cannot be written later on (full
    disk) ends early: the store tells of that.
    """

    def __init__(self, runs: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        with disk_faults(runs, "write"):
            make_folder(runs)
            self.folder = _new_folder(runs, now().strftime("%Y-%m-%dT%H-%M-%SZ"))
            self.path = self.folder / "run.log"
            self._file = self.path.open("x", encoding="utf-8")
        self._stream = QuietStream(self._file)

    def __call__(self, event: Event) -> None:
        """Add one line; what only a drawing can show is left out."""
        if isinstance(event, Distribution | Planned):
            return
        if isinstance(event, Progress):
            text = _progress_sentence(event, None)
        elif isinstance(event, Metric):
            text = f"{event.name} = {event.value:g} at {event.step}"
        else:
            text = _sentence(event) or str(asdict(event))
        self.write(f"{event.stage or '-':<8}  {event_name(type(event)):<14}  {text}")

    def write(self, text: str) -> None:
        """Add text that is no event, such as a traceback; its first line gets the time."""
        indented = text.rstrip().replace("\n", "\n    ")
        self._stream.write(f"{_timestamp(self._now())}  {indented}\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.flush()
        self._file.close()


def _sentence(event: Event) -> str:
    """What an event says in words; empty for what a person need not see."""
    match event:
        case StageStarted():
            return f"starts: {event.reason}"
        case StageSkipped():
            return "up to date, nothing to do"
        case StageFinished():
            return f"done in {human_duration(event.seconds)}"
        case StageFailed():
            return f"stopped after {human_duration(event.seconds)}: {event.reason}"
        case Message():
            return f"warning: {event.text}" if event.level == "warning" else event.text
    return ""


def _progress_sentence(event: Progress, left: float | None) -> str:
    parts = [f"{human_count(event.done)} of {human_count(event.total)} {event.unit}"]
    if event.total > 0:
        parts[0] += f" ({100 * share(event.done, event.total):.0f} %)"
    if left is not None:
        parts.append(f"{human_duration(left)} left")
    if event.note:
        parts.append(event.note)
    return ", ".join(parts)


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that nobody else has: ``name``, or ``name-2`` and so on."""
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
