"""A split as a file that can be kept, shared and given back: JSON Lines, UTF-8.

The first line is a header: what the file is, its version, the seed, the shares and the counts. Each line
after it is one image: its name below the data folder, its class, its SHA-256, and either the part that it is
in or why it is left out. JSON writes every name on one line, whatever the script and whatever line breaks
are in it; where a file system gave a name that is no valid Unicode, the odd bytes are kept as Python's lone
surrogates, escaped.

A given file is not trusted: it can name no file outside the data folder, and every line is checked.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from stages.data.dataset import PARTS, Part
from stages.data.splitting import LeftOut, Shares

FORMAT = "nasflow-split"
VERSION = 1
MAX_LINE_CHARACTERS = 20_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PARTS: tuple[Part, ...] = PARTS
_REASONS: tuple[LeftOut, ...] = get_args(LeftOut)
_AGAIN = "Correct the line, or unset data.split_file: nasflow then splits the images again."
_SHOWN = 3


@dataclass(frozen=True)
class SplitLine:
    """One image: in a part, or left out for a reason; exactly one of the two is set."""

    path: str
    """Below the data folder, with ``/``."""
    label: str
    """The name of its class."""
    sha256: str
    part: Part | None = None
    left_out: LeftOut | None = None


@dataclass(frozen=True)
class SplitFile:
    """A whole split. ``shared``: architecture and choice are the same images, all written as ``choice``."""

    lines: tuple[SplitLine, ...]
    seed: int
    shares: Shares
    shared: bool


@dataclass(frozen=True)
class Present:
    """An image that is in the data folder now."""

    path: str
    label: str
    sha256: str


def split_bytes(split: SplitFile) -> bytes:
    """The file's content; equal splits give equal bytes."""
    counts = Counter(line.part or "left-out" for line in split.lines)
    shares = split.shares
    header = {
        "format": FORMAT,
        "version": VERSION,
        "seed": split.seed,
        "shares": {"architecture": shares.architecture, "choice": shares.choice, "test": shares.test},
        "shared": split.shared,
        "counts": dict(sorted(counts.items())),
    }
    rows = [header, *(_row(line) for line in sorted(split.lines, key=lambda line: line.path))]
    return "".join(_json(row) + "\n" for row in rows).encode()


def read_split(content: bytes, present: Sequence[Present], *, name: str = "the split file") -> SplitFile:
    """A split that was written down, checked against the images that are there now.

    Raises UsageError where the file cannot be understood, names an image that is missing or was changed, or
    lacks one that is there.
    """
    split = parse_split(content, name=name)
    written = {line.path: line for line in split.lines}
    here = {image.path: image for image in present}
    both = [(written[path], here[path]) for path in sorted(written.keys() & here.keys())]
    problems = {
        "missing": (sorted(written.keys() - here.keys()), "Put them back"),
        "unknown to it": (sorted(here.keys() - written.keys()), "Take them out of the data folder"),
        "changed since": (
            [old.path for old, new in both if old.sha256 != new.sha256],
            "Put the old ones back",
        ),
        "of another class now": ([old.path for old, new in both if old.label != new.label], "Move them back"),
    }
    for what, (paths, remedy) in problems.items():
        if paths:
            verb = "is" if len(paths) == 1 else "are"
            raise UsageError(
                f"{name} does not fit the images: {_counted(paths)} {verb} {what}.",
                hint=f"{remedy}, or unset data.split_file: nasflow then splits the images again.",
            )
    return split


