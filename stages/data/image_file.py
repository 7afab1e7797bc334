"""The bytes of one image file, and why an image cannot be used. Everything here is foreign: trust nothing."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image, ImageCms

from nasflow.base.text import plain_line

Reason = Literal["missing", "unreadable", "empty", "not_an_image", "truncated", "corrupt", "too_large"]
REASONS: dict[Reason, str] = {
    "missing": "the file does not exist any more",
    "unreadable": "the file cannot be opened",
    "empty": "the file has 0 bytes",
    "not_an_image": "no image in a known format",
    "truncated": "the file ends too early",
    "corrupt": "the content is damaged",
    "too_large": "too many pixels or bytes",
}
MOST_BYTES = 2**30

# What decoders raise for damaged bytes: their own errors, and those of parsers that trusted a length.
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError,
    AssertionError, RuntimeError, BufferError, struct.error, zlib.error, Image.DecompressionBombError,
    ImageCms.PyCMSError,
)  # fmt: skip


class BrokenImageError(Exception):
    """One image cannot be used. The caller counts these, and goes on up to ``data.max_broken``."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)  # both, so that it passes between processes
        self.reason: Reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{REASONS[self.reason]} ({self.detail})" if self.detail else REASONS[self.reason]


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Turn everything that a decoder raises for damaged bytes into BrokenImageError."""
    try:
        yield
    except MemoryError as error:
        raise BrokenImageError("too_large", "not enough memory") from error
    except _DECODER_ERRORS as error:
        detail = plain_line(str(error), limit=200)
        words = detail.lower()
        early = isinstance(error, EOFError) or "truncated" in words or "not enough image data" in words
        raise BrokenImageError("truncated" if early else "corrupt", detail) from error


def read_file(path: Path, most_bytes: int | None = None) -> bytes:
    """A file's content, or its first ``most_bytes``.

    Raises BrokenImageError: missing, unreadable, empty, too_large. Pipes and devices, on which a read may
    never end, are unreadable.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits until someone writes into it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123 - from a descriptor
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BrokenImageError("unreadable", "no regular file")
            if status.st_size > MOST_BYTES and most_bytes is None:
                raise BrokenImageError("too_large", f"{status.st_size} bytes; the limit is {MOST_BYTES}")
            data = file.read(min(status.st_size, most_bytes or MOST_BYTES))  # what is asked for is reserved
    except FileNotFoundError as error:
        raise BrokenImageError("missing") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise BrokenImageError("unreadable", os.strerror(getattr(error, "errno", None) or 22)) from error
    if not data:
        raise BrokenImageError("empty")
    return data
