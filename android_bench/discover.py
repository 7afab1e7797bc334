"""Which phones are connected, in which state, and what to do about it; and which one to take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from android_bench.adb.ways import Way, open_transport
from android_bench.transport import STATE_ADVICE, NotReady, Transport, plain_text, split_host_port
from nasflow.errors import DeviceError, NoUsableDevice

_PROPERTIES = {
    "model": ("ro.product.model",),
    "soc": ("ro.soc.model", "ro.board.platform", "ro.hardware"),
    "android": ("ro.build.version.release",),
}


NOTHING_ANSWERS = (
    "Check the address, and that both are on one network. A phone listens after 'adb tcpip 5555', or by "
    "'Wireless debugging' (which needs 'adb pair' and a running adb server); the virtual phone while "
    "'nasflow virtual-phone' runs."
)


@dataclass(frozen=True)
class FoundPhone:
    """One phone that is connected somehow. What it did not tell is empty."""

    serial: str
    way: Literal["server", "usb", "tcp"]
    state: str
    model: str = ""
    soc: str = ""
    android: str = ""

    @property
    def usable(self) -> bool:
        """Can it be measured on as it stands?"""
        return self.state == "device" and bool(self.serial)

    @property
    def advice(self) -> str:
        """What to do about its state; empty for a usable phone."""
        if self.usable:
            return ""
        if (self.way, self.state) == ("tcp", "missing"):
            return NOTHING_ANSWERS
        return STATE_ADVICE.get(self.state, STATE_ADVICE["offline"])

    def describe(self) -> str:
        """``R5CT1 (Pixel 8 Pro, Tensor G3, Android 15)``, or its state in place of what it is."""
        android = f"Android {self.android}" if self.android else ""
        words = [self.model, self.soc, android] if self.usable else [self.state]
        what = ", ".join(filter(None, words))
        name = self.serial or "a phone"
        return f"{name} ({what})" if what else name


def find_phones(
    how: Way = "auto",
    *,
    addresses: Sequence[str] = (),
    key: Path | None = None,
    server_port: int | None = None,
    timeout_s: float = 5.0,
) -> tuple[FoundPhone, ...]:
    """Every phone that a running adb server knows, that is on USB, or that answers at an address.

    Each is asked what it is, which takes up to ``timeout_s`` for one that is silent. Starts no server,
    searches no network. Raises UsageError for a server port that is none.
    """
    from android_bench.adb import server as adb_server
    from android_bench.adb import wire as adb_wire

    port = adb_server.default_server_port() if server_port is None else server_port
    listed: list[FoundPhone] = []
    if how != "direct":
        listed += [
            FoundPhone(found.serial, "server", found.state, found.model)
            for found in adb_server.server_devices(port) or ()
        ]
    if how != "server":
        listed += [FoundPhone(serial, "usb", state) for serial, state in adb_wire.usb_devices()]
    for address in addresses:
        listed.append(FoundPhone(address, "server" if how == "server" else "tcp", "device"))
    phones = []
    seen: set[str] = set()
    for phone in listed:  # the server comes first: what it knows, it also holds
        if phone.serial in seen:
            continue
        seen.add(phone.serial or f"unnamed {len(seen)}")
        if phone.usable:
            way: Way = "server" if phone.way == "server" else "direct"
            with closing(open_transport(phone.serial, way, key=key, server_port=port)) as transport:
                phone = _ask(phone, transport, timeout_s)
        phones.append(phone)
    return tuple(phones)


def _ask(phone: FoundPhone, transport: Transport, timeout_s: float) -> FoundPhone:
    told = {"model": phone.model, "soc": "", "android": ""}
    try:
        for field, names in _PROPERTIES.items():
            for name in names:
                value = plain_text(transport.run(["getprop", name], timeout_s=timeout_s).stdout, limit=60)
                if value:
                    told[field] = " ".join(value.split())
                    break
    except NotReady as error:
        return FoundPhone(phone.serial, phone.way, error.state, phone.model)
    except DeviceError:  # lost, or it answers with nonsense: the other phones are looked at all the same
        return FoundPhone(phone.serial, phone.way, "offline", phone.model)
    return FoundPhone(phone.serial, phone.way, "device", **told)


def wanted_name(name: str = "", environment: Mapping[str, str] = os.environ) -> str:
    """The phone that is asked for: by ``name``, else by $ANDROID_SERIAL; empty for any."""
    return name.strip() or environment.get("ANDROID_SERIAL", "").strip()


def choose(name: str, found: Sequence[FoundPhone]) -> FoundPhone:
    """The phone to use: the named one (a serial number or HOST:PORT), else the only usable one.

    Raises NoUsableDevice for none, for several and none named, and for one that is not usable as it stands.
    """
    if name:
        for phone in found:
            if phone.serial == name:
                return _checked(phone)
        kind = "answers at" if split_host_port(name) else "is called"
        raise NoUsableDevice(f"no phone {kind} {name}.{_listing(found)}", hint=STATE_ADVICE["missing"])
    usable = [phone for phone in found if phone.usable]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise NoUsableDevice(
            f"{len(usable)} phones are connected, and none was named.{_listing(usable)}",
            hint=f"Name one: --device android:{usable[0].serial}, or set ANDROID_SERIAL.",
        )
    if len(found) == 1:
        return _checked(found[0])
    hint = " ".join(f"{phone.describe()}: {phone.advice}" for phone in found)
    what = "no phone is connected." if not found else "none of the phones connected can be used."
    raise NoUsableDevice(what, hint=hint or STATE_ADVICE["missing"])


def _checked(phone: FoundPhone) -> FoundPhone:
    if phone.usable:
        return phone
    if (phone.way, phone.state) == ("tcp", "missing"):
        message = f"nothing answers at {phone.serial}."
    else:
        message = f"{phone.serial or 'The phone on USB'} is in the state '{phone.state}'."
    raise NotReady(message, state=phone.state, hint=phone.advice)


def _listing(found: Sequence[FoundPhone]) -> str:
    if not found:
        return ""
    return " Connected: " + "; ".join(phone.describe() for phone in found) + "."
