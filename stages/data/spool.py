"""Units of a data set's shards that were decompressed or fetched, as files of a folder of bounded size.

All processes share them: a unit is decompressed or fetched once while it is wanted. The oldest go first.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from filelock import FileLock

from nasflow.base import files

SPOOL_BYTES = 2**32
_LOCKS = 64
_SUFFIX, _UNFINISHED = ".unit", ".new"
_ABANDONED_S = 86_400.0
"""An unfinished file that has not grown for so long was left by a process that was killed."""


@dataclass(frozen=True)
class Spool:
    """Files of ``folder``, together at most ``most_bytes`` and the one that is being written."""

    folder: Path
    most_bytes: int = SPOOL_BYTES

    def open(self, name: str, content: Callable[[], Iterable[bytes]]) -> BinaryIO:
        """A unit's file; made of ``content`` where it is not there. Close it.

        Raises MachineError where it cannot be written, and whatever ``content`` raises.
        """
        path = self.folder / f"{name}{_SUFFIX}"
        with files.disk_faults(self.folder, "keep images in"):
            with suppress(FileNotFoundError):
                return path.open("rb")
            files.make_folder(self.folder)
            with FileLock(self.folder / f"{crc32(name.encode()) % _LOCKS}.lock"):
                with suppress(FileNotFoundError):  # another process was quicker
                    return path.open("rb")
                return self._made(path, content())

    def _made(self, path: Path, content: Iterable[bytes]) -> BinaryIO:
        descriptor, unfinished = tempfile.mkstemp(suffix=_UNFINISHED, dir=self.folder)
        file = os.fdopen(descriptor, "w+b")
        try:
            for chunk in content:
                file.write(chunk)
            file.flush()
            file.seek(0)
            self._make_room(file.fileno())
            os.replace(unfinished, path)  # noqa: PTH105 - stays open: an early removal does no harm
        except BaseException:
            file.close()
            with suppress(OSError):
                os.unlink(unfinished)  # noqa: PTH108
            raise
        return file

    def _make_room(self, new: int) -> None:
        """Remove the oldest until the others and the new one fit. What is open elsewhere stays readable."""
        written = os.fstat(new)
        kept = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                status = entry.stat()
                if entry.name.endswith(_SUFFIX):
                    kept.append((status.st_mtime_ns, status.st_size, entry.path))
                elif entry.name.endswith(_UNFINISHED) and (written.st_mtime - status.st_mtime > _ABANDONED_S):
                    os.unlink(entry.path)  # noqa: PTH108
        spare = self.most_bytes - written.st_size - sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if spare >= 0:
                return
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108
            spare += size
