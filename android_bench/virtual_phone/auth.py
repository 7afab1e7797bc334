"""Who may connect: RSA keys in Android's format, and what the phone's owner says to a new one.

The signature is PKCS#1 v1.5 over the 20 token bytes, which stand in the place of a SHA-1 digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Answer = Literal["accept", "refuse", "ignore"]

_WORDS = 64  # of a 2048-bit modulus
_KEY = struct.Struct(f"<II{4 * _WORDS}s{4 * _WORDS}sI")
_SHA1_PREFIX = bytes.fromhex("3021300906052b0e03021a05000414")
MAX_KEYS = 1000


@dataclass(frozen=True)
class PublicKey:
    """An RSA public key of 2048 bits."""

    modulus: int
    exponent: int

    def verifies(self, signature: bytes, token: bytes) -> bool:
        """Whether ``signature`` is this key's over ``token``."""
        size = 4 * _WORDS
        if len(signature) != size:
            return False
        tail = b"\x00" + _SHA1_PREFIX + token
        expected = b"\x00\x01" + b"\xff" * (size - 2 - len(tail)) + tail
        found = pow(int.from_bytes(signature), self.exponent, self.modulus).to_bytes(size)
        return hmac.compare_digest(found, expected)


def parse_public_key(text: bytes) -> PublicKey | None:
    """A key as ``adbkey.pub`` holds it (base64, then perhaps a user's name); None where it is none."""
    words = text.rstrip(b"\0").split(maxsplit=1)
    if not words:
        return None
    try:
        length, _, modulus, _, exponent = _KEY.unpack(base64.b64decode(words[0], validate=True))
    except (binascii.Error, struct.error):
        return None
    number = int.from_bytes(modulus, "little")
    if length != _WORDS or number >> 2047 != 1 or exponent not in (3, 65537):
        return None
    return PublicKey(number, exponent)


def fingerprint(text: bytes) -> str:
    """The key's MD5 as phones show it in their prompt: ``A1:B2:...``."""
    digest = hashlib.md5(text.split(b" ", 1)[0].rstrip(b"\0"), usedforsecurity=False).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


class KnownKeys:
    """The keys that were accepted once, kept in a file as ``/data/misc/adb/adb_keys`` is."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._lines = file.read_bytes().splitlines() if file.exists() else []

    def verify(self, signature: bytes, token: bytes) -> bool:
        """Whether any known key made this signature."""
        with self._lock:
            keys = [parse_public_key(line) for line in self._lines]
        return any(key is not None and key.verifies(signature, token) for key in keys)

    def add(self, text: bytes) -> None:
        """Remember a key from now on; it must be one that :func:`parse_public_key` reads."""
        line = b" ".join(text.rstrip(b"\0").split())
        with self._lock:
            if line in self._lines or len(self._lines) >= MAX_KEYS:
                return
            self._lines.append(line)
            self._file.write_bytes(b"\n".join(self._lines) + b"\n")

    def forget(self) -> None:
        """Revoke every key, as the developer options of a phone can."""
        with self._lock:
            self._lines.clear()
            self._file.unlink(missing_ok=True)
