"""The way to a phone's own daemon, over TCP or USB, by adb-shell."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path

from adb_shell import constants, exceptions
from adb_shell.hidden_helpers import _AdbTransactionInfo

from android_bench.adb.deadline import Clock, Deadline
from android_bench.adb.keys import Signer, default_key, ensure_key
from android_bench.adb.services import Stream
from android_bench.adb.session import AdbTransport
from android_bench.adb.wire import Tcp, Wire, find_usb
from android_bench.transport import PhoneNotReadyError, split_host_port
from nasflow.base.errors import DeviceError
from nasflow.base.text import plain_text

_PAYLOAD_LIMIT_BYTES = 1 << 20
_BANNER = b"features=shell_v2,cmd"


class _DirectStream(Stream):
    """One ADB stream: every WRTE waits for its OKAY, and what comes meanwhile is kept."""

    def __init__(self, peer: str, wire: Wire, local_id: int, service: str, payload_bytes: int) -> None:
        super().__init__(peer)
        self._wire, self._local_id, self._payload_bytes = wire, local_id, payload_bytes
        self._remote_id = 0
        self._ended = False
        name = service.encode() + b"\0"
        if len(name) > payload_bytes:
            raise DeviceError(
                f"{peer} accepts commands of at most {payload_bytes:,} bytes; this one has {len(name):,}.",
                hint="Use a phone with a newer Android.",
            )
        wire.send_packet(constants.OPEN, local_id, 0, name)
        if not self._wait_for_okay():
            raise ConnectionResetError(f"the phone refused the service {service.partition(':')[0]}")

    def write(self, data: bytes) -> bool:
        for start in range(0, len(data), self._payload_bytes):
            if self._ended:
                return False
            piece = data[start : start + self._payload_bytes]
            self._wire.send_packet(constants.WRTE, self._local_id, self._remote_id, piece)
            if not self._wait_for_okay():
                return False
        return not self._ended

    def answered(self) -> bool:
        return bool(self._unread) or self._ended

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            with suppress(OSError):  # a broken connection shows itself elsewhere
                self._wire.send_packet(constants.CLSE, self._local_id, self._remote_id)

    def _receive(self) -> bytes:
        while not self._ended:
            if data := self._take(self._packet()):
                return data
        return b""

    def _wait_for_okay(self) -> bool:
        while not self._ended:
            packet = self._packet()
            if packet[0] == constants.OKAY:
                self._remote_id = packet[1]
                return True
            self._unread += self._take(packet)
        return False

    def _packet(self) -> tuple[bytes, int, bytes]:
        while True:
            command, arg0, arg1, data = self._wire.receive_packet()
            if command in (constants.CNXN, constants.AUTH):
                raise ConnectionResetError("the phone's adb daemon restarted")
            # Others belong to streams that were left before, as the answer to their CLSE.
            if arg1 == self._local_id and arg0 in (self._remote_id or arg0, 0):
                return command, arg0, data

    def _take(self, packet: tuple[bytes, int, bytes]) -> bytes:
        command, _, data = packet
        if command == constants.WRTE:
            self._wire.send_packet(constants.OKAY, self._local_id, self._remote_id)
            return data
        if command == constants.CLSE:
            self._ended = True
            self._wire.send_packet(constants.CLSE, self._local_id, self._remote_id)
        return b""


class DirectTransport(AdbTransport):
    """The phone's own daemon, over TCP (a name HOST:PORT) or USB (a serial number)."""

    _wire_errors = (OSError, exceptions.InvalidResponseError)

    def __init__(self, serial: str, *, key: Path | None = None, clock: Clock = time.monotonic) -> None:
        super().__init__(serial, clock=clock)
        self._key = default_key() if key is None else key
        self._signer: Signer | None = None
        self._wire: Wire | None = None
        self._payload_bytes = 0
        self._next_id = 0

    @property
    def features(self) -> frozenset[str]:
        """What the connected device said that it can do (its CONNECT banner); empty before."""
        banner = plain_text(self._wire.banner) if self._wire else ""
        _, _, rest = banner.partition("::")
        pairs = dict(pair.partition("=")[::2] for pair in rest.split(";"))
        return frozenset(filter(None, pairs.get("features", "").split(",")))

    def _has_shell_v2(self) -> bool:
        return "shell_v2" in self.features

    def _connect(self, deadline: Deadline) -> None:
        if self._wire is not None:
            return
        if self._signer is None:
            ensure_key(self._key)
            self._signer = Signer(self._key)
        try:
            self._wire = self._greeted(self._signer, deadline)
        except PhoneNotReadyError as error:
            if error.state != "offline" or not isinstance(error.__cause__, ConnectionError):
                raise
            # It answered and broke off: a daemon that has just started does so. Once more, in the same time.
            self._wire = self._greeted(self._signer, deadline)

    def _greeted(self, signer: Signer, deadline: Deadline) -> Wire:
        address = split_host_port(self.serial)
        wire = Wire(Tcp(*address) if address else find_usb(self.serial))
        wire.transport.deadline = deadline
        try:
            self._payload_bytes = self._handshake(wire, signer, deadline)
        except BaseException:
            wire.close()
            raise
        return wire

    def _handshake(self, wire: Wire, signer: Signer, deadline: Deadline) -> int:
        def asked(_: object) -> None:
            wire.asked_on_phone = True

        info = _AdbTransactionInfo(None, None, deadline.timeout_s, deadline.timeout_s)
        try:
            connected = wire.connect(_BANNER, [signer], deadline.timeout_s, asked, info)
        except (OSError, exceptions.InvalidResponseError) as error:
            raise self._unreachable(wire, error) from error
        payload_bytes = int(connected[1])
        state = plain_text(wire.banner).partition(":")[0]
        if state != "device":
            raise PhoneNotReadyError(f"{self.serial} is in the state '{state[:40]}'.", state=state[:40])
        if payload_bytes < 1:
            raise PhoneNotReadyError(
                f"{self.serial} reports a maximum packet size of 0 bytes.", state="offline"
            )
        return min(payload_bytes, _PAYLOAD_LIMIT_BYTES)

    def _unreachable(self, wire: Wire, error: Exception) -> PhoneNotReadyError:
        raw = repr(error)
        if wire.asked_on_phone:
            return PhoneNotReadyError(
                f"{self.serial} has not approved this computer's key {self._key}.pub.",
                state="unauthorized",
                raw=raw,
            )
        if isinstance(error, ConnectionRefusedError | socket.gaierror) or (
            isinstance(error, OSError) and not isinstance(error, TimeoutError | ConnectionError)
        ):
            reason = error.strerror or error
            return PhoneNotReadyError(f"{self.serial} cannot be reached: {reason}.", state="missing", raw=raw)
        return PhoneNotReadyError(f"{self.serial} does not answer: {error}.", state="offline", raw=raw)

    def _open(self, service: str, deadline: Deadline) -> Stream:
        wire = self._wire
        if wire is None:
            raise ConnectionResetError("the connection is closed")
        wire.transport.deadline = deadline
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        return _DirectStream(self.serial, wire, self._next_id, service, self._payload_bytes)

    def _disconnect(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(OSError):
                wire.close()
