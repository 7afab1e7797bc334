"""Constants of a `.tflite` model that are no numbers: where they stand, by the operator that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.conversion.file_check import TYPES, check_file, numbers, operator_names, text

_FLOATS = {"FLOAT32": "<f4", "FLOAT16": "<f2", "FLOAT64": "<f8", "BFLOAT16": "<u2"}
_BFLOAT16_EXPONENT = 0x7F80


@dataclass(frozen=True)
class NotFinite:
    """``count`` of the ``total`` values of a constant are NaN or infinite.

    ``layer`` names the output of the operator that reads it and the operator (``blocks.3.project
    (CONV_2D)``); empty where none does.
    """

    tensor: str
    layer: str
    count: int
    total: int


def not_finite_constants(model: bytes, *, name: str = "model") -> tuple[NotFinite, ...]:
    """All constants with a NaN or an infinite value, in the file's order.

    ``name`` is what an error calls the file. Raises ConversionError where the file is damaged.
    """
    root = check_file(model, name=name)
    names = operator_names(root)
    found = []
    counted: dict[tuple[int, str], tuple[int, int]] = {}  # many tensors may share one large buffer
    for place in range(root.SubgraphsLength()):
        graph = root.Subgraphs(place)
        readers = _readers(graph, names)
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            held = tensor.Buffer(), TYPES[tensor.Type()]
            if held not in counted:
                counted[held] = _not_finite(root, *held, model)
            count, total = counted[held]
            if count:
                found.append(NotFinite(text(tensor.Name()), readers.get(index, ""), count, total))
    return tuple(found)


def _readers(graph: Any, names: list[str]) -> dict[int, str]:
    """The first operator that reads each tensor, by the tensor's index."""
    readers: dict[int, str] = {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        outputs = numbers(operator.OutputsAsNumpy())
        output = text(graph.Tensors(outputs[0]).Name()) if outputs else f"operator {index}"
        for tensor in numbers(operator.InputsAsNumpy()):
            readers.setdefault(tensor, f"{output} ({names[operator.OpcodeIndex()]})")
    return readers


def _not_finite(root: Any, buffer_index: int, kind: str, model: bytes) -> tuple[int, int]:
    """How many values of a buffer are no finite numbers, and how many there are, read as this type."""
    form = _FLOATS.get(kind)
    if form is None or buffer_index >= root.BuffersLength():
        return 0, 0
    buffer = root.Buffers(buffer_index)
    if buffer.Offset() > 1:
        held = np.frombuffer(model, np.uint8, buffer.Size(), buffer.Offset())
    elif buffer.DataLength():
        held = buffer.DataAsNumpy()
    else:
        return 0, 0
    values = np.frombuffer(held.tobytes(), form, len(held) // np.dtype(form).itemsize)
    if kind == "BFLOAT16":
        return int(((values & _BFLOAT16_EXPONENT) == _BFLOAT16_EXPONENT).sum()), len(values)
    return int((~np.isfinite(values)).sum()), len(values)
