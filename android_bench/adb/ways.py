"""The ways to a phone. Nothing outside this folder knows an ADB library; here they are imported when used.

:class:`~android_bench.adb.direct.DirectTransport` speaks to the phone's daemon itself (adb-shell: TCP,
USB). :class:`~android_bench.adb.server.ServerTransport` goes through a running adb server (adbutils).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from android_bench.transport import Transport

if TYPE_CHECKING:
    from android_bench.adb.address import ServerAddress
    from android_bench.adb.listing import Listed

Way = Literal["auto", "direct", "server"]


def open_transport(
    name: str,
    how: Way = "auto",
    *,
    key: Path | None = None,
    server: ServerAddress | int | None = None,
    chosen: Listed | None = None,
) -> Transport:
    """The way to the phone with this serial number or HOST:PORT. Nothing is connected yet.

    ``auto`` takes a running adb server that knows the phone (HOST:PORT may be a serial there), else goes
    directly. ``server`` is where that server listens (a port of this computer, or None: where the environment
    says), ``chosen`` its line for this phone where several have the name. ``key`` is the private key of the
    direct way, made where it is missing. No server is ever started or ended. Raises NoUsableDeviceError,
    UsageError.
    """
    from android_bench.adb import server as adb_server
    from android_bench.adb.address import ServerAddress

    address = ServerAddress.of(server)
    if how == "server":
        return adb_server.ServerTransport(name, server=address, chosen=chosen)
    if how == "auto" and any(found.serial == name for found in adb_server.server_devices(address) or ()):
        return adb_server.ServerTransport(name, server=address, chosen=chosen)
    from android_bench.adb.direct import DirectTransport

    return DirectTransport(name, key=key)
