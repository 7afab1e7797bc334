"""How long one invocation of a model takes, in the process that runs it.

The two clock readings and the call of an invocation are part of its time: about 0.5 us for a model that
does next to nothing (``stages.conversion.flatbuffer.empty_model``). They are not subtracted: a whole
network pays them too.

Where the model runs in one thread, time that the scheduler gave to other programs amid an invocation is
not the model's and is left out: the thread's own clock is read outside the timed span, and stands in for
it where both differ by more than 20 us. With three busy programs on two cores the median of a network of
4.2 ms was 12.4 ms without this and 4.4 ms with it, while its blocks, shorter than a time slice, kept theirs.

A worker is not pinned to a core. Measured on two cores, pinning left the spread between processes as
it was (1-3 %) and made it worse (up to 7 %) when something else computed, because a pinned worker cannot
leave a core that became busy.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from android_bench.warm_up import LONG_ENOUGH_MS, WARM_RUNS

INTERRUPTION_NS = 20_000
_LINUX = sys.platform == "linux"  # elsewhere a thread's clock may tick in milliseconds


def thread_clock(threads: int) -> Callable[[], int] | None:
    """The processor time of this thread in nanoseconds; None where it is not all that a model computes in."""
    return time.thread_time_ns if threads == 1 and _LINUX else None


def time_invocations(
    invoke: Callable[[], object],
    *,
    warmup_ms: float,
    min_ms: float,
    min_runs: int,
    max_runs: int,
    clock: Callable[[], int] = time.perf_counter_ns,
    own_clock: Callable[[], int] | None = None,
) -> list[int]:
    """Nanoseconds of each counted invocation.

    The warm-up takes ``warmup_ms`` and :data:`~android_bench.warm_up.WARM_RUNS` invocations; a model that is
    too slow for them is warm after 100 ms. Counted ones go on until both
    ``min_ms`` and ``min_runs`` are reached, or ``max_runs``. The garbage collector rests meanwhile.
    ``own_clock`` tells the thread's own processor time, by which interruptions are left out.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = clock()
        invoke()
        warm_runs = 1
        while (taken_ms := (clock() - start) / 1e6) < warmup_ms or (
            warm_runs < WARM_RUNS and taken_ms < LONG_ENOUGH_MS
        ):
            invoke()
            warm_runs += 1
        durations: list[int] = []
        left_ns, enough = min_ms * 1e6, min(min_runs, max_runs)
        while len(durations) < enough or (left_ns > 0 and len(durations) < max_runs):
            own_before = own_clock() if own_clock is not None else 0
            before = clock()
            invoke()
            duration = clock() - before
            left_ns -= duration
            if own_clock is not None:
                own_duration = own_clock() - own_before
                # A thread's clock that ticks coarsely may not have moved at all: it knows nothing then.
                if duration - own_duration > INTERRUPTION_NS and own_duration > 0:
                    duration = own_duration
            durations.append(duration)
        return durations
    finally:
        if collecting:
            gc.enable()


def quantiles_ms(durations_ns: list[int]) -> dict[str, Any]:
    """Of counted invocations, in milliseconds, and how many they are."""
    import numpy as np

    least, p5, median, p95 = np.quantile(durations_ns, [0, 0.05, 0.5, 0.95]) / 1e6
    return {
        "median_ms": float(median),
        "p5_ms": float(p5),
        "p95_ms": float(p95),
        "min_ms": float(least),
        "runs": len(durations_ns),
    }
