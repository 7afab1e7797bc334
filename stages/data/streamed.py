"""Images of a large data set of the hub, read from its Parquet and tar files where they lie.

Nothing is copied but units that cannot be read in part: these pass through a spool of bounded size. What is
held in memory for an image is its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

from nasflow.base import files
from nasflow.base.errors import DatasetMissingError, UsageError
from pipeline.artifact import sha256_hex
from stages.data.hub_columns import Columns, Labels, listing_of
from stages.data.image_file import MOST_BYTES, BrokenImageError
from stages.data.inventory_cache import FileState
from stages.data.listed import Listing
from stages.data.names import shown
from stages.data.parquet_spans import holds_bytes, index_parquet, row_group_images
from stages.data.shards import Shard
from stages.data.spans import ABSENT, BYTES, Spans, SpansBuilder, Unit
from stages.data.spool import Spool
from stages.data.storage_units import WINDOW_BYTES, StorageUnits
from stages.data.tar_spans import holds_labels, index_tar

VERSION = 1
_INT_BYTES = 8
_READ_ERRORS = (OSError, pa.ArrowException, HTTPError)  # pyarrow raises the first for damaged pages, too


@dataclass(frozen=True)
class StreamedBytes:
    """Images in ``shards``, at the places that ``spans`` has; ``column``: the Parquet column of images."""

    place: Path
    shards: tuple[Shard, ...]
    spans: Spans = field(repr=False)
    column: str
    spool: Spool
    key: str

    def state(self, number: int) -> FileState | None:
        """Size of the image (in a row group their mean), times and inode of its file."""
        shard = self.shards[self.spans.unit(number).shard]
        return shard.state._replace(size=int(self.spans.size_N[number]))

    def read(self, number: int) -> bytes:
        """The image's file as the shard has it.

        Raises BrokenImageError, DatasetMissingError where it cannot be fetched, MachineError where the spool
        cannot be written.
        """
        start, size = int(self.spans.start_N[number]), int(self.spans.size_N[number])
        if start == ABSENT:
            raise BrokenImageError("empty")
        unit = self.spans.unit(number)
        if self._is_spooled(unit):
            with self.spool.open(
                f"{self.key}-{int(self.spans.unit_N[number])}", lambda: self._content(unit)
            ) as file:
                if unit.row_group == BYTES:
                    return _read(file, start - unit.start, size)
                return _read(file, *_row(file, start))
        shard = self.shards[unit.shard]
        try:
            with Path(shard.url).open("rb") as file:
                return _read(file, start, size)
        except FileNotFoundError as error:
            raise BrokenImageError("missing", shard.name) from error
        except OSError as error:
            raise BrokenImageError("unreadable", f"{shard.name}: {error.strerror}") from error

    def units(self) -> StorageUnits | None:
        """Those of the images; None where each image is reached alone."""
        units = [Unit(*map(int, unit)) for unit in self.spans.units_U4]
        if not any(map(self._is_spooled, units)):
            return None
        return StorageUnits(self.spans.unit_N, np.array([unit.stop - unit.start for unit in units], np.int64))

    def _is_spooled(self, unit: Unit) -> bool:
        return unit.row_group != BYTES or self.shards[unit.shard].remote

    def _content(self, unit: Unit) -> Iterator[bytes]:
        """What the spool keeps: the bytes, or the images of a row group, behind them where each begins."""
        shard = self.shards[unit.shard]
        if unit.row_group == BYTES:
            yield _fetched(shard, unit)
            return
        offsets = [0]
        images = row_group_images(shard, unit.row_group, self.column)
        while (image := _next(images, shard, unit)) is not None:
            offsets.append(offsets[-1] + len(image))
            yield image
        yield np.array([*offsets, len(offsets)], np.dtype("<i8")).tobytes()


def open_streamed(
    shards: Mapping[str, Sequence[Shard]], columns: Columns, name: str
) -> tuple[Listing, StreamedBytes] | None:
    """The images of a data set whose files are ``shards``, by split, without a copy.

    None where its images can only be reached through a copy: a file of another kind, images that the files
    only name, compressed row groups of more than 1 GiB. Raises UsageError where a file is damaged or labels
    are missing, DatasetMissingError where one cannot be fetched.
    """
    used = {split: tuple(shards[split]) for split in columns.parts}
    every = tuple(shard for of_split in used.values() for shard in of_split)
    if not _can_be_streamed(every, columns):
        return None
    facts = [VERSION, columns.image, columns.label, repr(columns.kind)]
    states = [f"{split} {shard.url} {shard.state}" for split, found in used.items() for shard in found]
    key = sha256_hex("\n".join(map(str, (*facts, *states))).encode())[:32]
    kept = files.cache_folder() / "hub_index" / f"{key}.npz"
    spans = Spans.load(kept)
    if spans is None:
        spans = _indexed(used, columns, name)
        if spans is None:
            return None
        spans.save(kept)
    place = Path("/hub") / sha256_hex("\n".join((*(s.url for s in every), *map(str, facts))).encode())
    listing = listing_of(name, columns, list(shards), _by_split(spans))
    spool = Spool(files.cache_folder() / "hub_units")
    return listing, StreamedBytes(place, every, spans, columns.image, spool, key)


def _can_be_streamed(shards: Sequence[Shard], columns: Columns) -> bool:
    names = [shard.url.lower() for shard in shards]
    if all(name.endswith(".tar") for name in names):
        return holds_labels(columns.label)
    if not all(name.endswith(".parquet") for name in names):
        return False
    with _reading(shards[0]), shards[0].open() as file:
        return holds_bytes(pq.read_schema(file), columns.image)


def _indexed(shards: Mapping[str, Sequence[Shard]], columns: Columns, name: str) -> Spans | None:
    out, rows, number = SpansBuilder(), dict[str, int](), 0
    for split, of_split in shards.items():
        before = len(out)
        labels = Labels(columns.label, columns.kind, f"{shown(name)}, split {split}")
        for shard in of_split:
            with _reading(shard):
                if shard.url.lower().endswith(".tar"):
                    index_tar(shard, number, columns.image, labels, out)
                elif index_parquet(shard, number, columns.image, labels, out) > WINDOW_BYTES:
                    return None
            number += 1
        rows[split] = len(out) - before
    return out.spans(rows)


def _by_split(spans: Spans) -> Iterator[tuple[str, Iterator[str]]]:
    start = 0
    for split, count in spans.rows.items():
        yield split, (spans.labels[int(index)] for index in spans.label_N[start : start + count])
        start += count


@contextmanager
def _reading(shard: Shard) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetMissingError(f"{shard.name} does not exist any more.", hint="Put it back.") from error
    except _READ_ERRORS as error:
        if shard.remote:
            raise _not_fetched(shard, error) from error
        raise UsageError(
            f"{shard.name} cannot be read: {shown(str(error)[:200])}",
            hint="It is damaged, or cut off: fetch it again.",
            raw=str(error),
        ) from error


def _next(images: Iterator[bytes], shard: Shard, unit: Unit) -> bytes | None:
    where = f"row group {unit.row_group} of {shard.name}"
    try:
        return next(images, None)
    except FileNotFoundError as error:
        raise BrokenImageError("missing", shard.name) from error
    except PermissionError as error:
        raise BrokenImageError("unreadable", shard.name) from error
    except pa.ArrowException as error:
        raise BrokenImageError("corrupt", f"{where}: {error}") from error
    except _READ_ERRORS as error:
        if shard.remote:
            raise _not_fetched(shard, error) from error
        raise BrokenImageError("corrupt", f"{where}: {error}") from error


def _fetched(shard: Shard, unit: Unit) -> bytes:
    try:
        content = shard.fetch(unit.start, unit.stop)
    except _READ_ERRORS as error:
        raise _not_fetched(shard, error) from error
    return content


def _not_fetched(shard: Shard, error: Exception) -> DatasetMissingError:
    return DatasetMissingError(
        f"{shard.name} cannot be read from the hub: {shown(str(error)[:200])}",
        hint="Check the network, and run again: finished work is kept.",
        raw=str(error),
    )


def _row(file: BinaryIO, row: int) -> tuple[int, int]:
    """Offset and size of a row group's image in the spool's file."""
    end = file.seek(-_INT_BYTES, os.SEEK_END)
    count = int.from_bytes(file.read(_INT_BYTES), "little")
    file.seek(end - (count - row) * _INT_BYTES)
    first, second = np.frombuffer(file.read(2 * _INT_BYTES), "<i8")
    return int(first), int(second - first)


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    if size > MOST_BYTES:
        raise BrokenImageError("too_large", f"{size} bytes; the limit is {MOST_BYTES}")
    file.seek(start)
    content = file.read(size)
    if not size:
        raise BrokenImageError("empty")
    if len(content) < size:
        raise BrokenImageError("truncated", f"{len(content)} of {size} bytes")
    return content
