"""Few networks of a space that together hold every kind of block: what conversion is tried on beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeAlias

from stages.space.block_spec import BlockSpec, Implementation
from stages.space.search_space import SearchLayer, SearchSpace

Choices: TypeAlias = tuple[int, ...]
Kinds: TypeAlias = frozenset[Hashable]


def block_kinds(block: BlockSpec, way: Implementation) -> Kinds:
    """What decides which operators a block becomes. Blocks of equal kinds differ in their sizes alone.

    Sizes count where they change the operators: padding that is uneven or wider than the image, a single
    channel or a single place, an expansion of 1. The convolution over places, the parts around it and the
    residual addition are kinds of their own: each is assumed to be converted alike whatever the others are,
    so that a space of many combinations needs no network for each of them. ``convert`` checks the real ones.
    """
    expands = block.expansion > 1
    spatial = (
        *("spatial", block.kind, block.kernel, block.activation, block.stride, way),
        expands and block.kind == "fused",  # a projection follows it
        max((block.out_resolution - 1) * block.stride + block.kernel - block.resolution, 0) % 2,
        block.kernel > block.resolution,
        *(block.in_channels == 1, block.hidden_channels == 1, block.out_channels == 1),
        *(block.resolution == 1, block.out_resolution == 1),
    )
    around = ("around", block.kind, expands, block.squeeze_excite, block.activation)
    addition = ("residual", block.kind, expands, block.activation)
    return frozenset([spatial, around, addition] if block.residual else [spatial, around])


def covering_networks(
    space: SearchSpace, implementations: Mapping[str, Implementation]
) -> list[tuple[Choices, tuple[BlockSpec, ...]]]:
    """Networks of the space, each with the blocks that are the first of their kind.

    In each of them a layer takes the candidate whose kind is still missing and offered by the fewest layers,
    of several the one with the most missing kinds; where none is missing, the layer is left out, or takes its
    cheapest candidate.
    """

    def kinds(block: BlockSpec) -> Kinds:
        return block_kinds(block, implementations.get(block.key, "native"))

    layers = space.layers()
    # Deep spaces repeat few layers: what a layer offers is looked up once.
    offered = [[kinds(block) if block is not None else Kinds() for block in layer.blocks] for layer in layers]
    indices = Counter(kind for layer in offered for kind in frozenset[Hashable]().union(*layer))
    missing = set(indices)
    found: list[tuple[Choices, tuple[BlockSpec, ...]]] = []
    while missing or not found:
        choices: list[int] = []
        new: list[BlockSpec] = [] if found else list(space.fixed_blocks())
        for layer, options in zip(layers, offered, strict=True):
            wanted = [n for n, option in enumerate(options) if option & missing]
            if not wanted:
                choices.append(_cheapest(layer))
                continue
            choice = min(
                wanted,
                key=lambda n: (
                    min(indices[kind] for kind in options[n] & missing),
                    -len(options[n] & missing),
                ),
            )
            missing -= options[choice]
            choices.append(choice)
            block = layer.blocks[choice]
            new += [block] if block is not None else []
        found.append((tuple(choices), tuple(new)))
    return found


def _cheapest(layer: SearchLayer) -> int:
    return min(range(len(layer.blocks)), key=lambda n: 0 if (b := layer.blocks[n]) is None else b.macs)
