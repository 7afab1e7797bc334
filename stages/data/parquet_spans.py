"""Where the images of a Parquet file lie.

In a column that is not compressed (as ``datasets`` writes images) they stand in the file as they are: each is
looked for behind the one before, with its length in front, and is reached alone from then on. Of a compressed
column, or a file elsewhere, a whole row group is read at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from nasflow.base.errors import UsageError
from stages.data.hub_columns import Labels
from stages.data.names import shown
from stages.data.shards import Shard
from stages.data.spans import ABSENT, BYTES, SpansBuilder, Unit

_BATCH_ROWS = 64
_BUFFER_BYTES = 2**20  # else a whole column of a row group is in memory
_HEADER_BYTES = 2**16
"""Between two images: the head of a page."""


def holds_bytes(schema: pa.Schema, column: str) -> bool:
    """Whether a column's images are in the file itself: binary, or as ``datasets`` has them."""
    index = schema.get_field_index(column)
    if index < 0:
        return False
    kind = schema.field(index).type
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_binary(kind.field(place).type)
    return _is_binary(kind)


def index_parquet(shard: Shard, number: int, column: str, labels: Labels, out: SpansBuilder) -> int:
    """Add a file's images; how many bytes its largest row group takes that has to be read whole.

    Raises UsageError where labels are missing; OSError and pa.ArrowException where it cannot be read.
    """
    largest = 0
    with shard.open() as opened:
        parquet = pq.ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        if not {column, labels.column} <= set(parquet.schema_arrow.names):
            raise UsageError(f"{shard.name} lacks the column {shown(column)} or {shown(labels.column)}.")
        for group in range(parquet.num_row_groups):
            texts = list(labels.texts(parquet.read_row_group(group, [labels.column], use_threads=False)))
            chunk = _chunk(parquet.metadata.row_group(group), column)
            located = None if shard.remote else _located(shard, parquet, group, column, chunk)
            if located is None:
                out.add_unit(Unit(number, group, 0, chunk.total_uncompressed_size))
                largest = max(largest, chunk.total_uncompressed_size)
                mean = chunk.total_uncompressed_size // max(1, len(texts))
                located = [(row, mean) for row in range(len(texts))]
            else:
                start = _start(chunk)
                out.add_unit(Unit(number, BYTES, start, start + chunk.total_compressed_size))
            for (start, size), text in zip(located, texts, strict=True):
                out.add_image(start, size, text)
    return largest


def row_group_images(shard: Shard, group: int, column: str) -> Iterator[bytes]:
    """The images of a row group; empty where a row has none. Raises OSError, pa.ArrowException."""
    with shard.open() as opened:
        parquet = pq.ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        for value in _values(parquet, group, column):
            yield value.as_py() or b""


def _located(
    shard: Shard, parquet: pq.ParquetFile, group: int, column: str, chunk: Any
) -> list[tuple[int, int]] | None:
    """Offset and size of each image; None where they do not stand in the file as they are."""
    if chunk.compression != "UNCOMPRESSED":
        return None
    found: list[tuple[int, int]] = []
    position = _start(chunk)
    end = position + chunk.total_compressed_size
    with Path(shard.url).open("rb") as file:
        try:
            for value in _values(parquet, group, column):
                content = value.as_py()
                if content is None:
                    found.append((ABSENT, 0))
                    continue
                sought = len(content).to_bytes(4, "little") + content
                distance = _distance(file, position, sought)
                position += distance + len(sought)
                if distance < 0 or position > end:  # a dictionary, or another encoding
                    return None
                found.append((position - len(content), len(content)))
        except (OSError, pa.ArrowException):  # damaged: its images are, when they are read
            return None
    return found if len(found) == parquet.metadata.row_group(group).num_rows else None


def _distance(file: BinaryIO, position: int, sought: bytes) -> int:
    """How far behind ``position`` these bytes stand; -1 where they are not near."""
    file.seek(position)
    found = file.read(len(sought))
    return 0 if found == sought else (found + file.read(_HEADER_BYTES)).find(sought)


def _values(parquet: pq.ParquetFile, group: int, column: str) -> Iterable[Any]:
    batches = parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column], use_threads=False)
    for batch in batches:
        values = batch.column(0)
        yield from values.field("bytes") if pa.types.is_struct(values.type) else values
    pa.default_memory_pool().release_unused()  # else it grows from one row group to the next


def _chunk(row_group: Any, column: str) -> Any:
    chunks = {(c := row_group.column(index)).path_in_schema: c for index in range(row_group.num_columns)}
    return chunks.get(f"{column}.bytes") or chunks[column]


def _start(chunk: Any) -> int:
    places = (chunk.dictionary_page_offset, chunk.data_page_offset)
    return min(int(place) for place in places if place is not None)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
