"""The operators of a `.tflite` model, so that two models of one network can be compared.

The model that was measured is written directly; the one that ships comes out of TensorFlow's converter. Both
must be made of the same operators: a latency of one then holds for the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from stages.conversion.file_check import ACTIVATIONS, PADDINGS, check_file, numbers, operator_names, text

_CONVOLUTIONS = {"CONV_2D": schema.Conv2DOptions, "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptions}
_FUSING = {**_CONVOLUTIONS, "ADD": schema.AddOptions, "MUL": schema.MulOptions}


@dataclass(frozen=True)
class Operator:
    """What decides how long an operator takes. Shapes are NHWC; of a kernel as TFLite has them.

    ``kernel``, ``stride``, ``dilation`` and ``padding`` are those of a convolution. The padding of a 1x1
    kernel means nothing and is empty.
    """

    name: str
    output: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: int = 1
    dilation: int = 1
    padding: str = ""
    activation: str = "NONE"

    def __str__(self) -> str:
        """``CONV_2D 1x1 to 1x16x16x24 with RELU6``."""
        words = [self.name]
        if self.kernel:
            words.append("x".join(map(str, self.kernel[1:3])))
        words += [f"stride {self.stride}"] if self.stride > 1 else []
        words += [f"dilation {self.dilation}"] if self.dilation > 1 else []
        words.append(f"to {'x'.join(map(str, self.output)) or 'one value'}")
        words += [f"with {self.activation}"] if self.activation != "NONE" else []
        return " ".join(words)


@dataclass(frozen=True)
class Placed:
    """An operator and the name of the tensor that it writes."""

    operator: Operator
    tensor: str


def read_operators(model: bytes) -> tuple[Placed, ...]:
    """All operators of a model's first graph, in the file's order.

    Raises ConversionError for a damaged file.
    """
    root = check_file(model)
    names = operator_names(root)
    graph = root.Subgraphs(0)
    found = []
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        outputs = numbers(operator.OutputsAsNumpy())
        tensor = text(graph.Tensors(outputs[0]).Name()) if outputs else ""
        found.append(Placed(_operator(names[operator.OpcodeIndex()], operator, graph), tensor))
    return tuple(found)


def _operator(name: str, operator: Any, graph: Any) -> Operator:
    outputs = numbers(operator.OutputsAsNumpy())
    output = _shape(graph.Tensors(outputs[0])) if outputs else ()
    table = operator.BuiltinOptions()
    if name not in _FUSING or table is None:
        return Operator(name, output)
    options = _FUSING[name]()
    options.Init(table.Bytes, table.Pos)
    activation = ACTIVATIONS[options.FusedActivationFunction()]
    if name not in _CONVOLUTIONS:
        return Operator(name, output, activation=activation)
    kernel = _shape(graph.Tensors(operator.Inputs(1)))
    return Operator(
        name,
        output,
        kernel=kernel,
        stride=options.StrideH(),
        dilation=options.DilationHFactor(),
        padding="" if kernel[1:3] == (1, 1) else PADDINGS[options.Padding()],
        activation=activation,
    )


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))


@dataclass(frozen=True)
class OperatorChange:
    """Operators that only one of two models has: ``lost`` of the first, ``new`` in the second."""

    lost: tuple[Placed, ...]
    new: tuple[Placed, ...]


def changed_operators(first: Sequence[Placed], second: Sequence[Placed]) -> OperatorChange | None:
    """What differs between two models' operators, whatever their order; None where nothing does."""
    lost, new = _beyond(first, second), _beyond(second, first)
    return OperatorChange(lost, new) if lost or new else None


def _beyond(these: Sequence[Placed], others: Sequence[Placed]) -> tuple[Placed, ...]:
    left = Counter(placed.operator for placed in others)
    found = []
    for placed in these:
        if left[placed.operator] > 0:
            left[placed.operator] -= 1
        else:
            found.append(placed)
    return tuple(found)