def parse_split(content: bytes, *, name: str = "the split file") -> SplitFile:
    """A split file without a look at the images. Raises UsageError with the number of the bad line."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 (byte {error.start}).", hint=_AGAIN) from None
    # Not splitlines(): JSON leaves U+2028 and its like within a name as they are.
    rows = [row for row in enumerate(text.split("\n"), start=1) if row[1].strip()]
    if not rows:
        raise UsageError(f"{name} is empty.", hint=_AGAIN)
    header = _Fields(rows[0][1], f"{name}, line {rows[0][0]}")
    seed, shares, shared, counts = _header(header)
    lines = [_line(_Fields(row, f"{name}, line {number}")) for number, row in rows[1:]]
    twice = [path for path, times in Counter(line.path for line in lines).items() if times > 1]
    if twice:
        raise UsageError(f"{name} names {_counted(sorted(twice))} more than once.", hint=_AGAIN)
    if shared and any(line.part == "architecture" for line in lines):
        raise UsageError(
            f"{name} says that architecture and choice share their images, and has images in architecture.",
            hint=_AGAIN,
        )
    found: Counter[str] = Counter(line.part or "left-out" for line in lines)
    if dict(found) != counts:
        raise UsageError(
            f"{name} holds {_counts(found)}, and its first line says {_counts(counts)}: "
            "lines were lost or added.",
            hint=_AGAIN,
        )
    return SplitFile(tuple(lines), seed, shares, shared)


class _Fields:
    """One JSON object and where it stands."""

    def __init__(self, row: str, where: str) -> None:
        self.where = where
        if len(row) > MAX_LINE_CHARACTERS:
            raise self.error(f"has {len(row)} characters")
        try:
            fields = json.loads(row, object_pairs_hook=self._once)
        except (ValueError, RecursionError) as error:
            raise self.error(f"is not JSON ({plain_line(str(error), limit=80)})") from None
        if not isinstance(fields, dict):
            raise self.error("is not a JSON object")
        self.fields: dict[str, Any] = fields

    def _once(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise self.error("has a key twice")
        return dict(pairs)

    def error(self, what: str) -> UsageError:
        return UsageError(f"{self.where} {what}.", hint=_AGAIN)

    def only(self, *names: str) -> None:
        unknown = sorted(self.fields.keys() - set(names))
        if unknown:
            raise self.error(f"has an unknown key {plain_line(repr(unknown[0]), limit=60)}")

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        if not isinstance(value, str) or not value:
            raise self.error(f"needs a text for {name!r}")
        return value

    def number(self, name: str) -> int:
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(f"needs a whole number for {name!r}")
        return value


def _header(header: _Fields) -> tuple[int, Shares, bool, dict[str, int]]:
    if header.fields.get("format") != FORMAT:
        raise header.error("is not the header of a split file")
    if header.fields.get("version") != VERSION:
        version = plain_line(repr(header.fields.get("version")), limit=20)
        raise header.error(f"has version {version}; this nasflow reads version {VERSION}")
    header.only("format", "version", "seed", "shares", "shared", "counts")
    shares, shared, counts = (header.fields.get(name) for name in ("shares", "shared", "counts"))
    names = {"architecture", "choice", "test"}
    if not isinstance(shares, dict) or shares.keys() != names or not all(map(_is_share, shares.values())):
        raise header.error("needs the shares of architecture, choice and test, each between 0 and 1")
    if not isinstance(shared, bool):
        raise header.error("needs true or false for 'shared'")
    if not isinstance(counts, dict) or not all(type(count) is int for count in counts.values()):
        raise header.error("needs whole numbers in 'counts'")
    return header.number("seed"), Shares(**shares), shared, counts


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def _line(fields: _Fields) -> SplitLine:
    fields.only("file_name", "label", "sha256", "part", "left_out")
    path = fields.text("file_name")
    if not is_inside(path):
        raise fields.error(
            f"names {plain_line(repr(path), limit=80)}, which is not a plain path below the data folder"
        )
    sha256 = fields.text("sha256")
    if not _SHA256.fullmatch(sha256):
        raise fields.error("has no SHA-256 of 64 hexadecimal digits")
    label = fields.text("label")
    if ("part" in fields.fields) == ("left_out" in fields.fields):
        raise fields.error("needs either 'part' or 'left_out'")
    if "part" in fields.fields:
        part = fields.text("part")
        for known in _PARTS:
            if part == known:
                return SplitLine(path, label, sha256, part=known)
        raise fields.error(f"names an unknown part; there are {', '.join(_PARTS)}")
    reason = fields.text("left_out")
    for known_reason in _REASONS:
        if reason == known_reason:
            return SplitLine(path, label, sha256, left_out=known_reason)
    raise fields.error(f"names an unknown reason; there are {', '.join(_REASONS)}")


def is_inside(path: str) -> bool:
    """Whether a path with ``/`` is relative and stays below its folder on this computer's system."""
    if "\0" in path or (os.name == "nt" and re.search(r"[\\:]", path)):
        return False
    return not any(part in ("", ".", "..") for part in path.split("/"))


def _row(line: SplitLine) -> Mapping[str, str]:
    end = {"part": line.part} if line.part is not None else {"left_out": line.left_out or ""}
    return {"file_name": line.path, "label": line.label, "sha256": line.sha256, **end}


def _json(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    # Lone surrogates (a name that is no Unicode) cannot be written as UTF-8.
    return re.sub(r"[\ud800-\udfff]", lambda match: f"\\u{ord(match.group()):04x}", text)


def _counted(paths: Sequence[str]) -> str:
    """``2 images (a.png, b.png)``."""
    shown = ", ".join(plain_line(path, limit=80) for path in paths[:_SHOWN])
    more = ", ..." if len(paths) > _SHOWN else ""
    return f"{len(paths)} image{'' if len(paths) == 1 else 's'} ({shown}{more})"


def _counts(counts: Mapping[str, int]) -> str:
    known = (*_PARTS, "left-out")
    return ", ".join(f"{counts[name]} {name}" for name in known if name in counts) or "no images"
