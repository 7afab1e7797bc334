"""Does every offset of a `.tflite` file lead to a place inside it?

FlatBuffers' own check of that exists in C++ only, and the schema's generated Python code follows any offset
that it reads. What this module has accepted, that code can read without an error. Layout:
https://flatbuffers.dev/internals; tables: ``tensorflow/compiler/mlir/lite/schema/schema.fbs``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_UINT16, _INT32, _UINT32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")
_READS_PER_BYTE = 8
"""A sound file is read once. One whose tables share their parts a thousandfold would take hours."""


class OutOfBoundsError(ValueError):
    """An offset or a length leads out of the file; the words continue "in a file in which"."""


@dataclass(frozen=True)
class Field:
    """What a table's field holds: a number or a vector of numbers of ``size`` bytes, a string, or tables."""

    kind: Literal["number", "numbers", "string", "table", "tables"]
    size: int = 4
    table: str = ""


_NUMBER1, _NUMBER4, _NUMBER8 = (Field("number", size) for size in (1, 4, 8))
_NUMBERS1, _NUMBERS4, _NUMBERS8 = (Field("numbers", size) for size in (1, 4, 8))
_STRING = Field("string")


def _tables(name: str) -> Field:
    return Field("tables", table=name)


# By the number of the field in the schema. Fields that nothing here reads are left out: LiteRT checks those.
_TABLES: Mapping[str, Mapping[int, Field]] = {
    "Model": {
        0: _NUMBER4,
        1: _tables("OperatorCode"),
        2: _tables("SubGraph"),
        3: _STRING,
        4: _tables("Buffer"),
        5: _NUMBERS4,
        6: _tables("Metadata"),
    },
    "OperatorCode": {0: _NUMBER1, 1: _STRING, 2: _NUMBER4, 3: _NUMBER4},
    "SubGraph": {0: _tables("Tensor"), 1: _NUMBERS4, 2: _NUMBERS4, 3: _tables("Operator"), 4: _STRING},
    "Tensor": {
        0: _NUMBERS4,
        1: _NUMBER1,
        2: _NUMBER4,
        3: _STRING,
        4: Field("table", table="QuantizationParameters"),
        5: _NUMBER1,
        6: Field("table", table="any"),
        7: _NUMBERS4,
        8: _NUMBER1,
    },
    "QuantizationParameters": {0: _NUMBERS4, 1: _NUMBERS4, 2: _NUMBERS4, 3: _NUMBERS8, 6: _NUMBER4},
    "Operator": {
        0: _NUMBER4,
        1: _NUMBERS4,
        2: _NUMBERS4,
        3: _NUMBER1,
        4: Field("table", table="any"),
        5: _NUMBERS1,
        9: _NUMBER8,
        10: _NUMBER8,
    },
    "Buffer": {0: _NUMBERS1, 1: _NUMBER8, 2: _NUMBER8},
    "Metadata": {0: _STRING, 1: _NUMBER4},
    "Conv2DOptions": dict(enumerate([_NUMBER1, _NUMBER4, _NUMBER4, _NUMBER1, _NUMBER4, _NUMBER4, _NUMBER1])),
    "DepthwiseConv2DOptions": dict(
        enumerate([_NUMBER1, _NUMBER4, _NUMBER4, _NUMBER4, _NUMBER1, _NUMBER4, _NUMBER4])
    ),
    "AddOptions": {0: _NUMBER1, 1: _NUMBER1},
    "MulOptions": {0: _NUMBER1},
    "any": {},
}


def check_bounds(model: bytes) -> None:
    """Follow all offsets from the root.

    Raises OutOfBoundsError; takes time in proportion to the file's size.
    """
    bounds = _Bounds(model)
    bounds.table(bounds.offset(0, "the root table"), "Model")


def check_table(model: bytes, at: int, name: str) -> None:
    """Follow the offsets of one table at a place in the file (a union's). Raises OutOfBoundsError."""
    _Bounds(model).table(at, name)


class _Bounds:
    def __init__(self, model: bytes) -> None:
        self._view = memoryview(model)
        self._left = _READS_PER_BYTE * len(model)

    def table(self, at: int, name: str) -> None:
        fields = self._fields(at, name)
        for number, field in _TABLES[name].items():
            if number >= len(fields) or fields[number] == 0:
                continue
            place, what = at + fields[number], f"field {number} of a table {name}"
            match field.kind:
                case "number":
                    self._need(place, field.size, what)
                case "numbers":
                    self._vector(place, field.size, what)
                case "string":
                    self._vector(place, 1, what)
                case "table":
                    self.table(self.offset(place, what), field.table)
                case "tables":
                    start, count = self._vector(place, 4, what)
                    for element in range(start, start + 4 * count, 4):
                        self.table(self.offset(element, what), field.table)

    def offset(self, at: int, what: str) -> int:
        """Where the forward offset at ``at`` leads."""
        self._need(at, 4, what)
        return at + int(_UINT32.unpack_from(self._view, at)[0])

    def _fields(self, at: int, name: str) -> tuple[int, ...]:
        """Offsets of a table's fields from its start, by their number; 0 where a field is absent."""
        what = f"a table {name}"
        self._need(at, 4, what)
        layout = at - int(_INT32.unpack_from(self._view, at)[0])
        self._need(layout, 4, f"the layout of {what}")
        length, size = (int(_UINT16.unpack_from(self._view, layout + step)[0]) for step in (0, 2))
        self._need(layout, length, f"the layout of {what}")
        self._need(at, size, what)
        if length < 4 or length % 2:
            raise OutOfBoundsError(f"the layout of {what} has {length} bytes")
        fields = struct.unpack_from(f"<{(length - 4) // 2}H", self._view, layout + 4)
        if any(field >= size for field in fields if field):
            raise OutOfBoundsError(f"{what} of {size} bytes has a field at {max(fields)}")
        return fields

    def _vector(self, at: int, size: int, what: str) -> tuple[int, int]:
        """First element's place and number of elements of ``size`` bytes."""
        start = self.offset(at, what)
        self._need(start, 4, what)
        count = int(_UINT32.unpack_from(self._view, start)[0])
        self._need(start + 4, count * size, what)
        return start + 4, count

    def _need(self, at: int, size: int, what: str) -> None:
        if at < 0 or at + size > len(self._view):
            raise OutOfBoundsError(
                f"{what} lies at bytes {at} to {at + size}, and the file has {len(self._view)}"
            )
        self._left -= size
        if self._left < 0:
            raise OutOfBoundsError(f"{what} and others share their bytes again and again")
