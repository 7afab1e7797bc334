"""Messages of the ADB protocol, as ``protocol.txt`` of the Android source describes them.

A message is six little-endian 32-bit words (command, two arguments, length and checksum of the payload,
the command's complement) and the payload. Since version 0x01000001 the checksum is 0 and not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct("<6I")
VERSION_WITH_CHECKSUMS = 0x01000000
VERSION = 0x01000001
MAX_PAYLOAD_BYTES = 1024 * 1024
MIN_PAYLOAD_BYTES = 64
TOKEN_BYTES = 20


class Command(IntEnum):
    """The seven commands, their names in ASCII."""

    SYNC = 0x434E5953
    CNXN = 0x4E584E43
    AUTH = 0x48545541
    OPEN = 0x4E45504F
    OKAY = 0x59414B4F
    CLSE = 0x45534C43
    WRTE = 0x45545257


class Auth(IntEnum):
    """What an AUTH message carries: its first argument."""

    TOKEN = 1
    SIGNATURE = 2
    PUBLIC_KEY = 3


class ProtocolError(Exception):
    """The peer sent what no ADB client sends; the connection cannot go on."""


class Disconnected(Exception):
    """The peer, or a fault, ended the connection."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; what its arguments mean depends on the command."""

    command: Command
    arg0: int
    arg1: int
    payload: bytes = b""

    def encode(self, *, checksum: bool) -> bytes:
        """Header and payload as they go over the wire."""
        total = sum(self.payload) & 0xFFFFFFFF if checksum else 0
        header = HEADER.pack(
            self.command, self.arg0, self.arg1, len(self.payload), total, self.command ^ 0xFFFFFFFF
        )
        return header + self.payload


def read_message(receive: Callable[[int], bytes], *, checksum: bool) -> Message:
    """The next message. ``receive`` gives exactly so many bytes. Raises ProtocolError, Disconnected."""
    word, arg0, arg1, length, total, magic = HEADER.unpack(receive(HEADER.size))
    if magic != word ^ 0xFFFFFFFF:
        raise ProtocolError(f"the header {word:#010x} has the complement {magic:#010x}")
    try:
        command = Command(word)
    except ValueError:
        raise ProtocolError(f"{word:#010x} is not a command") from None
    if length > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"{command.name} announces {length} bytes; {MAX_PAYLOAD_BYTES} are allowed")
    payload = receive(length) if length else b""
    if checksum and total != sum(payload) & 0xFFFFFFFF:
        raise ProtocolError(f"the payload of {command.name} does not have the checksum {total:#010x}")
    return Message(command, arg0, arg1, payload)
