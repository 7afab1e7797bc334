"""Images of a data set of the hub that was fetched: memory-mapped Arrow tables in this account's cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasflow.base.errors import UsageError
from pipeline.artifact import sha256_hex
from stages.data.hub_builder import tables_of
from stages.data.hub_columns import Columns, Labels, listing_of
from stages.data.image_file import BrokenImageError, read_file
from stages.data.inventory_cache import FileState
from stages.data.listed import Listing
from stages.data.names import shown

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class HubBytes:
    """Images in the tables of several splits, one after another."""

    place: Path
    tables: tuple[datasets.Dataset, ...] = field(repr=False)
    column: str
    states: tuple[FileState, ...]

    def state(self, number: int) -> FileState | None:
        """That of the file that holds the image's table."""
        return self.states[self._at(number)[0]]

    def read(self, number: int) -> bytes:
        """The image's file as the table has it. Raises BrokenImageError."""
        table, row = self._at(number)
        value: Mapping[str, Any] | None = self.tables[table][row][self.column]
        if value is None:
            raise BrokenImageError("empty")
        content = value.get("bytes")
        if content is None and value.get("path"):
            return read_file(Path(value["path"]))
        if not content:
            raise BrokenImageError("empty")
        return bytes(content)

    def units(self) -> None:
        """Tables are memory-mapped: each image is reached alone."""

    def _at(self, number: int) -> tuple[int, int]:
        for index, table in enumerate(self.tables):
            if number < len(table):
                return index, number
            number -= len(table)
        raise IndexError(number)


def open_tables(builder: datasets.DatasetBuilder, name: str) -> tuple[Listing, HubBytes]:
    """All images, numbered split by split. Raises UsageError, DatasetMissingError."""
    import datasets

    loaded = tables_of(builder, name)
    columns = Columns.of(loaded[next(iter(loaded))].features, list(loaded), name)
    tables: list[datasets.Dataset] = []
    for split in columns.parts:
        table = loaded[split]
        if not {columns.image, columns.label} <= set(table.features):
            raise UsageError(
                f"{shown(name)}: split {split} lacks the column {columns.image} or {columns.label}."
            )
        image_only = table.select_columns([columns.image])
        tables.append(image_only.cast_column(columns.image, datasets.Image(decode=False)))

    def labels() -> Iterator[tuple[str, Iterator[str]]]:
        for split in columns.parts:
            where = f"{shown(name)}, split {split}"
            words = Labels(columns.label, loaded[split].features[columns.label], where)
            yield split, words.texts(loaded[split][columns.label])

    listing = listing_of(name, columns, list(loaded), labels())
    kept = [file["filename"] for table in tables for file in table.cache_files]
    place = Path("/hub") / sha256_hex("\n".join((*kept, columns.image, columns.label)).encode())
    return listing, HubBytes(place, tuple(tables), columns.image, tuple(map(_state, tables)))


def _state(table: datasets.Dataset) -> FileState:
    """Of the table's files together: the fetched tables are never changed, but may be made anew."""
    statuses = [Path(file["filename"]).stat() for file in table.cache_files]
    return FileState(
        sum(status.st_size for status in statuses),
        max((status.st_mtime_ns for status in statuses), default=1),
        0,
        0,
    )
