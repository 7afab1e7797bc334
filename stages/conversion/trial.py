"""A network without training through the whole conversion, and beside it the model that is measured.

Both have the same random weights, of a size at which a deep network hardly amplifies what float32 rounds
off. How much it does all the same is seen beside PyTorch in float64, and allowed for. Where they are not made
of the same operators, or do not compute the same, the block that is to blame is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from android_bench.device import Device
from nasflow.base.errors import ConversionError, DeviceError
from stages.conversion.block_weights import random_weights
from stages.conversion.chain import Converter, convert_module, exported
from stages.conversion.export import depthwise_weights
from stages.conversion.flatbuffer import block_model, network_model
from stages.conversion.folding import load_folded
from stages.conversion.graph_check import SoundGraph, sound_graph
from stages.conversion.lint import GraphDelegate
from stages.conversion.onnx_output import with_onnx_output
from stages.conversion.operators import changed_operators, read_operators
from stages.conversion.parity import MOST_ROUNDED, ROUNDINGS, allowed_share, in_double
from stages.conversion.quantize import in_precision
from stages.conversion.softmax import with_output
from stages.conversion.ways import split_indices
from stages.documents.origin import Precision
from stages.nn.blocks import build_block
from stages.nn.network import Network
from stages.space.block_spec import BlockSpec, Implementation, ModelOutput
from stages.space.search_space import NetConfig

IMAGES = 4
_SEED = 0
_MOST_NAMED = 3


@dataclass(frozen=True)
class Tried:
    """A converted model, the one that is written directly, and how the first one differs from PyTorch.

    Both are in the precision that was asked for, and the difference is that of the converted one in float32.
    ``onnx``: what the converted one was made of, answering as it does.
    """

    converted: bytes
    onnx: bytes
    written: bytes
    graph: SoundGraph
    max_relative_diff: float


def try_network(
    net: NetConfig,
    implementations: Mapping[str, Implementation],
    converter: Converter,
    here: Device,
    *,
    name: str,
    max_relative_diff: float,
    one_partition: bool,
    output: ModelOutput = "probabilities",
    precision: Precision = "float32",
    delegate: GraphDelegate = "cpu",
) -> Tried:
    """Convert a network and hold it against PyTorch and against the directly written model.

    ``precision``: of the files that are made of both; ``delegate``: what will run them. Raises
    ConversionError that names the block to blame, where it can be found.
    """
    weights = steady(random_weights(net.blocks, seed=_SEED))
    module = Network(net)
    load_folded(module, weights)
    module.eval()
    written = network_model(net, weights, implementations=implementations, output=output)
    try:
        onnx_model = exported(module, (1, net.input_channels, net.resolution, net.resolution), name)
        logits_model = converter.convert(
            onnx_model,
            name=name,
            depthwise=depthwise_weights(module),
            split=split_indices(net, implementations),
        )
        converted = with_output(logits_model, output, name=name)
        graph = sound_graph(converted, net, name=name, delegate=delegate, one_partition=one_partition)
        _check_operators(written, converted, name)
        difference = difference_from_torch(module, logits_model, (net.resolution, net.input_channels), here)
        if not difference.kept(max_relative_diff):
            raise ConversionError(f"network {name}: {difference.describe(max_relative_diff)}")
        if precision != "float32":
            converted, written = (in_precision(model, precision) for model in (converted, written))
            graph = sound_graph(
                converted,
                net,
                name=name,
                precision=precision,
                input_type="uint8" if precision == "int8" else "float32",
                delegate=delegate,
                one_partition=one_partition,
            )
    except ConversionError as error:
        block = _to_blame(net, implementations, converter, here, max_relative_diff)
        blame = f" The block concerned is {block.key}." if block is not None else ""
        raise ConversionError(
            f"an untrained network cannot be converted as it is measured: {error.message}{blame}",
            hint=error.hint
            or (
                "Take that candidate out of the space, and please report it."
                if block
                else "Please report it."
            ),
            raw=error.raw,
        ) from error
    return Tried(converted, with_onnx_output(onnx_model, output), written, graph, difference.relative)


@dataclass(frozen=True)
class Difference:
    """The largest difference of an output from PyTorch's in float64, as a share of the largest output.

    ``relative`` is the converted model's, ``rounding`` that of PyTorch in float32.
    """

    relative: float
    rounding: float

    def kept(self, max_relative_diff: float) -> bool:
        """Whether it is no more than is allowed, or than float32 itself makes of the network."""
        return self.relative <= allowed_share(max_relative_diff, self.rounding)

    def describe(self, max_relative_diff: float) -> str:
        """A sentence for what is not kept."""
        return (
            f"the converted model's outputs differ from PyTorch's by {self.relative:.3g} of the largest one; "
            f"allowed are {max_relative_diff:g} (convert.max_relative_diff), or {ROUNDINGS:g} times the "
            f"{self.rounding:.2g} that float32 itself rounds off in this network, {MOST_ROUNDED:g} at most."
        )


def steady(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The weights with smaller projections: no activation stands behind them that would halve the signal.

    With as much variance as the others, hundreds of layers drive ReLU6 into its bounds, and a difference in
    the last digit grows to a tenth of the output.
    """
    smaller = np.float32(math.sqrt(0.5))
    return {
        name: values * smaller if name.endswith(".project.weight") else values
        for name, values in weights.items()
    }


