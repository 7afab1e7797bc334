"""A bundle as a zip file: ``CONTENTS.txt`` for people, ``exchange.jsonl`` for programs, and nothing else.

One that is read may come from anybody: sizes are bounded whatever it says of itself, nothing is unpacked to
the disk, and every line is checked.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from android_bench.bundle.exchange import Exchange, Header
from nasflow.base.errors import IntegrityError, MachineError, NasflowError
from nasflow.base.files import disk_faults, write_atomic

CONTENTS, EXCHANGES = "CONTENTS.txt", "exchange.jsonl"
MAX_FILE_BYTES = 64_000_000
MAX_CONTENT_BYTES = 256_000_000
MAX_EXCHANGES = 200_000
_LIMITS = {CONTENTS: 4_000_000, EXCHANGES: MAX_CONTENT_BYTES}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_BEFORE_ALL = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read, or is to be written."""

    header: Header
    exchanges: tuple[Exchange, ...]
    contents: str = ""


def write_bundle(path: Path, bundle: Bundle) -> int:
    """Write it, whole or not at all; its size in bytes. Raises MachineError."""
    lines = [document.model_dump_json(exclude_defaults=True) for document in bundle.exchanges]
    head = bundle.header.model_dump_json()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in ((CONTENTS, bundle.contents), (EXCHANGES, "\n".join([head, *lines, ""]))):
            member = zipfile.ZipInfo(name, _BEFORE_ALL)  # not when, and by whose clock
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = 0o644 << 16
            archive.writestr(member, text.encode("utf-8"))
    content = packed.getvalue()
    write_atomic(path, content)
    return len(content)


def read_bundle(path: Path) -> Bundle:
    """Read and check one. Raises IntegrityError for what is none, MachineError."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise MachineError(
            f"{path} {what}.", hint="Give the path of a bundle: 'nasflow doctor --bundle FILE' writes one."
        )
    with disk_faults(path, "read"):
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _damaged(path, f"it is larger than {MAX_FILE_BYTES / 1e6:.0f} MB")
        content = path.read_bytes()
    try:
        texts = _members(content)
        head, *lines = texts[EXCHANGES].removesuffix("\n").split("\n")
        if len(lines) > MAX_EXCHANGES:
            raise ValueError(f"it has more than {MAX_EXCHANGES:,} exchanges")
        header = Header.model_validate_json(head)
        return Bundle(header, _exchanges(lines), texts[CONTENTS])
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        location = ".".join(map(str, first["loc"]))
        raise _damaged(path, f"{location or 'a line'}: {first['msg']}") from error
    except (ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _damaged(path, str(error)) from error


def _exchanges(lines: Sequence[str]) -> tuple[Exchange, ...]:
    return tuple(Exchange.model_validate_json(line) for line in lines)


def _members(content: bytes) -> dict[str, str]:
    """Both files' text. Raises ValueError, and what zipfile raises for a damaged one."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sorted(member.filename for member in members) != sorted(_LIMITS):
            raise ValueError(f"it should contain {CONTENTS} and {EXCHANGES} only")
        texts = {}
        for member in members:
            if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
                raise ValueError(f"{member.filename} is encrypted or compressed with an unknown method")
            limit = _LIMITS[member.filename]
            with archive.open(member) as file:  # what it says of its size is not believed
                data = file.read(limit + 1)
            if len(data) > limit:
                raise ValueError(f"{member.filename} is larger than {limit / 1e6:.0f} MB")
            texts[member.filename] = data.decode("utf-8")
        return texts


def _damaged(path: Path, reason: str) -> NasflowError:
    return IntegrityError(
        f"{path} is not a valid bundle: {reason[:300]}.",
        hint="Request a new bundle: 'nasflow doctor --device android --bundle FILE' writes one.",
    )
