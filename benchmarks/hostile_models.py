"""A thousand damaged model files: does one of them crash this program, or keep it waiting?

Sound models are damaged in 25 ways (:mod:`benchmarks._damaged_models`). Each file is opened and computed once
by the process with limits, as ``nasflow bench`` does, and read by the package's own readers. What comes out
must be an answer or nasflow's own error, within the time limit.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter

from benchmarks._damaged_models import damaged_models, gated_network, small_network
from benchmarks._report import Outcome, at_most, main, say
from nasflow.base.errors import ConversionError
from stages.conversion.constants import not_finite_constants
from stages.conversion.inspector import ModelInspector
from stages.conversion.operators import read_operators

TIME_LIMIT_S = 30.0
SEED = 20_261_130
_CRASHES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
    MemoryError,
    OSError,
)


def run(full: bool) -> Outcome:
    """Open every file and count what comes of it."""
    count = 1_000 if full else 200
    seen: Counter[str] = Counter()
    seconds: list[float] = []
    slowest = ("", 0.0)
    with ModelInspector(timeout_s=TIME_LIMIT_S) as inspector:
        for model in (small_network(), gated_network()):
            inspector.inspect(model, depth="invoke")
            for number, (kind, content) in enumerate(damaged_models(model, count // 2, seed=SEED)):
                started = time.perf_counter()
                seen[_opened(inspector, content, f"{kind} {number}")] += 1
                seconds.append(time.perf_counter() - started)
                slowest = max(slowest, (kind, seconds[-1]), key=lambda one: one[1])
                seen[_read(content, f"{kind} {number}")] += 1
        inspector.inspect(small_network(), depth="invoke")
    refused = seen["refused"] + seen["ended the process"] + seen["silent"]
    return Outcome(
        figures={
            "files": count,
            "usable": seen["usable"],
            "refused": refused,
            "ended_the_process": seen["ended the process"],
            "silent": seen["silent"],
            "readers_refused": seen["readers refused"],
            "crashed": seen["crashed"],
            "readers_crashed": seen["readers crashed"],
            "median_ms": round(1000 * statistics.median(seconds), 2),
            "slowest_ms": round(1000 * slowest[1], 1),
            "slowest_kind": slowest[0],
            "seconds": round(sum(seconds), 1),
        },
        bars=[
            at_most("crashed", seen["crashed"], 0),
            at_most("readers_crashed", seen["readers crashed"], 0),
            at_most("silent", seen["silent"], 0),
        ],
    )


def _opened(inspector: ModelInspector, content: bytes, what: str) -> str:
    try:
        inspector.inspect(content, name=what, depth="invoke")
    except ConversionError as error:
        if "did not answer" in error.message:
            say(f"{what}: {error.message}")
            return "silent"
        return "ended the process" if "the process that opened it" in error.message else "refused"
    except _CRASHES as error:
        say(f"{what}: {type(error).__name__}: {error}")
        return "crashed"
    return "usable"


def _read(content: bytes, what: str) -> str:
    try:
        read_operators(content)
        not_finite_constants(content)
    except ConversionError:
        return "readers refused"
    except _CRASHES as error:
        say(f"{what}: {type(error).__name__}: {error}")
        return "readers crashed"
    return "readers told"


if __name__ == "__main__":
    sys.exit(main("hostile_models", run))
