"""A phone that is connected, by one way or several: who it is, and which ways lead to the same one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from android_bench.transport import STATE_ADVICE, serial_in_mdns_name

if TYPE_CHECKING:
    from android_bench.adb.listing import Listed

NOTHING_ANSWERS = (
    "Check the address, and that the phone and this computer are on the same network. A phone listens after "
    "'adb tcpip 5555', or with 'Wireless debugging' (which needs 'adb pair' and a running adb server); the "
    "simulated phone listens while 'nasflow virtual-phone' runs."
)


@dataclass(frozen=True)
class Identity:
    """What a phone says about itself by which it is known again on another way. Unknown is empty."""

    serial: str = ""
    product: str = ""
    boot_id: str = ""

    def is_same_as(self, other: Identity) -> bool:
        """Whether both are of one phone.

        Cheap phones share a serial number, and containers on one computer share a boot id: only all of it
        together says that it is the same. A boot id that one of them does not tell is not counted.
        """
        if not self.serial or (self.serial, self.product) != (other.serial, other.product):
            return False
        return not (self.boot_id and other.boot_id) or self.boot_id == other.boot_id


@dataclass(frozen=True)
class FoundPhone:
    """One phone that is connected somehow. What it did not tell is empty.

    ``serial``, ``way`` and ``state`` are those of the best way to it; ``others`` are its other ways.
    ``cores``, ``gpu`` and ``npu`` are what it offers to compute with, where it was asked for that.
    ``connection`` is an adb server's line for it.
    """

    serial: str
    way: Literal["server", "usb", "tcp"]
    state: str
    model: str = ""
    soc: str = ""
    android: str = ""
    cores: str = ""
    gpu: str = ""
    npu: str = ""
    connection: Listed | None = field(default=None, compare=False)
    identity: Identity = field(default=Identity(), compare=False)
    others: tuple[FoundPhone, ...] = ()

    @property
    def transport_id(self) -> int | None:
        """An adb server's number for this connection."""
        return self.connection.transport_id if self.connection else None

    @property
    def on_usb(self) -> bool:
        """Does a cable lead to it, through an adb server or not?"""
        return self.way == "usb" or bool(self.connection and self.connection.usb_path)

    @property
    def usable(self) -> bool:
        """Can it be measured on as it stands?"""
        return self.state == "device" and (bool(self.serial) or self.transport_id is not None)

    @property
    def advice(self) -> str:
        """What to do about its state; empty for a usable phone."""
        if self.usable:
            return ""
        if (self.way, self.state) == ("tcp", "missing"):
            return NOTHING_ANSWERS
        return STATE_ADVICE.get(self.state, STATE_ADVICE["offline"])

    def ways(self) -> Iterator[FoundPhone]:
        """Each way to it, the best first, as a phone that has the rest as its other ways."""
        yield self
        best = replace(self, others=())
        for way in self.others:
            yield replace(way, others=(best, *(other for other in self.others if other is not way)))

    def describe(self) -> str:
        """``R5CT1 (Pixel 8 Pro, Tensor G3, Android 15)``, or its state in place of what it is."""
        android = f"Android {self.android}" if self.android else ""
        words = [self.model, self.soc, android] if self.usable else [self.state]
        what = ", ".join(filter(None, words))
        name = self.serial or "a phone"
        return f"{name} ({what})" if what else name


def joined(ways: Sequence[FoundPhone]) -> tuple[FoundPhone, ...]:
    """The phones that these ways lead to, each once, in the order of their first ways.

    A cable goes before the network: it loses no packets, its traffic keeps no radio of the phone busy while
    it is measured, it stays when the phone sleeps, and it charges. What an adb server holds goes before what
    would have to be opened beside it.
    """
    groups: list[list[FoundPhone]] = []
    silent: list[list[FoundPhone]] = []
    for way in ways:
        group = next((group for group in groups if any(_is_one_phone(way, known) for known in group)), None)
        if group is None:
            groups.append([way])
            silent += [] if way.usable else [groups[-1]]
        else:
            group.append(way)
    for group in silent:  # it cannot be asked who it is, but its name may say so
        named = [phone for phone in groups if phone[0].usable and _is_called_like(group[0], phone[0])]
        if len(named) == 1:
            named[0] += group
            groups = [other for other in groups if other is not group]
    return tuple(_best_first(group) for group in groups)


def name_of(phone: FoundPhone, found: Sequence[FoundPhone]) -> str:
    """What to call a phone so that it is this way to it and no other's among ``found``."""
    same = [way for other in found for way in other.ways() if way.serial == phone.serial]
    if phone.serial and len(same) <= 1:
        return phone.serial
    return phone.serial if phone.transport_id is None else f"transport_id:{phone.transport_id}"


def _is_one_phone(way: FoundPhone, known: FoundPhone) -> bool:
    two_cables = way.on_usb and known.on_usb
    return way.usable and known.usable and not two_cables and way.identity.is_same_as(known.identity)


def _is_called_like(way: FoundPhone, known: FoundPhone) -> bool:
    serial = serial_in_mdns_name(way.serial) or way.serial
    return bool(serial) and serial == known.identity.serial and not (way.on_usb and known.on_usb)


def _best_first(ways: Sequence[FoundPhone]) -> FoundPhone:
    best, *others = sorted(ways, key=lambda way: (not way.usable, not way.on_usb, way.way != "server"))
    return replace(best, others=tuple(others))
