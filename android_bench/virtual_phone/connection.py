"""One client: authorisation, then streams, until it goes."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from android_bench.virtual_phone.auth import Answer, KnownKeys, parse_public_key
from android_bench.virtual_phone.faults import Faults
from android_bench.virtual_phone.protocol import (
    MAX_PAYLOAD_BYTES,
    MIN_PAYLOAD_BYTES,
    TOKEN_BYTES,
    VERSION,
    VERSION_WITH_CHECKSUMS,
    Auth,
    Command,
    Disconnected,
    Message,
    ProtocolError,
)
from android_bench.virtual_phone.stream import Stream, StreamClosed
from android_bench.virtual_phone.wire import Wire

MAX_STREAMS = 64
Service = Callable[[Stream], None]


@dataclass(frozen=True)
class Host:
    """What a connection needs of the phone. ``find_service`` gives None where a name is not served."""

    banner: Callable[[], bytes]
    keys: KnownKeys
    answer: Callable[[], Answer]
    find_service: Callable[[str], Service | None]
    faults: Faults
    max_payload_bytes: int = MAX_PAYLOAD_BYTES
    version: int = VERSION
    authenticate: bool = True


class Connection:
    """Serves one client in the thread that calls :meth:`serve`."""

    def __init__(self, wire: Wire, host: Host) -> None:
        self._wire = wire
        self._host = host
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._token = b""
        self._online = False
        self._pending: Message | None = None
        self._max_payload_bytes = host.max_payload_bytes

    def serve(self) -> None:
        """Talk until the client goes, breaks the protocol, or a fault says so."""
        try:
            while True:
                self._handle(self._wire.receive_message())
        except (Disconnected, ProtocolError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """End the connection and every stream of it."""
        self._wire.close()
        self._close_streams()

    def _close_streams(self) -> None:
        with self._lock:
            streams = list(self._streams.values())
            self._streams.clear()
        for stream in streams:
            stream.close()

    def _handle(self, message: Message) -> None:
        if self._host.faults.plan.offline:
            return
        if message.command == Command.CNXN:
            self._on_connect(message)
        elif message.command == Command.AUTH:
            self._on_auth(message)
        elif not self._online:
            raise ProtocolError(f"{message.command.name} before the connection was made")
        elif message.command == Command.OPEN:
            self._on_open(message)
        elif message.command == Command.CLSE:
            self._on_close(message)
        elif message.command in (Command.OKAY, Command.WRTE):
            self._on_traffic(message)

    def _on_connect(self, message: Message) -> None:
        self._close_streams()
        self._online = False
        if message.arg0 < VERSION_WITH_CHECKSUMS or message.arg1 < MIN_PAYLOAD_BYTES:
            raise ProtocolError(f"version {message.arg0:#x} with payloads of {message.arg1} bytes")
        self._wire.checksum = True
        self._max_payload_bytes = min(message.arg1, self._host.max_payload_bytes)
        self._version = min(message.arg0, self._host.version)
        if self._host.authenticate:
            self._send_token()
        else:
            self._accept()

    def _on_auth(self, message: Message) -> None:
        if self._online or not self._token:
            return
        always: Answer | None = self._host.faults.plan.authorisation or None
        if message.arg0 == Auth.SIGNATURE:
            if always in (None, "accept") and self._host.keys.verify(message.payload, self._token):
                self._accept()
            else:
                self._send_token()
        elif message.arg0 == Auth.PUBLIC_KEY:
            answer = always or self._host.answer()
            if parse_public_key(message.payload) is None:
                raise ProtocolError("the public key is not in Android's format")
            if answer == "refuse":
                raise Disconnected("the key was refused")
            if answer == "accept":
                self._host.keys.add(message.payload)
                self._accept()

    def _send_token(self) -> None:
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._wire.send(Message(Command.AUTH, Auth.TOKEN, 0, self._token))

    def _accept(self) -> None:
        self._token = b""
        self._online = True
        self._wire.send(
            Message(Command.CNXN, self._host.version, self._host.max_payload_bytes, self._host.banner())
        )
        self._wire.checksum = self._version <= VERSION_WITH_CHECKSUMS

    def _on_open(self, message: Message) -> None:
        name = message.payload.rstrip(b"\0").decode("utf-8", "surrogateescape")
        service = self._host.find_service(name)
        with self._lock:
            full = len(self._streams) >= MAX_STREAMS
        if service is None or full or message.arg0 == 0:
            self._wire.send(Message(Command.CLSE, 0, message.arg0))
            return
        stream = Stream(self._next_id, message.arg0, self._max_payload_bytes, self._wire.send)
        self._next_id += 1
        with self._lock:
            self._streams[stream.local_id] = stream
        self._wire.send(Message(Command.OKAY, stream.local_id, stream.remote_id))
        threading.Thread(
            target=self._run, args=(service, stream), name=f"stream-{stream.local_id}", daemon=True
        ).start()

    def _run(self, service: Service, stream: Stream) -> None:
        with contextlib.suppress(StreamClosed, Disconnected, OSError):
            service(stream)
            stream.wait_until_acknowledged()
        self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        """Tell the client that a stream has ended, unless it ended it."""
        with self._lock:
            known = self._streams.pop(stream.local_id, None) is not None
        stream.close()
        if known:
            with contextlib.suppress(Disconnected):
                self._wire.send(Message(Command.CLSE, stream.local_id, stream.remote_id))

    def _on_close(self, message: Message) -> None:
        with self._lock:
            stream = self._streams.get(message.arg1)
        if stream is not None and message.arg0 in (0, stream.remote_id):
            self._finish(stream)

    def _on_traffic(self, message: Message) -> None:
        with self._lock:
            stream = self._streams.get(message.arg1)
        if stream is None or message.arg0 != stream.remote_id:
            return
        if message.command == Command.OKAY:
            stream.acknowledge()
            return
        try:
            stream.deliver(message.payload)
        except ProtocolError:
            self._finish(stream)
