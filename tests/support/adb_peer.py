"""A scripted ADB daemon on loopback: speaks just the packets that a test needs, and breaks off where told.

Written from Android's protocol documents alone, so that it checks our client and shares nothing with it.
Commands run in this computer's ``sh``: a test gives only its own.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

REMOTE = "/data/local/tmp/nasflow"
V2_BANNER = b"device::ro.product.model=Peer;features=shell_v2,cmd"
V1_BANNER = b"device::ro.product.model=Peer;"


class HungUp(Exception):
    """The other side closed the connection, or the script wants it closed."""


class Left(Exception):
    """The client closed the stream."""


@dataclass
class Line:
    """One accepted connection, seen from the daemon."""

    socket: socket.socket
    banner: bytes = V2_BANNER
    payload_bytes: int = 1 << 20
    version: int = 0x01000001
    drop_after_sent: int | None = None
    sent: int = 0
    received: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    peer_id: int = 0
    local_id: int = 100

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise HungUp
            data += piece
        return data

    def receive(self) -> tuple[bytes, int, int, bytes]:
        """The next packet; its magic and length hold."""
        command, arg0, arg1, size, _, magic = struct.unpack("<4s5I", self.exactly(24))
        assert int.from_bytes(command, "little") ^ magic == 0xFFFFFFFF
        assert size <= self.payload_bytes
        self.received.append(command)
        return command, arg0, arg1, self.exactly(size)

    def send(self, command: bytes, arg0: int, arg1: int, data: bytes = b"") -> None:
        """Send a packet, or the part of it until the connection is to drop."""
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        self.raw(struct.pack("<4s5I", command, arg0, arg1, len(data), sum(data) & 0xFFFFFFFF, magic) + data)

    def raw(self, data: bytes) -> None:
        if self.drop_after_sent is not None and self.sent + len(data) > self.drop_after_sent:
            self.socket.sendall(data[: self.drop_after_sent - self.sent])
            raise HungUp
        self.socket.sendall(data)
        self.sent += len(data)

    def greet(self) -> None:
        """Take CNXN without asking for a key."""
        command, _, _, data = self.receive()
        assert command == b"CNXN"
        assert data.startswith(b"host::features=")
        self.send(b"CNXN", self.version, self.payload_bytes, self.banner)

    def accept(self) -> str:
        """Wait for OPEN, agree, and return the service's name."""
        while True:
            command, self.peer_id, _, data = self.receive()
            if command == b"OPEN":
                self.local_id += 1
                self.heard.clear()
                self.send(b"OKAY", self.local_id, self.peer_id)
                assert data.endswith(b"\0")
                return data[:-1].decode()
            assert command in (b"CLSE", b"OKAY"), command

    def say(self, data: bytes) -> None:
        """WRTE, in pieces that the client allows, each acknowledged."""
        for start in range(0, len(data), self.payload_bytes):
            piece = data[start : start + self.payload_bytes]
            self.send(b"WRTE", self.local_id, self.peer_id, piece)
            while (packet := self.receive())[0] == b"WRTE":  # both sides may speak at once
                self.heard.append(packet[3])
                self.send(b"OKAY", self.local_id, self.peer_id)
            if packet[0] == b"CLSE":
                raise Left
            assert packet[0] == b"OKAY", packet[0]

    def hear(self) -> bytes:
        """The next WRTE's data, acknowledged."""
        if self.heard:
            return self.heard.pop(0)
        command, _, _, data = self.receive()
        if command == b"CLSE":
            raise Left
        assert command == b"WRTE", command
        self.send(b"OKAY", self.local_id, self.peer_id)
        return data

    def end(self) -> None:
        self.send(b"CLSE", self.local_id, self.peer_id)


Script = Callable[[Line], None]


