"""Which spaces a precision is not made for. Light: it is asked before anything is loaded."""

from __future__ import annotations

from nasflow.base.errors import UsageError
from stages.documents.origin import Precision
from stages.space.search_space import SearchSpace


def check_runs_in(space: SearchSpace, precision: Precision, *, one_partition: bool) -> None:
    """Raises UsageError where the space has operators that fall apart in this precision, and that is refused.

    With ``one_partition`` false they are measured as they run: a latency table says what they cost.
    """
    if precision != "int8" or not one_partition:
        return
    slow = [block.key for block in space.distinct_blocks() if block.hswish]
    if slow:
        raise UsageError(
            f"runtime.precision: int8, and {len(slow)} blocks of space {space.name} have h-swish "
            f"({slow[0]} among them). XNNPACK does not take over h-swish in int8: each one stands between "
            "two partitions, and such a block takes several times as long as in float32.",
            hint="Take another space (or candidates with ReLU6), or runtime.precision: float32. To measure "
            "and search them as they run all the same, set convert.require_one_partition: false.",
        )
