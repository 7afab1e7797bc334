"""What an unfinished stage keeps: entries replaced as a whole, and logs that grow line by line.

An entry is one file: the SHA-256 of the payload in 64 hexadecimal digits, a newline, the payload. A log
is JSON lines, each led by the first 16 hexadecimal digits of its SHA-256 and a space. Whatever does not
match its sum is dropped, so that a torn or damaged file costs work, never correctness.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasflow.base.files import (
    delete,
    delete_folder,
    disk_faults,
    make_folder,
    read_or_none,
    sync_folder,
    write_atomic,
)
from pipeline import signals
from pipeline.artifact import canonical_json, sha256_hex
from pipeline.events import Emit, Message

if TYPE_CHECKING:
    from pipeline.stage import Scratch

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ENTRY, _LOG, _BASIS, _SPENT = ".entry", ".log", "basis", "spent"
_SUM_LENGTH = 16


@dataclass(frozen=True)
class LogLines:
    """A log's content: its whole rows, and what was found damaged (line numbers from 1)."""

    rows: list[dict[str, Any]]
    damaged: list[int]
    whole_bytes: int
    """Where the last line that ends with a newline ends: anything behind it is a torn line."""


def log_line(row: Mapping[str, Any]) -> bytes:
    """One row as it stands in the log. Raises ValueError for NaN, TypeError for what JSON lacks."""
    text = canonical_json(dict(row))
    return sha256_hex(text)[:_SUM_LENGTH].encode() + b" " + text + b"\n"


def parse_log(data: bytes) -> LogLines:
    """Read a log's bytes, whatever they are. A last line without newline is torn and not counted."""
    whole_bytes = data.rfind(b"\n") + 1
    rows: list[dict[str, Any]] = []
    damaged: list[int] = []
    for number, line in enumerate(data[:whole_bytes].split(b"\n")[:-1], start=1):
        row = _row(line)
        if row is None:
            damaged.append(number)
        else:
            rows.append(row)
    return LogLines(rows, damaged, whole_bytes)


def _row(line: bytes) -> dict[str, Any] | None:
    digest, space, text = line[:_SUM_LENGTH], line[_SUM_LENGTH : _SUM_LENGTH + 1], line[_SUM_LENGTH + 1 :]
    if space != b" " or digest != sha256_hex(text)[:_SUM_LENGTH].encode():
        return None
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def scratch_folder(root: Path, stage: str, fingerprint: str) -> Path:
    """Where the scratch of a stage stands, whether or not it is there."""
    return root / "scratch" / f"{stage}-{fingerprint[:16]}"


def read_basis(folder: Path) -> str:
    """Which record the work in a scratch folder is to replace: its digest, or empty for none."""
    return (read_or_none(folder / _BASIS) or b"").decode("ascii", "replace")


