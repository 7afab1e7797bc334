"""The ``sync:`` service: STAT, LIST, SEND and RECV in both versions that adb 36 uses.

Requests and answers are a four-letter name and little-endian numbers, as ``SYNC.TXT`` and
``file_sync_protocol.h`` of the Android source describe them. Runs inside the sandbox, where every path is
the phone's own; standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

DATA_BYTES = 64 * 1024
MAX_PATH_BYTES = 1024
_REQUEST = struct.Struct("<4sI")
_STAT_V1 = struct.Struct("<4sIII")
_ENTRY_V1 = struct.Struct("<4sIIII")
_STAT_V2 = struct.Struct("<4sIQQIIIIQqqq")
_ENTRY_V2 = struct.Struct("<4sIQQIIIIQqqqI")


class SyncEnded(Exception):
    """The client left, or sent what the service does not know."""


@dataclass(frozen=True)
class SyncOptions:
    """What is wrong with the storage. ``locate`` turns a phone's path into the one to open."""

    push_failure: str = ""
    free_bytes: int | None = None
    locate: Callable[[str], str] = lambda path: path
    may_link: bool = True


def serve_sync(reader: BinaryIO, writer: BinaryIO, options: SyncOptions) -> None:
    """Answer requests until QUIT or the end of ``reader``."""
    try:
        while True:
            name, length = _REQUEST.unpack(_read(reader, _REQUEST.size))
            if name == b"QUIT":
                return
            if length > MAX_PATH_BYTES:
                _fail(writer, "path too long")
                return
            path = os.fsdecode(_read(reader, length))
            if "\0" in path:
                _fail(writer, "invalid path")
                return
            if name == b"SEND":
                _receive_file(reader, writer, path, options)
            elif name == b"RECV":
                _send_file(writer, options.locate(path))
            elif name in (b"LIST", b"LIS2"):
                _list(writer, options.locate(path), wide=name == b"LIS2")
            elif name == b"STAT":
                writer.write(_stat_v1(options.locate(path)))
            elif name in (b"STA2", b"LST2"):
                writer.write(_stat_v2(name, options.locate(path)))
            else:
                _fail(writer, f"unknown command {name!r}")
                return
            writer.flush()
    except (SyncEnded, OSError):
        return


def _read(reader: BinaryIO, size: int) -> bytes:
    content = reader.read(size)
    if len(content) < size:
        raise SyncEnded
    return content


def _fail(writer: BinaryIO, reason: str) -> None:
    text = os.fsencode(reason)
    writer.write(_REQUEST.pack(b"FAIL", len(text)) + text)
    writer.flush()


def _reason(what: str, error: OSError) -> str:
    return f"{what}: {os.strerror(error.errno or errno.EIO)}"


def _stat_v1(path: str) -> bytes:
    try:
        found = os.lstat(path)
    except OSError:
        return _STAT_V1.pack(b"STAT", 0, 0, 0)
    return _STAT_V1.pack(b"STAT", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF)


def _stat_v2(name: bytes, path: str) -> bytes:
    try:
        found = os.stat(path) if name == b"STA2" else os.lstat(path)  # noqa: PTH116
    except OSError as error:
        return _STAT_V2.pack(name, error.errno or errno.EIO, *[0] * 10)
    return _STAT_V2.pack(name, 0, *_wide(found))


def _wide(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        int(found.st_atime),
        int(found.st_mtime),
        int(found.st_ctime),
    )


def _list(writer: BinaryIO, path: str, *, wide: bool) -> None:
    try:
        names = [".", "..", *sorted(os.listdir(path))]  # noqa: PTH208
    except OSError:
        names = []  # as a phone: an unreadable folder is an empty list
    for name in names:
        try:
            found = os.lstat(os.path.join(path, name))  # noqa: PTH118
        except OSError:
            continue
        text = os.fsencode(name)
        if wide:
            writer.write(_ENTRY_V2.pack(b"DNT2", 0, *_wide(found), len(text)) + text)
        else:
            size, time = found.st_size & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF
            writer.write(_ENTRY_V1.pack(b"DENT", found.st_mode, size, time, len(text)) + text)
    writer.write(_ENTRY_V2.pack(b"DONE", *[0] * 12) if wide else _ENTRY_V1.pack(b"DONE", 0, 0, 0, 0))


