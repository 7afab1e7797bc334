"""What the artifacts folder weighs, and what of it nothing refers to."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nasflow.base.files import (
    delete,
    delete_folder,
    disk_faults,
    files_below,
    is_temporary,
    read_or_none,
    size_or_zero,
)
from pipeline.store.records import parse_record
from pipeline.store.scratch import read_basis, scratch_folder

KINDS = ("blobs", "documents", "records", "scratch", "logs", "left over", "other")

_OBJECT = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,16}")
_RECORD = re.compile(r"[0-9a-f]{64}\.json")
_SCRATCH = re.compile(r"[a-z][a-z0-9_]*-([0-9a-f]{16})")


@dataclass(frozen=True)
class Freed:
    """What a sweep has deleted, or would delete."""

    files: int
    bytes_by_kind: Mapping[str, int]

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return sum(self.bytes_by_kind.values())


def usage(root: Path) -> dict[str, int]:
    """Bytes per kind (:data:`KINDS`) of everything below ``root``; no folder weighs nothing."""
    weight = Counter(dict.fromkeys(KINDS, 0))
    for path in files_below(root):
        weight[_kind(path.relative_to(root))] += size_or_zero(path)
    return dict(weight)


def sweep(root: Path, keep: Collection[str], keep_scratch: Collection[str], *, dry_run: bool) -> Freed:
    """See :meth:`pipeline.store.store.Store.sweep`; the caller holds the lock."""
    freed: Counter[str] = Counter()
    files = 0
    # Records come first: a sweep that is killed leaves objects too many, never records without objects.
    for path in list(_doomed(root, keep, keep_scratch)):
        folder = path.is_dir() and not path.is_symlink()
        for file in list(files_below(path)) if folder else [path]:
            freed[_kind(file.relative_to(root))] += size_or_zero(file)
            files += 1
        if dry_run:
            continue
        if folder:
            delete_folder(path)
        else:
            delete(path)
            with contextlib.suppress(OSError):  # not empty, as a rule
                path.parent.rmdir()
    return Freed(files, {kind: freed[kind] for kind in KINDS if freed[kind]})


def _kind(path: Path) -> str:
    if any(is_temporary(part) for part in path.parts):
        return "left over"
    match path.parts[0]:
        case "objects":
            return "documents" if path.suffix == ".json" else "blobs"
        case "records" | "scratch":
            return path.parts[0]
        case "runs":
            return "logs"
    return "other"


def _doomed(root: Path, keep: Collection[str], keep_scratch: Collection[str]) -> Iterator[Path]:
    needed: set[str] = set()
    unfinished = {fingerprint[:16] for fingerprint in keep}
    finished: set[str] = set()
    for path in files_below(root / "records"):
        if not _RECORD.fullmatch(path.name):
            continue
        record = parse_record(read_or_none(path) or b"") if path.stem in keep else None
        if record is None:
            yield path
            continue
        needed.update(f"{blob.sha256}{blob.suffix}" for blob in (record.output, *record.blobs))
        scratch = scratch_folder(root, record.stage, record.fingerprint)
        if read_basis(scratch) != record.digest:  # equal: a forced run that is to replace this record
            finished.add(scratch.name)
    for path in files_below(root / "objects"):
        if _OBJECT.fullmatch(path.name) and path.name not in needed:
            yield path
    for path in _entries(root / "scratch"):
        match = _SCRATCH.fullmatch(path.name)
        current = match and match[1] in unfinished and path.name not in finished
        if match and not current and path.name not in keep_scratch:
            yield path
    yield from _left_over(root)


def _left_over(root: Path) -> Iterator[Path]:
    for path in (*_entries(root), *_entries(root / "scratch")):
        if is_temporary(path.name):
            yield path
    for path in (*files_below(root / "objects"), *files_below(root / "records")):
        if is_temporary(path.name):
            yield path
    for folder in _entries(root / "scratch"):
        if _SCRATCH.fullmatch(folder.name):
            yield from (path for path in files_below(folder) if is_temporary(path.name))


def _entries(folder: Path) -> list[Path]:
    with disk_faults(folder, "read"):
        return sorted(folder.iterdir()) if folder.is_dir() else []
