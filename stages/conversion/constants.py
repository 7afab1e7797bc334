"""Constants of a `.tflite` model that are no numbers: where they are, by the operator that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.conversion.file_check import TYPES, check_file, numbers, operator_names, text

_FLOATS = {"FLOAT32": "<f4", "FLOAT16": "<f2", "FLOAT64": "<f8", "BFLOAT16": "<u2"}
_BFLOAT16_EXPONENT = 0x7F80


@dataclass(frozen=True)
class NotFinite:
    """``count`` of the ``total`` values and scales of a constant are NaN or infinite.

    ``layer`` names the operator that reads it and that operator's output (``CONV_2D blocks.3.project``);
    empty where none does.
    """

    tensor: str
    layer: str
    count: int
    total: int


def not_finite_constants(model: bytes, *, name: str = "model") -> tuple[NotFinite, ...]:
    """All constants with a NaN or an infinite value or scale, in the file's order.

    ``name`` is what an error calls the file. Raises ConversionError where the file is damaged.
    """
    return not_finite_in(check_file(model, name=name), model)


def not_finite_in(root: Any, model: bytes) -> tuple[NotFinite, ...]:
    """The same of a sound model's root table (see :mod:`stages.conversion.file_check`)."""
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
            scales = _scales(tensor)
            count += int((~np.isfinite(scales)).sum())
            if count:
                layer = readers.get(index, "")
                found.append(NotFinite(text(tensor.Name()), layer, count, total + len(scales)))
    return tuple(found)


def _scales(tensor: Any) -> NDArray[np.float32]:
    quantization = tensor.Quantization()
    if quantization is None or quantization.ScaleLength() == 0:
        return np.empty(0, np.float32)
    scales: NDArray[np.float32] = quantization.ScaleAsNumpy()
    return scales


def _readers(graph: Any, names: list[str]) -> dict[int, str]:
    """The first operator that reads each tensor, by the tensor's index."""
    readers: dict[int, str] = {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        outputs = numbers(operator.OutputsAsNumpy())
        output = text(graph.Tensors(outputs[0]).Name()) if outputs else f"operator {index}"
        for tensor in numbers(operator.InputsAsNumpy()):
            readers.setdefault(tensor, f"{names[operator.OpcodeIndex()]} {output}")
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
