"""What a clock in whole microseconds does to a latency table, and what several copies of a block mend.

On described phones whose truth is known (:mod:`benchmarks._counting_phone`), one of another speed for each
seed, the quick start's space is profiled and its latency model fitted three times: by an exact clock, by one
that counts whole microseconds as ``benchmark_model`` does, and by that one with a single copy of each block.
The stages, and the parsers of the tool's answers, are those of a real phone; what is left out are its shell
and the cable.

A described phone has no caches. So on this computer, whose clock is exact, each block is timed alone and as
so many copies as whole microseconds would need: ``copies_over_single`` is the time of one of them over that
of the block alone, and shows what the copies themselves change.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from android_bench.device import BenchmarkRequest, RuntimeOptions
from android_bench.local.device import LocalDevice
from benchmarks._counting_phone import STEP_MS, CountingPhone
from benchmarks._report import Bar, Outcome, above, at_most, main, say
from pipeline.artifact import sha256_hex
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.conversion.flatbuffer import block_model, empty_model, network_model
from stages.documents import LatencyModel, LatencyTable
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.measurement.repetition import Repeatable, copies_needed
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space import SpaceConfig, load_space
from stages.space.block_spec import BlockSpec, Implementation

SPACE = load_space(SpaceConfig(name="fashion"))
SEEDS, QUICK_SEEDS, SEED = 10, 2, 0


class SingleCopies(ProfileOps):
    """The negative control: no model is made longer."""

    def _repeatable(self, block: BlockSpec, implementation: Implementation) -> Repeatable:
        return Repeatable(lambda copies: b"", sys.maxsize)


@dataclass(frozen=True)
class Sitting:
    """What one clock gave; the error is the model's mean one on held-out networks, by their true times."""

    table: LatencyTable
    model: LatencyModel
    error_percent: float


def run(full: bool) -> Outcome:
    """All phones, one after the other."""
    found = [_phone(seed) for seed in range(SEEDS if full else QUICK_SEEDS)]
    figures = {**_figures(found), "copies_over_single": _copies_over_single(40 if full else 4)}
    return Outcome(figures, _bars(figures))


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    ours, control = figures["copies"], figures["single"]
    return [
        at_most("worst_resolved_row_percent", ours["worst_resolved_row_percent"], 2.0),
        at_most("median_row_percent", ours["median_row_percent"], 0.5),
        at_most("error_above_exact_points", ours["error_above_exact_points"], 0.3),
        # The control must fail: else the phones are such that there was nothing to mend.
        above("single_copies_worst_row_percent", control["worst_row_percent"], 2.0),
        above("single_copies_median_row_percent", control["median_row_percent"], 0.5),
    ]


def _phone(seed: int) -> dict[str, Sitting]:
    say(f"clock_resolution: described phone {seed + 1}")
    return {
        "exact": _sitting(CountingPhone(seed, counts=False), ProfileOps),
        "copies": _sitting(CountingPhone(seed, counts=True), ProfileOps),
        "single": _sitting(CountingPhone(seed, counts=True), SingleCopies),
    }


def _sitting(phone: CountingPhone, profiling: type[ProfileOps]) -> Sitting:
    options = RuntimeOptions()
    profile = profiling(ProfileConfig(), SPACE, options, SEED, phone)
    latency = FitLatency(LatencyConfig(), SPACE, options, SEED, phone)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), _silent)
        table = profile.run(Context("profile", "", store, FleetingScratch(), _silent))
        model = latency.run(Context("latency", "", store, FleetingScratch(), _silent), table=table)
    errors = []
    for point in model.held_out:
        net = SPACE.network(point.choices)
        true_ms = phone.true_ms(network_model(net, seed=SEED, implementations=model.implementations))
        errors.append(100 * abs(model.predict_ms(net) / true_ms - 1))
    return Sitting(table, model, mean(errors))


def _figures(found: Sequence[Mapping[str, Sitting]]) -> dict[str, Any]:
    truth = [_truth(CountingPhone(seed, counts=False)) for seed in range(len(found))]
    exact_ms = [phone["exact"].model.block_ms for phone in found]
    return {
        "space": SPACE.name,
        "phones": len(found),
        "rows": len(SPACE.distinct_blocks()),
        "own_us": [
            1000 * end(min(own.values()) if end is min else max(own.values()) for own in truth)
            for end in (min, max)
        ],
        "step_us": 1000 * STEP_MS,
        **{clock: _clock(found, clock, exact_ms, truth) for clock in ("exact", "copies", "single")},
    }


