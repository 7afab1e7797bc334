"""A moment until which something has to be done, and waiting on a socket no longer than that."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import NoReturn

Clock = Callable[[], float]

_LOOK_S = 0.05  # the clock need not be the computer's: it is looked at again while a socket is silent


class Deadline:
    """A moment until which something has to be done, by ``clock`` (seconds)."""

    def __init__(self, timeout_s: float, clock: Clock = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._end = clock() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left. Raises TimeoutError when none are."""
        left = self._end - self._clock()
        if left <= 0:
            self.expire()
        return left

    def expire(self) -> NoReturn:
        """Raise TimeoutError, in words for people."""
        raise TimeoutError(f"no answer within {self.timeout_s:g} s")

    def receive(self, connection: socket.socket, size: int) -> bytes:
        """Some bytes, none at the connection's end. Raises OSError, TimeoutError for silence."""
        while True:
            connection.settimeout(min(self.remaining_s(), _LOOK_S))
            try:
                return connection.recv(size)
            except TimeoutError as silence:
                if silence.errno is not None:  # the system gave the connection up
                    raise

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Send all of it. Raises OSError, TimeoutError where the other side takes no more."""
        left = memoryview(data)
        while left:
            connection.settimeout(min(self.remaining_s(), _LOOK_S))
            try:
                sent = connection.send(left)
            except TimeoutError as silence:
                if silence.errno is not None:
                    raise
                continue
            left = left[sent:]
