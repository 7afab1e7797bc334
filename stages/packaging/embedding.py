"""Metadata and label files put into a `.tflite` file, as readers of TFLite metadata look for them.

The metadata are one more buffer, named by an entry ``TFLITE_METADATA`` of the model's root table; associated
files follow the model as an uncompressed zip archive (LiteRT's page "Adding metadata"; MediaPipe's
metadata_extractor.cc takes no other).

A flatbuffer refers forward only, so a new root table in front of the old bytes refers to all that they hold.
They move by a multiple of 16, and what was aligned stays aligned. Buffers that stand behind the flatbuffer
(as ai-edge-quantizer writes more than 256 kB of them) are brought into it: older runtimes look nowhere else.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.number_types import UOffsetTFlags, VOffsetTFlags

from nasflow.base.errors import ConversionError
from stages.packaging.archive import append_stored

METADATA_NAME = b"TFLITE_METADATA"
_ALIGNMENT = 16
_KNOWN_FIELDS = 8  # of the root table; a later schema may have more, which would be lost
_KEPT = {
    1: schema.ModelAddOperatorCodes,
    2: schema.ModelAddSubgraphs,
    3: schema.ModelAddDescription,
    5: schema.ModelAddMetadataBuffer,
    7: schema.ModelAddSignatureDefs,
}


def with_metadata(model: bytes, metadata: bytes, files: Mapping[str, bytes]) -> bytes:
    """The model with its metadata and its associated files, by name.

    Raises ConversionError where the model has metadata already, or is of a form that cannot take them.
    """
    root = schema.Model.GetRootAs(model)
    _check(model, root)
    outside = _buffers_outside(root)
    old = model[: min((begin for begin, _ in outside.values()), default=len(model))]
    old += bytes(-len(old) % _ALIGNMENT)

    def place(position: int) -> int:
        """A place in the old bytes as the builder counts: from the end."""
        return len(old) - position

    size = len(model) + len(metadata) + 64 * (root.BuffersLength() + root.MetadataLength() + 64)
    builder = flatbuffers.Builder(size)
    _prepend(builder, old)
    buffers = [
        _buffer(builder, model[outside[index][0] :][: outside[index][1]])
        if index in outside
        else place(root.Buffers(index)._tab.Pos)
        for index in range(root.BuffersLength())
    ]
    buffers.append(_buffer(builder, metadata))

    name = builder.CreateString(METADATA_NAME.decode())
    schema.MetadataStart(builder)
    schema.MetadataAddName(builder, name)
    schema.MetadataAddBuffer(builder, root.BuffersLength())
    entries = [place(root.Metadata(index)._tab.Pos) for index in range(root.MetadataLength())]
    entries.append(schema.MetadataEnd(builder))

    all_buffers, all_entries = _vector(builder, buffers), _vector(builder, entries)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, root.Version())
    for field, add in _KEPT.items():
        if (position := _target(root._tab, field)) is not None:
            add(builder, place(position))
    schema.ModelAddBuffers(builder, all_buffers)
    schema.ModelAddMetadata(builder, all_entries)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    return append_stored(bytes(builder.Output()), files)


def _buffers_outside(root: schema.Model) -> dict[int, tuple[int, int]]:
    """Where the buffers begin that stand behind the flatbuffer, and their sizes; by their index."""
    buffers = {index: root.Buffers(index) for index in range(root.BuffersLength())}
    return {i: (int(b.Offset()), int(b.Size())) for i, b in buffers.items() if b.Offset() > 1}


def _buffer(builder: flatbuffers.Builder, content: bytes) -> int:
    builder.StartVector(1, len(content), _ALIGNMENT)
    _prepend(builder, content)
    data = builder.EndVector()
    schema.BufferStart(builder)
    schema.BufferAddData(builder, data)
    return int(schema.BufferEnd(builder))


def _prepend(builder: flatbuffers.Builder, content: bytes) -> None:
    builder.head -= len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _target(table: flatbuffers.table.Table, field: int) -> int | None:
    """Where what a field refers to begins; None where the field is not set."""
    offset = table.Offset(4 + 2 * field)
    return int(table.Indirect(table.Pos + offset)) if offset else None


def _check(model: bytes, root: schema.Model) -> None:
    table = root._tab
    vtable = table.Pos - table.Get(flatbuffers.number_types.SOffsetTFlags, table.Pos)
    fields = (int(table.Get(VOffsetTFlags, vtable)) - 4) // VOffsetTFlags.bytewidth
    names = {root.Metadata(index).Name() for index in range(root.MetadataLength())}
    trouble = ""
    if METADATA_NAME in names or zipfile.is_zipfile(io.BytesIO(model)):
        trouble = "it has metadata already"
    elif fields > _KNOWN_FIELDS:
        trouble = f"its root table has {fields} fields, and only {_KNOWN_FIELDS} are known"
    elif len(model) > UOffsetTFlags.max_val // 4:
        trouble = f"it is too large ({len(model):,} bytes)"
    elif any(begin + size > len(model) for begin, size in _buffers_outside(root).values()):
        trouble = "its weights are cut off"
    if trouble:
        raise ConversionError(
            f"metadata cannot be put into the .tflite model: {trouble}.",
            hint="Ship the model as nasflow converted it: nasflow run --force convert.",
        )
