"""How well some rounds know a model's latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

PRIOR_TIMINGS = 10.0
NORMAL_MAD = 1.4826
"""Standard deviation of normal noise over its median absolute deviation."""


def scatter(medians_ms: Sequence[float]) -> float:
    """Relative standard deviation of some rounds by their median absolute deviation.

    A few disturbed rounds do not move it. 0 for fewer than 2.
    """
    middle = median(medians_ms)
    return NORMAL_MAD * median(abs(value - middle) for value in medians_ms) / middle


def interval_percent(
    medians_ms: Sequence[float], usual_scatter: float | None = None, resolution_ms: float = 0.0
) -> float:
    """Width of the 95 % interval of the median of some rounds, in percent of it; infinite below 2 rounds.

    For normal noise the median's standard error is 1.2533 sigma / sqrt(n); Student's t widens it for few.
    ``usual_scatter`` is the relative scatter of the other models beside which this one was timed. It is
    weighed as if it were ten timings: where rounds are added until the interval is narrow, a model whose
    few rounds agree by luck would otherwise stop there, and be known less well than it says.

    A clock that counts steps of ``resolution_ms`` leaves every median off by up to half a step, whatever the
    rounds agree on. That error and the noise are independent: their squares add up.
    """
    from scipy.special import stdtrit

    count = len(medians_ms)
    if count < 2:
        return math.inf
    own, weight = scatter(medians_ms), PRIOR_TIMINGS if usual_scatter is not None else 0.0
    sigma = math.sqrt((weight * (usual_scatter or 0.0) ** 2 + count * own**2) / (weight + count))
    error = 1.2533 * sigma / math.sqrt(count)
    width = 200 * float(stdtrit(count - 1 + weight, 0.975)) * error
    return math.hypot(width, 100 * resolution_ms / median(medians_ms)) if resolution_ms > 0 else width
