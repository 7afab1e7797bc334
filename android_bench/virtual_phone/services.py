"""What a client may open: ``shell:``, ``shell,v2:``, ``exec:``, ``sync:``, ``reboot:``, ``root:``."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from enum import IntEnum

from android_bench.virtual_phone.connection import Service
from android_bench.virtual_phone.faults import Faults
from android_bench.virtual_phone.machine import Machine, RunningShell
from android_bench.virtual_phone.protocol import Disconnected, ProtocolError
from android_bench.virtual_phone.stream import Stream, StreamClosed

_PACKET = struct.Struct("<BI")
_PIECE_BYTES = 64 * 1024
_MAX_PACKET_BYTES = 1 << 20


class ShellPacket(IntEnum):
    """Kinds of packet in the second version of the shell service."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    EXIT = 3
    CLOSE_STDIN = 4
    WINDOW_SIZE = 5


def find_service(name: str, machine: Machine, faults: Faults, reboot: Callable[[], None]) -> Service | None:
    """The service of an OPEN's destination; None where it is not served."""
    kind, separator, rest = name.partition(":")
    if not separator or "\0" in name:
        return None
    head, *options = kind.split(",")
    if head == "shell" and "v2" in options:
        return lambda stream: _shell_v2(stream, machine, rest)
    if head in ("shell", "exec"):
        return lambda stream: _shell_v1(stream, machine, rest)
    if kind == "sync":
        return lambda stream: _sync(stream, machine, faults)
    if kind == "reboot":
        return lambda _stream: reboot()
    if kind in ("root", "unroot"):
        return lambda stream: stream.write(b"adbd cannot run as root in production builds\n")
    return None


def _shell_v1(stream: Stream, machine: Machine, command: str) -> None:
    shell = machine.start_shell(command, merged=True)
    stream.on_closed = shell.hang_up
    try:
        _start(_copy_to, stream, shell.output)
        _copy_from(shell.output, stream)
    finally:
        shell.close()


def _sync(stream: Stream, machine: Machine, faults: Faults) -> None:
    end = machine.start_sync(faults.plan)
    stream.on_closed = lambda: _hang_up(end)
    try:
        _start(_copy_to, stream, end)
        _copy_from(end, stream)
    finally:
        end.close()


def _shell_v2(stream: Stream, machine: Machine, command: str) -> None:
    shell = machine.start_shell(command, merged=False)
    stream.on_closed = shell.hang_up
    try:
        _start(_feed, stream, shell)
        _relay(stream, shell)
        code = shell.control.recv(16)
        if code:
            stream.write(_packet(ShellPacket.EXIT, bytes([int(code) & 0xFF])))
    except (OSError, ValueError):
        raise StreamClosed from None  # closed under our hands, or the phone was switched off
    finally:
        shell.close()


def _start(target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, daemon=True).start()


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _copy_to(stream: Stream, end: socket.socket) -> None:
    """From the client until it ends."""
    with contextlib.suppress(StreamClosed, Disconnected, OSError):
        while True:
            end.sendall(stream.read())


def _copy_from(end: socket.socket, stream: Stream) -> None:
    """To the client until there is no more."""
    size = max(1, min(stream.max_payload_bytes, 4 * _PIECE_BYTES))
    with contextlib.suppress(OSError):
        while content := end.recv(size):
            stream.write(content)


def _packet(kind: ShellPacket, content: bytes) -> bytes:
    return _PACKET.pack(kind, len(content)) + content


def _feed(stream: Stream, shell: RunningShell) -> None:
    """Packets from the client to the command's standard input."""
    buffer = bytearray()
    try:
        while True:
            buffer += stream.read()
            for kind, content in take_packets(buffer):
                if kind == ShellPacket.STDIN:
                    with contextlib.suppress(ConnectionError):  # the command reads no more
                        shell.output.sendall(content)
                elif kind == ShellPacket.CLOSE_STDIN:
                    _stop_writing(shell.output)
    except ProtocolError:
        shell.hang_up()
    except (StreamClosed, Disconnected, OSError):
        return


def _stop_writing(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_WR)


def take_packets(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Whole packets at the buffer's start, taken out of it. Raises ProtocolError."""
    packets = []
    while len(buffer) >= _PACKET.size:
        kind, length = _PACKET.unpack_from(buffer)
        if length > _MAX_PACKET_BYTES:
            raise ProtocolError(f"a shell packet of {length} bytes")
        end = _PACKET.size + length
        if len(buffer) < end:
            break
        packets.append((kind, bytes(buffer[_PACKET.size : end])))
        del buffer[:end]
    return packets


def _relay(stream: Stream, shell: RunningShell) -> None:
    """Standard output and error to the client until both have ended."""
    size = max(1, min(stream.max_payload_bytes - _PACKET.size, _PIECE_BYTES))
    with selectors.DefaultSelector() as selector:
        selector.register(shell.output, selectors.EVENT_READ, ShellPacket.STDOUT)
        if shell.errors is not None:
            selector.register(shell.errors, selectors.EVENT_READ, ShellPacket.STDERR)
        while selector.get_map():
            for key, _ in selector.select():
                end = shell.output if key.data == ShellPacket.STDOUT else shell.errors
                content = end.recv(size) if end is not None else b""
                if content:
                    stream.write(_packet(key.data, content))
                else:
                    selector.unregister(key.fileobj)
