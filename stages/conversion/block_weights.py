"""Names, shapes and random values of the weights that :mod:`stages.conversion.flatbuffer` writes.

Weights are a mapping from name to float32 array in TFLite's own layouts. ``N`` is a block's place in
``NetConfig.blocks``::

    blocks.N.conv.weight        (out, height, width, in)       stem, head, fused with expansion 1
    blocks.N.expand.weight      (hidden, 1, 1, in)             MBConv, left out where expansion is 1
    blocks.N.expand.weight      (hidden, height, width, in)    fused with expansion above 1
    blocks.N.depthwise.weight   (1, height, width, hidden)     MBConv
    blocks.N.squeeze.weight     (squeezed, 1, 1, hidden)       MBConv with squeeze-and-excite
    blocks.N.excite.weight      (hidden, 1, 1, squeezed)       MBConv with squeeze-and-excite
    blocks.N.project.weight     (out, 1, 1, hidden)            MBConv, fused with expansion above 1
    blocks.N.dense.weight       (classes, in)                  classifier

and beside each ``.weight`` a ``.bias`` with one number for each output channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nasflow.base.errors import ConversionError
from stages.space.block_spec import BlockSpec

Weights = Mapping[str, NDArray[np.float32]]


def weight_shapes(blocks: Sequence[BlockSpec]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of a chain of blocks, in order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, block in enumerate(blocks):
        for name, shape in _kernels(block).items():
            shapes[f"blocks.{index}.{name}.weight"] = shape
            shapes[f"blocks.{index}.{name}.bias"] = (shape[-1] if name == "depthwise" else shape[0],)
    return shapes


def random_weights(blocks: Sequence[BlockSpec], *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """He-normal weights: activations stay near 1, so that no denormal number falsifies a timing."""
    generator = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.float32]] = {}
    for name, shape in weight_shapes(blocks).items():
        if name.endswith(".bias"):
            weights[name] = generator.uniform(-0.1, 0.1, shape).astype(np.float32)
        else:
            fan_in = math.prod(shape[1:3]) if ".depthwise." in name else math.prod(shape[1:])
            weights[name] = generator.normal(0.0, math.sqrt(2 / fan_in), shape).astype(np.float32)
    return weights


def random_copies(block: BlockSpec, copies: int, *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights for so many copies of a block, ``blocks.0`` to ``blocks.{copies - 1}``, no two alike.

    What a residual block adds to its input is made smaller the more copies stand behind one another: by
    dozens of blocks as they are, h-swish without an upper end would grow beyond all numbers.
    """
    weights = random_weights([block] * copies, seed=seed)
    if block.residual:
        last = list(_kernels(block))[-1]
        for name in weights:
            if f".{last}." in name:
                weights[name] = weights[name] / np.float32(copies)
    return weights


def _kernels(block: BlockSpec) -> dict[str, tuple[int, ...]]:
    side, hidden = block.kernel, block.hidden_channels
    if block.kind == "classifier":
        return {"dense": (block.out_channels, block.in_channels)}
    if block.kind == "mbconv":
        expand = {"expand": (hidden, 1, 1, block.in_channels)} if block.expansion > 1 else {}
        squeezed = block.squeezed_channels
        gate = {"squeeze": (squeezed, 1, 1, hidden), "excite": (hidden, 1, 1, squeezed)}
        return {
            **expand,
            "depthwise": (1, side, side, hidden),
            **(gate if block.squeeze_excite else {}),
            "project": (block.out_channels, 1, 1, hidden),
        }
    if block.kind == "fused" and block.expansion > 1:
        return {
            "expand": (hidden, side, side, block.in_channels),
            "project": (block.out_channels, 1, 1, hidden),
        }
    return {"conv": (block.out_channels, side, side, block.in_channels)}


def check_weights(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ConversionError where a weight is missing, superfluous, of the wrong shape or not finite."""
    if weights.keys() != shapes.keys():
        missing, superfluous = sorted(shapes.keys() - weights), sorted(weights.keys() - shapes)
        raise ConversionError(
            f"the weights do not fit the network: missing {missing}, superfluous {superfluous}.",
            hint="Take weights and architecture from the same training.",
        )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ConversionError(
                f"weight {name} has shape {weights[name].shape}; the network needs {shape}.",
                hint="Take weights and architecture from the same training.",
            )
        if not np.isfinite(weights[name]).all():
            raise ConversionError(f"weight {name} holds NaN or infinity.", hint="Train the network again.")
