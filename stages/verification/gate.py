"""A gate: is one model faster than another, or than a limit, on this device? Pass, fail, or not to be told.

Blocks of timings are measured until the whole interval lies on one side of every limit, at most so many. A
verdict follows from the blocks and the plan alone, so that it can be reached again from a stored result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from stages.documents.gate import AccuracyCompared, Block, GateLook, GatePlan, GateVerdict
from stages.measurement.disturbed import MOST_MEASURED, Moment, dropped
from stages.verification.estimate import Estimate
from stages.verification.sequential import (
    Look,
    clock_error,
    long_run_deviation,
    planned_looks,
    ratio_interval,
)


@dataclass(frozen=True)
class _Logs:
    """The logarithms of the candidate's time in a block, and of the ratio, where there is a baseline.

    With what the clock may leave each of them off.
    """

    candidate: float
    candidate_error: float
    ratio: float | None = None
    ratio_error: float = 0.0

    @classmethod
    def of(cls, block: Block) -> _Logs:
        candidate, error = _log_and_error(block, "candidate")
        if all(timing.model != "baseline" for timing in block.timings):
            return cls(candidate, error)
        baseline, its_error = _log_and_error(block, "baseline")
        return cls(candidate, error, candidate - baseline, error + its_error)


def _log_and_error(block: Block, model: str) -> tuple[float, float]:
    median_ms = block.median_ms(model)
    return math.log(median_ms), clock_error(block.resolution_ms(model), [median_ms])


def _moments(blocks: Sequence[Block]) -> list[Moment]:
    return [Moment.of(block, "anchor") for block in blocks]


def with_drops(plan: GatePlan, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks, with what does not count marked (:func:`stages.measurement.disturbed.dropped`)."""
    looks = looks_of(plan, blocks)
    wanted = looks[-1].blocks if looks else plan.max_blocks
    reasons = dropped(_moments(blocks), plan.max_thermal_status, settled=_settled(len(blocks), wanted))
    return tuple(
        block.model_copy(update={"dropped": reason}) for block, reason in zip(blocks, reasons, strict=True)
    )


def looks_of(plan: GatePlan, blocks: Sequence[Block]) -> tuple[GateLook, ...]:
    """Every look that was taken while these blocks were measured; the last one may have decided.

    A look is taken as soon as enough blocks count, with those that count by then.
    """
    planned = planned_looks(plan.min_blocks, plan.max_blocks)
    moments, logs = _moments(blocks), [_Logs.of(block) for block in blocks]
    taken: list[GateLook] = []
    for measured in range(plan.min_blocks, len(moments) + 1):
        look = planned[len(taken)]
        settled = _settled(measured, look.blocks)
        reasons = dropped(moments[:measured], plan.max_thermal_status, settled=settled)
        counting = [one for one, reason in zip(logs, reasons, strict=False) if reason is None]
        if len(counting) < look.blocks:
            continue
        taken.append(_look(plan, look, counting[: look.blocks], last=look is planned[-1]))
        if taken[-1].verdict is not None:
            break
    return tuple(taken)


def exhausted(plan: GatePlan, blocks: Sequence[Block]) -> bool:
    """Whether so many blocks did not count that no more are measured."""
    return _settled(len(blocks), plan.max_blocks)


def _settled(measured: int, wanted: int) -> bool:
    """Whether as many were measured as are for so many that are to count."""
    return measured >= MOST_MEASURED * wanted


def verdict_of(plan: GatePlan, blocks: Sequence[Block]) -> GateVerdict | None:
    """What these blocks decide; None: more are to be measured."""
    looks = looks_of(plan, blocks)
    if looks and looks[-1].verdict is not None:
        return looks[-1].verdict
    return "inconclusive" if exhausted(plan, blocks) else None


def joined_verdict(latency: GateVerdict, accuracy: AccuracyCompared | None) -> GateVerdict:
    """A gate fails where one of its limits is broken, and passes where all are kept."""
    both = {latency} if accuracy is None else {latency, accuracy.verdict}
    return "fail" if "fail" in both else "inconclusive" if "inconclusive" in both else "pass"


def _look(plan: GatePlan, look: Look, logs: Sequence[_Logs], *, last: bool) -> GateLook:
    ratios = [one.ratio for one in logs if one.ratio is not None]
    ratio = None
    if len(ratios) == len(logs):
        ratio = ratio_interval(ratios, look.error).widened(median(one.ratio_error for one in logs))
    candidate_ms = ratio_interval([one.candidate for one in logs], look.error)
    candidate_ms = candidate_ms.widened(median(one.candidate_error for one in logs))
    sides = [
        _side(estimate, limit)
        for estimate, limit in ((ratio, plan.max_ratio), (candidate_ms, plan.max_ms))
        if limit is not None and estimate is not None
    ]
    verdict: GateVerdict | None = None
    if "fail" in sides:
        verdict = "fail"
    elif (sides or plan.max_accuracy_drop is not None) and all(side == "pass" for side in sides):
        verdict = "pass"  # without a limit of latency, one look shows what it is
    elif last:
        verdict = "inconclusive"
    return GateLook(
        blocks=look.blocks,
        error=look.error,
        ratio=None if ratio is None else ratio.value,
        ratio_interval=None if ratio is None else ratio.interval,
        candidate_ms=candidate_ms.value,
        candidate_ms_interval=candidate_ms.interval,
        verdict=verdict,
    )


def _side(estimate: Estimate, limit: float) -> GateVerdict | None:
    if estimate.high < limit:
        return "pass"
    return "fail" if estimate.low > limit else None


def ratio_clock_error(blocks: Sequence[Block]) -> float:
    """By how much the clock may leave the logarithm of the ratio off."""
    return median(_Logs.of(block).ratio_error for block in blocks if block.dropped is None)


def block_deviation(blocks: Sequence[Block]) -> float:
    """Long-run standard deviation of the log-ratios of those blocks that count, as intervals take it."""
    ratios = [_Logs.of(block).ratio for block in blocks if block.dropped is None]
    return long_run_deviation([ratio for ratio in ratios if ratio is not None])