def _check_operators(written: bytes, converted: bytes, name: str) -> None:
    """Raises ConversionError where the converted model is made of other operators than the measured one."""
    change = changed_operators(read_operators(written), read_operators(converted))
    if change is None:
        return
    lost, new = (
        ", ".join(str(placed.operator) for placed in several[:_MOST_NAMED]) or "nothing"
        for several in (change.lost, change.new)
    )
    raise ConversionError(
        f"network {name} was converted to other operators than were measured: {new} in place of {lost}.",
        hint="Its latency would not be the predicted one. Take that candidate out, and please report it.",
    )


def difference_from_torch(
    module: nn.Module, model: bytes, side_and_channels: tuple[int, int], here: Device
) -> Difference:
    """How the outputs differ on random images."""
    side, channels = side_and_channels
    images_NHWC = np.random.default_rng(_SEED).uniform(-1, 1, (IMAGES, side, side, channels))
    x_NHWC = images_NHWC.astype(np.float32)
    x_NCHW = torch.from_numpy(x_NHWC).permute(0, 3, 1, 2)
    with torch.inference_mode():
        answers = module(x_NCHW), in_double(module)(x_NCHW.double())
    single, exact = ((y.permute(0, 2, 3, 1) if y.ndim == 4 else y).numpy() for y in answers)
    seen = here.run_model(model, x_NHWC).reshape(exact.shape)
    if not np.isfinite(seen).all():
        raise ConversionError("the converted model answers with NaN or infinity.")
    largest = max(float(np.abs(exact).max()), 1e-30)
    return Difference(
        *(float(np.abs(values.astype(np.float64) - exact).max()) / largest for values in (seen, single))
    )


def _to_blame(
    net: NetConfig,
    implementations: Mapping[str, Implementation],
    converter: Converter,
    here: Device,
    max_relative_diff: float,
) -> BlockSpec | None:
    """The first block that alone is not converted as it is measured; None where each of them is."""
    for block in {block.key: block for block in net.blocks}.values():
        way = implementations.get(block.key, "native")
        module = build_block(block)
        load_folded(module, random_weights([block], seed=_SEED), block)
        try:
            converted = convert_module(
                module.eval(),
                converter,
                resolution=block.resolution,
                channels=block.in_channels,
                name=block.key,
                split=(0,) if way == "split" else (),
            )
            written = read_operators(block_model(block, way, seed=_SEED, output="logits"))
            if changed_operators(written, read_operators(converted)) is not None:
                return block
            difference = difference_from_torch(module, converted, (block.resolution, block.in_channels), here)
            if not difference.kept(max_relative_diff):
                return block
        except (ConversionError, DeviceError):
            return block
    return None
