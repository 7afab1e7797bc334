"""The way through an adb server that runs already, by adbutils.

The server holds the USB interface, and it knows phones that were paired for wireless debugging. It belongs
to the person: nothing here ends it, and only :func:`start_server` starts one.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import subprocess
from contextlib import closing, suppress
from typing import Any

from android_bench.adb.deadline import Deadline
from android_bench.adb.services import Listed, Stream, parse_device_list
from android_bench.adb.session import AdbTransport
from android_bench.transport import DeviceLost, NotReady, plain_text, split_host_port
from nasflow.errors import NoUsableDevice, UsageError

_DEFAULT_PORT = 5037
_AUTHORISING_S = 3.0


def default_server_port() -> int:
    """$ANDROID_ADB_SERVER_PORT, else 5037. Raises UsageError for something that is no port."""
    text = os.environ.get("ANDROID_ADB_SERVER_PORT", str(_DEFAULT_PORT))
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UsageError(
            f"ANDROID_ADB_SERVER_PORT is {text!r}, which is no port.",
            hint="Set it to 1 to 65535, or unset it.",
        )
    return int(text)


@functools.cache
def _connection_class() -> Any:
    """adbutils' connection, without its habit of starting a server where none answers."""
    from adbutils import AdbConnection

    class Connection(AdbConnection):
        def __init__(self, port: int, timeout_s: float) -> None:
            self._port, self._timeout_s = port, timeout_s
            super().__init__("127.0.0.1", port)

        def _safe_connect(self) -> socket.socket:
            return socket.create_connection(("127.0.0.1", self._port), self._timeout_s)

    return Connection


def _ask(port: int, deadline: Deadline, *requests: str) -> socket.socket:
    """A connection to the server after it agreed to each request; the last may have more to say.

    Raises OSError (no server, no answer) or _ServerRefusal with the server's words.
    """
    import adbutils

    connection = _connection_class()(port, deadline.remaining_s())
    try:
        for request in requests:
            words = request.encode()
            connection.conn.settimeout(deadline.remaining_s())
            connection.conn.sendall(b"%04x" % len(words) + words)
            connection.check_okay()
    except adbutils.AdbTimeout:
        connection.conn.close()
        deadline.expire()
    except (adbutils.AdbError, ValueError) as error:
        connection.conn.close()
        raise _ServerRefusal(plain_text(str(error), limit=300)) from error
    except BaseException:
        connection.conn.close()
        raise
    found: socket.socket = connection.conn
    return found


class _ServerRefusal(Exception):
    """The server said FAIL, with this reason."""


def _answer(port: int, deadline: Deadline, request: str) -> str:
    """The server's answer to a question about devices."""
    stream = _ServerStream("the adb server", _ask(port, deadline, request), deadline)
    with closing(stream):
        size = stream.read(4)
        try:
            return stream.read(int(size, 16)).decode("utf-8", "replace")
        except ValueError as error:
            raise ConnectionResetError(f"the adb server answered {size!r}") from error


def server_devices(port: int, *, timeout_s: float = 3.0) -> tuple[Listed, ...] | None:
    """What a running adb server knows; None where none runs. Starts and changes nothing."""
    try:
        return parse_device_list(_answer(port, Deadline(timeout_s), "host:devices-l"))
    except (OSError, DeviceLost, _ServerRefusal):
        return None


def start_server(port: int) -> None:
    """Start Google's adb server. Raises NoUsableDevice."""
    from adbutils import adb_path

    command = [adb_path(), "-P", str(port), "start-server"]
    try:
        subprocess.run(command, check=True, timeout=20, capture_output=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoUsableDevice(
            f"the adb server cannot be started on port {port}: {error}.",
            hint="Set android.transport to direct, which needs none.",
        ) from error


class _ServerStream(Stream):
    """The server's socket, once it is joined to a service."""

    def __init__(self, peer: str, connection: socket.socket, deadline: Deadline) -> None:
        super().__init__(peer)
        self._connection, self._deadline = connection, deadline

    def write(self, data: bytes) -> bool:
        try:
            self._deadline.send(self._connection, data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def answered(self) -> bool:
        return bool(self._unread or select.select([self._connection], [], [], 0)[0])

    def close(self) -> None:
        self._connection.close()

    def _receive(self) -> bytes:
        return self._deadline.receive(self._connection, 65536)


class ServerTransport(AdbTransport):
    """A phone that a running adb server knows, under the serial that ``adb devices`` shows."""

    def __init__(self, serial: str, *, port: int | None = None) -> None:
        super().__init__(serial)
        self._port = default_server_port() if port is None else port
        self._features: frozenset[str] | None = None

    @property
    def features(self) -> frozenset[str]:
        """What both the server and the device can do; empty before the first command."""
        return self._features or frozenset()

    def state(self) -> str:
        """The server's word for the device now."""
        known = server_devices(self._port, timeout_s=3.0)
        return next((found.state for found in known or () if found.serial == self.serial), "missing")

    def _has_shell_v2(self) -> bool:
        # adbutils would fall back to v1 without a word.
        return "shell_v2" in self.features

    def _connect(self, deadline: Deadline) -> None:
        if self._features is not None:
            return
        known = server_devices(self._port, timeout_s=deadline.remaining_s())
        if known is None:
            raise NotReady(
                f"no adb server answers on port {self._port}.",
                state="missing",
                hint="Start it with 'adb start-server', or set android.transport to direct.",
            )
        state = next((found.state for found in known if found.serial == self.serial), "missing")
        if state in ("missing", "offline") and split_host_port(self.serial):
            state = self._connected_anew(state, deadline)
        if state != "device":
            raise NotReady(f"the adb server calls {self.serial} '{state[:40]}'.", state=state[:40])
        try:
            answer = _answer(self._port, deadline, f"host-serial:{self.serial}:features")
        except _ServerRefusal as error:
            raise NotReady(f"{self.serial} does not answer: {error}.", state="offline") from error
        self._features = frozenset(filter(None, answer.strip().split(",")))

    def _connected_anew(self, state: str, deadline: Deadline) -> str:
        """Have the server connect to a phone at an address; the phone's state afterwards."""
        # A connection that broke stays listed as offline, and the server does not connect beside it.
        requests = ["host:disconnect"] if state == "offline" else []
        for request in [*requests, "host:connect"]:
            with suppress(_ServerRefusal):  # the state tells
                _answer(self._port, deadline, f"{request}:{self.serial}")
        if (state := self.state()) in ("device", "missing"):
            return state
        # While keys are exchanged, a phone passes for offline or unauthorized.
        soon = Deadline(min(_AUTHORISING_S, deadline.remaining_s()))
        with suppress(_ServerRefusal, OSError, DeviceLost):
            request = f"host-serial:{self.serial}:wait-for-any-device"
            with closing(_ServerStream(self.serial, _ask(self._port, soon, request), soon)) as stream:
                stream.read(4)
        return self.state()

    def _open(self, service: str, deadline: Deadline) -> Stream:
        try:
            connection = _ask(self._port, deadline, f"host:transport:{self.serial}", service)
        except _ServerRefusal as error:
            raise ConnectionResetError(str(error)) from error
        return _ServerStream(self.serial, connection, deadline)

    def _disconnect(self) -> None:
        self._features = None  # each stream is a connection of its own; this asks for the state again
