"""Where each image of a data set's shards lies: a unit of a shard, and the place in it. Kept in the cache.

A unit is a range of a file's bytes, or a Parquet row group whose images cannot be reached without
decompressing it. In the first, an image is a number of bytes at an offset; in the second, a row.
"""

from __future__ import annotations

import io
import json
import zipfile
from array import array
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nasflow.base import files
from nasflow.base.errors import MachineError

BYTES = -1
"""In place of a row group's number: the unit is a range of bytes."""
ABSENT = -1
"""In place of an offset: the row has no image."""
_ARRAYS = ("units_U4", "unit_N", "start_N", "size_N", "label_N")


class Unit(NamedTuple):
    """Bytes ``start`` to ``stop`` of a shard, or its row group, which takes ``stop - start`` decompressed."""

    shard: int
    row_group: int
    start: int
    stop: int


@dataclass(frozen=True)
class Spans:
    """Images by number: ``units_U4`` as :class:`Unit`, ``unit_N``, ``start_N`` (offset in the file, or row
    in the group), ``size_N`` (bytes; in a row group the mean), ``label_N`` (index in ``labels``). All int64.

    ``rows``: how many images each split has; they are numbered split by split.
    """

    units_U4: NDArray[np.int64]
    unit_N: NDArray[np.int64]
    start_N: NDArray[np.int64]
    size_N: NDArray[np.int64]
    label_N: NDArray[np.int64]
    labels: tuple[str, ...]
    rows: Mapping[str, int]

    def unit(self, number: int) -> Unit:
        """The unit of one image."""
        return Unit(*map(int, self.units_U4[self.unit_N[number]]))

    def save(self, path: Path) -> None:
        """Keep them; a full or read-only disk is no error: they are found again."""
        content = io.BytesIO()
        words = json.dumps({"labels": self.labels, "rows": dict(self.rows)}).encode()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez(content, allow_pickle=False, words=np.frombuffer(words, np.uint8), **arrays)
        with suppress(MachineError):
            files.write_atomic(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Those of an earlier time; None where there are none, or they are damaged."""
        try:
            content = files.read_or_none(path)
            if content is None:
                return None
            with np.load(io.BytesIO(content), allow_pickle=False) as kept:
                words = json.loads(kept["words"].tobytes())
                units_U4, unit_N, start_N, size_N, label_N = (kept[name] for name in _ARRAYS)
            labels, rows = tuple(words["labels"]), dict(words["rows"])
            return cls(units_U4, unit_N, start_N, size_N, label_N, labels, rows)
        except (MachineError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None


@dataclass
class SpansBuilder:
    """Collects units and images in their order."""

    units: list[Unit] = field(default_factory=list)
    unit_N: array[int] = field(default_factory=lambda: array("q"))
    start_N: array[int] = field(default_factory=lambda: array("q"))
    size_N: array[int] = field(default_factory=lambda: array("q"))
    label_N: array[int] = field(default_factory=lambda: array("q"))
    labels: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.unit_N)

    def add_unit(self, unit: Unit) -> None:
        """The images that follow lie in it."""
        self.units.append(unit)

    def stretch_unit(self, stop: int) -> None:
        """Let the last unit reach to ``stop``."""
        self.units[-1] = self.units[-1]._replace(stop=stop)

    def add_image(self, start: int, size: int, label: str) -> None:
        """The next image."""
        self.unit_N.append(len(self.units) - 1)
        self.start_N.append(start)
        self.size_N.append(size)
        self.label_N.append(self.labels.setdefault(label, len(self.labels)))

    def spans(self, rows: Mapping[str, int]) -> Spans:
        """All that was collected."""
        unit_N, start_N, size_N, label_N = (
            np.array(values, np.int64) for values in (self.unit_N, self.start_N, self.size_N, self.label_N)
        )
        units_U4 = np.array(self.units, np.int64).reshape(len(self.units), 4)
        return Spans(units_U4, unit_N, start_N, size_N, label_N, tuple(self.labels), rows)
