"""Zip archives whose bytes depend on their content alone, with entries at aligned places."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

ALIGNMENT = 16  # what TFLite's schema asks for buffers, which are aligned within the model
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip archive can hold
_LOCAL_HEADER_BYTES, _EXTRA_BYTES = 30, 6
_ALIGNMENT_FIELD = 0xD935  # extra field of Android's apksig (ApkSigner.java) for the padding
_REGULAR_FILE = 0o100644 << 16
_UNIX = 3


def zip_archive(files: Mapping[str, bytes]) -> bytes:
    """The files in the order of their names, each aligned to 16 bytes.

    Uncompressed: what is within can be mapped into memory, and no version of zlib decides the bytes.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for name in sorted(files):
            entry = _entry(name)
            begin = archive.tell() + _LOCAL_HEADER_BYTES + len(name.encode()) + _EXTRA_BYTES
            padding = -begin % ALIGNMENT
            entry.extra = struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + padding, ALIGNMENT) + bytes(padding)
            out.writestr(entry, files[name], zipfile.ZIP_STORED)
    return archive.getvalue()


def append_stored(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """``content`` with the files behind it as a zip archive, uncompressed: a reader takes it for either."""
    both = io.BytesIO(content)
    with zipfile.ZipFile(both, "a") as out:
        for name in sorted(files):
            out.writestr(_entry(name), files[name], zipfile.ZIP_STORED)
    return both.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.create_system, entry.external_attr = _UNIX, _REGULAR_FILE
    return entry
