"""A `.tflite` file as an ONNX model: for measuring the same network with another engine.

The operators are those that our files are made of, written directly or by TensorFlow's converter, in float32:
one for each, with its activation behind it, as PyTorch's exporter writes them. Maps of features are NCHW in
place of NHWC, and SAME padding is written out, by TensorFlow's rule (the odd place is behind). A file with
float16 weights becomes, where that is asked for, a model that is float16 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from nasflow.base.errors import UsageError
from stages.conversion.file_check import OPERATORS, check_file

OPSET = 20
IR_VERSION = 10
"""Of the ONNX file format: that of opset 20 and 21, which any ONNX Runtime since 1.18 reads."""

_TYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}


def onnx_of(model: bytes, name: str = "the model", *, half: bool = False) -> bytes:
    """The ONNX model. Raises ConversionError for a damaged file, UsageError for what is not translated.

    ``half``: a file with float16 weights is translated, too, and its model computes, takes and answers
    float16.
    """
    check_file(model)
    content = schema.ModelT.InitFromPackedBuf(model)
    return _Translation(content, name, half=half).model()


class _Translation:
    """One graph; tensors are called ``t<index>``, in ONNX as in the file."""

    def __init__(self, content: Any, name: str, *, half: bool) -> None:
        self._content, self._graph, self._name = content, content.subgraphs[0], name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._float16: dict[int, int] = {}
        if half:
            self._float16 = self._stored_in_float16()
        self._kind = np.dtype(np.float16 if self._float16 else np.float32)

    def model(self) -> bytes:
        for operator in self._graph.operators:
            if operator.outputs[0] in self._float16:
                continue
            kind = self._kind_of(operator)
            translate = _TRANSLATORS.get(kind)
            if translate is None:
                raise self._refused(f"the operator {kind}")
            translate(self, operator)
        inputs = [self._value(index) for index in self._graph.inputs]
        outputs = [self._value(index) for index in self._graph.outputs]
        graph = helper.make_graph(self._nodes, "nasflow", inputs, outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        return bytes(model.SerializeToString())

    def _kind_of(self, operator: Any) -> str:
        entry = self._content.operatorCodes[operator.opcodeIndex]
        code = max(
            entry.builtinCode, entry.deprecatedBuiltinCode
        )  # files of before 2020 have the second alone
        return str(OPERATORS.get(code, f"number {code}"))

    def _stored_in_float16(self) -> dict[int, int]:
        """The tensors that DEQUANTIZE makes of float16 constants -> these constants."""
        return {
            operator.outputs[0]: operator.inputs[0]
            for operator in self._graph.operators
            if self._kind_of(operator) == "DEQUANTIZE"
            and self._graph.tensors[operator.inputs[0]].type == schema.TensorType.FLOAT16
            and self._is_constant(operator.inputs[0])
        }

    def convolution(self, operator: Any) -> None:
        """CONV_2D: kernel OHWI to OIHW."""
        self._convolve(operator, self.constant(operator.inputs[1]).transpose(0, 3, 1, 2), groups=1)

    def depthwise(self, operator: Any) -> None:
        """DEPTHWISE_CONV_2D: kernel 1HWC to C1HW, a group for each channel."""
        kernel = self.constant(operator.inputs[1])
        channels = self._graph.tensors[operator.inputs[0]].shape[3]
        if kernel.shape[3] != channels:
            raise self._refused("a depthwise convolution with several outputs for a channel")
        self._convolve(operator, kernel.transpose(3, 0, 1, 2), groups=kernel.shape[3])

    def _convolve(self, operator: Any, kernel: NDArray[Any], groups: int) -> None:
        options, output = operator.builtinOptions, operator.outputs[0]
        strides = [options.strideH, options.strideW]
        dilations = [options.dilationHFactor, options.dilationWFactor]
        sizes = self._graph.tensors[operator.inputs[0]].shape[1:3]
        pads = [0, 0, 0, 0]
        if options.padding == schema.Padding.SAME:
            for axis in (0, 1):
                pads[axis], pads[axis + 2] = _same(
                    int(sizes[axis]), kernel.shape[2 + axis], strides[axis], dilations[axis]
                )
        self._add(
            "Conv",
            [
                f"t{operator.inputs[0]}",
                self._new_constant(f"t{operator.inputs[1]}", kernel),
                *self._bias(operator),
            ],
            output,
            options.fusedActivationFunction,
            kernel_shape=list(kernel.shape[2:]),
            strides=strides,
            dilations=dilations,
            pads=pads,
            group=groups,
        )

    def _bias(self, operator: Any) -> list[str]:
        """The constant that a layer adds, where it has one."""
        index = operator.inputs[2] if len(operator.inputs) > 2 else -1
        return [] if index < 0 else [self._new_constant(f"t{index}", self.constant(index))]

    def dense(self, operator: Any) -> None:
        """FULLY_CONNECTED of a map of one place or a row."""
        source = operator.inputs[0]
        if len(self._graph.tensors[source].shape) != 2:
            raise self._refused("a dense layer of more than rows")
        self._add(
            "Gemm",
            [
                f"t{source}",
                self._new_constant(f"t{operator.inputs[1]}", self.constant(operator.inputs[1])),
                *self._bias(operator),
            ],
            operator.outputs[0],
            operator.builtinOptions.fusedActivationFunction,
            transB=1,
        )

    def mean(self, operator: Any) -> None:
        """MEAN over all places."""
        axes = sorted(int(axis) for axis in self.constant(operator.inputs[1]).reshape(-1))
        if axes != [1, 2]:
            raise self._refused(f"a mean over the axes {axes}")
        places = self._new_constant(f"axes_of_t{operator.outputs[0]}", np.array([2, 3], np.int64))
        self._add(
            "ReduceMean",
            [f"t{operator.inputs[0]}", places],
            operator.outputs[0],
            keepdims=int(operator.builtinOptions.keepDims),
        )

    def reshape(self, operator: Any) -> None:
        """RESHAPE of a map of one place to a row, which is the same in NHWC and NCHW."""
        source, target = (
            list(self._graph.tensors[index].shape) for index in (operator.inputs[0], operator.outputs[0])
        )
        if len(source) != 4 or source[1:3] != [1, 1] or target != [source[0], source[3]]:
            raise self._refused(f"a reshape of {source} to {target}")
        self._add("Flatten", [f"t{operator.inputs[0]}"], operator.outputs[0], axis=1)

    def arithmetic(self, kind: str) -> Callable[[Any], None]:
        """ADD and MUL of two maps, or of a map and a constant."""

        def translate(operator: Any) -> None:
            rank = len(self._graph.tensors[operator.outputs[0]].shape)
            names = [self._operand(index, rank) for index in operator.inputs]
            self._add(kind, names, operator.outputs[0], operator.builtinOptions.fusedActivationFunction)

        return translate

    def _operand(self, index: int, rank: int) -> str:
        if not self._is_constant(index):
            return f"t{index}"
        value = self.constant(index)
        if value.ndim == 4:
            value = value.transpose(0, 3, 1, 2)
        elif rank == 4 and value.ndim == 1 and value.size > 1:
            value = value.reshape(1, -1, 1, 1)  # NHWC adds it to the last axis
        elif value.ndim > 1 and value.ndim != rank:
            raise self._refused(f"a constant of {value.ndim} axes beside a map of {rank}")
        return self._new_constant(f"t{index}", value)

    def alone(self, kind: str) -> Callable[[Any], None]:
        """An operator of one input that has the same name for every layout."""

        def translate(operator: Any) -> None:
            self._add(kind, [f"t{operator.inputs[0]}"], operator.outputs[0])

        return translate

    def relu6(self, operator: Any) -> None:
        """RELU6 that no other operator has taken in."""
        self._clip(f"t{operator.inputs[0]}", f"t{operator.outputs[0]}")

    def softmax(self, operator: Any) -> None:
        """SOFTMAX over classes."""
        if len(self._graph.tensors[operator.outputs[0]].shape) != 2 or operator.builtinOptions.beta != 1:
            raise self._refused("a softmax of other things than classes")
        self._add("Softmax", [f"t{operator.inputs[0]}"], operator.outputs[0], axis=1)

    def constant(self, index: int) -> NDArray[Any]:
        """A constant's values. Raises UsageError where it is none, or of a type that is not translated."""
        tensor = self._graph.tensors[self._float16.get(index, index)]
        data = self._content.buffers[tensor.buffer].data
        kind = np.float16 if index in self._float16 else _TYPES.get(tensor.type)
        if data is None or kind is None:
            raise self._refused("weights that are not float32 constants")
        shape = [] if tensor.shape is None else list(tensor.shape)
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), kind).reshape(shape)

    def _is_constant(self, index: int) -> bool:
        tensor = self._graph.tensors[self._float16.get(index, index)]
        return self._content.buffers[tensor.buffer].data is not None

    def _add(
        self,
        kind: str,
        inputs: list[str],
        output: int,
        activation: int = schema.ActivationFunctionType.NONE,
        **attributes: Any,
    ) -> None:
        name = f"t{output}"
        if activation == schema.ActivationFunctionType.NONE:
            self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
            return
        before = f"{name}_before"
        self._nodes.append(helper.make_node(kind, inputs, [before], **attributes))
        if activation == schema.ActivationFunctionType.RELU6:
            self._clip(before, name)
        elif activation == schema.ActivationFunctionType.RELU:
            self._nodes.append(helper.make_node("Relu", [before], [name]))
        else:
            raise self._refused(f"the activation number {activation}")

    def _clip(self, source: str, target: str) -> None:
        low, high = (
            self._new_constant(f"{word}_of_{target}", np.array(value, self._kind))
            for word, value in (("least", 0.0), ("most", 6.0))
        )
        self._nodes.append(helper.make_node("Clip", [source, low, high], [target]))

    def _new_constant(self, name: str, value: NDArray[Any]) -> str:
        if value.dtype.kind == "f":
            value = value.astype(self._kind, copy=False)
        if all(known.name != name for known in self._constants):
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _value(self, index: int) -> onnx.ValueInfoProto:
        tensor = self._graph.tensors[index]
        if tensor.type != schema.TensorType.FLOAT32:
            raise self._refused("an input or output that is not float32")
        shape = [int(size) for size in tensor.shape]
        if len(shape) == 4:
            shape = [shape[0], shape[3], shape[1], shape[2]]
        return helper.make_tensor_value_info(f"t{index}", helper.np_dtype_to_tensor_dtype(self._kind), shape)

    def _refused(self, what: str) -> UsageError:
        return UsageError(
            f"{self._name} holds {what}, which is not translated into ONNX.",
            hint="Measure it with LiteRT: --device local.",
        )


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: before and behind."""
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


_TRANSLATORS: Mapping[str, Callable[[_Translation, Any], None]] = {
    "CONV_2D": _Translation.convolution,
    "DEPTHWISE_CONV_2D": _Translation.depthwise,
    "FULLY_CONNECTED": _Translation.dense,
    "MEAN": _Translation.mean,
    "RESHAPE": _Translation.reshape,
    "SOFTMAX": _Translation.softmax,
    "RELU6": _Translation.relu6,
    "ADD": lambda graph, operator: graph.arithmetic("Add")(operator),
    "MUL": lambda graph, operator: graph.arithmetic("Mul")(operator),
    "RELU": lambda graph, operator: graph.alone("Relu")(operator),
    "HARD_SWISH": lambda graph, operator: graph.alone("HardSwish")(operator),
    "LOGISTIC": lambda graph, operator: graph.alone("Sigmoid")(operator),
}
