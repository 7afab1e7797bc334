"""The metadata of a `.tflite` file of anybody: the names of its classes, and how it wants its pixels.

Fields are those that :mod:`stages.packaging.metadata` writes, by the same schema. The file is not trusted:
every offset is checked where it is followed, lists and label files are bounded, and nothing is run.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import flatbuffers

from nasflow.base.errors import UsageError
from stages.conversion.file_check import sound_root
from stages.packaging.embedding import METADATA_NAME
from stages.packaging.tflite_file import PIXEL_MEAN, PIXEL_STD

MOST_LABEL_BYTES, MOST_LABELS = 8_000_000, 100_000
_MOST_ENTRIES, _MOST_CHANNELS = 1_000, 16
_AXIS_LABELS, _NORMALIZATION = 2, 1  # AssociatedFileType, ProcessUnitOptions
_SUBGRAPHS, _INPUTS, _OUTPUTS, _UNITS, _FILES = 3, 2, 3, 4, 6
_MOST_DIRECTORY = 1_000_000  # bytes of an archive's list of its entries
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1  # bit of an entry's flags
_ARCHIVE_END, _ZIP64_END = b"PK\x05\x06", b"PK\x06\x07"
_NOT_A_TABLE = (struct.error, IndexError, ValueError, TypeError, OverflowError)


@dataclass(frozen=True)
class ReadMetadata:
    """``labels``: of the outputs, in their order; None where the file names none.

    A float input takes ``(pixel - mean) / std``, of each channel or of all. ``stated``: the file says so;
    else it is what nasflow's networks take.
    """

    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] = (PIXEL_MEAN,)
    std: tuple[float, ...] = (PIXEL_STD,)
    stated: bool = False


def read_metadata(model: bytes, *, name: str) -> ReadMetadata:
    """What the file says of itself; ``name`` is what errors call it.

    Raises UsageError for metadata that cannot be read.
    """
    content = _metadata_of(model)
    if content is None:
        return ReadMetadata()
    try:
        graph = _tables(_root(content), _SUBGRAPHS)[0]
        taken, given = _tables(graph, _INPUTS), _tables(graph, _OUTPUTS)
        normalization = _normalization(taken[0]) if taken else None
        label_file = _label_file(given[0]) if given else None
        labels = None if label_file is None else labels_in(_in_zip(model, label_file))
    except (*_NOT_A_TABLE, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UsageError(
            f"the metadata of {name} cannot be read ({type(error).__name__}).",
            hint="Put labels.txt beside a model without metadata, one class a line, in the outputs' order.",
        ) from error
    if normalization is None:
        return ReadMetadata(labels)
    return ReadMetadata(labels, *normalization, stated=True)


def labels_in(content: bytes) -> tuple[str, ...]:
    """The lines of a label file. Raises ValueError for one that is none."""
    if len(content) > MOST_LABEL_BYTES:
        raise ValueError("a label file is not that long")
    lines = content.decode("utf-8").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not 0 < len(lines) <= MOST_LABELS:
        raise ValueError(f"{len(lines)} lines")
    return tuple(line.strip() for line in lines)


def _metadata_of(model: bytes) -> bytes | None:
    root = sound_root(model)
    for index in range(min(root.MetadataLength(), _MOST_ENTRIES)):
        entry = root.Metadata(index)
        if entry.Name() == METADATA_NAME and entry.Buffer() < root.BuffersLength():
            buffer = root.Buffers(entry.Buffer())
            if buffer.DataLength():
                return bytes(buffer.DataAsNumpy())
            begin, size = int(buffer.Offset()), int(buffer.Size())
            return model[begin : begin + size] if size else None
    return None


def _root(content: bytes) -> Any:
    (offset,) = struct.unpack_from("<I", content)
    return _table(content, offset)


def _table(content: bytes, position: int) -> Any:
    if not 0 < position <= len(content) - 4:
        raise ValueError("a table outside")
    return flatbuffers.table.Table(content, position)


def _place(table: Any, field: int) -> int | None:
    """Where a field's value stands; None where it is not set."""
    vtable = table.Pos - struct.unpack_from("<i", table.Bytes, table.Pos)[0]
    if not 0 <= vtable <= len(table.Bytes) - 4:
        raise ValueError("a table of fields outside")
    size = struct.unpack_from("<H", table.Bytes, vtable)[0]
    slot = 4 + 2 * field
    offset = struct.unpack_from("<H", table.Bytes, vtable + slot)[0] if slot + 2 <= size else 0
    return table.Pos + offset if offset else None


