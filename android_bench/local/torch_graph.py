"""An ONNX model as a PyTorch module: of the operators that ``stages/conversion/onnx_file.py`` writes.

The module is a :class:`torch.fx.GraphModule`: it holds no value longer than it is needed, as a written-out
``forward`` would, and takes batches of any size. Padding that is not the same on both sides is an operator of
its own, as PyTorch's convolutions have none.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from torch import fx, nn
from torch.nn import functional

from android_bench.local.serving import ModelError


@dataclass(frozen=True)
class TorchModel:
    """``module`` takes and answers ``kind`` (N, ...); ``shape`` is that of one input, without N."""

    module: fx.GraphModule
    kind: torch.dtype
    shape: tuple[int, ...]


def torch_model(content: bytes) -> TorchModel:
    """The module, on the CPU, its maps of features channels last. Raises ModelError.

    Channels last (NHWC in memory) is what PyTorch's and NVIDIA's guides advise for convolutions on tensor
    cores.
    """
    try:
        graph = onnx.load_from_string(content).graph
    except DecodeError as error:
        raise ModelError(f"this is no ONNX model ({error})") from error
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ModelError(
            f"the model has {len(graph.input)} inputs and {len(graph.output)} outputs, and not one of each"
        )
    given = graph.input[0].type.tensor_type
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(given.elem_type))
    shape = tuple(axis.dim_value for axis in given.shape.dim[1:])
    module = _Building(graph).module().eval()
    return TorchModel(
        module.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        torch.from_numpy(np.empty(0, kind)).dtype,
        shape,
    )


class _Building:
    """One graph on its way: ONNX's names -> what stands for them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._source = graph
        self._arrays = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
        self._root, self._graph = nn.Module(), fx.Graph()
        self._values = {graph.input[0].name: self._graph.placeholder("x")}

    def module(self) -> fx.GraphModule:
        for node in self._source.node:
            add = _OPERATORS.get(node.op_type)
            if add is None:
                raise ModelError(f"the operator {node.op_type} is not known")
            named = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self._values[node.output[0]] = add(self, list(node.input), named)
        self._graph.output(self._values[self._source.output[0].name])
        return fx.GraphModule(self._root, self._graph)

    def value(self, name: str) -> fx.Node:
        """What an operator takes: a result, or a constant."""
        if name not in self._values:
            # Copied: an array of a message cannot be written to, and torch wants to be able to.
            self._root.register_buffer(name, torch.from_numpy(self._arrays[name].copy()))
            self._values[name] = self._graph.get_attr(name)
        return self._values[name]

    def number(self, name: str) -> float:
        """A constant of one number."""
        return float(self._arrays[name].item())

    def call(self, function: Callable[..., Any], *inputs: Any, **named: Any) -> fx.Node:
        return self._graph.call_function(function, inputs, named)

    def convolution(self, inputs: list[str], named: Mapping[str, Any]) -> fx.Node:
        top, left, bottom, right = named["pads"]
        source, padding = self.value(inputs[0]), (top, left)
        if (top, left) != (bottom, right):
            source, padding = self.call(functional.pad, source, (left, right, top, bottom)), (0, 0)
        return self.call(
            functional.conv2d,
            source,
            self.value(inputs[1]),
            self.value(inputs[2]),
            stride=tuple(named["strides"]),
            padding=padding,
            dilation=tuple(named["dilations"]),
            groups=named["group"],
        )

    def clip(self, inputs: list[str], _named: Mapping[str, Any]) -> fx.Node:
        return self.call(
            functional.hardtanh, self.value(inputs[0]), self.number(inputs[1]), self.number(inputs[2])
        )

    def mean(self, inputs: list[str], named: Mapping[str, Any]) -> fx.Node:
        axes = [int(axis) for axis in self._arrays[inputs[1]]]
        return self.call(torch.mean, self.value(inputs[0]), dim=axes, keepdim=bool(named["keepdims"]))


def _plain(function: Callable[..., Any], **named: Any) -> Callable[..., fx.Node]:
    """An operator that takes what ONNX's takes, and has no attributes that differ."""

    def add(building: _Building, inputs: list[str], _named: Mapping[str, Any]) -> fx.Node:
        return building.call(function, *map(building.value, inputs), **named)

    return add


_OPERATORS: Mapping[str, Callable[[_Building, list[str], Mapping[str, Any]], fx.Node]] = {
    "Conv": _Building.convolution,
    "Clip": _Building.clip,
    "ReduceMean": _Building.mean,
    "Gemm": _plain(functional.linear),  # its weights are written transposed, as functional.linear takes them
    "Flatten": _plain(torch.flatten, start_dim=1),
    "Softmax": _plain(functional.softmax, dim=1),
    "Add": _plain(operator.add),
    "Mul": _plain(operator.mul),
    "Relu": _plain(functional.relu),
    "HardSwish": _plain(functional.hardswish),
    "Sigmoid": _plain(torch.sigmoid),
}