def _send_file(writer: BinaryIO, path: str) -> None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            while content := file.read(DATA_BYTES):
                writer.write(_REQUEST.pack(b"DATA", len(content)) + content)
    except OSError as error:
        _fail(writer, _reason("open failed", error))
        return
    writer.write(_REQUEST.pack(b"DONE", 0))


def _receive_file(reader: BinaryIO, writer: BinaryIO, specification: str, options: SyncOptions) -> None:
    path, _, digits = specification.rpartition(",")
    if not path or not digits.isdecimal():
        _fail(writer, "missing , in ID_SEND")
        raise SyncEnded
    upload = _Upload(options.locate(path), int(digits), options)
    reported = False
    try:
        while True:
            if upload.failure and not reported:
                _fail(writer, upload.failure)  # at once, as a phone does; what still comes is dropped
                reported = True
            name, number = _REQUEST.unpack(_read(reader, _REQUEST.size))
            if name == b"DONE":
                break
            if name != b"DATA" or number > DATA_BYTES:
                _fail(writer, "invalid data message" if name != b"DATA" else "oversize data message")
                raise SyncEnded
            upload.write(_read(reader, number))
    except (SyncEnded, OSError):
        upload.abort()
        raise
    upload.finish(number)
    if upload.failure and not reported:
        _fail(writer, upload.failure)
    elif not reported:
        writer.write(_REQUEST.pack(b"OKAY", 0))


class _Upload:
    """A file on its way in. ``failure`` is empty while all is well."""

    def __init__(self, path: str, mode: int, options: SyncOptions) -> None:
        self._path, self._mode = path, mode
        self._left = options.free_bytes
        self._link = b""
        self._file: BinaryIO | None = None
        self.failure = options.push_failure
        if stat.S_ISLNK(mode) and not options.may_link:
            self.failure = "symlinks cannot be created on this phone"
        if not self.failure:
            self._open()

    def _open(self) -> None:
        try:
            parent = os.path.dirname(self._path)  # noqa: PTH120
            if parent:
                os.makedirs(parent, mode=0o775, exist_ok=True)  # noqa: PTH103
        except OSError as error:
            self.failure = _reason("secure_mkdirs failed", error)
            return
        try:
            if os.path.lexists(self._path) and not os.path.isdir(self._path):  # noqa: PTH112
                # A connection that broke may be taking its half file away just now.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)  # noqa: PTH108
            if not stat.S_ISLNK(self._mode):
                self._file = open(self._path, "wb", buffering=0)  # noqa: PTH123, SIM115
        except OSError as error:
            self.failure = _reason("couldn't create file", error)

    def write(self, content: bytes) -> None:
        if self.failure:
            return
        if self._file is None:
            self._link += content
            if len(self._link) > MAX_PATH_BYTES:
                self.failure = "symlink target too long"
            return
        try:
            if self._left is not None:
                if len(content) > self._left:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._left -= len(content)
            left = memoryview(content)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.abort()
            self.failure = _reason("write failed", error)

    def finish(self, modified: int) -> None:
        if self.failure:
            return
        try:
            if self._file is None:
                os.symlink(self._link.rstrip(b"\0"), self._path)  # noqa: PTH211
                return
            self._file.close()
            os.chmod(self._path, self._mode & 0o777)  # noqa: PTH101
            os.utime(self._path, (modified, modified))
        except OSError as error:
            self.failure = _reason("couldn't create file", error)

    def abort(self) -> None:
        """Leave nothing half written, as the daemon of a phone does; what another has put there stays."""
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):  # noqa: PTH116
                    os.unlink(self._path)  # noqa: PTH108
            self._file.close()
            self._file = None
            self.failure = self.failure or "the transfer ended early"
