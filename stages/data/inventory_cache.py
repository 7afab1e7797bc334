"""What was found about the images of a folder, kept from one look to the next: two files a folder.

One is JSON Lines: the format's version, the settings and the name of the other file; a line for each image;
the hash of all lines before. A file that does not fit it is made anew. It is written whole or not at all, so
that runs side by side cannot mix their lines; the last one stays. The other file holds the descriptors
(:mod:`stages.data.descriptor_file`). Each run that adds some writes one of its own.

Both are written and read line by line: memory holds what is known of the images, without descriptors.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import NamedTuple, Self

from nasflow.base import files
from nasflow.base.errors import MachineError
from stages.data.descriptor_file import DescriptorFile, Place
from stages.data.image_file import REASONS, Reason
from stages.data.names import name_bytes

_VERSION = 2  # raised when decoding gives other pixels or other reasons
_FINE_TICK_NS, _COARSE_TICK_NS = 20_000_000, 2_000_000_000  # Linux's timer; FAT's two seconds
_SUFFIX = ".descriptors"
_ABANDONED_SECONDS = 3600.0
"""A file of descriptors that no run has touched for so long, and no list names, is deleted."""


class FileState(NamedTuple):
    """What changes when a file does: size in bytes, times in ns, inode."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class CachedImage:
    """One image as it was found when its file was in ``state``, at ``looked_ns`` (since 1970)."""

    state: FileState
    looked_ns: int
    sha256: str | None
    width: int | None
    height: int | None
    format: str | None
    broken: Reason | None
    detail: str
    descriptor: Place | None

    def values(
        self,
    ) -> tuple[str | None, int | None, int | None, str | None, Reason | None, str, Place | None]:
        """All that was found, in the order of the fields."""
        return (
            self.sha256, self.width, self.height, self.format, self.broken, self.detail, self.descriptor
        )  # fmt: skip

    def is_settled(self) -> bool:
        """Whether a change after the look would show in the times.

        A file that was changed just before it was read may have been changed again in the same tick of the
        file system's clock; whole seconds in its time hint at a coarse clock.
        """
        tick = _FINE_TICK_NS if self.state.mtime_ns % 1_000_000_000 else _COARSE_TICK_NS
        return abs(self.looked_ns - self.state.mtime_ns) > tick


