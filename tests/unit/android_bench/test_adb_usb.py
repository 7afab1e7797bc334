"""The direct way over USB: what libusb says is scripted, everything above it is real."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import usb1

from android_bench.adb import wire as adb_wire
from android_bench.adb.deadline import Deadline
from android_bench.adb.direct import DirectTransport
from android_bench.adb.keys import ensure_key
from android_bench.transport import PhoneNotReadyError
from nasflow.base.errors import DeviceLostError

READ_ENDPOINT, WRITE_ENDPOINT, PACKET_BYTES = 0x81, 0x02, 512


class Handle:
    """libusb's open device: a phone that greets, opens streams, and answers a command with exit code 3."""

    def __init__(self, fail_after_reads: tuple[int, Exception] | None = None) -> None:
        self.written: list[bytes] = []
        self.timeouts_ms: list[int] = []
        self._fail_after_reads = fail_after_reads
        self._reads = 0
        self._answers: list[bytes] = []
        self._head: bytes | None = None

    def bulkWrite(self, endpoint: int, data: bytes, timeout: int) -> int:
        assert endpoint == WRITE_ENDPOINT
        self.timeouts_ms.append(timeout)
        self.written.append(bytes(data))
        if data:
            self._take(bytes(data))
        return len(data)

    def bulkRead(self, endpoint: int, length: int, timeout: int) -> bytearray:
        assert endpoint == READ_ENDPOINT
        self.timeouts_ms.append(timeout)
        if self._fail_after_reads and self._reads >= self._fail_after_reads[0]:
            raise self._fail_after_reads[1]
        self._reads += 1
        if not self._answers:
            raise usb1.USBErrorTimeout
        answer = self._answers.pop(0)
        assert len(answer) <= length, "libusb would call this an overflow"
        return bytearray(answer)

    def _take(self, data: bytes) -> None:
        if self._head is None:
            size = struct.unpack("<6I", data)[3]
            self._head = data
            if size:
                return
            data = b""
        command, arg0 = struct.unpack("<4sI", self._head[:8])
        self._head = None
        if command == b"CNXN":
            self._say(b"CNXN", 0x01000001, 4096, b"device::features=shell_v2,cmd")
        elif command == b"OPEN":
            self._say(b"OKAY", 9, arg0)
            self._peer = arg0
        elif command == b"WRTE":
            self._say(b"OKAY", 9, arg0)
            if data == b"\x04\0\0\0\0":
                self._say(b"WRTE", 9, arg0, struct.pack("<BI", 3, 1) + b"\x03")
        else:
            assert command in (b"OKAY", b"CLSE")

    def _say(self, command: bytes, arg0: int, arg1: int, data: bytes = b"") -> None:
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        self._answers.append(struct.pack("<4s5I", command, arg0, arg1, len(data), 0, magic))
        if data:
            self._answers += [data, b""]  # some controllers end a transfer with an empty one


class Endpoint:
    def getAddress(self) -> int:
        return WRITE_ENDPOINT

    def getMaxPacketSize(self) -> int:
        return PACKET_BYTES


class Interface:
    """What adb-shell finds on the bus: UsbTransport's attributes, as far as they are used."""

    def __init__(self, serial: str | Exception, handle: Handle | Exception) -> None:
        self._serial, self._handle = serial, handle
        self._transport: Handle | None = None
        self._read_endpoint, self._write_endpoint = READ_ENDPOINT, WRITE_ENDPOINT
        self._setting = self

    def iterEndpoints(self) -> Iterator[Endpoint]:
        yield Endpoint()

    @property
    def serial_number(self) -> str:
        if isinstance(self._serial, Exception):
            raise self._serial
        return self._serial

    def connect(self, _timeout_s: float | None) -> None:
        if isinstance(self._handle, Exception):
            raise self._handle
        self._transport = self._handle

    def close(self) -> None:
        self._transport = None


Bus = Callable[..., DirectTransport]


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bus:
    ensure_key(tmp_path / "adbkey")

    def plug(*interfaces: Interface) -> DirectTransport:
        monkeypatch.setattr(adb_wire, "_usb_interfaces", lambda: iter(interfaces))
        return DirectTransport("R5CT1", key=tmp_path / "adbkey")

    return plug


def test_a_command_runs_with_each_packets_header_and_data_apart(bus: Bus) -> None:
    handle = Handle()
    with bus(Interface("OTHER", Handle()), Interface("R5CT1", handle)) as transport:
        assert transport.run(["x"], timeout_s=5).exit_code == 3
    for head, data in zip(handle.written[::2], handle.written[1::2], strict=False):
        if len(head) == 24 and (size := struct.unpack("<6I", head)[3]):
            assert len(data) == size
    assert min(handle.timeouts_ms) > 0  # libusb takes 0 for "for ever"
    assert max(handle.timeouts_ms) <= 5000


def test_data_of_whole_usb_packets_is_followed_by_an_empty_transfer() -> None:
    handle = Handle()
    usb = adb_wire.Usb(Interface("R5CT1", handle), "R5CT1")
    usb.connect()
    usb.deadline = Deadline(5)
    handle._take = lambda data: None  # type: ignore[method-assign]
    for size, transfers in ((100, [100]), (512, [512, 0]), (1024, [1024, 0]), (1025, [1025])):
        handle.written.clear()
        usb.bulk_write(bytes(size))
        assert [len(data) for data in handle.written] == transfers


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (usb1.USBErrorTimeout(), "no answer within 5 s"),
        (usb1.USBErrorNoDevice(), "the phone was unplugged"),
        (usb1.USBErrorIO(), "the USB connection failed"),
        (usb1.USBErrorPipe(), "the USB connection failed"),
    ],
)
def test_a_time_out_is_told_from_an_unplugged_cable(bus: Bus, error: Exception, words: str) -> None:
    with (
        bus(Interface("R5CT1", Handle(fail_after_reads=(4, error)))) as transport,
        pytest.raises(DeviceLostError, match=words),
    ):
        transport.run(["x"], timeout_s=5)


@pytest.mark.parametrize(
    ("interface", "state", "words"),
    [
        (Interface("R5CT1", usb1.USBErrorBusy()), "busy", "android.transport to server"),
        (Interface("R5CT1", usb1.USBErrorAccess()), "no permissions", "udev"),
        (Interface("R5CT1", usb1.USBErrorNoDevice()), "missing", "cable"),
        (Interface(usb1.USBErrorAccess(), Handle()), "no permissions", "udev"),
        (Interface(usb1.USBErrorIO(), Handle()), "missing", "no phone with the serial number"),
        (Interface("OTHER", Handle()), "missing", "no phone with the serial number R5CT1"),
    ],
)
def test_a_phone_that_cannot_be_opened_says_why(
    bus: Bus, interface: Interface, state: str, words: str
) -> None:
    with bus(interface) as transport:
        with pytest.raises(PhoneNotReadyError, match=words) as caught:
            transport.run(["x"], timeout_s=5)
        assert caught.value.state == state


def test_what_is_on_usb_is_listed_with_what_hinders(bus: Bus) -> None:
    denied: Any = usb1.USBErrorAccess()
    bus(Interface("R5CT1", Handle()), Interface(denied, Handle()), Interface(usb1.USBErrorIO(), Handle()))
    assert adb_wire.usb_devices() == [("R5CT1", "device"), ("", "no permissions"), ("", "offline")]
