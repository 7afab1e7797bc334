"""The way through an adb server that runs already, by adbutils.

The server holds the USB interface, and it knows phones that were paired for wireless debugging. It belongs
to the person: nothing here starts or ends one.
"""

from __future__ import annotations

import functools
import select
import socket
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

from android_bench.adb.address import ServerAddress
from android_bench.adb.deadline import Deadline
from android_bench.adb.listing import Listed, parse_devices
from android_bench.adb.services import Stream
from android_bench.adb.session import AdbTransport
from android_bench.transport import PhoneNotReadyError, is_mdns_name, split_host_port
from nasflow.base.errors import DeviceLostError
from nasflow.base.text import plain_text

_AUTHORISING_S = 3.0
_AMBIGUOUS = "more than one device"


@functools.cache
def _connection_class() -> Any:
    """adbutils' connection, without its habit of starting a server where none answers."""
    from adbutils import AdbConnection

    class Connection(AdbConnection):
        def __init__(self, server: ServerAddress, timeout_s: float) -> None:
            self._server, self._timeout_s = server, timeout_s
            super().__init__(server.host, server.port)

        def _safe_connect(self) -> socket.socket:
            return self._server.connect(self._timeout_s)

    return Connection


def _ask(server: ServerAddress, deadline: Deadline, *requests: str) -> socket.socket:
    """A connection to the server after it agreed to each request; the last may have more to say.

    Raises OSError (no server, no answer) or _ServerRefusal with the server's words.
    """
    import adbutils

    connection = _connection_class()(server, deadline.remaining_s())
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


def _answer(server: ServerAddress, deadline: Deadline, *requests: str) -> str:
    """The server's answer to a question; a device may be chosen on the same connection before."""
    stream = _ServerStream("the adb server", _ask(server, deadline, *requests), deadline)
    with closing(stream):
        size = stream.read(4)
        try:
            return stream.read(int(size, 16)).decode("utf-8", "replace")
        except ValueError as error:
            raise ConnectionResetError(f"the adb server sent an invalid reply: {size!r}") from error


def server_devices(server: ServerAddress | int, *, timeout_s: float = 3.0) -> tuple[Listed, ...] | None:
    """What a running adb server knows; None where none runs. Starts and changes nothing."""
    server, deadline = ServerAddress.of(server), Deadline(timeout_s)
    try:
        # The longer answer first: what has left meanwhile is then not listed.
        long = _answer(server, deadline, "host:devices-l")
        return parse_devices(_answer(server, deadline, "host:devices"), long)
    except (OSError, DeviceLostError, _ServerRefusal):
        return None


