"""Whether the models of a search space can be built at all, asked before anything is measured."""

from __future__ import annotations

from nasflow.base.errors import UsageError
from stages.space.block_spec import BlockSpec
from stages.space.search_space import SearchSpace

MOST_BYTES = 1 << 30
"""Of the weights of a block or a network, and of the values that a block writes, in float32.

A model's file ends at 2 GiB (FlatBuffers count in 31 bits), and several copies of its weights are in memory
while it is written. The largest block of the shipped spaces has 5 MB.
"""

_WIDTHS = "give its stages fewer channels (width, space.width_multiplier)"
_BLOCK_HINT = f"Take that candidate out of the space, or {_WIDTHS}, a smaller kernel or a smaller expansion."


def check_size(space: SearchSpace) -> None:
    """Raises UsageError where a block or the largest network of a space is beyond MOST_BYTES."""
    for block in space.distinct_blocks():
        _check(f"block {block.key}", space, _weight_bytes(block), "weights", _hint(block))
        _check(
            f"block {block.key}",
            space,
            round(1e6 * block.activation_megabytes),
            "values that it computes for one image",
            f"{_hint(block)} A lower resolution (space.resolution) makes them fewer, too.",
        )
    largest = [
        max((block for block in layer.blocks if block is not None), key=_weight_bytes)
        for layer in space.layers()
    ]
    network = (*largest, *space.fixed_blocks())
    heaviest = max(network, key=_weight_bytes)
    _check(
        "the largest network",
        space,
        sum(map(_weight_bytes, network)),
        "weights",
        f"Most of them, {_size(_weight_bytes(heaviest))}, are in block {heaviest.key}. Take the largest "
        f"candidates out of the space, give it fewer layers, or {_WIDTHS}.",
    )


def _hint(block: BlockSpec) -> str:
    if block.searchable:
        return _BLOCK_HINT
    return {
        "stem": "Give its stem fewer channels or a smaller kernel.",
        "head": f"Give it a smaller head_width, or {_WIDTHS}.",
        "classifier": "Give it fewer classes or a smaller head_width.",
    }[block.kind]


def _check(what: str, space: SearchSpace, size_bytes: int, of: str, hint: str) -> None:
    if size_bytes > MOST_BYTES:
        raise UsageError(
            f"{what} of space {space.name} cannot be built: it has {_size(size_bytes)} of {of}, and a model "
            f"has at most {_size(MOST_BYTES)}.",
            hint=hint,
        )


def _weight_bytes(block: BlockSpec) -> int:
    return 4 * block.parameters


def _size(size_bytes: int) -> str:
    return f"{size_bytes} bytes ({size_bytes / 2**30:.3g} GiB)"
