"""Where the adb server listens: what Google's adb reads from the environment, read the same way.

Sources: adb's ``client/commandline.cpp`` (which variable wins) and ``socket_spec.cpp`` (what a socket may be
called); checked against adb 36.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from nasflow.base.errors import UsageError

DEFAULT_PORT = 5037
_LOOPBACK = ("127.0.0.1", "::1")  # in the order in which adb tries them
_PORT_BEHIND_A_HOST = 5555  # adb's own default for tcp:HOST, though its server listens on 5037
_FILE_KINDS = ("local", "localfilesystem")
_HINT = (
    "Set it to tcp:PORT, tcp:HOST:PORT or localfilesystem:PATH, or unset it to use the server on this "
    f"computer's port {DEFAULT_PORT}."
)
_NUMBER = re.compile(r"[+-]?[0-9]+|0[xX][0-9A-Fa-f]+", re.ASCII)  # what android::base::ParseInt takes
_TCP = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>\*|[\w.][\w.%-]*))(?::(?P<port>[^:]*))?")


@dataclass(frozen=True)
class ServerAddress:
    """A TCP port of a host (empty: this computer), or a Unix socket's path (it begins with NUL: abstract)."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""

    @classmethod
    def of(cls, server: Self | int | None) -> ServerAddress:
        """``server`` itself, this computer's port of that number, or (None) what the environment names.

        Raises UsageError.
        """
        if server is None:
            return server_address()
        return ServerAddress(port=server) if isinstance(server, int) else server

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection to the server. Raises OSError."""
        if self.path:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(timeout_s)
                connection.connect(self.path)
            except BaseException:
                connection.close()
                raise
            return connection
        if self.host not in ("", "localhost"):
            return socket.create_connection((self.host, self.port), timeout_s)
        try:
            return socket.create_connection((_LOOPBACK[0], self.port), timeout_s)
        except OSError as refused:
            try:
                return socket.create_connection((_LOOPBACK[1], self.port), timeout_s)
            except OSError:
                raise refused from None

    def spec(self) -> str:
        """The address in adb's own words, as in ``adb -L tcp:localhost:5037``."""
        if self.path:
            return self.describe()
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp:{host}:{self.port}" if host else f"tcp:{self.port}"

    def describe(self) -> str:
        """``port 5037``, ``tcp:10.0.0.2:5037``, ``localfilesystem:/tmp/adb``."""
        if self.path:
            abstract = self.path.startswith("\0")
            return f"localabstract:{self.path[1:]}" if abstract else f"localfilesystem:{self.path}"
        return self.spec() if self.host else f"port {self.port}"


def server_address(environment: Mapping[str, str] = os.environ) -> ServerAddress:
    """The address that the environment names, else port 5037 of this computer.

    $ADB_SERVER_SOCKET goes before $ANDROID_ADB_SERVER_ADDRESS and $ANDROID_ADB_SERVER_PORT, which are not
    looked at then. Raises UsageError for what is no address, or one that cannot be connected to.
    """
    text = environment.get("ADB_SERVER_SOCKET")
    if text is not None:
        return _parse(text)
    host = environment.get("ANDROID_ADB_SERVER_ADDRESS", "")
    return ServerAddress(host, _environment_port(environment))


def _environment_port(environment: Mapping[str, str]) -> int:
    text = environment.get("ANDROID_ADB_SERVER_PORT", "") or str(DEFAULT_PORT)
    if (port := _port(text)) is None:
        raise UsageError(
            f"ANDROID_ADB_SERVER_PORT is {text!r}, which is not a port number.",
            hint="Set it to 1 to 65535, or unset it.",
        )
    return port


def _parse(text: str) -> ServerAddress:
    kind, colon, rest = text.partition(":")
    if not colon or not rest or "\0" in rest:
        raise _no_address(text, "is not an address of an adb server")
    if kind == "tcp":
        return _parse_tcp(text, rest)
    if kind in _FILE_KINDS:
        if not hasattr(socket, "AF_UNIX"):
            raise _no_address(text, "names a socket file, which this system does not support")
        return ServerAddress(path=rest)
    if kind == "localabstract" and sys.platform == "linux":
        return ServerAddress(path=f"\0{rest}")
    known = ("localabstract", "localreserved", "vsock", "acceptfd")
    reason = "names a kind of socket that nasflow cannot connect to" if kind in known else "is not an address"
    raise _no_address(text, reason)


def _parse_tcp(text: str, rest: str) -> ServerAddress:
    if _NUMBER.fullmatch(rest):
        host, port = "", _port_as_adb_reads_it(rest)
    elif _is_ipv6(rest):  # the only way to write one without brackets, and adb's default port
        host, port = rest, _PORT_BEHIND_A_HOST
    else:
        found = _TCP.fullmatch(rest)
        if found is None or (found["six"] and not _is_ipv6(found["six"])):
            raise _no_address(text, "is not of the form tcp:PORT, tcp:HOST:PORT or tcp:[IPV6]:PORT")
        host = found["six"] or found["host"].replace("*", "")  # this computer, as for adb on Linux
        port = _PORT_BEHIND_A_HOST if found["port"] is None else _port(found["port"].removeprefix("+"))
    if port is None:
        raise _no_address(text, "does not name a port from 1 to 65535")
    return ServerAddress(host, port)


def _port(text: str) -> int | None:
    plausible = text.isascii() and text.isdigit() and len(text) <= 5
    return int(text) if plausible and 0 < int(text) < 65536 else None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port_as_adb_reads_it(text: str) -> int | None:
    """A number that stands alone: with a plus, or hexadecimal behind 0x, too."""
    if len(text) > 10:
        return None
    number = int(text, 16 if text[:2].lower() == "0x" else 10)
    return number if 0 < number < 65536 else None


def _no_address(text: str, reason: str) -> UsageError:
    return UsageError(f"ADB_SERVER_SOCKET is {text!r}, which {reason}.", hint=_HINT)
