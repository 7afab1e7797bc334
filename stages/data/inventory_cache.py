"""What was found about the images of a folder, kept from one look to the next: one JSON Lines file a folder.

The first line holds the format's version, the settings and the hash of all that follows. A file that does not
fit it is made anew. It is written whole or not at all, so that runs side by side cannot mix their lines; the
last one stays.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from nasflow.base import files
from nasflow.base.errors import MachineError
from stages.data.image_file import REASONS, Reason
from stages.data.names import name_bytes

_VERSION = 1  # raised when decoding gives other pixels or other reasons
_FINE_TICK_NS, _COARSE_TICK_NS = 20_000_000, 2_000_000_000  # Linux's timer; FAT's two seconds


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
    descriptor: bytes | None

    def values(
        self,
    ) -> tuple[str | None, int | None, int | None, str | None, Reason | None, str, bytes | None]:
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
    """The rows of one folder. ``path``: None where no cache can be kept; ``fault``: why."""

    path: Path | None
    settings: str
    rows: dict[str, CachedImage] = field(default_factory=dict)
    fault: MachineError | None = None

    @classmethod
    def load(cls, root: Path, settings: str, folder: Path | None = None) -> Self:
        """A folder's cache; empty where there is none, or it is damaged, or for other settings."""
        try:
            where = files.cache_folder() / "inventory" if folder is None else folder
            key = hashlib.sha256(name_bytes(str(root.resolve())) + b"\0" + settings.encode()).hexdigest()
            path = where / f"{key[:32]}.jsonl"
            content = files.read_or_none(path)
        except MachineError as error:
            return cls(None, settings, fault=error)
        return cls(path, settings, _parsed(content or b"", settings))

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

    def save(self) -> None:
        """Write the file; where that is refused, ``fault`` says why, and no further attempt is made."""
        if self.path is None:
            return
        body = "".join(json.dumps(_line(path, row)) + "\n" for path, row in self.rows.items()).encode()
        head = {"version": _VERSION, "settings": self.settings, "sha256": hashlib.sha256(body).hexdigest()}
        try:
            files.write_atomic(self.path, json.dumps(head).encode() + b"\n", body)
        except MachineError as error:
            self.path, self.fault = None, error


def _line(path: str, row: CachedImage) -> list[object]:
    *found, descriptor = row.values()
    text = None if descriptor is None else base64.b64encode(descriptor).decode()
    return [path, list(row.state), row.looked_ns, found, text]


def _parsed(content: bytes, settings: str) -> dict[str, CachedImage]:
    first, _, body = content.partition(b"\n")
    rows: dict[str, CachedImage] = {}
    try:
        head = json.loads(first)
        wanted = {"version": _VERSION, "settings": settings, "sha256": hashlib.sha256(body).hexdigest()}
        if head != wanted:
            return {}
        for line in body.splitlines():
            path, state, looked_ns, found, text = json.loads(line)
            sha256, width, height, name, broken, detail = found
            if broken is not None and broken not in REASONS:
                return {}
            rows[path] = CachedImage(
                FileState(*state), looked_ns, sha256, width, height, name, broken, detail,
                None if text is None else base64.b64decode(text),
            )  # fmt: skip
    except (ValueError, TypeError, RecursionError):
        return {}
    return rows