def _truth(phone: CountingPhone) -> dict[str, float]:
    return {block.key: phone.own_ms(block_model(block, seed=SEED)) for block in SPACE.distinct_blocks()}


def _clock(
    found: Sequence[Mapping[str, Sitting]],
    clock: str,
    exact_ms: Sequence[Mapping[str, float]],
    truth: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """Figures of one clock. A row is a block's own time, against the same phone's by its exact clock."""
    rows, resolved, true, copies, unresolved = [], [], [], [], 0
    for phone, exact, own in zip(found, exact_ms, truth, strict=True):
        sitting = phone[clock]
        copies += [row.copies for row in sitting.table.rows]
        for row in sitting.table.rows:
            key = row.block.key
            off = 100 * abs(sitting.model.block_ms[key] / exact[key] - 1)
            rows.append(off)
            true.append(100 * abs(sitting.model.block_ms[key] / own[key] - 1))
            unresolved += not row.resolved
            if row.resolved:
                resolved.append(off)
    errors = [phone[clock].error_percent for phone in found]
    above_exact = [phone[clock].error_percent - phone["exact"].error_percent for phone in found]
    timings = [len(phone[clock].table.timings) for phone in found]
    return {
        "median_row_percent": median(rows),
        "worst_row_percent": max(rows),
        "worst_resolved_row_percent": max(resolved, default=0.0),
        "rows_above_2_percent": sum(off > 2 for off in rows),
        "unresolved_rows": unresolved,
        "median_row_from_truth_percent": median(true),
        "worst_row_from_truth_percent": max(true),
        "copies": [min(copies), median(copies), max(copies)],
        "held_out_error_percent": mean(errors),
        "error_above_exact_points": mean(above_exact),
        "worst_error_above_exact_points": max(above_exact),
        "timings_of_a_table": mean(timings),
    }


def _copies_over_single(rounds: int) -> dict[str, Any]:
    """Own time of one of several copies over that of a block alone, by LiteRT on this computer."""
    blocks = SPACE.distinct_blocks()
    with LocalDevice() as device:

        def least_ms(model: bytes, copies: int) -> float:
            """The 5 % quantile: other programs do not reach it."""
            name = f"{sha256_hex(model)[:8]} x{copies}"
            return device.benchmark(BenchmarkRequest(name=name, model=model, warmup_ms=2, min_ms=10)).p5_ms

        empty = empty_model()
        invoke_ms = median(least_ms(empty, 1) for _ in range(9))
        models, ratios = {}, defaultdict(list)
        for block in blocks:
            alone = block_model(block, seed=SEED)
            needed = copies_needed(
                Repeatable(lambda copies: b"", block.copy_bytes),
                least_ms(alone, 1),
                invoke_ms,
                STEP_MS,
                ProfileConfig().interval_percent,
            )
            if needed > 1:
                models[block] = alone, block_model(block, copies=needed, seed=SEED), needed
        for number in range(rounds):
            say(f"clock_resolution: copies on this computer, round {number + 1} of {rounds}")
            order = list(models)
            random.Random(number).shuffle(order)
            for block in order:
                alone, together, needed = models[block]
                invoke_ms = least_ms(empty, 1)
                before_ms, together_ms = least_ms(alone, 1), least_ms(together, needed)
                # Alone before and after: what the computer's speed does meanwhile is the same for both.
                single_ms = (before_ms + least_ms(alone, 1)) / 2 - invoke_ms
                ratios[block].append((together_ms - invoke_ms) / needed / single_ms)
    found = {block: median(values) for block, values in ratios.items()}
    series = [ratio for block, ratio in found.items() if block.chainable]
    beside = [ratio for block, ratio in found.items() if not block.chainable]
    middle = median(found.values())
    return {
        "blocks": len(found),
        "copies": [min(m[2] for m in models.values()), max(m[2] for m in models.values())],
        "series": [min(series), median(series), max(series)],
        "side_by_side": [min(beside), median(beside), max(beside)],
        "median": middle,
        "mean_percent_from_median": mean(100 * abs(ratio / middle - 1) for ratio in found.values()),
    }


def _silent(_: object) -> None:
    """A thousand timings for each clock are not worth a line each."""


if __name__ == "__main__":
    sys.exit(main("clock_resolution", run))
