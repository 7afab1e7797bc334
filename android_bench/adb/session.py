"""What both ways to a phone do alike: connect when needed, one thing at a time, and call a loss a loss."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import ClassVar, Self

from android_bench.adb.deadline import Clock, Deadline
from android_bench.adb.services import (
    Stream,
    finish_shell,
    lost,
    receive_file,
    send_file,
    shell_service,
)
from android_bench.transport import Completed, PhoneNotReadyError
from nasflow.base.errors import DeviceLostError

_CONNECT_TIMEOUT_S = 15.0
_STATE_TIMEOUT_S = 3.0


class AdbTransport(ABC):
    """A :class:`~android_bench.transport.Transport`; a subclass knows how to connect and to open a stream.

    Opening is lazy. After any failure the connection is given up, and the next call makes a new one: no
    half-read answer is ever taken for the next one's. Calls from several threads wait for each other.
    ``clock`` (seconds) is what time-outs are counted by.
    """

    _wire_errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    _batch_bytes: ClassVar[int] = 262_144

    def __init__(self, serial: str, *, clock: Clock = time.monotonic) -> None:
        self._serial = serial
        self._clock = clock
        self._lock = threading.RLock()
        self._reached = False

    @property
    def serial(self) -> str:
        """The device's name on this way: a serial number, or HOST:PORT."""
        return self._serial

    @abstractmethod
    def _connect(self, deadline: Deadline) -> None:
        """Connect unless connected. Raises PhoneNotReadyError, or one of the wire's errors."""

    @abstractmethod
    def _has_shell_v2(self) -> bool:
        """Does the connected device separate standard error and tell exit codes?"""

    @abstractmethod
    def _open(self, service: str, deadline: Deadline) -> Stream:
        """A stream to one service of the connected device."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Give the connection up, whatever state it is in."""

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a command and wait for its end. See :meth:`Transport.run`."""
        with self._session(timeout_s) as deadline:
            service, token = shell_service(argv, v2=self._has_shell_v2())
            with closing(self._open(service, deadline)) as stream:
                return finish_shell(stream, token)

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        """Write a file of the device. See :meth:`Transport.push`."""
        with self._session(timeout_s) as deadline, closing(self._open("sync:", deadline)) as stream:
            send_file(stream, content, remote, mode, self._batch_bytes)

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        """A file's content. See :meth:`Transport.pull`."""
        with self._session(timeout_s) as deadline, closing(self._open("sync:", deadline)) as stream:
            return receive_file(stream, remote)

    def state(self) -> str:
        """The device's state now, found by asking it for something; takes a few seconds at most."""
        answer = "offline"
        for _ in range(2):  # a broken connection tells nothing yet of the device: connecting anew does
            try:
                self.run(["echo"], timeout_s=_STATE_TIMEOUT_S)
            except PhoneNotReadyError as error:
                return error.state
            except DeviceLostError as error:
                if isinstance(error.__cause__, PhoneNotReadyError):
                    return error.__cause__.state
            else:
                return "device"
        return answer

    def reconnect(self, *, timeout_s: float) -> None:
        """Give the connection up and make it anew: one attempt.

        Raises DeviceLostError, NoUsableDeviceError.
        """
        self.close()
        with self._session(timeout_s):
            pass

    def close(self) -> None:
        """Give back what was opened. May be called twice; the next command opens it again."""
        with self._lock:
            self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _session(self, timeout_s: float) -> Iterator[Deadline]:
        with self._lock:
            deadline = Deadline(timeout_s, self._clock)
            done = False
            try:
                self._connect(Deadline(min(timeout_s, _CONNECT_TIMEOUT_S), self._clock))
                self._reached = True
                yield deadline
                done = True
            except PhoneNotReadyError as error:
                if self._reached and error.state in ("missing", "offline", "connecting"):
                    what = error.message.rstrip(".")
                    if what.startswith(f"{self.serial} "):
                        what = f"the phone {what.removeprefix(f'{self.serial} ')}"
                    raise lost(self.serial, what, raw=error.raw) from error
                raise
            except self._wire_errors as error:
                raise lost(self.serial, str(error) or type(error).__name__, raw=repr(error)) from error
            finally:
                if not done:  # an interruption, too, may have left half a packet behind
                    self._disconnect()
