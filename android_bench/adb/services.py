"""What an ADB daemon offers on a stream of bytes: shell commands (v1, v2) and file transfer (sync).

Knows no library and no connection: a :class:`Stream` is opened to one service, and both ways to a phone
(directly, or through an adb server) bring their own. Sources: Android's ``adb/SERVICES.TXT``,
``adb/SYNC.TXT``, ``adb/shell_protocol.h``.
"""

from __future__ import annotations

import secrets
import stat
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from android_bench.transport import FILE_LIMIT_BYTES, OUTPUT_LIMIT_BYTES, Completed, quote, too_much_output
from nasflow.base.errors import DeviceError, DeviceLostError
from nasflow.base.text import plain_text

_COMMAND_LIMIT_BYTES = 32_000  # an adb server takes 65,535
_CHUNK_BYTES = 65536  # of a sync DATA packet: the protocol's limit
_STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = 1, 2, 3, 4
_LOST_HINT = "Check the cable or the network; the same command continues where this one stopped."


def lost(peer: str, what: str, *, raw: str = "") -> DeviceLostError:
    """``the connection to PEER was lost: WHAT.``, with what to do about it."""
    return DeviceLostError(f"the connection to {peer} was lost: {what}.", hint=_LOST_HINT, raw=raw)


class Stream(ABC):
    """Bytes to and from one service of a device, in order; the device may end it at any moment."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._unread = bytearray()

    @abstractmethod
    def write(self, data: bytes) -> bool:
        """Send all of it. False: the device has ended the stream, and what it said may be read."""

    @abstractmethod
    def _receive(self) -> bytes:
        """Wait for bytes; empty when the device has ended the stream."""

    @abstractmethod
    def answered(self) -> bool:
        """Has the device said something that was not read yet, or ended the stream? Does not wait."""

    @abstractmethod
    def close(self) -> None:
        """Leave the stream."""

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes. Raises DeviceLostError where the stream ends before."""
        while len(self._unread) < size:
            data = self._receive()
            if not data:
                raise lost(self.peer, f"the data ended {size - len(self._unread)} bytes too early")
            self._unread += data
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    def chunks(self) -> Iterator[bytes]:
        """Everything until the device ends the stream."""
        if self._unread:
            yield bytes(self._unread)
            self._unread.clear()
        while data := self._receive():
            yield data


def shell_service(argv: Sequence[str], *, v2: bool) -> tuple[str, bytes]:
    """The service that runs the words, and the token that ends its output (empty with v2).

    Raises ValueError for words that no remote command line can hold.
    """
    command = quote(argv)
    if len(command.encode()) > _COMMAND_LIMIT_BYTES:
        raise ValueError(f"a remote command of {len(command):,} characters is too long: {command[:60]}...")
    if v2:
        return f"shell,v2,raw:{command}", b""
    token = f"end-{secrets.token_hex(12)}"
    # The parentheses keep a builtin such as exit from taking the last line with it.
    return f"shell:({command}) </dev/null; echo {token}:$?:", token.encode()


def finish_shell(stream: Stream, token: bytes) -> Completed:
    """Read a shell service to its end. Without its last word, the exit code, the device was lost."""
    return _finish_v1(stream, token) if token else _finish_v2(stream)


def _finish_v2(stream: Stream) -> Completed:
    stream.write(struct.pack("<BI", _CLOSE_STDIN, 0))
    output = {_STDOUT: bytearray(), _STDERR: bytearray()}
    total = 0
    while True:
        kind, size = struct.unpack("<BI", stream.read(5))
        total += size
        if total > OUTPUT_LIMIT_BYTES:
            raise too_much_output(stream.peer)
        data = stream.read(size)
        if kind == _EXIT and size:
            return Completed(bytes(output[_STDOUT]), bytes(output[_STDERR]), data[0])
        if kind not in output:
            raise DeviceError(
                f"{stream.peer} answered a command with a packet of the unknown kind {kind}.",
                hint="Restart the phone and try again.",
            )
        output[kind] += data


def _finish_v1(stream: Stream, token: bytes) -> Completed:
    output = bytearray()
    for data in stream.chunks():
        output += data
        if len(output) > OUTPUT_LIMIT_BYTES:
            raise too_much_output(stream.peer)
    start = output.rfind(token)
    code, _, rest = bytes(output[start + len(token) + 1 :]).partition(b":")
    if start < 0 or not code.isdigit() or rest not in (b"\n", b"\r\n"):
        raise lost(stream.peer, "the output is truncated", raw=plain_text(bytes(output)))
    stdout = bytes(output[:start])
    if rest == b"\r\n":  # before Android 7, a terminal stands between: it ends lines with CR LF
        stdout = stdout.replace(b"\r\n", b"\n")
    return Completed(stdout, b"", int(code))


def send_file(stream: Stream, content: bytes, remote: str, mode: int, batch_bytes: int) -> None:
    """Write a file through an open ``sync:`` stream, in pieces of about ``batch_bytes``.

    Raises DeviceError with the device's reason as soon as it gives one, in the middle of a file too.
    """
    target = f"{remote},{stat.S_IFREG | mode}".encode()
    head = struct.pack("<4sI", b"SEND", len(target)) + target
    tail = struct.pack("<4sI", b"DONE", int(time.time()))
    # The head goes alone before a large file, so that a refusal comes before much was sent in vain.
    batch = bytearray(head) if len(content) <= _CHUNK_BYTES else bytearray()
    going = True if batch else stream.write(head)
    view = memoryview(content)
    size = min(_CHUNK_BYTES, max(1, batch_bytes - 8))
    for start in range(0, len(content), size):
        piece = view[start : start + size]
        if batch and len(batch) + 8 + len(piece) > batch_bytes:
            going = stream.write(bytes(batch))
            batch.clear()
        if not going or stream.answered():
            break
        batch += struct.pack("<4sI", b"DATA", len(piece))
        batch += piece
    else:
        stream.write(bytes(batch) + tail)
    answer, length = _header(stream)
    if answer == b"FAIL":
        raise _refused(stream, remote, "write", length)
    if answer != b"OKAY":
        raise _nonsense(stream, answer)


def receive_file(stream: Stream, remote: str) -> bytes:
    """Read a file through an open ``sync:`` stream. Raises DeviceError with the device's reason."""
    path = remote.encode()
    stream.write(struct.pack("<4sI", b"RECV", len(path)) + path)
    content = bytearray()
    while True:
        answer, length = _header(stream)
        if answer == b"DONE":
            return bytes(content)
        if answer == b"FAIL":
            raise _refused(stream, remote, "read", length)
        if answer != b"DATA" or length > _CHUNK_BYTES:
            raise _nonsense(stream, answer)
        content += stream.read(length)
        if len(content) > FILE_LIMIT_BYTES:
            raise too_much_output(stream.peer, FILE_LIMIT_BYTES)


def _header(stream: Stream) -> tuple[bytes, int]:
    answer, length = struct.unpack("<4sI", stream.read(8))
    return answer, length


def _refused(stream: Stream, remote: str, verb: str, length: int) -> DeviceError:
    reason = plain_text(stream.read(min(length, 1000)), limit=300)
    hint = "Free some space on the phone." if "o space left" in reason else ""
    return DeviceError(f"{stream.peer} does not {verb} {remote}: {reason}.", hint=hint, raw=reason)


def _nonsense(stream: Stream, answer: bytes) -> DeviceError:
    return DeviceError(
        f"{stream.peer} answered a file transfer with the unknown message {answer!r}.",
        hint="Restart the phone and try again.",
    )
