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

from nasflow.base.errors import DeviceError, DeviceLostError, NoUsableDeviceError

__all__ = [
    "FILE_LIMIT_BYTES",
    "FOLDER",
    "OUTPUT_LIMIT_BYTES",
    "STATE_ADVICE",
    "Completed",
    "DeviceLostError",
    "PhoneNotReadyError",
    "Transport",
    "is_mdns_name",
    "quote",
    "serial_in_mdns_name",
    "split_host_port",
    "too_much_output",
]

FOLDER = "/data/local/tmp/nasflow"
"""The only folder of a phone that nasflow writes to or deletes from. Programs may be run there."""

OUTPUT_LIMIT_BYTES = 16_000_000
"""The most that one command may write, both streams together. A phone that says more is refused."""

FILE_LIMIT_BYTES = 512_000_000
"""The most that one pulled file may hold."""

STATE_ADVICE = {
    "unauthorized": "Unlock the phone, accept the prompt 'Allow USB debugging?' on it, and try again.",
    "authorizing": "Unlock the phone, accept the prompt 'Allow USB debugging?' on it, and try again.",
    "offline": "Switch 'USB debugging' off and on again, or reconnect the cable; if that does not help, "
    "restart the phone.",
    "connecting": "Wait a few seconds and try again.",
    "missing": "Connect the phone, switch 'USB debugging' on (Settings, Developer options), use a cable that "
    "carries data, and run 'nasflow devices'.",
    "no permissions": "Give your account access to the USB device: install the udev rules (Debian: package "
    "android-sdk-platform-tools-common), or add a rule for the manufacturer's USB ID, then reconnect the "
    "cable.",
    "busy": "Another program, usually an adb server, is using the phone: set android.transport to server, or "
    "stop the adb server with 'adb kill-server'.",
    "ambiguous": "Unplug one of them, or start an adb server ('adb start-server') and select one by the "
    "number that 'nasflow devices' then shows: --device android:transport_id:N.",
    "recovery": "Restart the phone into Android.",
    "sideload": "Restart the phone into Android.",
    "bootloader": "Restart the phone into Android.",
    "rescue": "Restart the phone into Android.",
}
"""What a person does about each state other than ``device``."""

_MDNS_NAME = re.compile(
    r"adb-(?P<serial>.{1,200})-[^-.\s]{1,20}(?: \([0-9]{1,3}\))?\._adb(?:-tls-connect)?\._tcp\.?"
)
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


@dataclass(frozen=True)
class Completed:
    """One finished remote command.

    Where the device merges both streams (shell protocol v1), ``stderr`` is empty.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int


class PhoneNotReadyError(NoUsableDeviceError):
    """A phone that cannot be used as it stands; ``state`` is the word for it (see STATE_ADVICE)."""

    def __init__(self, message: str, *, state: str, hint: str = "", raw: str = "") -> None:
        super().__init__(message, hint=hint or STATE_ADVICE.get(state, STATE_ADVICE["offline"]), raw=raw)
        self.state = state


class Transport(Protocol):
    """One device's shell and files. Commands are lists; every one goes through :func:`quote`."""

    @property
    def serial(self) -> str:
        """The device's name on this way: a serial number, or HOST:PORT."""

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a command and wait for its end, whatever its exit code. It reads an empty standard input.

        ``timeout_s`` is for the whole of it: set it above the longest that the command may take. Raises
        DeviceLostError (broken, silent or cut short), NoUsableDeviceError, DeviceError (too much output).
        """

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        """Write a file of the device. Raises DeviceLostError, or DeviceError with the device's reason."""

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        """A file's content. Raises DeviceLostError, or DeviceError with the device's reason."""

    def state(self) -> str:
        """``device``, ``unauthorized``, ``offline``, ``missing`` or another word of the device's side."""

    def reconnect(self, *, timeout_s: float) -> None:
        """Give the connection up and make it anew. Raises DeviceLostError, NoUsableDeviceError."""

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


def split_host_port(name: str) -> tuple[str, int] | None:
    """``HOST:PORT`` or ``[IPv6]:PORT`` as its parts; None for anything else, as a serial number.

    ``transport_id:3`` is a number of an adb server, and a name that ends in ``._tcp`` an mDNS service: both
    are no host.
    """
    match = _HOST_PORT.fullmatch(name)
    if match is None or not 0 < int(match[3]) < 65536:
        return None
    host: str = match[1] or match[2]
    return None if host == "transport_id" or host.endswith(("._tcp", "._tcp.")) else (host, int(match[3]))


def is_mdns_name(name: str) -> bool:
    """Whether it names a service that mDNS found: ``adb-35121JEHN28132-jr888A._adb-tls-connect._tcp``."""
    return _MDNS_NAME.fullmatch(name) is not None


def serial_in_mdns_name(name: str) -> str:
    """The phone's serial number in the name of its wireless service; empty where there is none.

    A phone calls its service ``adb-SERIAL-RANDOM``; the network puts `` (2)`` behind a name that is taken.
    """
    match = _MDNS_NAME.fullmatch(name)
    return match["serial"] if match else ""


def too_much_output(what: str, limit_bytes: int = OUTPUT_LIMIT_BYTES) -> DeviceError:
    """The error for a device that does not stop talking."""
    return DeviceError(
        f"{what} returned more than {limit_bytes / 1e6:.0f} MB, which no command of nasflow needs.",
        hint="Restart the device and try again.",
    )
