"""ONNX graph (NCHW) -> TensorFlow function (NHWC) -> `.tflite`. Imports TensorFlow: for a child process only.

TensorFlow's weight layouts: convolution HWIO (height, width, input, output), depthwise HWCM (M outputs for
each channel). Padding that equals TensorFlow's SAME becomes SAME; any other needs a PAD operator, which the
check of the finished model refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from nasflow.base.errors import ConversionError
from stages.conversion.onnx_graph import DEPTHWISE, Array, Graph, Node, unsupported
from stages.space.padding import same_padding

Tensor: TypeAlias = Any  # TensorFlow has no type information


def to_tflite(graph: Graph) -> bytes:
    """A simplified graph as a float32 `.tflite` model with the input (1, H, W, C).

    Outputs with four dimensions are NHWC. Raises ConversionError where an operation has no
    translation; TensorFlow's own errors pass through.
    """
    function = _function(graph)
    # Passing a module keeps the converter from guessing what else it should hold on to.
    module = tf.Module()
    module.function = function
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    return bytes(converter.convert())


def answers(graph: Graph, images_NHWC: Array) -> Array:
    """What TensorFlow itself computes for each image, one at a time; raises as :func:`to_tflite`."""
    # Its own kernels compute no dilated depthwise convolution on a CPU, its compiler XLA does.
    dilated = any(node.integers("dilations", (1, 1)) != (1, 1) for node in graph.nodes)
    function = _function(graph, compiled=dilated)
    return np.concatenate([function(tf.constant(image[None])).numpy() for image in images_NHWC])


def _function(graph: Graph, *, compiled: bool = False) -> Any:
    _, channels, height, width = graph.input_shape_NCHW
    signature = [tf.TensorSpec([1, height, width, channels], tf.float32, name=graph.input_name)]
    # AutoGraph has nothing to rewrite here, and would wrap our errors.
    return tf.function(
        lambda image_NHWC: _translate(graph, image_NHWC),
        input_signature=signature,
        autograph=False,
        jit_compile=compiled,
    )


@dataclass(frozen=True)
class _Value:
    """A tensor on its way; ``flattened_CHW`` where H, W, C of more than one place lie flat in NHWC order."""

    tensor: Tensor
    flattened_CHW: tuple[int, int, int] | None = None


def _translate(graph: Graph, image_NHWC: Tensor) -> Tensor:
    values = {graph.input_name: _Value(image_NHWC)}
    for node in graph.nodes:
        values[node.output] = _Translation(node, graph, values).result()
    output = values[graph.output_name]
    if output.flattened_CHW is not None:
        raise ConversionError(
            "the network ends with a flattened image, whose order would change from CHW to HWC.",
            hint="End the network with a dense layer or a mean over all places.",
        )
    return output.tensor


@dataclass(frozen=True)
class _Translation:
    """One node and what it reads."""

    node: Node
    graph: Graph
    values: dict[str, _Value]

    def result(self) -> _Value:
        handlers: dict[str, Callable[[], _Value]] = {
            "Add": lambda: self._binary(tf.add),
            "Clip": lambda: self._unary(self._clip),
            "Conv": self._conv,
            "Flatten": self._flatten,
            "Gemm": self._gemm,
            "GlobalAveragePool": lambda: self._mean((2, 3), keep=True),
            "HardSigmoid": lambda: self._unary(self._hard_sigmoid),
            "HardSwish": lambda: self._unary(lambda x: x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)),
            "MatMul": self._matmul,
            "Mul": lambda: self._binary(tf.multiply),
            "Pad": self._pad,
            "ReduceMean": self._reduce_mean,
            "Relu": lambda: self._unary(tf.nn.relu),
            "Reshape": self._reshape,
        }
        if self.node.operator not in handlers:
            raise self._refuse()
        return handlers[self.node.operator]()

    def _refuse(self, why: str = "") -> ConversionError:
        return unsupported(self.node.operator, self.node.name, why)

    def _value(self, index: int = 0) -> _Value:
        name = self.node.input(index)
        if name not in self.values:
            raise self._refuse(f"its input {index} is a constant")
        return self.values[name]

    def _constant(self, index: int) -> Array | None:
        """A constant input; None where it is left out."""
        name = self.node.input(index)
        if name and name not in self.graph.constants:
            raise self._refuse(f"its input {index} is computed, and must be constant")
        return self.graph.constants[name] if name else None

    def _needed(self, index: int) -> Array:
        constant = self._constant(index)
        if constant is None:
            raise self._refuse(f"its input {index} is missing")
        return constant

    def _image(self) -> Tensor:
        tensor = self._value().tensor
        if tensor.shape.rank != 4:
            raise self._refuse(f"its input has {tensor.shape.rank} dimensions and no image's four")
        return tensor

    # --- element by element ---

    def _unary(self, function: Callable[[Tensor], Tensor]) -> _Value:
        value = self._value()
        return _Value(function(value.tensor), value.flattened_CHW)

    def _clip(self, x: Tensor) -> Tensor:
        low, high = self._constant(1), self._constant(2)
        least = -np.inf if low is None else float(low)
        most = np.inf if high is None else float(high)
        if (least, most) == (0.0, 6.0):
            return tf.nn.relu6(x)
        if (least, most) == (0.0, np.inf):
            return tf.nn.relu(x)
        return tf.clip_by_value(x, least, most)

    def _hard_sigmoid(self, x: Tensor) -> Tensor:
        slope, shift = self.node.number("alpha", 0.2), self.node.number("beta", 0.5)
        if np.isclose(slope, 1 / 6) and shift == 0.5:
            return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)
        return tf.clip_by_value(x * slope + shift, 0.0, 1.0)

    def _binary(self, function: Callable[[Tensor, Tensor], Tensor]) -> _Value:
        names = self.node.inputs
        if names[0] not in self.values:
            return self._with_constant(self._value(1), self._needed(0), function)
        if names[1] not in self.values:
            return self._with_constant(self._value(0), self._needed(1), function)
        left, right = self._value(0), self._value(1)
        if left.tensor.shape.rank != right.tensor.shape.rank or left.flattened_CHW != right.flattened_CHW:
            raise self._refuse("its inputs have different layouts")
        return _Value(function(left.tensor, right.tensor), left.flattened_CHW)

    def _with_constant(
        self, value: _Value, constant: Array, function: Callable[[Tensor, Tensor], Tensor]
    ) -> _Value:
        if value.tensor.shape.rank == 4:
            constant = constant.reshape((1,) * (4 - constant.ndim) + constant.shape).transpose(0, 2, 3, 1)
        elif value.flattened_CHW is not None and constant.size > 1:
            raise self._refuse("it works on a flattened image")
        return _Value(function(value.tensor, constant), value.flattened_CHW)

    # --- convolution and padding ---

    def _conv(self) -> _Value:
        x_NHWC, weight_OIHW, bias = self._image(), self._needed(1), self._constant(2)
        if weight_OIHW.ndim != 4:
            raise self._refuse(f"its kernel has {weight_OIHW.ndim - 2} dimensions and not 2")
        groups, channels = self.node.integer("group", 1), x_NHWC.shape[3]
        strides = self.node.integers("strides", (1, 1))
        dilations = self.node.integers("dilations", (1, 1))
        x_NHWC, padding = self._padded(x_NHWC, weight_OIHW.shape[2:], strides, dilations)
        if groups == channels and (groups > 1 or self.node.integer(DEPTHWISE, 0)):
            if strides[0] != strides[1]:
                raise self._refuse(f"a depthwise convolution with the strides {strides}")
            out, _, height, width = weight_OIHW.shape
            weight_CMHW = weight_OIHW.reshape(channels, out // channels, height, width)
            y = tf.raw_ops.DepthwiseConv2dNative(
                input=x_NHWC,
                filter=weight_CMHW.transpose(2, 3, 0, 1),
                strides=[1, *strides, 1],
                padding=padding,
                dilations=[1, *dilations, 1],
            )
        else:
            weight_HWIO = weight_OIHW.transpose(2, 3, 1, 0)
            y = tf.nn.conv2d(x_NHWC, weight_HWIO, strides, padding, dilations=dilations)
        return _Value(y if bias is None else tf.nn.bias_add(y, bias))

    def _padded(
        self, x_NHWC: Tensor, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
    ) -> tuple[Tensor, str]:
        """The input, padded where neither SAME nor VALID says it, and TensorFlow's word for the rest."""
        auto = self.node.text("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "VALID"):
            return x_NHWC, auto.removesuffix("_UPPER")
        if auto != "NOTSET":
            raise self._refuse(f"its padding is {auto}")
        top, left, bottom, right = self.node.integers("pads", (0, 0, 0, 0))
        sizes = x_NHWC.shape[1:3]
        same = [
            same_padding(size, (side - 1) * dilation + 1, stride)
            for size, side, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        if same == [(top, bottom), (left, right)]:
            return x_NHWC, "SAME"
        if any((top, left, bottom, right)):
            x_NHWC = tf.pad(x_NHWC, [[0, 0], [top, bottom], [left, right], [0, 0]])
        return x_NHWC, "VALID"

    def _pad(self) -> _Value:
        x_NHWC, sizes, value = self._image(), self._needed(1), self._constant(2)
        if self.node.text("mode", "constant") != "constant" or sizes.size != 8 or self.node.input(3):
            raise self._refuse("only constant padding of all four dimensions")
        pairs = sizes.reshape(2, 4).T[[0, 2, 3, 1]]
        return _Value(tf.pad(x_NHWC, pairs, constant_values=0.0 if value is None else float(value)))

    # --- towards the logits ---

    def _reduce_mean(self) -> _Value:
        given = self._constant(1)
        axes = self.node.integers("axes", ()) if given is None else tuple(int(a) for a in given.ravel())
        return self._mean(axes, keep=bool(self.node.integer("keepdims", 1)))

    def _mean(self, axes_NCHW: tuple[int, ...], *, keep: bool) -> _Value:
        x_NHWC = self._image()
        if {axis % 4 for axis in axes_NCHW} != {2, 3}:
            raise self._refuse(f"a mean over the axes {list(axes_NCHW)} and not over height and width")
        return _Value(tf.reduce_mean(x_NHWC, [1, 2], keepdims=keep))

    def _flatten(self) -> _Value:
        if self.node.integer("axis", 1) != 1:
            raise self._refuse("only with axis 1")
        return self._flat(self._value())

    def _reshape(self) -> _Value:
        value, shape = self._value(), [int(size) for size in self._needed(1).ravel()]
        elements = value.tensor.shape.num_elements()
        if shape in ([1, -1], [-1, elements], [1, elements]):
            return self._flat(value)
        if value.tensor.shape.rank == 2 and shape[0] in (1, -1) and shape[2:] == [1, 1]:
            return _Value(tf.reshape(value.tensor, [1, 1, 1, -1]))
        raise self._refuse(f"from {value.tensor.shape.as_list()} (NHWC) to {shape} (NCHW)")

    def _flat(self, value: _Value) -> _Value:
        shape = value.tensor.shape.as_list()
        if len(shape) == 2:
            return value
        _, height, width, channels = shape
        indices = (channels, height, width) if height * width > 1 else None
        return _Value(tf.reshape(value.tensor, [1, height * width * channels]), indices)

    def _gemm(self) -> _Value:
        node = self.node
        if node.integer("transA", 0):
            raise self._refuse("its first input is transposed")
        weight_KM, bias = self._needed(1), self._constant(2)
        if node.integer("transB", 0):
            weight_KM = weight_KM.T
        y = self._dense(weight_KM * np.float32(node.number("alpha", 1.0)))
        if bias is not None:
            y = tf.nn.bias_add(
                y, np.broadcast_to(bias.ravel(), y.shape[1:]) * np.float32(node.number("beta", 1.0))
            )
        return _Value(y)

    def _matmul(self) -> _Value:
        return _Value(self._dense(self._needed(1)))

    def _dense(self, weight_KM: Array) -> Tensor:
        value = self._value()
        if value.tensor.shape.rank != 2 or weight_KM.ndim != 2:
            raise self._refuse("only a vector times a matrix")
        if value.flattened_CHW is not None:
            channels, height, width = value.flattened_CHW
            weight_CHWM = weight_KM.reshape(channels, height, width, -1)
            weight_KM = weight_CHWM.transpose(1, 2, 0, 3).reshape(weight_KM.shape)
        return tf.matmul(value.tensor, weight_KM)
