"""A gate: is one model faster than another, or than a limit, on this device? Pass, fail, or not to be told.

Blocks of timings are measured until the whole interval lies on one side of every limit, at most so many. A
verdict follows from the blocks and the plan alone, so that it can be reached again from a stored result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from stages.documents.gate import AccuracyCompared, Block, Dropped, GateLook, GatePlan, GateVerdict
from stages.measurement.disturbed import MOST_MEASURED, Moment, dropped
from stages.measurement.interval import NORMAL_MAD
from stages.verification.estimate import Estimate
from stages.verification.sequential import Look, planned_looks, ratio_interval


@dataclass(frozen=True)
class _Moment:
    """A block in numbers: the logarithms of both models' times, and what it is judged by."""

    candidate: float
    baseline: float
    judged_by: Moment

    @classmethod
    def of(cls, block: Block) -> _Moment:
        return cls(
            math.log(block.median_ms("candidate")),
            math.log(block.median_ms("baseline")),
            Moment(block.median_ms("anchor"), [timing.conditions for timing in block.timings]),
        )


def _dropped(moments: Sequence[_Moment]) -> list[Dropped | None]:
    """Which do not count, and why."""
    return dropped([moment.judged_by for moment in moments])


def with_drops(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks, with what does not count marked (:func:`stages.measurement.disturbed.dropped`)."""
    reasons = _dropped([_Moment.of(block) for block in blocks])
    return tuple(
        block.model_copy(update={"dropped": reason}) for block, reason in zip(blocks, reasons, strict=True)
    )


def looks_of(plan: GatePlan, blocks: Sequence[Block]) -> tuple[GateLook, ...]:
    """Every look that was taken while these blocks were measured; the last one may have decided.

    A look is taken as soon as enough blocks count, with those that count by then.
    """
    planned = planned_looks(plan.min_blocks, plan.max_blocks)
    moments = [_Moment.of(block) for block in blocks]
    taken: list[GateLook] = []
    for measured in range(plan.min_blocks, len(moments) + 1):
        reasons = _dropped(moments[:measured])
        counting = [moment for moment, reason in zip(moments, reasons, strict=False) if reason is None]
        look = planned[len(taken)]
        if len(counting) < look.blocks:
            continue
        taken.append(_look(plan, look, counting[: look.blocks], last=look is planned[-1]))
        if taken[-1].verdict is not None:
            break
    return tuple(taken)


def exhausted(plan: GatePlan, blocks: Sequence[Block]) -> bool:
    """Whether so many blocks did not count that no more are measured."""
    return len(blocks) >= MOST_MEASURED * plan.max_blocks


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


def _look(plan: GatePlan, look: Look, moments: Sequence[_Moment], *, last: bool) -> GateLook:
    ratio = ratio_interval([moment.candidate - moment.baseline for moment in moments], look.error)
    candidate_ms = ratio_interval([moment.candidate for moment in moments], look.error)
    sides = [
        _side(estimate, limit)
        for estimate, limit in ((ratio, plan.max_ratio), (candidate_ms, plan.max_ms))
        if limit is not None
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
        ratio=ratio.value,
        ratio_interval=ratio.interval,
        candidate_ms=candidate_ms.value,
        candidate_ms_interval=candidate_ms.interval,
        verdict=verdict,
    )


def _side(estimate: Estimate, limit: float) -> GateVerdict | None:
    if estimate.high < limit:
        return "pass"
    return "fail" if estimate.low > limit else None


def block_deviation(blocks: Sequence[Block]) -> float:
    """Standard deviation of the log-ratios of those blocks that count; single ones hardly move it."""
    moments = [_Moment.of(block) for block in blocks]
    logs = [
        moment.candidate - moment.baseline
        for moment, reason in zip(moments, _dropped(moments), strict=True)
        if reason is None
    ]
    middle = median(logs)
    return NORMAL_MAD * median(abs(value - middle) for value in logs)
