"""Names of files and folders in every script: as the disk has them, and as people and documents see them.

A name on the disk may hold any byte except 0 and ``/``. Python shows a byte that is no UTF-8 as a lone
surrogate (PEP 383, ``surrogateescape``): such a string opens the file, but cannot be printed or written as
UTF-8.
"""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache

_BREAKS = {"Cc", "Zl", "Zp"}  # control characters, line and paragraph separators
_TURNS_TEXT = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


@lru_cache(maxsize=10_000)
def label_of(name: str) -> str:
    """A class's name as it is shown and stored: NFC, one line, valid UTF-8; empty where nothing is left.

    macOS stores names decomposed (NFD), a table written on Linux has them composed: both are one class.
    Characters that join letters (U+200C, U+200D) stay: Persian and Hindi words need them.
    """
    characters = (
        " " if unicodedata.category(character) in _BREAKS else character
        for character in _valid(name)
        if character not in _TURNS_TEXT
    )
    return " ".join(unicodedata.normalize("NFC", "".join(characters)).split())


def shown(path: str | os.PathLike[str]) -> str:
    """A path or name for a message: one line, printable everywhere; what is no text stands as ``\\xe9``."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _BREAKS or character in _TURNS_TEXT
        else character
        for character in _valid(os.fspath(path))
    )


def shown_list(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    """``a, b, c and 4 more``."""
    text = ", ".join(shown(name) for name in names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


def name_bytes(path: str) -> bytes:
    """A name or relative path as bytes, for hashes: UTF-8, other bytes as the disk has them."""
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that no file name gave rise to, as JSON's "\\ud800"
        return path.encode("utf-8", "surrogatepass")


def _valid(name: str) -> str:
    if name.isascii():
        return name
    return name_bytes(name).decode("utf-8", "backslashreplace")
