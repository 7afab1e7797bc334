"""Does the anchor speak for the other models? What slows them otherwise than it is found, and taken out.

The anchor's correction (:mod:`stages.measurement.drift`) takes whatever slows the device for the same factor
for every model. Another program, a fuller cache or another clock of the memory slow models differently, and a
series that was stopped and continued meets other conditions. Where many models are timed in random order,
they show it themselves: after the correction, what is left of each model about its own median must be the
same noise at any time. A level that they share for a while and the anchor does not, is their *shift*; models
of one kind (mostly depthwise, dense or bound by memory) may have a shift of their own beside it.

Method: median polish (Tukey 1977) over models and time. The shift at a timing is the median of what is left
of the timings about it; the models' own medians are found anew without it, until both hold still. The shift
is shrunk by the share of its variance that a median of so much noise would have by chance (James and Stein
1961), so that nothing is corrected by mere noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.measurement.interval import NORMAL_MAD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 25
"""Timings that a shift is the median of: some five readings of the anchor lie between them."""

STRETCH = 50
"""Timings that are averaged: about a round of ``latency``, which has processes of its own."""

SITTING = 12
"""Rounds of a short sitting, as ``verify`` has at least."""

FEWEST_MODELS = 6
_FEWEST_STRETCHES = 4
_WORTH = 0.75  # a shift of which less than that share is more than chance is none
_LEAST = 0.005  # standard deviation of a shift that matters
_PASSES = 20
_STILL = 1e-5


@dataclass(frozen=True)
class Alignment:
    """``shifts[i]``: logarithm of how much slower than usual beside the anchor the model of timing i was.

    ``percent`` is the standard deviation of what all models have, averaged over a sitting, and of what
    kinds of models have beside it (``kinds_percent``): by how much models timed in one sitting differ from
    those timed in another by the anchor's measure. 0: the anchor speaks for all.
    """

    shifts: NDArray[np.float64]
    percent: float
    kinds_percent: float = 0.0


def align(
    names: Sequence[str],
    logs: NDArray[np.float64],
    anchor: str,
    counts: NDArray[np.bool_],
    kinds: Mapping[str, str] | None = None,
    steps: NDArray[np.float64] | float = 0.0,
) -> Alignment:
    """The shifts in logarithms of latencies that the anchor has corrected, in order of time.

    ``counts`` says which timings count; ``kinds`` names the kind of each model that has one. Models timed
    once or twice say nothing. ``steps``: the step of the clock at each timing, relative. Every model's
    latency is then that under the usual conditions of the series (the median of all shifts is 0). The anchor
    itself is never shifted.
    """
    import numpy as np

    others = np.asarray(names) != anchor
    models = np.unique(np.asarray(names), return_inverse=True)[1]
    steps = np.broadcast_to(np.asarray(steps, float), logs.shape)
    common = _shift(models, logs, counts & others, steps)
    shifts = common.copy()
    kind_of = np.array([(kinds or {}).get(name, "") for name in names])
    for kind in sorted(set(kind_of.tolist()) - {""}):
        mine = others & (kind_of == kind)
        shifts[mine] += _shift(models, logs - common, counts & mine, steps)[mine]
    shifts[~others] = 0.0
    kinds_percent = 100 * float((shifts - common)[others].std()) if others.any() else 0.0
    return Alignment(
        shifts, math.hypot(100 * _between_sittings(common[others]), kinds_percent), kinds_percent
    )


def _between_sittings(shifts: NDArray[np.float64]) -> float:
    """Standard deviation of the averages over a sitting; of all shifts where there are too few.

    What differs from one stretch to the next without memory, as the effect of where a process places the
    anchor does, is averaged over a sitting's rounds. What lasts longer is not: its variance is what the
    stretches have beyond half the mean square of their successive differences (von Neumann 1941).
    """
    import numpy as np

    stretches = len(shifts) // STRETCH
    if stretches < _FEWEST_STRETCHES:
        return float(shifts.std()) if len(shifts) else 0.0
    means = np.array([part.mean() for part in np.array_split(shifts, stretches)])
    without_memory = float(np.mean(np.diff(means) ** 2)) / 2
    lasting = max(0.0, float(means.var(ddof=1)) - without_memory)
    return math.sqrt(lasting + without_memory / SITTING)


def _shift(
    models: NDArray[np.intp],
    logs: NDArray[np.float64],
    counts: NDArray[np.bool_],
    steps: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The shift that the timings which count share, at every timing; zeros where it is mere chance."""
    import numpy as np
    from scipy.ndimage import median_filter

    none = np.zeros(len(logs))
    often = np.bincount(models[counts], minlength=len(models) + 1)
    indices = np.flatnonzero(counts & (often[models] > 2))
    if len(set(models[indices].tolist())) < FEWEST_MODELS or len(indices) < 2 * WINDOW:
        return none
    rows = [np.flatnonzero(models[indices] == model) for model in sorted(set(models[indices].tolist()))]
    found, left, moments = np.zeros(len(indices)), logs[indices], np.arange(len(logs))
    for _ in range(_PASSES):
        for row in rows:
            left[row] = logs[indices][row] - np.median(logs[indices][row] - found[row])
        before, found = found, median_filter(left, size=WINDOW, mode="nearest")
        # Every kind's usual conditions are those of the same time: the usual ones of the whole series.
        found = found - np.median(np.interp(moments, indices, found))
        if float(np.max(np.abs(found - before))) < _STILL:
            break
    # Rounds that all show the same whole number are not without noise: a step's is that of a rounding.
    rounding = float(np.median(steps[indices])) / math.sqrt(12)
    noise = max(NORMAL_MAD * float(np.median(np.abs(left - found))), rounding)
    variance = float(np.mean(found**2))
    # The standard error of a median of so much normal noise.
    share = 0.0 if variance == 0.0 else 1 - (1.2533 * noise) ** 2 / WINDOW / variance
    if share < _WORTH or math.sqrt(variance) < _LEAST:
        return none
    return np.asarray(share * np.interp(moments, indices, found))
