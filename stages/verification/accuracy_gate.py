"""Is the candidate's accuracy lower than the baseline's by no more than is allowed? From the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.documents.gate import AccuracyCompared, GateVerdict
from stages.verification.estimate import Estimate
from stages.verification.statistics import paired_difference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def compare_accuracy(
    candidate_N: NDArray[np.bool_],
    baseline_N: NDArray[np.bool_],
    most_points: float,
    *,
    classes: int,
    data_sha256: str,
) -> AccuracyCompared:
    """Which images each answers correctly: (images,), two at least. The interval is that of the pairs."""
    both = int((candidate_N & baseline_N).sum())
    only_candidate = int((candidate_N & ~baseline_N).sum())
    only_baseline = int((baseline_N & ~candidate_N).sum())
    drop = _drop(len(candidate_N), both, only_candidate, only_baseline)
    return AccuracyCompared(
        images=len(candidate_N),
        classes=classes,
        both_correct=both,
        only_candidate=only_candidate,
        only_baseline=only_baseline,
        drop_points=drop.value,
        drop_points_interval_95=drop.interval,
        data_sha256=data_sha256,
        verdict=_side(drop, most_points),
    )


def recomputed_accuracy(found: AccuracyCompared, most_points: float) -> AccuracyCompared:
    """The same from the stored counts alone."""
    drop = _drop(found.images, found.both_correct, found.only_candidate, found.only_baseline)
    return found.model_copy(
        update={
            "drop_points": drop.value,
            "drop_points_interval_95": drop.interval,
            "verdict": _side(drop, most_points),
        }
    )


def _drop(images: int, both: int, only_candidate: int, only_baseline: int) -> Estimate:
    """The baseline's accuracy minus the candidate's, in points. A paired interval depends on counts alone."""
    import numpy as np

    neither = images - both - only_candidate - only_baseline
    counts = (both, only_candidate, only_baseline, neither)
    candidate = np.repeat([True, True, False, False], counts)
    baseline = np.repeat([True, False, True, False], counts)
    share = paired_difference(baseline, candidate)
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)


def _side(drop: Estimate, most_points: float) -> GateVerdict:
    if drop.high <= most_points:
        return "pass"
    return "fail" if drop.low > most_points else "inconclusive"