class FolderScratch:
    """A stage's scratch as one folder, made when the first thing is kept in it."""

    def __init__(self, folder: Path, stage: str, emit: Emit) -> None:
        self.folder = folder
        self._stage = stage
        self._emit = emit
        self._reported: set[tuple[Path, int]] = set()

    def save(self, name: str, payload: bytes) -> None:
        """Replace entry ``name`` atomically. Raises MachineError."""
        write_atomic(self._path(name, _ENTRY), sha256_hex(payload).encode() + b"\n", payload)

    def load(self, name: str) -> bytes | None:
        """Entry ``name``; None where there is none, or (with a warning) where it is damaged."""
        path = self._path(name, _ENTRY)
        with disk_faults(path, "read"):
            try:
                with path.open("rb") as file:
                    digest = file.readline(65)
                    payload = file.read()
            except FileNotFoundError:
                return None
        if digest == sha256_hex(payload).encode() + b"\n":
            return payload
        self._warn(f"{path} is damaged and has been deleted: its content is made again.")
        delete(path)
        return None

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to the log ``name``; it is on the disk when this returns.

        A torn last line is cut off first. Raises MachineError, and ValueError for NaN or infinity.
        """
        path = self._path(name, _LOG)
        line = log_line(row)
        with signals.deferred(), disk_faults(path, "write"):
            make_folder(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            with os.fdopen(descriptor, "r+b") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    sync_folder(path.parent)
                else:
                    _cut_torn_line(file)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The whole rows of log ``name``; a torn last line is dropped, damaged ones are told of once."""
        path = self._path(name, _LOG)
        log = parse_log(read_or_none(path) or b"")
        fresh = [number for number in log.damaged if (path, number) not in self._reported]
        if fresh:
            self._reported.update((path, number) for number in fresh)
            listed = ", ".join(str(number) for number in fresh[:5]) + (" ..." if len(fresh) > 5 else "")
            plural = "s" if len(fresh) > 1 else ""
            self._warn(f"{path} is damaged in line{plural} {listed}: the lost content is made again.")
        return log.rows

    # --- what follows is the engine's, not the stage's -------------------------------------------------

    def holds_work(self) -> bool:
        """Whether a stage has kept something here."""
        with disk_faults(self.folder, "read"):
            return self.folder.is_dir() and any(p.suffix in (_ENTRY, _LOG) for p in self.folder.iterdir())

    def begin(self, basis: str) -> None:
        """Keep work that was begun to replace the record ``basis``; clear away what finished work left."""
        if read_basis(self.folder) != basis:
            self.clear()
        if basis and not self.folder.is_dir():
            write_atomic(self.folder / _BASIS, basis.encode())

    def spent_seconds(self) -> float:
        """Time that earlier, interrupted runs have put into this work, as far as they could tell."""
        try:
            return max(0.0, float(read_or_none(self.folder / _SPENT) or 0.0))
        except ValueError:
            return 0.0

    def keep_spent(self, seconds: float) -> None:
        """Note the time that went into this work up to now."""
        if self.holds_work():
            write_atomic(self.folder / _SPENT, f"{seconds:.3f}".encode())

    def clear(self) -> None:
        """Delete all of it."""
        delete_folder(self.folder)

    def _path(self, name: str, suffix: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"scratch name {name!r}: letters, digits, '.', '_' and '-' are allowed, 100 at most, "
                "a letter or digit first"
            )
        return self.folder / f"{name}{suffix}"

    def _warn(self, text: str) -> None:
        self._emit(Message(self._stage, text, level="warning"))


class PartOfScratch:
    """A stage's scratch under names of their own, for work that is done once more beside the first time."""

    def __init__(self, whole: Scratch, part: str) -> None:
        self._whole, self._part = whole, part

    def save(self, name: str, payload: bytes) -> None:
        """Replace entry ``name``."""
        self._whole.save(f"{self._part}.{name}", payload)

    def load(self, name: str) -> bytes | None:
        """Entry ``name``; None where there is none."""
        return self._whole.load(f"{self._part}.{name}")

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to the log ``name``."""
        self._whole.append(f"{self._part}.{name}", row)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """All rows of log ``name``."""
        return self._whole.rows(f"{self._part}.{name}")


class FleetingScratch:
    """Scratch that is gone with the process: for work that is not worth going on with."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}
        self._logs: dict[str, list[dict[str, Any]]] = {}

    def save(self, name: str, payload: bytes) -> None:
        """Replace entry ``name``."""
        self._entries[name] = payload

    def load(self, name: str) -> bytes | None:
        """Entry ``name``; None where there is none."""
        return self._entries.get(name)

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to the log ``name``."""
        self._logs.setdefault(name, []).append(dict(row))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """All rows of log ``name``."""
        return list(self._logs.get(name, []))


def _cut_torn_line(file: BufferedRandom) -> None:
    """Leave the (not empty) file at its end, behind a newline."""
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(parse_log(file.read()).whole_bytes)
    file.seek(0, os.SEEK_END)
