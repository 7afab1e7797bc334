"""Descriptors of images in a file that only grows: each is read when it is compared, none stays in memory."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
import zlib
from pathlib import Path
from typing import IO, NamedTuple

from nasflow.base import files
from nasflow.base.errors import IntegrityError, MachineError


class Place(NamedTuple):
    """Where a descriptor stands, in bytes, and the CRC-32 of its content."""

    start: int
    length: int
    crc32: int


class DescriptorFile:
    """Descriptors by their places. ``path``: None: a temporary file, which ends with this object.

    ``fault``: why there is no file at ``path`` although one was wanted; a temporary one takes its place.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.fault: MachineError | None = None
        self.path: Path | None = path
        self._file: IO[bytes]
        try:
            self._file = _temporary() if path is None else _new(path)
        except MachineError as error:
            self.path, self.fault, self._file = None, error, _temporary()
        self._end = 0
        weakref.finalize(self, self._file.close)

    @classmethod
    def opened(cls, path: Path, least: int) -> DescriptorFile | None:
        """One that exists, to be read; None where it is gone or has fewer than ``least`` bytes."""
        try:
            file = path.open("rb")
        except OSError:
            return None
        found = cls.__new__(cls)
        found.fault, found.path, found._file = None, path, file
        found._end = os.fstat(file.fileno()).st_size
        weakref.finalize(found, file.close)
        return found if found._end >= least else None

    def append(self, content: bytes) -> Place:
        """Add one descriptor. Raises MachineError."""
        with files.disk_faults(self._where, "write"):
            self._file.seek(self._end)
            self._file.write(content)
        place = Place(self._end, len(content), zlib.crc32(content))
        self._end += len(content)
        return place

    def read(self, place: Place) -> bytes:
        """One descriptor. Raises MachineError, and IntegrityError where the file has another content."""
        with files.disk_faults(self._where, "read"):
            self._file.seek(place.start)
            content = self._file.read(place.length)
        if zlib.crc32(content) != place.crc32 or len(content) != place.length:
            raise IntegrityError(
                f"The descriptor of an image, kept in {self.path}, is damaged.",
                hint="Delete that file and run again: the images are then read anew.",
            )
        return content

    @property
    def _where(self) -> Path:
        return self.path or Path(tempfile.gettempdir())

    def sync(self) -> None:
        """What was added is on the disk when this returns. Raises MachineError."""
        if self.path is not None:
            with files.disk_faults(self.path, "write"):
                self._file.flush()
                os.fsync(self._file.fileno())


def _new(path: Path) -> IO[bytes]:
    with files.disk_faults(path, "write"):
        files.make_folder(path.parent)
        return path.open("x+b")


def _temporary() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # no folder for such files: then memory has to do
        return io.BytesIO()
