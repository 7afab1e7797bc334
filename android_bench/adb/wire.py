"""ADB packets over TCP and USB: what adb-shell 0.4.4 gets wrong there, put right in subclasses.

Short writes are completed, Nagle's delay is off, a closed connection raises at once, USB's time-out and
unplugging are told apart, the device's CONNECT banner is kept, and no packet (a key may be in it) is logged.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

from adb_shell import constants
from adb_shell.adb_device import _AdbIOManager
from adb_shell.adb_message import AdbMessage
from adb_shell.transport.base_transport import BaseTransport
from adb_shell.transport.tcp_transport import TcpTransport

from android_bench.adb.deadline import Deadline
from android_bench.transport import PhoneNotReadyError
from nasflow.base.text import plain_text

_VERSION_WITHOUT_CHECKSUMS = 0x01000001
_STLS = int.from_bytes(b"STLS", "little")


class Tcp(TcpTransport):
    """TCP without adb-shell's faults: sends everything, waits for nothing, and notices the end."""

    one_piece = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.deadline = Deadline(0)

    def connect(self, transport_timeout_s: float | None = None) -> None:
        """Connect before the deadline. Raises OSError."""
        address = (self._host, self._port)
        self._connection = socket.create_connection(address, timeout=self.deadline.remaining_s())
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None = None) -> bytes:
        """Some bytes, at least one. Raises OSError: TimeoutError, or ConnectionError when it ended."""
        if self._connection is None:
            raise ConnectionResetError("the connection is closed")
        data = self.deadline.receive(self._connection, numbytes)
        if not data:
            raise ConnectionResetError("the phone's daemon closed the connection")
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None = None) -> int:
        """Send all of it. Raises OSError."""
        if self._connection is None:
            raise ConnectionResetError("the connection is closed")
        self.deadline.send(self._connection, data)
        return len(data)


class Usb(BaseTransport):
    """USB through adb-shell's UsbTransport; tells a time-out from an unplugged cable."""

    one_piece = False  # the daemon reads a packet's header and its data as two transfers

    def __init__(self, inner: Any, serial: str) -> None:
        self._inner = inner
        self._serial = serial
        self._packet_bytes = 0
        self.deadline = Deadline(0)

    def close(self) -> None:
        """Give the interface back."""
        self._inner.close()

    def connect(self, transport_timeout_s: float | None = None) -> None:
        """Claim the interface. Raises PhoneNotReadyError, with what hinders."""
        import usb1

        try:
            self._inner.connect(transport_timeout_s)
        except usb1.USBErrorBusy as error:
            raise PhoneNotReadyError(f"{self._serial} is used by another program.", state="busy") from error
        except usb1.USBErrorAccess as error:
            message = f"this account does not have permission to open {self._serial}."
            raise PhoneNotReadyError(message, state="no permissions") from error
        except usb1.USBError as error:
            raise PhoneNotReadyError(
                f"{self._serial} cannot be opened ({error}).", state="missing"
            ) from error
        for endpoint in self._inner._setting.iterEndpoints():
            if endpoint.getAddress() == self._inner._write_endpoint:
                self._packet_bytes = endpoint.getMaxPacketSize()

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None = None) -> bytes:
        """Some bytes; none for an empty transfer. Raises TimeoutError, ConnectionResetError."""
        return bytes(self._transfer("bulkRead", self._inner._read_endpoint, numbytes))

    def bulk_write(self, data: bytes, transport_timeout_s: float | None = None) -> int:
        """Send all of it. Raises TimeoutError, ConnectionResetError."""
        endpoint = self._inner._write_endpoint
        sent = 0
        while sent < len(data):
            sent += self._transfer("bulkWrite", endpoint, data[sent:])
        if self._packet_bytes and len(data) % self._packet_bytes == 0:
            # The reader cannot see the end of a transfer of whole packets; Google's adb marks it so, too.
            self._transfer("bulkWrite", endpoint, b"")
        return sent

    def _transfer(self, what: str, endpoint: int, argument: Any) -> Any:
        import usb1

        if self._inner._transport is None:
            raise ConnectionResetError("the connection is closed")
        # libusb takes 0 for "for ever".
        timeout_ms = max(1, int(self.deadline.remaining_s() * 1000))
        try:
            return getattr(self._inner._transport, what)(endpoint, argument, timeout=timeout_ms)
        except usb1.USBErrorTimeout:
            self.deadline.expire()
        except usb1.USBErrorNoDevice as error:
            raise ConnectionResetError("the phone was unplugged") from error
        except usb1.USBError as error:
            raise ConnectionResetError(f"the USB connection failed ({error})") from error


