"""One stream of a connection: bytes both ways, with one WRTE under way in each direction."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from android_bench.virtual_phone.protocol import Command, Message, ProtocolError


class StreamClosed(Exception):
    """The client closed the stream, or its connection ended."""


class Stream:
    """What a service reads from and writes to. ``send`` passes a message to the client."""

    def __init__(
        self, local_id: int, remote_id: int, max_payload_bytes: int, send: Callable[[Message], None]
    ) -> None:
        self.local_id = local_id
        self.remote_id = remote_id
        self.max_payload_bytes = max_payload_bytes
        self._send = send
        self._condition = threading.Condition()
        self._inbox: deque[bytes] = deque()
        self._may_write = True
        self._closed = False
        self.on_closed: Callable[[], None] = lambda: None

    def read(self) -> bytes:
        """The next payload; waits for it. The client may send another from then on. Raises StreamClosed."""
        with self._condition:
            while not self._inbox and not self._closed:
                self._condition.wait()
            if not self._inbox:
                raise StreamClosed
            payload = self._inbox.popleft()
            closed = self._closed
        if not closed:
            self._send(Message(Command.OKAY, self.local_id, self.remote_id))
        return payload

    def write(self, content: bytes | memoryview) -> None:
        """Send everything, a payload at a time, each acknowledged before the next. Raises StreamClosed."""
        left = memoryview(content)
        while left:
            with self._condition:
                while not self._may_write and not self._closed:
                    self._condition.wait()
                if self._closed:
                    raise StreamClosed
                self._may_write = False
            piece = left[: self.max_payload_bytes]
            self._send(Message(Command.WRTE, self.local_id, self.remote_id, bytes(piece)))
            left = left[len(piece) :]

    def wait_until_acknowledged(self) -> None:
        """Return when the client has taken everything that was written. Raises StreamClosed."""
        with self._condition:
            while not self._may_write and not self._closed:
                self._condition.wait()
            if self._closed:
                raise StreamClosed

    def deliver(self, payload: bytes) -> None:
        """Take in a WRTE. Raises ProtocolError where the client did not wait for its OKAY."""
        with self._condition:
            if self._inbox:
                raise ProtocolError(f"stream {self.local_id}: a second WRTE before the first one's OKAY")
            self._inbox.append(payload)
            self._condition.notify_all()

    def acknowledge(self) -> None:
        """Take in an OKAY."""
        with self._condition:
            self._may_write = True
            self._condition.notify_all()

    def close(self) -> None:
        """Mark as closed and wake everyone who waits; tells nobody else. May be called twice."""
        with self._condition:
            if self._closed:
                return
            self._closed = True
            self._condition.notify_all()
        self.on_closed()
