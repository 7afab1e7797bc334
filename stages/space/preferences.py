"""What a network, or what was learned of a space, is made of: shares of kernels and expansions; depth."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pydantic import Field

from pipeline.artifact import Record
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig, SearchSpace


class Shares(Record):
    """Of the blocks that fill layers: how many have which kernel and which expansion, and how many there are.

    By probabilities these are expectations: every candidate counts as much as it is probable.
    """

    kernels: dict[int, float] = Field(description="kernel size in pixels: share of the blocks, 0..1")
    expansions: dict[int, float] = Field(description="expansion: share of the blocks, 0..1")
    fused: float = Field(ge=0, le=1, description="share of the blocks with one full convolution")
    depth: float = Field(ge=0, description="layers that are not skipped")
    layers: int = Field(ge=0, description="layers that could be filled")


def shares_of_network(net: NetConfig, layers: int) -> Shares:
    """Of a network of a space with so many layers."""
    return _shares([(block, 1.0) for block in net.blocks if block.searchable], layers)


def shares_of_probabilities(space: SearchSpace, log_probabilities: Sequence[Sequence[float]]) -> Shares:
    """Of probabilities [layer][candidate], natural logarithms."""
    layers = space.layers()
    weighed = [
        (block, math.exp(value))
        for layer, row in zip(layers, log_probabilities, strict=True)
        for block, value in zip(layer.blocks, row, strict=True)
        if block is not None
    ]
    return _shares(weighed, len(layers))


def _shares(weighed: Iterable[tuple[BlockSpec, float]], layers: int) -> Shares:
    kernels: dict[int, float] = defaultdict(float)
    expansions: dict[int, float] = defaultdict(float)
    fused = depth = 0.0
    for block, weight in weighed:
        kernels[block.kernel] += weight
        expansions[block.expansion] += weight
        fused += weight * (block.kind == "fused")
        depth += weight
    whole = depth or 1.0
    return Shares(
        kernels={kernel: kernels[kernel] / whole for kernel in sorted(kernels)},
        expansions={expansion: expansions[expansion] / whole for expansion in sorted(expansions)},
        fused=min(1.0, fused / whole),
        depth=depth,
        layers=layers,
    )
