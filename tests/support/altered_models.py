"""`.tflite` models with operators that a conversion should not have left in them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from stages.conversion.model_file import packed, unpacked


def with_operator_behind(
    model: bytes,
    place: int,
    operator: str,
    constant: NDArray[Any] | None = None,
    *,
    unfused: bool = False,
    beside: bool = False,
) -> bytes:
    """The model with one more operator, which takes and gives the output of the operator at a place.

    ``constant`` is its second input. ``unfused``: the operator before it loses its own activation.
    ``beside``: the next operator still reads what the one at the place writes.
    """
    content = unpacked(model)
    graph = content.subgraphs[0]
    (source,) = graph.operators[place].outputs
    if unfused:
        graph.operators[place].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
    output = _add_tensor(graph, copy.copy(graph.tensors[source]), f"{operator}.added")
    inputs = [int(source)]
    if constant is not None:
        content.buffers.append(schema.BufferT(data=constant.tobytes()))
        kind = schema.TensorType.INT32 if constant.dtype == np.int32 else schema.TensorType.FLOAT32
        tensor = schema.TensorT(shape=list(constant.shape), type=kind, buffer=len(content.buffers) - 1)
        inputs.append(_add_tensor(graph, tensor, f"{operator}.constant"))
    later = graph.operators[place + 1 + beside :]
    assert not beside or source in graph.operators[place + 1].inputs
    for reader in later:
        reader.inputs = [output if index == source else index for index in reader.inputs]
    graph.outputs = [output if index == source else index for index in graph.outputs]
    graph.operators.insert(place + 1, _operator(content, operator, inputs, output))
    return packed(content)


def with_half_weights(model: bytes) -> bytes:
    """The model with its kernels and biases in float16, each widened by a DEQUANTIZE."""
    content = unpacked(model)
    graph = content.subgraphs[0]
    widened: list[Any] = []
    for operator in graph.operators:
        operator.inputs = list(operator.inputs)
        for position, index in enumerate(operator.inputs):
            tensor = graph.tensors[index]
            data = content.buffers[tensor.buffer].data
            if data is None or tensor.type != schema.TensorType.FLOAT32:
                continue
            half = copy.copy(tensor)
            half.type = schema.TensorType.FLOAT16
            values = np.frombuffer(bytes(data), np.float32).astype(np.float16)
            content.buffers.append(schema.BufferT(data=values.tobytes()))
            half.buffer = len(content.buffers) - 1
            stored = _add_tensor(graph, half, "half")
            whole = copy.copy(tensor)
            whole.buffer = 0
            wide = _add_tensor(graph, whole, "widened")
            widened.append(_operator(content, "DEQUANTIZE", [stored], wide))
            operator.inputs[position] = wide
    graph.operators = [*widened, *graph.operators]
    return packed(content)


def with_scaled_kernel(model: bytes, number: int, factor: float = 1.05) -> bytes:
    """The model with one output channel of its n-th convolution's kernel scaled."""
    content = unpacked(model)
    graph = content.subgraphs[0]
    kernels = [
        graph.tensors[operator.inputs[1]]
        for operator in graph.operators
        if len(operator.inputs) == 3 and len(graph.tensors[operator.inputs[1]].shape) == 4
    ]
    buffer = content.buffers[kernels[number].buffer]
    values = np.frombuffer(bytes(buffer.data), np.float32).copy()
    values[: values.size // 2] *= factor
    buffer.data = values.tobytes()
    return packed(content)


def _add_tensor(graph: Any, tensor: Any, name: str) -> int:
    tensor.name = name
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(content: Any, operator: str, inputs: list[int], output: int) -> Any:
    number = getattr(schema.BuiltinOperator, operator)
    numbers = [code.builtinCode for code in content.operatorCodes]
    if number not in numbers:
        content.operatorCodes.append(
            schema.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=1)
        )
        numbers.append(number)
    return schema.OperatorT(opcodeIndex=numbers.index(number), inputs=inputs, outputs=[output])