def _target(table: Any, field: int) -> int | None:
    place = _place(table, field)
    return None if place is None else place + struct.unpack_from("<I", table.Bytes, place)[0]


def _tables(table: Any, field: int) -> list[Any]:
    target = _target(table, field)
    if target is None:
        return []
    (count,) = struct.unpack_from("<I", table.Bytes, target)
    if count > _MOST_ENTRIES:
        raise ValueError(f"{count} tables")
    places = [target + 4 + 4 * index for index in range(count)]
    return [_table(table.Bytes, place + struct.unpack_from("<I", table.Bytes, place)[0]) for place in places]


def _floats(table: Any, field: int) -> tuple[float, ...]:
    target = _target(table, field)
    if target is None:
        raise ValueError("a normalization without numbers")
    (count,) = struct.unpack_from("<I", table.Bytes, target)
    if not 0 < count <= _MOST_CHANNELS:
        raise ValueError(f"{count} channels")
    return tuple(struct.unpack_from(f"<{count}f", table.Bytes, target + 4))


def _text(table: Any, field: int) -> str:
    target = _target(table, field)
    if target is None:
        return ""
    (size,) = struct.unpack_from("<I", table.Bytes, target)
    return bytes(table.Bytes[target + 4 : target + 4 + size]).decode("utf-8")


def _byte(table: Any, field: int) -> int:
    place = _place(table, field)
    return 0 if place is None else int(table.Bytes[place])


def _normalization(taken: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    for unit in _tables(taken, _UNITS):
        target = _target(unit, 1) if _byte(unit, 0) == _NORMALIZATION else None
        if target is not None:
            options = _table(unit.Bytes, target)
            mean, std = _floats(options, 0), _floats(options, 1)
            numbers = (*mean, *std)
            if len(mean) != len(std) or not all(abs(n) < 1e6 for n in numbers) or not all(s > 0 for s in std):
                raise ValueError("a normalization without sense")
            return mean, std
    return None


def _label_file(given: Any) -> str | None:
    for file in _tables(given, _FILES):
        if _byte(file, 2) == _AXIS_LABELS and not _text(file, 3):  # without a locale
            return _text(file, 0)
    return None


def _in_zip(model: bytes, name: str) -> bytes:
    """A label file: stored or deflated, and not encrypted, in an archive of a few entries.

    Other ways of packing fail in ways of their own, and no writer of metadata uses them.
    """
    _check_directory(model)
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        for entry in archive.infolist()[:_MOST_ENTRIES]:
            if entry.filename == name:
                if entry.file_size > MOST_LABEL_BYTES:
                    raise ValueError("a label file is not that long")
                if entry.compress_type not in _PACKED or entry.flag_bits & _ENCRYPTED:
                    raise ValueError("a label file is stored or deflated, and not encrypted")
                with archive.open(entry) as file:
                    return file.read(MOST_LABEL_BYTES + 1)
    raise ValueError("the label file is missing")


def _check_directory(model: bytes) -> None:
    """Raises ValueError for an archive that lists more entries than can be meant: each takes memory."""
    end = model.rfind(_ARCHIVE_END, max(0, len(model) - 66_000))
    if end < 0:
        raise ValueError("no archive")
    (size,) = struct.unpack_from("<I", model, end + 12)
    if size > _MOST_DIRECTORY or model[max(0, end - 20) : end].startswith(_ZIP64_END):
        raise ValueError("an archive of too many entries")
