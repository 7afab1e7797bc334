"""A network as a small typed graph, read from ONNX.

Layout is ONNX's: images NCHW, convolution weights OIHW (output, input, height, width).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from nasflow.base.errors import ConversionError

Attribute: TypeAlias = int | float | str | tuple[int, ...] | tuple[float, ...]
Array: TypeAlias = NDArray[Any]

SUPPORTED_OPERATORS = frozenset(
    {
        "Add", "BatchNormalization", "Clip", "Conv", "Flatten", "Gemm", "GlobalAveragePool",
        "HardSigmoid", "HardSwish", "Identity", "MatMul", "Mul", "Pad", "ReduceMean", "Relu", "Reshape",
    }
)  # fmt: skip
DEPTHWISE = "depthwise"
"""Our own attribute of a convolution: ONNX tells a depthwise one by its groups, and one channel has one."""


@dataclass(frozen=True)
class Node:
    """One operation. An optional input that is left out is an empty string."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute]

    def input(self, index: int) -> str:
        """Name of an input; empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def number(self, name: str, default: float) -> float:
        """A float attribute."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, float | int) else default

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, str) else default

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of integers."""
        value = self.attributes.get(name, default)
        return tuple(int(item) for item in value) if isinstance(value, tuple) else default


@dataclass(frozen=True)
class Graph:
    """One image in, one tensor out; ``nodes`` in an order in which they can be computed."""

    input_name: str
    input_shape_NCHW: tuple[int, int, int, int]
    output_name: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor."""
        return tuple(node for node in self.nodes if tensor in node.inputs)


def read_graph(model: bytes) -> Graph:
    """The graph of an ONNX model with one NCHW float32 input of fixed size and batch size 1.

    Identity nodes are resolved. Raises ConversionError where the model is not valid, has another
    signature, or holds an operator that cannot be translated.
    """
    proto = _checked(model)
    constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    for node in proto.graph.node:
        operator = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        inputs = tuple(alias.get(name, name) for name in node.input)
        outputs = [name for name in node.output if name]
        attributes = {a.name: a for a in node.attribute}
        if operator == "Constant" and "value" in attributes:
            constants[outputs[0]] = numpy_helper.to_array(attributes["value"].t)
            continue
        if operator not in SUPPORTED_OPERATORS or len(outputs) != 1:
            raise unsupported(operator, node.name)
        if operator == "Identity":
            alias[outputs[0]] = inputs[0]
            continue
        plain = {name: _plain(a, operator, node.name) for name, a in attributes.items()}
        nodes.append(Node(operator, node.name, inputs, outputs[0], plain))
    input_name, input_shape = _input(proto.graph, constants)
    if len(proto.graph.output) != 1:
        raise ConversionError(
            f"the network has {len(proto.graph.output)} outputs; a converted network has one.",
            hint="Let the network's forward return its logits alone.",
        )
    output = proto.graph.output[0].name
    return Graph(input_name, input_shape, alias.get(output, output), tuple(nodes), constants)


def unsupported(operator: str, node: str, why: str = "") -> ConversionError:
    """The error for an operation that has no translation: it names operator, node and the way out."""
    reason = f": {why}" if why else ""
    return ConversionError(
        f"operator {operator} (node {node or 'without a name'}) cannot be converted to TFLite{reason}.",
        hint=f"Supported operators: {', '.join(sorted(SUPPORTED_OPERATORS))}.",
    )


def _checked(model: bytes) -> onnx.ModelProto:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load_model_from_string(model)
        onnx.checker.check_model(proto, full_check=True)
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"the ONNX model is not valid: {str(error).strip().splitlines()[0].rstrip('.')}.",
            hint="Convert again from the network's weights.",
            raw=str(error),
        ) from error
    return proto


def _plain(attribute: onnx.AttributeProto, operator: str, node: str) -> Attribute:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float):
        return value
    if isinstance(value, onnx.TensorProto | onnx.GraphProto | onnx.SparseTensorProto):
        raise unsupported(operator, node, f"attribute {attribute.name} is not a number, a text or a list")
    return tuple(value)


def _input(graph: onnx.GraphProto, constants: Mapping[str, Array]) -> tuple[str, tuple[int, int, int, int]]:
    inputs = [value for value in graph.input if value.name not in constants]
    shapes = [tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in inputs]
    if len(inputs) == 1 and len(shapes[0]) == 4 and shapes[0][0] == 1 and all(shapes[0]):
        batch, channels, height, width = shapes[0]
        if inputs[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            return inputs[0].name, (batch, channels, height, width)
    seen = ", ".join(f"{value.name} {list(shape)}" for value, shape in zip(inputs, shapes, strict=True))
    raise ConversionError(
        f"the network's input is not one float32 image of fixed size (1, C, H, W): {seen or 'none'}.",
        hint="Convert with a fixed resolution and batch size 1.",
    )
