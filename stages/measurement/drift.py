"""A device's changing speed, seen by an anchor model and taken out of every timing.

Between the timings of other models the same anchor model is timed again and again. What it shows is split
into two parts:

- *levels*: the device holds one speed for a while, then steps to another (it throttles, or another program
  starts). The reference is the fastest level that holds for a tenth of the time, so that a table does not
  depend on when the device grew hot.
- *fluctuation* about a level, taken for a stationary process with exponentially decaying memory (an
  Ornstein-Uhlenbeck process) beside noise that belongs to the single timing. How much of each there is, is
  estimated by maximum likelihood from the anchor itself; taken out is the best linear prediction from all
  of the anchor's readings. Where they tell nothing about their neighbours, that is nothing: a correction by
  mere noise would do harm.

What slows the other models otherwise than the anchor, these show themselves
(:mod:`stages.measurement.alignment`). All is done in logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from stages.measurement.alignment import align
from stages.measurement.interval import NORMAL_MAD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 0.06  # a change of level below this is left to the fluctuation
STEP_DEVIATIONS = 3.5
SHORTEST_LEVEL = 4  # anchor timings
REFERENCE_SHARE = 0.1
SPELL = 0.10  # a timing that much off is disturbed, if it is also beyond the usual scatter
SPELL_DEVIATIONS = 5.0
_MEMORIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # timings after which a fluctuation is down to 1/e
_NOISE_RATIOS = (0.03, 0.1, 0.3, 1.0, 3.0)  # variance of the single timing over that of the fluctuation
_WORTH = 2.0  # gain in log-likelihood that the fluctuation's two parameters must bring (Akaike)


@dataclass(frozen=True)
class Drift:
    """``factors[i]``: how much slower than at the reference level the device was at timing i.

    ``disturbed[i]``: it was in a spell, or at a step, and the timing should not count.
    """

    factors: tuple[float, ...]
    disturbed: tuple[bool, ...]
    reference_ms: float | None
    levels: tuple[tuple[float, float], ...]
    """(slowness against the reference, share of the anchor's timings) of each level in order of time."""
    shift_percent: float = 0.0
    """By how much the other models' speed differed from stretch to stretch, by the anchor's measure
    (:class:`stages.measurement.alignment.Alignment`); it is taken out by ``factors``, too."""
    kinds_percent: float = 0.0
    """The part of it in which kinds of models differ."""


def find_drift(
    names: Sequence[str],
    medians_ms: Sequence[float],
    anchor: str,
    reference_ms: float | None = None,
    *,
    steps_ms: Sequence[float] = (),
    kinds: Mapping[str, str] | None = None,
) -> Drift:
    """The drift in a series of timings, given in order of time; ``anchor`` names those that show it.

    ``reference_ms`` is the anchor's time at the reference level where an earlier series has found it; a
    level that is faster by more than chance replaces it. ``steps_ms``: the step of the clock at each timing
    (none: exact throughout); a timing that is a step off is not disturbed. ``kinds``: models that may be
    slowed alike.
    """
    import numpy as np

    logs = np.log(np.asarray(medians_ms, float))
    steps = np.log1p(np.asarray(steps_ms or 0.0, float) / np.asarray(medians_ms, float))
    at = np.flatnonzero([name == anchor for name in names])
    if len(at) == 0:
        factors, sure = np.zeros(len(logs)), np.zeros(len(logs), bool)
        return Drift(tuple(np.exp(factors)), _disturbed(names, logs, sure, steps), None, ())
    readings = logs[at]
    bounds = _level_bounds(readings)
    values, _ = _levels(readings, bounds)
    level = np.repeat(values, np.diff(bounds))
    reference = _reference(readings, level, reference_ms)
    indices = np.arange(len(logs))
    fluctuation = _smooth(at, readings - level, len(logs))
    # A timing between two levels belongs to neither for sure.
    before = np.clip(np.searchsorted(at, indices, side="right") - 1, 0, len(at) - 1)
    after = np.clip(np.searchsorted(at, indices, side="left"), 0, len(at) - 1)
    shifts = (level[before] + level[after]) / 2 - reference + fluctuation
    unsure = level[before] != level[after]
    counts = ~np.asarray(_disturbed(names, logs - shifts, unsure, steps), bool)
    alignment = align(names, logs - shifts, anchor, counts, kinds, steps)
    shifts = shifts + alignment.shifts
    shares = np.diff(bounds) / len(readings)
    levels = tuple(
        (math.exp(value - reference), float(share)) for value, share in zip(values, shares, strict=True)
    )
    return Drift(
        tuple(map(float, np.exp(shifts))),
        _disturbed(names, logs - shifts, unsure, steps),
        math.exp(reference),
        levels,
        alignment.percent,
        alignment.kinds_percent,
    )


def _scatter(residuals: NDArray[np.float64]) -> float:
    """Standard deviation by the median absolute deviation: a few disturbed readings do not move it."""
    import numpy as np

    return NORMAL_MAD * float(np.median(np.abs(residuals)))


def _level_bounds(readings: NDArray[np.float64]) -> list[int]:
    """Places at which levels begin, and the end.

    First every step that might be one is taken for one (binary segmentation of the readings, short spells
    smoothed away); then neighbouring levels are joined again, the most alike first, that differ by no more
    than STEP or than the scatter about all levels explains.
    """
    import numpy as np

    reach = SHORTEST_LEVEL - 1
    smooth = np.array([np.median(readings[max(0, n - reach) : n + reach + 1]) for n in range(len(readings))])
    bounds = [0, len(readings)]
    pending = [(0, len(readings))]
    while pending:
        start, stop = pending.pop()
        index = _best_step(smooth[start:stop])
        if index is not None:
            bounds.append(start + index)
            pending += [(start, start + index), (start + index, stop)]
    bounds.sort()
    while len(bounds) > 2:
        values, scatter = _levels(readings, bounds)
        steps = [abs(after - before) for before, after in pairwise(values)]
        least = min(range(len(steps)), key=steps.__getitem__)
        if steps[least] > max(STEP, STEP_DEVIATIONS * scatter):
            break
        del bounds[least + 1]
    return bounds


def _levels(readings: NDArray[np.float64], bounds: Sequence[int]) -> tuple[list[float], float]:
    """Each level, and the scatter about them."""
    import numpy as np

    values = [float(np.median(readings[start:stop])) for start, stop in pairwise(bounds)]
    return values, _scatter(readings - np.repeat(values, np.diff(bounds)))


def _best_step(readings: NDArray[np.float64]) -> int | None:
    """Where two means explain the readings best in least squares, if that is worth a step."""
    import numpy as np

    count = len(readings)
    indices = np.arange(SHORTEST_LEVEL, count - SHORTEST_LEVEL + 1)
    if len(indices) == 0:
        return None
    sums = np.cumsum(readings - readings.mean())
    gains = sums[indices - 1] ** 2 * count / (indices * (count - indices))
    best = int(np.argmax(gains))
    return int(indices[best]) if gains[best] > SHORTEST_LEVEL * STEP**2 / 2 else None


def _reference(readings: NDArray[np.float64], level: NDArray[np.float64], earlier_ms: float | None) -> float:
    import numpy as np

    values, counts = np.unique(level, return_counts=True)
    lasting = values[counts >= max(SHORTEST_LEVEL, REFERENCE_SHARE * len(readings))]
    fastest = float(lasting.min() if len(lasting) else values[np.argmax(counts)])
    if earlier_ms is None:
        return fastest
    earlier = math.log(earlier_ms)
    faster = earlier - fastest > max(STEP, STEP_DEVIATIONS * _scatter(readings - level))
    return fastest if faster else earlier


def _smooth(at: NDArray[np.intp], deviations: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Best linear prediction of the fluctuation at all ``count`` timings, from the anchor's deviations.

    The process is Markov, so that likelihood and prediction take one pass each (Kalman filter and
    Rauch-Tung-Striebel smoother). Its variance is 1 in both: it cancels in the prediction.
    """
    import numpy as np

    limit = SPELL_DEVIATIONS * _scatter(deviations)
    kept = np.abs(deviations) <= max(limit, 1e-12)
    at, deviations = at[kept], deviations[kept]
    if len(at) < 2 * SHORTEST_LEVEL or float(np.var(deviations)) == 0.0:
        return np.zeros(count)
    memories, ratios = (grid.ravel() for grid in np.meshgrid(_MEMORIES, _NOISE_RATIOS))
    likelihoods = _likelihoods(np.diff(at, prepend=at[0]), deviations, memories, ratios)
    best = int(np.argmax(likelihoods))
    alone = -len(at) / 2 * math.log(float(np.mean(deviations**2)))
    if likelihoods[best] < alone + _WORTH:
        return np.zeros(count)
    decay, ratio = math.exp(-1 / memories[best]), float(ratios[best])
    seen = dict(zip(at.tolist(), deviations.tolist(), strict=True))
    means, variances, forecasts = np.zeros(count), np.ones(count), np.ones(count)
    mean, variance = 0.0, 1.0
    for index in range(count):
        mean, variance = decay * mean, decay**2 * variance + 1 - decay**2
        forecasts[index] = variance
        if index in seen:
            gain = variance / (variance + ratio)
            mean, variance = mean + gain * (seen[index] - mean), (1 - gain) * variance
        means[index], variances[index] = mean, variance
    for index in range(count - 2, -1, -1):
        weight = decay * variances[index] / forecasts[index + 1]
        means[index] += weight * (means[index + 1] - decay * means[index])
    return means


def _likelihoods(
    gaps: NDArray[np.intp],
    deviations: NDArray[np.float64],
    memories: NDArray[np.float64],
    ratios: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Log-likelihood, up to a constant, of each pair of memory and noise ratio, at its best variance."""
    import numpy as np

    mean, variance = np.zeros(len(memories)), np.ones(len(memories))
    squares, logs = np.zeros(len(memories)), np.zeros(len(memories))
    for gap, deviation in zip(gaps.tolist(), deviations.tolist(), strict=True):
        decay = np.exp(-gap / memories)
        mean, variance = decay * mean, decay**2 * variance + 1 - decay**2
        spread, surprise = variance + ratios, deviation - mean
        squares += surprise**2 / spread
        logs += np.log(spread)
        gain = variance / spread
        mean, variance = mean + gain * surprise, (1 - gain) * variance
    count = len(deviations)
    return np.asarray(-count / 2 * np.log(squares / count) - logs / 2, float)


def _disturbed(
    names: Sequence[str],
    corrected: NDArray[np.float64],
    unsure: NDArray[np.bool_],
    steps: NDArray[np.float64],
) -> tuple[bool, ...]:
    """Timings far from the others of the same model, beyond a step of the clock, and those at a change.

    ``steps``: logarithm of what a step of the clock adds to each timing.
    """
    import numpy as np

    off, known = np.zeros(len(corrected)), np.zeros(len(corrected), bool)
    model_names = np.asarray(names)
    for name in set(names):
        mine = model_names == name
        if mine.sum() > 2:
            beside = corrected[mine] - np.median(corrected[mine])
            # A step up from the median is as much, as a logarithm, as the step down from there to it.
            allowed = np.minimum(np.max(steps[mine]), np.abs(beside))
            off[mine] = np.sign(beside) * (np.abs(beside) - allowed)
            known |= mine
    limit = max(SPELL, SPELL_DEVIATIONS * _scatter(off[known])) if known.any() else math.inf
    return tuple(map(bool, unsure | (np.abs(off) > limit)))