class AdbPeer:
    """Listens on a free port; every connection is played by the script in a thread."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._lines: list[Line] = []
        self._threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[Line]:
        """Every connection that was made so far."""
        return self._lines

    def __enter__(self) -> Self:
        self._start(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert not self.failures, self.failures

    def stop(self) -> None:
        """Close everything at once, as a killed daemon does."""
        self._listener.close()
        for line in self._lines:
            self._hang_up(line)
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            accepted.settimeout(30)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = Line(accepted)
            self._lines.append(line)
            self._start(lambda line=line: self._play(line))  # type: ignore[misc]

    def _play(self, line: Line) -> None:
        try:
            self._script(line)
        except (HungUp, Left, OSError):
            pass
        except BaseException as error:  # noqa: BLE001 - shown by the test that uses the peer
            self.failures.append(error)
        finally:
            self._hang_up(line)

    @staticmethod
    def _hang_up(line: Line) -> None:
        with contextlib.suppress(OSError):
            line.socket.shutdown(socket.SHUT_RDWR)
        line.socket.close()


@dataclass
class Phone:
    """A script: a phone whose file system is a folder and whose shell is this computer's."""

    root: Path
    banner: bytes = V2_BANNER
    payload_bytes: int = 1 << 20
    version: int = 0x01000001
    drop_after_sent: int | None = None
    push_refusal: bytes = b""
    terminal: bool = False  # ends lines with CR LF, as shells before Android 7 do
    commands: list[str] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)

    def __call__(self, line: Line) -> None:
        line.banner, line.payload_bytes, line.version = self.banner, self.payload_bytes, self.version
        line.drop_after_sent = self.drop_after_sent
        line.greet()
        while True:
            with contextlib.suppress(Left):
                self._serve(line, line.accept())

    def _serve(self, line: Line, service: str) -> None:
        kind, _, command = service.partition(":")
        if kind == "sync":
            self._sync(line)
        elif kind == "shell,v2,raw":
            self._shell_v2(line, command)
        else:
            assert kind == "shell", service
            output = self._run(command, merge=True).stdout
            line.say(output.replace(b"\n", b"\r\n") if self.terminal else output)
            line.end()

    def file(self, remote: str) -> Path:
        return self.root / remote.lstrip("/")

    def _run(self, command: str, *, merge: bool) -> subprocess.CompletedProcess[bytes]:
        self.commands.append(command)
        self.file("/data/local/tmp").mkdir(parents=True, exist_ok=True)
        # Relative: a path from the root could have blanks, wherever the command has quotes or none.
        mapped = command.replace("/data/local/tmp", "data/local/tmp")
        stderr = subprocess.STDOUT if merge else subprocess.PIPE
        return subprocess.run(
            ["sh", "-c", mapped],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=False,
            timeout=10,
        )

    def _shell_v2(self, line: Line, command: str) -> None:
        assert line.hear() == b"\x04\0\0\0\0", "standard input is closed first"
        done = self._run(command, merge=False)
        for kind, data in ((1, done.stdout), (2, done.stderr), (3, bytes([done.returncode & 0xFF]))):
            for start in range(0, len(data), 30_000):
                piece = data[start : start + 30_000]
                line.say(struct.pack("<BI", kind, len(piece)) + piece)
        line.end()

    def _sync(self, line: Line) -> None:
        buffer = bytearray()

        def take(size: int) -> bytes:
            while len(buffer) < size:
                buffer.extend(line.hear())
            taken = bytes(buffer[:size])
            del buffer[:size]
            return taken

        request, size = struct.unpack("<4sI", take(8))
        path = take(size).decode()
        if request == b"RECV":
            self._recv(line, path)
            return
        assert request == b"SEND"
        remote, _, mode = path.rpartition(",")
        self.pushed.append(remote)
        if self.push_refusal:
            line.say(struct.pack("<4sI", b"FAIL", len(self.push_refusal)) + self.push_refusal)
            while True:  # as adbd does: take what comes until the client leaves
                line.hear()
        content = bytearray()
        while True:
            kind, size = struct.unpack("<4sI", take(8))
            if kind == b"DONE":
                break
            assert kind == b"DATA"
            assert size <= 65536
            content += take(size)
        file = self.file(remote)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(int(mode) & 0o777)
        line.say(struct.pack("<4sI", b"OKAY", 0))
        line.end()

    def _recv(self, line: Line, path: str) -> None:
        try:
            content = self.file(path).read_bytes()
        except OSError as error:
            reason = (error.strerror or "").encode()
            line.say(struct.pack("<4sI", b"FAIL", len(reason)) + reason)
        else:
            packets = b"".join(
                struct.pack("<4sI", b"DATA", len(content[start : start + 65536]))
                + content[start : start + 65536]
                for start in range(0, len(content), 65536)
            )
            line.say(packets + struct.pack("<4sI", b"DONE", 0))
        line.end()
