"""An interval of a latency ratio that may be looked at again and again while blocks are added.

A gate measures until its answer is clear, at most so many blocks. Whoever looks at a 95 % interval several
times, and stops when it favours an answer, is wrong more often than in 5 %. The error is therefore spent over
the looks that were planned beforehand: the k-th may be wrong with the probability that the spending function
alpha t^2 adds at its share t of all blocks (Kim and DeMets, Biometrika 1987, 74:149). By the union bound all
intervals of a gate hold the truth together with a probability of at least 95 %, whatever the dependence
between looks is: each of them may be shown, and the one that decides is no exception.

Blocks are measured one after another, and what disturbs one may disturb the next. An interval from the
variance between blocks alone is then too narrow. Here the long-run variance is estimated from the slowest
waves in the series (equal-weighted cosines: Lazarus, Lewis, Stock and Watson, J. Bus. Econ. Stat. 2018,
36:541), with as many degrees of freedom as there are waves. A tenth of the blocks at each end are trimmed
from the mean, and winsorised in the variance (Yuen, Biometrika 1974, 61:165): single disturbed blocks do not
move it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from stages.verification.estimate import Estimate
from stages.verification.power import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST_BLOCKS = 6
"""Of a gate. Fewer do give an interval, which is Student's and wide."""
_FEWEST_PLANNED, _FEWEST_OF_AN_INTERVAL = 3, 2
_GROWTH, _LEAST_GROWTH = 1.4, 1.2  # of the blocks, from one look to the next
_TRIMMED = 0.1  # of the blocks, at each end
_BLOCKS_PER_WAVE, _FEWEST_WAVES = 4, 4


@dataclass(frozen=True)
class Look:
    """A moment at which a gate may stop; ``error``: with what probability its interval may miss the truth."""

    blocks: int
    error: float


def planned_looks(first: int, most: int) -> tuple[Look, ...]:
    """The looks of a gate that measures ``first`` to ``most`` blocks; their errors add up to 5 %.

    >>> [look.blocks for look in planned_looks(10, 30)]
    [10, 14, 20, 30]

    Raises ValueError for fewer than three blocks, and where ``most`` is below ``first``.
    """
    if not _FEWEST_PLANNED <= first <= most:
        raise ValueError(f"a gate of {first} to {most} blocks cannot be planned")
    counts = [first]
    while counts[-1] < most:
        following = math.ceil(_GROWTH * counts[-1] - 1e-9)
        counts.append(following if _LEAST_GROWTH * following < most else most)
    spent = [(1 - CONFIDENCE) * (count / most) ** 2 for count in (0, *counts)]
    return tuple(
        Look(count, after - before)
        for count, before, after in zip(counts, spent[:-1], spent[1:], strict=True)
    )


def ratio_interval(log_ratios: Sequence[float], error: float) -> Estimate:
    """The ratio behind a series of log-ratios, in order of time, and its interval.

    The interval misses the ratio with probability ``error``. Up to five blocks it is Student's: there are as
    many waves as their variance has degrees of freedom. Raises ValueError for fewer than two, and for such as
    are not finite.
    """
    from scipy.special import stdtrit

    mean = _trimmed_mean(log_ratios)
    half = float(stdtrit(mean.waves, 1 - error / 2)) * mean.deviation
    return Estimate(math.exp(mean.value), math.exp(mean.value - half), math.exp(mean.value + half))


def clock_error(resolution_ms: float, medians_ms: Sequence[float]) -> float:
    """By how much a clock that counts steps of ``resolution_ms`` may leave the logarithm of a time off.

    Half a step, whatever the rounds agree on: a phone's tool counts whole microseconds, and all rounds of a
    model of 20.4 us show 20. Of two models the errors add up, for they may have opposite signs.
    """
    return math.log1p(resolution_ms / 2 / float(median(medians_ms))) if resolution_ms > 0 else 0.0


def long_run_deviation(log_ratios: Sequence[float]) -> float:
    """Of one block's log-ratio: the mean's standard deviation times the root of the number of blocks.

    Blocks that disturb the next make it larger than the deviation between blocks. Raises as
    :func:`ratio_interval`.
    """
    return _trimmed_mean(log_ratios).deviation * math.sqrt(len(log_ratios))


@dataclass(frozen=True)
class _Mean:
    """The trimmed mean of a series, its standard deviation, and the degrees of freedom of that."""

    value: float
    deviation: float
    waves: int


def _trimmed_mean(log_ratios: Sequence[float]) -> _Mean:
    import numpy as np

    logs_B = np.asarray(log_ratios, np.float64)
    if len(logs_B) < _FEWEST_OF_AN_INTERVAL or not np.isfinite(logs_B).all():
        raise ValueError(f"{len(logs_B)} log-ratios do not give an interval")
    cut = int(_TRIMMED * len(logs_B))
    ordered_B = np.sort(logs_B)
    centre = float(ordered_B[cut : len(logs_B) - cut].mean())
    winsorised_B = np.clip(logs_B, ordered_B[cut], ordered_B[-1 - cut])
    waves = min(len(logs_B) - 1, max(_FEWEST_WAVES, len(logs_B) // _BLOCKS_PER_WAVE))
    variance = _long_run_variance(winsorised_B, waves)
    left = len(logs_B) - 2 * cut
    return _Mean(centre, math.sqrt(variance * (len(logs_B) - 1) / (left * (left - 1))), waves)


def _long_run_variance(values_B: NDArray[np.float64], waves: int) -> float:
    """Mean square of the series' first cosine coefficients (its mean has no part in them)."""
    import numpy as np

    moment_B = (np.arange(len(values_B)) + 0.5) / len(values_B)
    waves_WB = math.sqrt(2 / len(values_B)) * np.cos(np.pi * np.outer(np.arange(1, waves + 1), moment_B))
    return float(((waves_WB @ values_B) ** 2).mean())


def smallest_shown(deviation: float, blocks: int, error: float, *, power: float = 0.8) -> float:
    """The least change of a ratio that so many blocks show with probability ``power``; 0.01 is 1 %.

    ``deviation``: that of :func:`long_run_deviation`. Raises ValueError for fewer than
    six blocks.
    """
    from scipy.special import stdtrit

    if blocks < FEWEST_BLOCKS:
        raise ValueError(f"{blocks} blocks do not give an interval")
    waves = max(_FEWEST_WAVES, blocks // _BLOCKS_PER_WAVE)
    quantile = float(stdtrit(waves, 1 - error / 2)) + float(stdtrit(waves, power))
    return math.expm1(quantile * deviation / math.sqrt(blocks))