@dataclass
class InventoryCache:
    """The rows of one folder. ``path``: None where no cache can be kept; ``fault``: why.

    ``descriptors``: the file that the rows' descriptors are in; None where there are none.
    """

    path: Path | None
    settings: str
    rows: dict[str, CachedImage] = field(default_factory=dict)
    fault: MachineError | None = None
    descriptors: DescriptorFile | None = None
    _own: bool = False
    _before: Path | None = None

    @classmethod
    def load(cls, root: Path, settings: str, folder: Path | None = None) -> Self:
        """A folder's cache; empty where there is none, or it is damaged, or for other settings."""
        try:
            where = files.cache_folder() / "inventory" if folder is None else folder
            key = hashlib.sha256(name_bytes(str(root.resolve())) + b"\0" + settings.encode()).hexdigest()
            path = where / f"{key[:32]}.jsonl"
            rows, descriptors = _read(path, settings)
        except MachineError as error:
            return cls(None, settings, fault=error)
        return cls(path, settings, rows, descriptors=descriptors)

    def get(self, path: str, state: FileState) -> CachedImage | None:
        """What is known about a file, if it did not change since."""
        row = self.rows.get(path)
        return row if row is not None and row.state == state and row.is_settled() else None

    def put(self, path: str, row: CachedImage) -> None:
        """Remember what was found."""
        self.rows[path] = row

    def keep_only(self, paths: Set[str]) -> None:
        """Forget files that are listed no more."""
        self.rows = {path: row for path, row in self.rows.items() if path in paths}

    def new_descriptors(self) -> dict[str, Place]:
        """Begin a file of descriptors of this run's own; where those of the rows stand in it, by image."""
        before = self.descriptors
        path = None if self.path is None else self.path.with_name(f"{self.path.stem}.{_token()}{_SUFFIX}")
        self.descriptors, self._own = DescriptorFile(path), True
        self._before = before.path if before is not None else None
        if self.descriptors.fault is not None:
            self.path, self.fault = None, self.descriptors.fault
        moved: dict[str, Place] = {}
        for name, row in self.rows.items():
            if row.descriptor is not None and before is not None:
                moved[name] = self.descriptors.append(before.read(row.descriptor))
        return moved

    def save(self, *, finished: bool = False) -> None:
        """Write the file; where that is refused, ``fault`` says why, and no further attempt is made.

        ``finished``: descriptors that this run, or one long ago, does not need any more are deleted.
        """
        if self.path is None:
            return
        try:
            if self.descriptors is not None and self._own:
                self.descriptors.sync()
            files.write_atomic_from(self.path, self._lines())
            if finished:
                self._delete_old()
        except MachineError as error:
            self.path, self.fault = None, error

    def _lines(self) -> Iterator[bytes]:
        kept = self.descriptors.path if self.descriptors is not None else None
        head = {"version": _VERSION, "settings": self.settings, "descriptors": kept.name if kept else None}
        hashed = hashlib.sha256()
        for line in (head, *(_row(path, row) for path, row in self.rows.items())):
            text = json.dumps(line).encode() + b"\n"
            hashed.update(text)
            yield text
        yield json.dumps({"sha256": hashed.hexdigest()}).encode() + b"\n"

    def _delete_old(self) -> None:
        assert self.path is not None
        used = self.descriptors.path if self.descriptors is not None else None
        for other in self.path.parent.glob(f"{self.path.stem}.*{_SUFFIX}"):
            with suppress(OSError):
                abandoned = time.time() - other.stat().st_mtime > _ABANDONED_SECONDS
                if other != used and (abandoned or other == self._before):
                    other.unlink()


def _token() -> str:
    return secrets.token_hex(6)


def _row(path: str, row: CachedImage) -> list[object]:
    *found, descriptor = row.values()
    return [path, list(row.state), row.looked_ns, found, descriptor]


def _read(path: Path, settings: str) -> tuple[dict[str, CachedImage], DescriptorFile | None]:
    """The rows and the file of their descriptors; nothing where either is not whole. Raises MachineError."""
    nothing: tuple[dict[str, CachedImage], None] = ({}, None)
    rows: dict[str, CachedImage] = {}
    hashed, last, head = hashlib.sha256(), b"", None
    with files.disk_faults(path, "read"):
        try:
            with path.open("rb") as lines:
                for line in lines:
                    if last and head is None:
                        head = json.loads(last)
                        if (head["version"], head["settings"]) != (_VERSION, settings):
                            return nothing
                    elif last:
                        name, row = _parsed(last)
                        rows[name] = row
                    hashed.update(last)
                    last = line
            if head is None or json.loads(last) != {"sha256": hashed.hexdigest()}:
                return nothing
        except FileNotFoundError:
            return nothing
        except (ValueError, TypeError, KeyError, RecursionError):
            return nothing
    least = max((sum(row.descriptor[:2]) for row in rows.values() if row.descriptor is not None), default=0)
    if not least:
        return rows, None
    descriptors = DescriptorFile.opened(path.with_name(str(head["descriptors"])), least)
    return (rows, descriptors) if descriptors is not None else nothing


def _parsed(line: bytes) -> tuple[str, CachedImage]:
    """Raises ValueError or TypeError where the line is none of ours."""
    path, state, looked_ns, found, place = json.loads(line)
    sha256, width, height, name, broken, detail = found
    if broken is not None and broken not in REASONS:
        raise ValueError(broken)
    return path, CachedImage(
        FileState(*state), looked_ns, sha256, width, height, None if name is None else intern(name), broken,
        detail, None if place is None else Place(*place),
    )  # fmt: skip
