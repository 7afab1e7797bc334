"""Which networks a precision is not made for. Light: it is asked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from android_bench.device import RuntimeOptions
from nasflow.base.errors import UsageError
from stages.documents.origin import Precision
from stages.space.block_spec import BlockSpec
from stages.space.search_space import SearchSpace


def blocks_in_pieces(blocks: Iterable[BlockSpec], precision: Precision, delegate: str) -> list[str]:
    """Keys of blocks that fall apart in a precision; ``delegate`` is ``runtime.delegate``.

    XNNPACK, which computes on CPUs, does not take over h-swish in int8.
    """
    if precision != "int8" or delegate != "cpu":
        return []
    return list(dict.fromkeys(block.key for block in blocks if block.hswish))


def why_not_made(keys: list[str]) -> str:
    """Why a network with these blocks has no int8 file, behind a colon."""
    return (
        f"{len(keys)} of its blocks {'has' if len(keys) == 1 else 'have'} h-swish ({keys[0]}"
        f"{' among them' if len(keys) > 1 else ''}), which XNNPACK does not take over in int8"
    )


def check_runs_in(space: SearchSpace, runtime: RuntimeOptions, *, one_partition: bool) -> None:
    """Raises UsageError where the space has operators that fall apart in its precision, and that is refused.

    With ``one_partition`` false they are measured as they run: a latency table says what they cost.
    """
    slow = blocks_in_pieces(space.distinct_blocks(), runtime.precision, runtime.delegate)
    if slow and one_partition:
        raise UsageError(
            f"runtime.precision: int8, and {len(slow)} blocks of space {space.name} have h-swish "
            f"({slow[0]} among them). XNNPACK does not take over h-swish in int8: each one stands between "
            "two partitions, and such a block takes several times as long as in float32.",
            hint="Take another space (or candidates with ReLU6), or runtime.precision: float32. To measure "
            "and search them as they run all the same, set convert.require_one_partition: false.",
        )


def not_made_beside(
    space: SearchSpace, runtime: RuntimeOptions, precisions: Iterable[Precision], *, one_partition: bool
) -> str:
    """What to know beforehand of ``convert.precisions`` and the space; empty where all can be made."""
    slow = blocks_in_pieces(space.distinct_blocks(), "int8", runtime.delegate)
    if not slow or not one_partition or "int8" not in precisions or runtime.precision == "int8":
        return ""
    return (
        f"convert.precisions: a network of space {space.name} with h-swish ({slow[0]} has it) gets no int8 "
        "file, for XNNPACK does not take over h-swish in int8; its other files are made. Take candidates "
        "with ReLU6 for an int8 file, or set convert.require_one_partition: false for a slow one."
    )
