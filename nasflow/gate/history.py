"""A file with a line for each gate: has the model become slower over the last months?"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from nasflow.base.errors import UsageError
from nasflow.base.files import disk_faults, read_or_none
from nasflow.base.text import plain_line
from nasflow.base.version import nasflow_version
from pipeline.artifact import Record
from stages.documents.gate import GateModel, GateResult, GateVerdict

VERSION = 2
"""2: with options and kind of runtime; lines of version 1 are read, too."""


class HistoryEntry(Record):
    """One gate. Latencies in ms; the interval is that of the look that decided."""

    version: int = VERSION
    at: datetime
    nasflow: str
    candidate: GateModel
    baseline: GateModel | None = None
    device: str
    runtime: str
    options: str | None = Field(default=None, description="threads, cores, delegate; None: not recorded")
    verdict: GateVerdict
    max_ratio: float | None = None
    max_ms: float | None = None
    max_accuracy_drop: float | None = None
    accuracy_drop: float | None = Field(default=None, description="percentage points")
    ratio: float | None = Field(default=None, gt=0)
    ratio_interval: tuple[float, float] | None = None
    candidate_ms: float | None = Field(default=None, gt=0)
    candidate_ms_interval: tuple[float, float] | None = None
    blocks: int = Field(ge=0)

    @classmethod
    def of(cls, result: GateResult, at: datetime | None = None) -> HistoryEntry:
        """What is kept of a result. Raises ValueError for a self-test, which decides nothing."""
        if result.verdict is None:
            raise ValueError("a self-test is no gate")
        look = result.last_look
        return cls(
            at=at or datetime.now(UTC),
            nasflow=nasflow_version(),
            candidate=result.candidate,
            baseline=result.baseline,
            device=result.device.model,
            runtime=result.device.runtime,
            options=result.runtime.describe(result.device.kind),
            verdict=result.verdict,
            max_ratio=result.plan.max_ratio,
            max_ms=result.plan.max_ms,
            max_accuracy_drop=result.plan.max_accuracy_drop,
            accuracy_drop=None if result.accuracy is None else result.accuracy.drop_points,
            ratio=None if look is None else look.ratio,
            ratio_interval=None if look is None else look.ratio_interval,
            candidate_ms=None if look is None else look.candidate_ms,
            candidate_ms_interval=None if look is None else look.candidate_ms_interval,
            blocks=result.blocks_counted,
        )


@dataclass(frozen=True)
class History:
    """The entries of a file; ``torn``: its last line was cut off, as by a full disk, and is left out.

    ``ended``: the last line ends with a newline; one without may be whole all the same, as editors leave it.
    """

    entries: tuple[HistoryEntry, ...]
    torn: bool = False
    ended: bool = True


def read_history(path: Path) -> History:
    """All entries; none where there is no file yet.

    Raises UsageError for a line that is no entry, and for one of a newer version of nasflow.
    """
    text = (read_or_none(path) or b"").decode("utf-8", "replace")
    lines, ended = text.split("\n"), text.endswith("\n") or not text
    torn = not ended and not _is_json(lines[-1])
    if torn:
        lines.pop()
    entries = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    return History(tuple(entries), torn, ended)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _entry(path: Path, number: int, line: str) -> HistoryEntry:
    where = f"line {number} of {plain_line(str(path))}"
    try:
        row = json.loads(line)
        version = row.get("version") if isinstance(row, dict) else None
    except (ValueError, RecursionError) as error:
        raise _no_entry(where, str(error)) from error
    if isinstance(version, int) and version > VERSION:
        raise UsageError(
            f"{where} was written by a newer nasflow (version {version} of the entry; this one reads "
            f"{VERSION}).",
            hint="Update nasflow here, or give another file: --history FILE.",
        )
    try:
        return HistoryEntry.model_validate(row)
    except ValidationError as error:
        raise _no_entry(where, f"{error.error_count()} of its fields do not fit") from error


def _no_entry(where: str, why: str) -> UsageError:
    return UsageError(
        f"{where} is no entry of a history: {why}.",
        hint="Take the line out, or give another file: --history FILE.",
    )


def append_entry(path: Path, entry: HistoryEntry) -> None:
    """Add one line; it is on the disk when this returns. A torn last line is cut off. Raises MachineError."""
    line = json.dumps(entry.model_dump(mode="json"), ensure_ascii=False) + "\n"
    with disk_faults(path, "write"), path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # gates on several phones may share a file
        before = read_history(path)
        if before.torn:
            whole = path.read_bytes()
            file.truncate(whole.rfind(b"\n") + 1)
        elif not before.ended:
            file.write(b"\n")
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
