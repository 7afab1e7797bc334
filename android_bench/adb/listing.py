"""An adb server's list of devices, from its two answers: the short one is exact, the long one has details.

A serial may hold blanks (mDNS names services so: ``adb-35121JEHN28132-jr888A (2)._adb-tls-connect._tcp``),
and two phones may have the same. The answer to ``host:devices`` has a tab behind it; that to
``host:devices-l`` pads it with blanks, and so is only read where a line begins as the short one says.

Source: adb's ``transport.cpp`` (``append_transport``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nasflow.base.text import plain_text

MAX_LISTED = 1000
_MAX_CHARACTERS = 400_000
_MAX_LINE = 1000
NO_SERIAL = ("(no serial number)", "????????????")
"""What a server prints for a device whose serial number it does not know."""
_WIDTH = 22
_ID = re.compile(r"(?:^|(?<= ))transport_id:([0-9]{1,18})$")
# What a product may be called is not known: it ends where the next key stands.
_MODEL = re.compile(r"(?:^| )model:([0-9A-Za-z_]{1,200})(?: device:| transport_id:|$)")
_PLACE = re.compile(r"(?!(?:product|model|device|transport_id):)\S{1,200}")


@dataclass(frozen=True)
class Listed:
    """One connection of an adb server to a device. What was not told is empty, or None.

    ``usb_path`` is the USB port that it is plugged into, as in ``usb:1-4``; empty for one on the network.
    ``transport_id`` is the server's number for this connection; it is never given twice.
    """

    serial: str
    state: str
    model: str = ""
    usb_path: str = ""
    transport_id: int | None = None


def parse_devices(short: str, long: str = "") -> tuple[Listed, ...]:
    """What the answers to ``host:devices`` and ``host:devices-l`` say together, in the server's order.

    Connections with equal serials and states are told apart by what the long answer says of them. One that
    came between the two answers has no details, one that went has a line of its own still.
    """
    rest = _lines(long)
    found = []
    for line in _lines(short)[:MAX_LISTED]:
        serial, tab, state = line.partition("\t")
        if not tab or not serial or not state:
            continue
        padding = " " * (_WIDTH - len(serial.encode()))  # printf counts bytes
        # Another serial may begin as this one does, but then goes on with more than blanks and the state.
        details = _details_of(rest, f"{serial}{padding} {state}")
        found.append(_listed(serial, state, details))
    return tuple(found)


def _details_of(lines: list[str], begin: str) -> str:
    """What stands behind ``begin`` in the first of the lines that begins so; that line is taken out."""
    for index, line in enumerate(lines):
        if line == begin or line.startswith(f"{begin} "):
            del lines[index]
            return line[len(begin) :].strip()
    return ""


def _listed(serial: str, state: str, details: str) -> Listed:
    number = _ID.search(details)
    model = _MODEL.search(details)
    usb = _PLACE.match(details)
    return Listed(
        serial="" if serial in NO_SERIAL else serial,
        state="no permissions" if state.startswith("no permissions") else state,
        model=model[1].replace("_", " ") if model else "",
        usb_path=usb[0] if usb else "",
        transport_id=int(number[1]) if number else None,
    )


def _lines(text: str) -> list[str]:
    """Lines without control characters but the tab, each of bounded length."""
    # plain_text takes blanks off both ends: those before a serial belong to it.
    plain = (plain_text(f".{line}", limit=_MAX_LINE)[1:] for line in text[:_MAX_CHARACTERS].split("\n"))
    return [line for line in plain if line]