class Wire(_AdbIOManager):
    """adb-shell's packets and handshake; keeps the device's banner, and logs no key."""

    def __init__(self, transport: Tcp | Usb) -> None:
        super().__init__(transport)
        self.transport = transport
        self.banner = b""
        self.asked_on_phone = False
        self._checksums = True

    def send_packet(self, command: bytes, arg0: int, arg1: int, data: bytes = b"") -> None:
        """Send one packet."""
        self._send(AdbMessage(command, arg0, arg1, data), None)

    def receive_packet(self) -> tuple[bytes, int, int, bytes]:
        """Wait for one packet: command, arg0, arg1, data."""
        return self._read_packet_from_device(None)

    def _send(self, msg: Any, adb_info: Any) -> None:
        if msg.command == constants.ID_TO_WIRE[constants.CNXN]:
            msg.arg0 = _VERSION_WITHOUT_CHECKSUMS
        data = bytes(msg.data)
        check = msg.checksum if self._checksums else 0
        head = struct.pack(
            constants.MESSAGE_FORMAT, msg.command, msg.arg0, msg.arg1, len(data), check, msg.magic
        )
        if self.transport.one_piece:
            self.transport.bulk_write(head + data)
            return
        self.transport.bulk_write(head)
        if data:
            self.transport.bulk_write(data)

    def _read_bytes_from_device(self, length: int, adb_info: Any) -> bytes:
        data = bytearray()
        while len(data) < length:  # bulk_read raises at the deadline and at the connection's end
            data += self.transport.bulk_read(length - len(data))
        return bytes(data)

    def _read_packet_from_device(self, adb_info: Any) -> tuple[bytes, int, int, bytes]:
        head = self._read_bytes_from_device(constants.MESSAGE_SIZE, adb_info)
        word, arg0, arg1, size, check, magic = struct.unpack(constants.MESSAGE_FORMAT, head)
        if word == _STLS:
            raise PhoneNotReadyError(
                "the phone requires an encrypted connection (wireless debugging).",
                state="offline",
                hint="Pair it with 'adb pair HOST:PORT', connect it with 'adb connect HOST:PORT', and set "
                "android.transport to server.",
            )
        command = constants.WIRE_TO_ID.get(word)
        if command is None or word ^ magic != 0xFFFFFFFF or size > constants.MAX_ADB_DATA:
            raise ConnectionResetError("the phone sent data that is not in the ADB protocol")
        data = self._read_bytes_from_device(size, adb_info)
        if check and self._checksums and check != sum(data) & 0xFFFFFFFF:
            raise ConnectionResetError("a packet was damaged in transfer")
        if command == constants.CNXN:
            self.banner = data
            self._checksums = arg0 < _VERSION_WITHOUT_CHECKSUMS
        return command, arg0, arg1, data


def usb_devices() -> list[tuple[str, str]]:
    """Phones on USB as (serial, state): ``device``, or what hinders to look at it; [] without libusb."""
    found = []
    for inner in _usb_interfaces():
        serial, state = _serial(inner)
        found.append((plain_text(serial, limit=100), state))
    return found


def find_usb(serial: str) -> Usb:
    """The phone's USB interface, not opened yet. Raises PhoneNotReadyError."""
    hidden = False
    for inner in _usb_interfaces():
        name, state = _serial(inner)
        if name == serial:
            return Usb(inner, serial)
        hidden = hidden or state == "no permissions"
    if hidden:
        raise PhoneNotReadyError(
            "this account does not have permission to open a phone on USB.", state="no permissions"
        )
    raise PhoneNotReadyError(
        f"no phone with the serial number {serial} is connected by USB.", state="missing"
    )


def _serial(inner: Any) -> tuple[str, str]:
    """A USB phone's serial number, empty where it cannot be read, and its state."""
    import usb1

    try:
        return str(inner.serial_number or ""), "device"
    except usb1.USBErrorAccess:
        return "", "no permissions"
    except usb1.USBError:
        return "", "offline"


def _usb_interfaces() -> Iterator[Any]:
    """adb-shell's unopened transports, one for each phone on USB; none where libusb does not work."""
    try:
        import usb1
    except (ImportError, OSError):
        return
    try:
        from adb_shell.transport.usb_transport import UsbTransport

        yield from UsbTransport.find_all_adb_devices()
    except (ImportError, OSError, usb1.USBError):
        return