def ask_server(server: ServerAddress, question: str, *, timeout_s: float = 3.0) -> str:
    """The server's own answer to a question (``host:version``).

    Raises DeviceLostError where there is none.
    """
    try:
        return _answer(server, Deadline(timeout_s), question)
    except (OSError, _ServerRefusal) as error:
        raise DeviceLostError(f"the adb server on {server.describe()} does not answer: {error}.") from error


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
    """A phone that a running adb server knows, under the serial that ``adb devices`` shows.

    ``chosen`` names one connection of several that have this serial: after a break, the one with the same
    number is taken again, or one at the same USB port, and no other.
    """

    def __init__(
        self, serial: str, *, server: ServerAddress | int | None = None, chosen: Listed | None = None
    ) -> None:
        super().__init__(serial)
        self._server = ServerAddress.of(server)
        self._chosen = chosen
        self._last: Listed | None = None
        self._features: frozenset[str] | None = None
        self._target = ""

    @property
    def serial(self) -> str:
        """The device's name; for one without, its number at the server."""
        if self._serial or self._chosen is None:
            return self._serial
        return f"transport_id:{self._chosen.transport_id}"

    @property
    def features(self) -> frozenset[str]:
        """What both the server and the device can do; empty before the first command."""
        return self._features or frozenset()

    def state(self) -> str:
        """The server's word for the device now; ``ambiguous`` where several devices have its serial."""
        found = self._found(server_devices(self._server, timeout_s=3.0) or ())
        return found.state if found else "missing"

    def _has_shell_v2(self) -> bool:
        # adbutils would fall back to v1 without a word.
        return "shell_v2" in self.features

    def _connect(self, deadline: Deadline) -> None:
        if self._features is not None:
            return
        known = server_devices(self._server, timeout_s=deadline.remaining_s())
        if known is None:
            raise PhoneNotReadyError(
                f"no adb server answers on {self._server.describe()}.",
                state="missing",
                hint="Start it with 'adb start-server', or set android.transport to direct.",
            )
        found = self._found(known)
        state = found.state if found else "missing"
        if state in ("missing", "offline") and (split_host_port(self.serial) or is_mdns_name(self.serial)):
            found = self._connected_anew(state, deadline)
            state = found.state if found else "missing"
        if state == "ambiguous":
            raise _ambiguous(self.serial)
        if state != "device" or found is None:
            raise PhoneNotReadyError(
                f"the adb server reports {self.serial} as '{state[:40]}'.", state=state[:40]
            )
        # A name may hold anything, and another device may have it, too: the number names one connection.
        number = found.transport_id
        self._target = f"host:transport:{self._serial}" if number is None else f"host:transport-id:{number}"
        try:
            answer = _answer(self._server, deadline, self._target, "host:features")
        except _ServerRefusal as error:
            if _AMBIGUOUS in str(error):
                raise _ambiguous(self.serial) from error
            raise PhoneNotReadyError(f"{self.serial} does not answer: {error}.", state="offline") from error
        self._features = frozenset(filter(None, answer.strip().split(",")))
        self._last = found

    def _found(self, known: Sequence[Listed]) -> Listed | None:
        """The device's line of the server's list; in the state ``ambiguous`` where it may be several."""
        named = [found for found in known if found.serial == self._serial]
        anchor = self._chosen or self._last
        if anchor is not None and not (anchor.transport_id or anchor.usb_path):
            anchor = None  # an old server numbers nothing
        if len(named) <= 1 and (self._chosen is None or anchor is None):
            return named[0] if named else None
        if anchor is None:
            return replace(named[0], state="ambiguous")
        for same in ("transport_id", "usb_path"):
            for found in named:
                if getattr(anchor, same) and getattr(found, same) == getattr(anchor, same):
                    return found
        return None

    def _connected_anew(self, state: str, deadline: Deadline) -> Listed | None:
        """Have the server connect to a phone at an address; the phone's line afterwards."""
        # A connection that broke stays listed as offline, and the server does not connect beside it. One
        # that mDNS found is left alone: once it is given up, only the phone's next announcement brings it.
        requests = ["host:disconnect"] if state == "offline" and split_host_port(self.serial) else []
        for request in [*requests, "host:connect"]:
            with suppress(_ServerRefusal):  # the state tells
                _answer(self._server, deadline, f"{request}:{self.serial}")
        if (state := self.state()) not in ("device", "missing") and split_host_port(self.serial):
            # While keys are exchanged, a phone passes for offline or unauthorized.
            soon = Deadline(min(_AUTHORISING_S, deadline.remaining_s()))
            with suppress(_ServerRefusal, OSError, DeviceLostError):
                request = f"host-serial:{self.serial}:wait-for-any-device"
                with closing(_ServerStream(self.serial, _ask(self._server, soon, request), soon)) as stream:
                    stream.read(4)
        return self._found(server_devices(self._server, timeout_s=deadline.remaining_s()) or ())

    def _open(self, service: str, deadline: Deadline) -> Stream:
        try:
            connection = _ask(self._server, deadline, self._target, service)
        except _ServerRefusal as error:
            raise ConnectionResetError(str(error)) from error
        return _ServerStream(self.serial, connection, deadline)

    def _disconnect(self) -> None:
        self._features = None  # each stream is a connection of its own; this asks for the state again


def _ambiguous(serial: str) -> PhoneNotReadyError:
    return PhoneNotReadyError(
        f"several phones are called {serial}, and this adb server cannot distinguish them.",
        state="ambiguous",
    )
