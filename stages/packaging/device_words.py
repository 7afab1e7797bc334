"""Which phones are meant, in words of a command line: ``soc:Google Tensor G4+ram:8-``."""

from __future__ import annotations

import re
from decimal import Decimal

from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from stages.packaging.ai_pack import DeviceFacts

BYTES_PER_GB = 10**9
_RAM = re.compile(r"(\d{1,4}(?:\.\d{1,9})?)?-(\d{1,4}(?:\.\d{1,9})?)?", re.ASCII)
_HINT = (
    "Write soc:MAKER MODEL, device:BRAND/DEVICE, brand:BRAND or ram:LEAST-BELOW (GB; either may be left "
    "out), joined by '+' where all must hold: --group 'RUN=soc:Google Tensor G4+ram:8-'."
)


def devices_in(words: str) -> DeviceFacts:
    """The devices for which all of the words hold. Raises UsageError for words that say nothing of one."""
    found: dict[str, str | int | None] = {}
    for word in words.split("+"):
        kind, _, value = word.strip().partition(":")
        told = _told(kind.strip(), value.strip())
        if told is None or found.keys() & told.keys():
            raise UsageError(
                f"'{plain_line(word, limit=100)}' in --group does not say which phones are meant"
                f"{'' if told is None else ', or says it twice'}.",
                hint=_HINT,
            )
        found |= told
    return DeviceFacts(**found)  # type: ignore[arg-type]


def _told(kind: str, value: str) -> dict[str, str | int | None] | None:
    """What a word says of devices; None: nothing."""
    first, gap, second = value.partition("/" if kind == "device" else " ")
    if kind == "soc" and gap and second.strip():
        return {"soc_manufacturer": first, "soc_model": second.strip()}
    if kind == "device" and first and second:
        return {"brand": first, "device": second}
    if kind == "brand" and value:
        return {"brand": value}
    limits = _RAM.fullmatch(value) if kind == "ram" else None
    if limits is None or not any(limits.groups()):
        return None
    least, below = (None if n is None else int(Decimal(n) * BYTES_PER_GB) for n in limits.groups())
    return {"ram_min_bytes": least, "ram_max_bytes": below}
