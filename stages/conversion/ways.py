"""In which of several ways a network's blocks are computed."""

from __future__ import annotations

from collections.abc import Mapping

from nasflow.base.errors import UsageError
from stages.space.block_spec import Implementation
from stages.space.search_space import NetConfig


def split_indices(net: NetConfig, implementations: Mapping[str, Implementation]) -> tuple[int, ...]:
    """Which of a network's depthwise convolutions, counted from 0, are computed in parts.

    Raises UsageError where a block can be computed in several ways and none was measured.
    """
    depthwise = [block for block in net.blocks if block.kind == "mbconv"]
    for block in depthwise:
        if len(block.implementations) > 1 and block.key not in implementations:
            raise UsageError(
                f"block {block.key} can be computed as {' or '.join(block.implementations)}, and the latency "
                "table does not say which is faster.",
                hint="Profile the space that holds it: nasflow profile.",
            )
    return tuple(index for index, block in enumerate(depthwise) if implementations.get(block.key) == "split")
