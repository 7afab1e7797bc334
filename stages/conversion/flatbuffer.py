"""Write `.tflite` files directly, without TensorFlow: a one-block model takes about 2 ms.

For the hundreds of one-block models that a latency table needs, and as a second, independent path to
check TensorFlow's conversion against. Float32, batch size 1, NHWC, SAME padding, BN already folded.

Weights and their names: :mod:`stages.conversion.block_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from stages.conversion.block_weights import (
    Weights,
    check_weights,
    random_copies,
    random_weights,
    weight_shapes,
)
from stages.conversion.depthwise_split import DILATION, PARTS, split_kernel
from stages.conversion.model_file import packed
from stages.space.block_spec import BlockSpec, Implementation, ModelOutput
from stages.space.search_space import NetConfig

Implementations = Mapping[str, Implementation]
"""Block key -> how that block is computed; blocks that are not in it are computed as written."""

_NONE = schema.ActivationFunctionType.NONE
_RELU = schema.ActivationFunctionType.RELU
_RELU6 = schema.ActivationFunctionType.RELU6


def block_model(
    block: BlockSpec,
    implementation: Implementation = "native",
    *,
    copies: int = 1,
    seed: int = 0,
    output: ModelOutput = "probabilities",
) -> bytes:
    """A model that holds this block alone, with random weights: what a latency table measures.

    Several ``copies`` are for clocks that are too coarse for one. Each has weights of its own, so that none
    is computed once for all. They stand one behind the other where a block's output fits its input, so that
    values move through the cache as they do when one block is invoked again and again; else side by side,
    all reading the one input, each with an output of its own. A classifier ends with a softmax, unless
    ``output`` is ``logits``.
    """
    graph = _Graph({block.key: implementation}, output)
    tensor = graph.input((1, block.resolution, block.resolution, block.in_channels))
    weights = random_copies(block, copies, seed=seed)
    outputs: list[int] = []
    for index in range(copies):
        source = outputs.pop() if outputs and block.chainable else tensor
        outputs.append(graph.block(source, block, f"blocks.{index}", weights))
    return graph.finish(outputs, block.key)


def network_model(
    net: NetConfig,
    weights: Weights | None = None,
    *,
    seed: int = 0,
    implementations: Implementations | None = None,
    output: ModelOutput = "probabilities",
) -> bytes:
    """A whole network; with random weights where ``weights`` is None.

    It answers with probabilities (1, classes), which sum to 1, or with the logits (1, classes) before them.
    Raises ConversionError where a weight is missing, superfluous, of the wrong shape or not finite.
    """
    if weights is None:
        weights = random_weights(net.blocks, seed=seed)
    else:
        check_weights(weights, weight_shapes(net.blocks))
    graph = _Graph(implementations, output)
    tensor = graph.input((1, net.resolution, net.resolution, net.input_channels))
    for index, block in enumerate(net.blocks):
        tensor = graph.block(tensor, block, f"blocks.{index}", weights)
    return graph.finish([tensor], "network")


def empty_model() -> bytes:
    """The smallest model that the delegate takes: one ReLU6 of one value. Its time is overhead alone."""
    graph = _Graph()
    tensor = graph.input((1, 1))
    output = graph.tensor("output", (1, 1))
    graph.operator(schema.BuiltinOperator.RELU6, [tensor], output, 0, None)
    return graph.finish([output], "empty")


def _fused_activation(block: BlockSpec) -> int:
    """What a convolution does to its own output."""
    return int(_NONE if block.hswish else _RELU6)


class _Graph:
    """One subgraph under construction; tensors are named by their index."""

    def __init__(
        self, implementations: Implementations | None = None, output: ModelOutput = "logits"
    ) -> None:
        self._implementations = implementations or {}
        self._output = output
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 is empty by convention
        self._operators: list[Any] = []
        self._codes: list[int] = []
        self._axes: int | None = None

    def tensor(self, name: str, shape: Sequence[int], constant: NDArray[Any] | None = None) -> int:
        """Add a tensor, with its content where it is constant."""
        buffer = 0
        if constant is not None:
            buffer = len(self._buffers)
            self._buffers.append(schema.BufferT(data=np.ascontiguousarray(constant).tobytes()))
        kind = schema.TensorType.FLOAT32
        if constant is not None and constant.dtype == np.int32:
            kind = schema.TensorType.INT32
        self._tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name))
        return len(self._tensors) - 1

    def input(self, shape: Sequence[int]) -> int:
        """Add the graph's input, which must be its first tensor."""
        return self.tensor("input", shape)

    def operator(
        self, code: int, inputs: Sequence[int], output: int, options_type: int, options: Any
    ) -> None:
        """Add an operator."""
        if code not in self._codes:
            self._codes.append(code)
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._codes.index(code),
                inputs=list(inputs),
                outputs=[output],
                builtinOptionsType=options_type,
                builtinOptions=options,
            )
        )

    def block(self, tensor: int, block: BlockSpec, prefix: str, weights: Weights) -> int:
        """Add a block's operators; returns its output."""
        size, out_size = block.resolution, block.out_resolution
        if block.kind == "classifier":
            return self._classifier(tensor, block, prefix, weights)
        activation = _fused_activation(block)
        if block.kind == "mbconv":
            hidden = tensor
            if block.expansion > 1:
                hidden = self._convolution(tensor, f"{prefix}.expand", size, 1, activation, weights)
                hidden = self._activated(hidden, block, f"{prefix}.expand")
            hidden = self._depthwise(hidden, block, f"{prefix}.depthwise", weights)
            hidden = self._activated(hidden, block, f"{prefix}.depthwise")
            if block.squeeze_excite:
                hidden = self._squeeze_excite(hidden, block, prefix, weights)
            output = self._convolution(hidden, f"{prefix}.project", out_size, 1, _NONE, weights)
        elif block.kind == "fused" and block.expansion > 1:
            name = f"{prefix}.expand"
            hidden = self._convolution(tensor, name, out_size, block.stride, activation, weights)
            hidden = self._activated(hidden, block, name)
            output = self._convolution(hidden, f"{prefix}.project", out_size, 1, _NONE, weights)
        else:
            name = f"{prefix}.conv"
            output = self._convolution(tensor, name, out_size, block.stride, activation, weights)
            output = self._activated(output, block, name)
        if not block.residual:
            return output
        return self._add(output, tensor, f"{prefix}.add", (1, out_size, out_size, block.out_channels), _NONE)

    def _activated(self, tensor: int, block: BlockSpec, name: str) -> int:
        """h-swish, where the block has it: an operator of its own, which no convolution takes in."""
        if not block.hswish:
            return tensor
        output = self.tensor(f"{name}.hswish", self._tensors[tensor].shape)
        self.operator(
            schema.BuiltinOperator.HARD_SWISH,
            [tensor],
            output,
            schema.BuiltinOptions.HardSwishOptions,
            schema.HardSwishOptionsT(),
        )
        return output

    def _squeeze_excite(self, tensor: int, block: BlockSpec, prefix: str, weights: Weights) -> int:
        """Channels times relu6(dense + 3) / 6, in the operators that TensorFlow's converter writes.

        The 3 is in the dense layer's bias; a single place needs no mean. XNNPACK takes over all of them.
        """
        mean = tensor
        if block.out_resolution > 1:
            mean = self._mean(tensor, prefix, (1, 1, 1, block.hidden_channels), keep=True)
        squeezed = self._convolution(mean, f"{prefix}.squeeze", 1, 1, _RELU, weights)
        name = f"{prefix}.excite"
        shifted = {f"{name}.weight": weights[f"{name}.weight"], f"{name}.bias": weights[f"{name}.bias"] + 3}
        gate = self._convolution(squeezed, name, 1, 1, _RELU6, shifted)
        sixth = self.tensor(f"{name}.sixth", (), np.array(1 / 6, np.float32))
        gate = self._multiply(gate, sixth, f"{name}.gate", (1, 1, 1, block.hidden_channels))
        return self._multiply(tensor, gate, f"{prefix}.scaled", self._tensors[tensor].shape)

    def _multiply(self, left: int, right: int, name: str, shape: Sequence[int]) -> int:
        product = self.tensor(name, shape)
        self.operator(
            schema.BuiltinOperator.MUL,
            [left, right],
            product,
            schema.BuiltinOptions.MulOptions,
            schema.MulOptionsT(),
        )
        return product

    def _depthwise(self, tensor: int, block: BlockSpec, name: str, weights: Weights) -> int:
        size, stride, fused = block.out_resolution, block.stride, _fused_activation(block)
        if self._implementations.get(block.key, "native") == "native":
            return self._convolution(tensor, name, size, stride, fused, weights, depthwise=True)
        parts, total = split_kernel(weights[f"{name}.weight"], 1, 2), -1
        for index, kernel in enumerate(parts):
            part = f"{name}.part{index}"
            bias = weights[f"{name}.bias"] * (index == 0)
            own = {f"{part}.weight": kernel, f"{part}.bias": bias}
            output = self._convolution(
                tensor, part, size, stride, _NONE, own, depthwise=True, dilation=DILATION
            )
            shape = (1, size, size, block.hidden_channels)
            activation = fused if index == PARTS - 1 else _NONE
            total = output if index == 0 else self._add(total, output, f"{part}.sum", shape, activation)
        return total

    def _add(self, left: int, right: int, name: str, shape: Sequence[int], activation: int) -> int:
        total = self.tensor(name, shape)
        self.operator(
            schema.BuiltinOperator.ADD,
            [left, right],
            total,
            schema.BuiltinOptions.AddOptions,
            schema.AddOptionsT(fusedActivationFunction=activation),
        )
        return total

    def _convolution(
        self,
        tensor: int,
        name: str,
        out_size: int,
        stride: int,
        activation: int,
        weights: Weights,
        *,
        depthwise: bool = False,
        dilation: int = 1,
    ) -> int:
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        output = self.tensor(name, (1, out_size, out_size, bias.size))
        common = {
            "padding": schema.Padding.SAME,
            "strideW": stride,
            "strideH": stride,
            "dilationWFactor": dilation,
            "dilationHFactor": dilation,
            "fusedActivationFunction": activation,
        }
        inputs = [
            tensor,
            self.tensor(f"{name}.weight", kernel.shape, kernel.astype(np.float32, copy=False)),
            self.tensor(f"{name}.bias", bias.shape, bias.astype(np.float32, copy=False)),
        ]
        if depthwise:
            self.operator(
                schema.BuiltinOperator.DEPTHWISE_CONV_2D,
                inputs,
                output,
                schema.BuiltinOptions.DepthwiseConv2DOptions,
                schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **common),
            )
        else:
            self.operator(
                schema.BuiltinOperator.CONV_2D,
                inputs,
                output,
                schema.BuiltinOptions.Conv2DOptions,
                schema.Conv2DOptionsT(**common),
            )
        return output

    def _classifier(self, tensor: int, block: BlockSpec, prefix: str, weights: Weights) -> int:
        kernel, bias = weights[f"{prefix}.dense.weight"], weights[f"{prefix}.dense.bias"]
        pooled = self._mean(tensor, prefix, (1, block.in_channels), keep=False)
        logits = self.tensor(f"{prefix}.dense", (1, block.out_channels))
        self.operator(
            schema.BuiltinOperator.FULLY_CONNECTED,
            [
                pooled,
                self.tensor(f"{prefix}.dense.weight", kernel.shape, kernel.astype(np.float32, copy=False)),
                self.tensor(f"{prefix}.dense.bias", bias.shape, bias.astype(np.float32, copy=False)),
            ],
            logits,
            schema.BuiltinOptions.FullyConnectedOptions,
            schema.FullyConnectedOptionsT(),
        )
        return logits if self._output == "logits" else self._softmax(logits, f"{prefix}.softmax")

    def _softmax(self, logits: int, name: str) -> int:
        probabilities = self.tensor(name, self._tensors[logits].shape)
        self.operator(
            schema.BuiltinOperator.SOFTMAX,
            [logits],
            probabilities,
            schema.BuiltinOptions.SoftmaxOptions,
            schema.SoftmaxOptionsT(beta=1.0),
        )
        return probabilities

    def _mean(self, tensor: int, prefix: str, shape: Sequence[int], *, keep: bool) -> int:
        """The mean over all places."""
        axes = self.tensor(f"{prefix}.axes", (2,), np.array([1, 2], np.int32))
        mean = self.tensor(f"{prefix}.mean", shape)
        self.operator(
            schema.BuiltinOperator.MEAN,
            [tensor, axes],
            mean,
            schema.BuiltinOptions.ReducerOptions,
            schema.ReducerOptionsT(keepDims=keep),
        )
        return mean

    def finish(self, outputs: Sequence[int], name: str) -> bytes:
        """The file's content."""
        subgraph = schema.SubGraphT(
            tensors=self._tensors, inputs=[0], outputs=list(outputs), operators=self._operators, name=name
        )
        # Codes up to 127 are written twice: readers of before 2020 know the first field alone.
        codes = [
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=1)
            for code in self._codes
        ]
        model = schema.ModelT(
            version=3,
            operatorCodes=codes,
            subgraphs=[subgraph],
            description="nasflow",
            buffers=self._buffers,
        )
        return packed(model)
