"""A `.tflite` file's content as objects, and back."""

from __future__ import annotations

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

_ALIGNMENT = 16  # the schema's force_align of buffers, which the generated Python code does not heed
_HEADER = b"TFL3"


def unpacked(model: bytes) -> Any:
    """The model as a ``schema.ModelT``. Only for files that this program has made: nothing is checked."""
    return schema.ModelT.InitFromPackedBuf(model)


def packed(model: Any) -> bytes:
    """The file of a ``schema.ModelT``, its buffers aligned as the schema asks."""
    buffers, model.buffers = model.buffers, [_Aligned(buffer) for buffer in model.buffers]
    content = sum(len(buffer.data) for buffer in buffers if buffer.data is not None)
    builder = flatbuffers.Builder(content + 65_536)
    builder.Finish(model.Pack(builder), file_identifier=_HEADER)
    return bytes(builder.Output())


class _Aligned:
    """A buffer that packs itself aligned."""

    def __init__(self, buffer: Any) -> None:
        self._data = None if buffer.data is None else bytes(buffer.data)

    def Pack(self, builder: Any) -> int:
        if self._data is None:
            schema.BufferStart(builder)
            return int(schema.BufferEnd(builder))
        builder.StartVector(1, len(self._data), _ALIGNMENT)
        builder.head -= len(self._data)
        builder.Bytes[builder.head : builder.head + len(self._data)] = self._data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))
