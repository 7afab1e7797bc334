"""A text stream that may lose its reader."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO


class QuietStream:
    """Passes text on until the stream cannot take it any more (closed pipe, lost terminal, full disk).

    From then on text is dropped: what a run says is worth less than the run. Characters that the
    stream's encoding lacks are written as escapes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.gone = False

    @property
    def encoding(self) -> str:
        """The stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write ``text``, or drop it."""
        if not self.gone:
            try:
                self._write(text)
            except (OSError, ValueError):  # ValueError: the stream has been closed
                self._give_up()
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered, or drop it."""
        if not self.gone:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._give_up()

    def isatty(self) -> bool:
        """Whether a person is reading."""
        return not self.gone and self._stream.isatty()

    def fileno(self) -> int:
        """The stream's file descriptor. Raises OSError where it has none."""
        return self._stream.fileno()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))

    def _give_up(self) -> None:
        self.gone = True
        # What Python still holds is flushed when it exits: give it somewhere to flush to.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._stream.fileno())
            finally:
                os.close(nowhere)
