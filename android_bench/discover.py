"""Which phones are connected, in which state, and what to do about it; and which one to take."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from android_bench.adb.ways import Way, open_transport
from android_bench.found_phone import FoundPhone, Identity, joined, name_of
from android_bench.phone.offers import Offers, read_offers
from android_bench.transport import STATE_ADVICE, PhoneNotReadyError, Transport, split_host_port
from nasflow.base.errors import DeviceError, NoUsableDeviceError
from nasflow.base.text import plain_text

if TYPE_CHECKING:
    from android_bench.adb.address import ServerAddress

__all__ = ["FoundPhone", "ask", "choose", "find_phones", "open_found", "wanted_name"]

_PROPERTIES = {
    "model": ("ro.product.model",),
    "soc": ("ro.soc.model", "ro.board.platform", "ro.hardware"),
    "android": ("ro.build.version.release",),
    "serial": ("ro.serialno", "ro.boot.serialno"),
    "product": ("ro.product.device", "ro.product.name"),
}
_BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")


def find_phones(
    how: Way = "auto",
    *,
    addresses: Sequence[str] = (),
    key: Path | None = None,
    server: ServerAddress | int | None = None,
    timeout_s: float = 5.0,
    offers: bool = False,
) -> tuple[FoundPhone, ...]:
    """Every phone that a running adb server knows, that is on USB, or that answers at an address, once.

    Each is asked what it is, which takes up to ``timeout_s`` for one that is silent; with ``offers`` also
    what it has to compute with. Starts no server, searches no network. ``server`` is as in
    :func:`open_transport`. Raises UsageError for an address of a server that is none.
    """
    from android_bench.adb.address import ServerAddress

    address = ServerAddress.of(server)
    ways = _ways(how, addresses, address)
    for index, way in enumerate(ways):
        if way.usable:
            with closing(open_found(way, key=key, server=address)) as transport:
                ways[index] = ask(way, transport, timeout_s, offers=offers)
    return joined(ways)


def open_found(
    phone: FoundPhone, *, key: Path | None = None, server: ServerAddress | int | None = None
) -> Transport:
    """The way that was found; ``key`` and ``server`` are as in :func:`open_transport`."""
    how: Way = "server" if phone.way == "server" else "direct"
    # One of several with the same name, or without any: only its connection tells which it is.
    return open_transport(phone.serial, how, key=key, server=server, chosen=phone.connection)


def ask(
    phone: FoundPhone, transport: Transport, timeout_s: float = 5.0, *, offers: bool = False
) -> FoundPhone:
    """The phone with what it tells about itself, or with the state in which it does not answer."""
    properties = dict.fromkeys(_PROPERTIES, "") | {"model": phone.model}
    try:
        for field, names in _PROPERTIES.items():
            for name in names:
                value = plain_text(transport.run(["getprop", name], timeout_s=timeout_s).stdout, limit=60)
                if value:
                    properties[field] = " ".join(value.split())
                    break
        boot = transport.run(_BOOT_ID, timeout_s=timeout_s)
        offered = read_offers(transport, timeout_s) if offers else Offers()
    except PhoneNotReadyError as error:
        return replace(phone, state=error.state)
    except DeviceError:  # lost, or it answers with nonsense: the other phones are looked at all the same
        return replace(phone, state="offline")
    boot_id = plain_text(boot.stdout, limit=40) if boot.exit_code == 0 else ""
    return replace(
        phone,
        state="device",
        model=properties["model"],
        soc=properties["soc"],
        android=properties["android"],
        cores=offered.cores,
        gpu=offered.gpu,
        npu=offered.npu,
        identity=Identity(properties["serial"], properties["product"], boot_id),
    )


def wanted_name(name: str = "", environment: Mapping[str, str] = os.environ) -> str:
    """The phone that is asked for: by ``name``, else by $ANDROID_SERIAL; empty for any."""
    return name.strip() or environment.get("ANDROID_SERIAL", "").strip()


def choose(name: str, found: Sequence[FoundPhone]) -> FoundPhone:
    """The phone to use: the named one, else the only usable one.

    A name is that of one of its ways, which is then taken (a serial number, HOST:PORT, ``usb:1-4`` or
    ``transport_id:3``), or the serial number that the phone itself tells: its best way is taken. Raises
    NoUsableDeviceError for none, for several, and for one that is not usable as it stands.
    """
    if name:
        return checked(_named(name, found))
    usable = [phone for phone in found if phone.usable]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise NoUsableDeviceError(
            f"{len(usable)} phones are connected, and none was selected.{_listing(usable)}",
            hint=f"Select one with {_option(usable[0], found)}, or set ANDROID_SERIAL.",
        )
    if len(found) == 1:
        return checked(found[0])
    hint = " ".join(f"{phone.describe()}: {phone.advice}" for phone in found)
    what = "no phone is connected." if not found else "none of the connected phones can be used."
    raise NoUsableDeviceError(what, hint=hint or STATE_ADVICE["missing"])


def _ways(how: Way, addresses: Sequence[str], server: ServerAddress) -> list[FoundPhone]:
    """Every connection that there is or may be. What a server knows, it also holds, and is listed once."""
    from android_bench.adb import server as adb_server
    from android_bench.adb import wire as adb_wire

    ways: list[FoundPhone] = []
    if how != "direct":
        ways += [
            FoundPhone(listed.serial, "server", listed.state, listed.model, connection=listed)
            for listed in adb_server.server_devices(server) or ()
        ]
    held = {way.serial for way in ways}
    if how != "server":
        direct = adb_wire.usb_devices()
        serials = [serial for serial, _ in direct]
        for serial, state in direct:
            if serial and serial in held:
                continue
            several = state == "device" and serials.count(serial) > 1
            ways.append(FoundPhone(serial, "usb", "ambiguous" if several else state))
    rest = [address for address in dict.fromkeys(addresses) if address not in held]
    ways += [FoundPhone(address, "server" if how == "server" else "tcp", "device") for address in rest]
    return ways


def _named(name: str, found: Sequence[FoundPhone]) -> FoundPhone:
    ways = [way for phone in found for way in phone.ways()]
    several: list[FoundPhone] = []
    for matching in (
        [way for way in ways if way.serial == name],
        [way for way in ways if name == f"transport_id:{way.transport_id}"],
        [way for way in ways if way.connection and way.connection.usb_path == name],
        [phone for phone in found if phone.identity.serial == name],
    ):
        if len(matching) == 1:
            return matching[0]
        several = several or matching
    if several:
        raise NoUsableDeviceError(
            f"{len(several)} phones are called {name}.{_listing(several)}",
            hint=f"Select one with {' or '.join(_option(phone, found) for phone in several)}."
            if any(phone.transport_id for phone in several)
            else STATE_ADVICE["ambiguous"],
        )
    kind = "answers at" if split_host_port(name) else "is called"
    raise NoUsableDeviceError(f"no phone {kind} {name}.{_listing(found)}", hint=STATE_ADVICE["missing"])


def _option(phone: FoundPhone, found: Sequence[FoundPhone]) -> str:
    """``--device android:R5CT1``, as it is typed into a shell."""
    return f"--device {shlex.quote(f'android:{name_of(phone, found)}')}"


def checked(phone: FoundPhone) -> FoundPhone:
    """The phone. Raises NoUsableDeviceError with what to do where it cannot be used as it stands."""
    if phone.usable:
        return phone
    if (phone.way, phone.state) == ("tcp", "missing"):
        message = f"no phone answers at {phone.serial}."
    else:
        message = f"{phone.serial or 'The phone on USB'} is in the state '{phone.state}'."
    raise PhoneNotReadyError(message, state=phone.state, hint=phone.advice)


def _listing(found: Sequence[FoundPhone]) -> str:
    if not found:
        return ""
    return " Connected: " + "; ".join(phone.describe() for phone in found) + "."
