"""A client's socket with the present faults in its way."""

from __future__ import annotations

import contextlib
import socket
import threading

from android_bench.virtual_phone.faults import Faults
from android_bench.virtual_phone.protocol import Disconnected, Message, read_message

_LARGEST_PIECE_BYTES = 1 << 20


class Wire:
    """Sends and receives whole messages; many threads may send, one receives."""

    def __init__(self, connection: socket.socket, faults: Faults) -> None:
        self._socket = connection
        self._faults = faults
        self._sending = threading.Lock()
        self._closed = False
        self.checksum = True
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive_message(self) -> Message:
        """The next message. Raises Disconnected, ProtocolError."""
        return read_message(self._receive, checksum=self.checksum)

    def send(self, message: Message) -> None:
        """Send one message whole. Raises Disconnected."""
        with self._sending:
            left = memoryview(message.encode(checksum=self.checksum))
            while left:
                piece = self._allow("sent", min(len(left), _LARGEST_PIECE_BYTES))
                try:
                    sent = self._socket.send(left[:piece])
                except OSError as error:
                    raise Disconnected(str(error)) from error
                self._faults.count("sent", sent)
                left = left[sent:]

    def close(self) -> None:
        """End the connection at once; threads that wait on it see Disconnected."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _receive(self, size: int) -> bytes:
        buffer = bytearray(size)
        left = memoryview(buffer)
        while left:
            piece = self._allow("received", len(left))
            try:
                got = self._socket.recv_into(left[:piece])
            except OSError as error:
                raise Disconnected(str(error)) from error
            if not got:
                raise Disconnected("the client closed the connection")
            self._faults.count("received", got)
            left = left[got:]
        return bytes(buffer)

    def _allow(self, direction: str, wanted: int) -> int:
        if self._closed:  # a fault is for those that are connected
            raise Disconnected("the connection is closed")
        try:
            return self._faults.allow("sent" if direction == "sent" else "received", wanted)
        except Disconnected:
            self.close()
            raise
