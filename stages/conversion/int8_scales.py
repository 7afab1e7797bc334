"""Ranges of which an int8 model can be made that XNNPACK takes over.

A tensor that is zero, or nearly so, for all images that were seen would get steps far below those of what it
is computed from, or added to. XNNPACK refuses such an operator, and with it the whole model (``requantization
scale is greater or equal to 256``). Seen in the parts of a large kernel that lie on padding alone, where the
image is one pixel wide. A wider range costs such a tensor nothing: all its values still are step 0.

Limits: XNNPACK's ``src/operators/convolution-nhwc.c`` and TensorFlow Lite's ``xnnpack_delegate.cc``, in which
scales of input and output of an ADD may differ by 2^-10 to 2^8, and the product of a MUL's by 2^-16 to 2^8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

Range = tuple[float, float]
_STEPS = 255  # of a range, from its least to its greatest value
_KERNEL_STEPS = 127
_LARGEST = 128.0
"""Most steps of the result that one step of what it is computed from may be: half of what XNNPACK takes."""
_SMALLEST = 1 / 512
"""Fewest steps of a sum that one step of what is added may be: twice what XNNPACK takes."""
_SMALLEST_PRODUCT = 1 / 32_768
"""The same of a product and one step of each of its factors."""
_NARROWEST = 1e-6
_WEIGHTED = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
}


@dataclass(frozen=True)
class _Computed:
    """An operator: what it reads that is no constant, what it writes, and its constant's largest value."""

    code: int
    reads: tuple[str, ...]
    writes: str
    largest: float


def with_workable_scales(model: bytes, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges of a float32 model's tensors, those widened of which no operator could be made.

    A range is widened at its upper end. All others stay as they are.
    """
    found = {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in ranges.items()}
    operators = list(_computed(model, found))
    changed = True
    while changed:  # a range that grows may need others to grow: along the graph, and once more at most
        changed = False
        for operator in operators:
            for name, width in _needed(operator, found):
                low, high = found[name]
                if high - low < width:
                    found[name] = (low, low + width * 1.01)  # more than enough, whatever rounding does
                    changed = True
    return found


def _needed(operator: _Computed, ranges: Mapping[str, Range]) -> Iterator[tuple[str, float]]:
    """Least widths of the ranges that an operator writes, adds and multiplies."""
    written, *widths = (
        max(ranges[name][1] - ranges[name][0], _NARROWEST) for name in (operator.writes, *operator.reads)
    )
    if not widths:
        return
    if operator.code in _WEIGHTED:
        yield operator.writes, widths[0] * operator.largest / _KERNEL_STEPS / _LARGEST
    elif operator.code == schema.BuiltinOperator.MUL:
        of_constant = operator.largest * _STEPS / _KERNEL_STEPS
        one, other = widths if len(widths) == 2 else (widths[0], max(of_constant, _NARROWEST))
        yield operator.writes, one * other / _STEPS / _LARGEST
        for name, factor in zip(operator.reads, (other, one), strict=False):  # a constant has no range
            yield name, written * _STEPS * _SMALLEST_PRODUCT / factor
    else:
        yield operator.writes, max(widths) / _LARGEST
    if operator.code == schema.BuiltinOperator.ADD:
        for name in operator.reads:
            yield name, written * _SMALLEST


def _computed(model: bytes, ranges: Mapping[str, Range]) -> Iterator[_Computed]:
    content = schema.Model.GetRootAs(model)
    graph = content.Subgraphs(0)

    def name(place: int) -> str:
        return str(graph.Tensors(place).Name().decode())

    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = content.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = [int(place) for place in operator.InputsAsNumpy() if place >= 0]
        writes = name(operator.Outputs(0))
        largest = 0.0
        if kind in _WEIGHTED or (kind == schema.BuiltinOperator.MUL and name(inputs[1]) not in ranges):
            constant: Any = content.Buffers(graph.Tensors(inputs[1]).Buffer()).DataAsNumpy()
            largest = float(np.abs(constant.view(np.float32)).max())
        reads = tuple(name(place) for place in inputs if name(place) in ranges)
        if writes in ranges:
            yield _Computed(kind, reads, writes, largest)
