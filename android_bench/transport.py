"""The way to a phone's shell and files: a small contract, and what both ways to it share.

Output of the device is foreign text: it is capped here, and :func:`plain_text` takes escapes out of
whatever is shown or kept.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nasflow.errors import DeviceError, DeviceLost

__all__ = ["OUTPUT_LIMIT_BYTES", "Completed", "DeviceLost", "Transport", "plain_text", "quote"]

OUTPUT_LIMIT_BYTES = 16_000_000
"""The most that one command's output, or one pulled file, may hold. A phone that says more is refused."""

# CSI and OSC sequences, other two-byte escapes, and control characters besides tab and newline.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


@dataclass(frozen=True)
class Completed:
    """One finished remote command.

    Where the device merges both streams (shell protocol v1), ``stderr`` is empty.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int


class Transport(Protocol):
    """One device's shell and files. Commands are lists; every one goes through :func:`quote`."""

    @property
    def serial(self) -> str:
        """The device's name on this way: a serial number, or HOST:PORT."""

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a command and wait for its end, whatever its exit code.

        Raises DeviceLost (broken, silent or cut short), NoUsableDevice, DeviceError (too much output).
        """

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        """Write a file of the device. Raises DeviceLost, or DeviceError with the device's reason."""

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        """A file's content. Raises DeviceLost, or DeviceError with the device's reason."""

    def state(self) -> str:
        """``device``, ``unauthorized``, ``offline``, ``missing`` or another word of the device's side."""

    def reconnect(self, *, timeout_s: float) -> None:
        """Give the connection up and make it anew. Raises DeviceLost, NoUsableDevice."""

    def close(self) -> None:
        """Give back what was opened. May be called twice; the next command opens it again."""


def quote(argv: Sequence[str]) -> str:
    """The words as one line that a POSIX shell splits into exactly these words again.

    The only way from words to a remote command. Raises ValueError for no words, and for a NUL, which
    no command line can carry.
    """
    if not argv:
        raise ValueError("a remote command needs at least one word")
    for word in argv:
        if "\0" in word:
            raise ValueError(f"a remote command cannot hold a NUL: {word!r}")
    return " ".join(shlex.quote(word) for word in argv)


def plain_text(output: bytes | str, *, limit: int = 4000) -> str:
    """Device output for people and logs: UTF-8 with replacements, no escapes, at most ``limit`` characters."""
    text = output if isinstance(output, str) else output[: 4 * limit + 4].decode("utf-8", "replace")
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def too_much_output(what: str, limit_bytes: int = OUTPUT_LIMIT_BYTES) -> DeviceError:
    """The error for a device that does not stop talking."""
    return DeviceError(
        f"{what} answered with more than {limit_bytes / 1e6:.0f} MB, which no command of nasflow asks for.",
        hint="Restart the device and try again.",
    )
