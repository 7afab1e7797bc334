"""The frames by which a process and the one that it started talk to each other.

A frame is two big-endian lengths (4 and 8 bytes), a JSON header and a payload of raw bytes. Nothing heavier
than the standard library is imported here.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

LENGTHS = struct.Struct(">IQ")


def write_frame(stream: IO[bytes], header: dict[str, Any], payload: bytes = b"") -> None:
    """Send one frame."""
    text = json.dumps(header).encode()
    stream.write(LENGTHS.pack(len(text), len(payload)) + text)
    stream.write(payload)
    stream.flush()


class FrameError(ValueError):
    """What came is no frame, or a larger one than the reader takes."""


def read_frame(
    stream: IO[bytes], *, max_header: int | None = None, max_payload: int | None = None
) -> tuple[dict[str, Any], bytes] | None:
    """Receive one frame; None at the end of the stream, also amid a frame.

    Raises FrameError where header or payload have more bytes than ``max_header`` or ``max_payload``, before
    they are read, and where the header is no JSON object.
    """
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    header_length, payload_length = LENGTHS.unpack(lengths)
    for length, most in ((header_length, max_header), (payload_length, max_payload)):
        if most is not None and length > most:
            raise FrameError(f"{length} bytes, where {most} are the most")
    header, payload = stream.read(header_length), stream.read(payload_length)
    if len(header) < header_length or len(payload) < payload_length:
        return None
    try:
        document = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"{header[:40]!r}, which is not JSON") from error
    if not isinstance(document, dict):
        raise FrameError(f"{header[:40]!r}, which is not a JSON object")
    return document, payload
