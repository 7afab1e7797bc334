"""Several copies of a block in one model, where one takes too little time for the device's clock.

``benchmark_model`` reads a wall clock in whole microseconds before and after each run and subtracts: a run
of d us is counted as d rounded down or up, as the readings happen to fall, and the median of many such counts
is d to the nearest whole microsecond. However many runs and rounds there are, they all show the same number.
A block's own time is the difference of two such medians (the model's, and that of a model which is only
invoked), divided by the copies.

Source: ``tensorflow/lite/tools/benchmark/benchmark_model.cc``, which takes both readings from
``tensorflow/lite/profiling/time.cc`` (``gettimeofday``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LARGEST = 256
FOOTPRINT_BYTES = 1 << 20
SHARE = 0.25


@dataclass(frozen=True)
class Repeatable:
    """A model that can be made longer: ``model(copies)`` writes it. ``copy_bytes``: what each adds to
    the memory that an invocation passes through.
    """

    model: Callable[[int], bytes]
    copy_bytes: int


def copies_needed(
    repeatable: Repeatable,
    alone_ms: float,
    invoke_ms: float,
    resolution_ms: float,
    interval_percent: float,
) -> int:
    """How many copies make the clock's step small against the wanted interval; 1 for an exact clock.

    So many that two times, each half a step off, leave a quarter of the wanted width. ``alone_ms``, what one
    copy took with its invocation, and ``invoke_ms`` may themselves be off by half a step each: the shortest
    time that they allow for is taken. At most LARGEST copies and FOOTPRINT_BYTES: what no longer stays in
    the cache that one block stays in would be slower than the block.
    """
    if resolution_ms <= 0:
        return 1
    least_ms = max(alone_ms - invoke_ms - resolution_ms, resolution_ms / 4)
    wanted_ms = resolution_ms / (SHARE * interval_percent / 100)
    most = min(LARGEST, FOOTPRINT_BYTES // max(1, repeatable.copy_bytes))
    return max(1, min(most, math.ceil(wanted_ms / least_ms)))


def repeated_name(name: str, copies: int) -> str:
    """What a timing of so many copies is called."""
    return name if copies == 1 else f"{name} x{copies}"


def resolution_percent(total_ms: float, resolution_ms: float, invoke_ms: float | None = None) -> float:
    """Width of the interval that the clock alone leaves to a time, in percent of it; 0 for an exact clock.

    Where ``invoke_ms`` is given, the time is ``total_ms`` less that: each is off by up to half a step, which
    one way or the other is chance, so that their squares add up. Infinite where nothing is left.
    """
    if resolution_ms <= 0:
        return 0.0
    if invoke_ms is None:
        return 100 * resolution_ms / total_ms
    own_ms = total_ms - invoke_ms
    return 100 * math.sqrt(2) * resolution_ms / own_ms if own_ms > 0 else math.inf


def single_name(name: str) -> str:
    """What a timing of one copy is called, from the name of :func:`repeated_name`."""
    return name.partition(" x")[0]
