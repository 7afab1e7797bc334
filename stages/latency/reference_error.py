"""How well a sitting knows the reference beside the networks: an error that all of its networks share.

A fit and its errors say how networks differ among themselves. By how much all of them are off together, they
cannot show: predictions hold for the speed at which the reference takes what was measured of it, and that is
known by some rounds only, each with the reference at some places of its processes' memory.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from stages.documents import Timing
from stages.measurement.interval import NORMAL_MAD

_MEDIAN_OVER_MEAN = 1.2533
"""Standard error of a median over that of a mean, of normal noise."""
_FEWEST_NETWORKS = 3  # of a round: fewer say little about its speed
_FEWEST_ROUNDS = 3


def reference_error_percent(timings: Sequence[Timing], reference: str) -> float:
    """Relative standard error of the networks' times in units of the reference's, in percent.

    ``timings``: in order of time, with the drift that the reference has shown. Rounds are what repeats: each
    tells how much slower than usual the reference was beside its networks, by medians, once that drift is
    taken out (from both: it may follow each reading of the reference, or their trend alone). 0 where fewer
    than three rounds say anything.
    """
    import numpy as np

    counted = [number for number, timing in enumerate(timings) if not timing.disturbed]
    shown = [number for number in counted if timings[number].name == reference]
    if not shown:
        return 0.0
    # What the networks have beside it (the alignment's shift) is just what is looked for here.
    drift = np.interp(
        range(len(timings)), shown, [math.log(timings[number].slowdown) for number in shown]
    ).tolist()
    logs: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for number in counted:
        timing = timings[number]
        logs[timing.name].append((timing.round, math.log(timing.measurement.median_ms) - drift[number]))
    of_reference, of_networks = defaultdict[int, list[float]](list), defaultdict[int, list[float]](list)
    for name, of_model in logs.items():
        usual = median(log for _, log in of_model)
        for number, log in of_model:
            (of_reference if name == reference else of_networks)[number].append(log - usual)
    of_rounds = [
        median(of_reference[number]) - median(values)
        for number, values in of_networks.items()
        if len(values) >= _FEWEST_NETWORKS and of_reference[number]
    ]
    if len(of_rounds) < _FEWEST_ROUNDS:
        return 0.0
    middle = median(of_rounds)
    scatter = NORMAL_MAD * median(abs(value - middle) for value in of_rounds)
    return 100 * _MEDIAN_OVER_MEAN * scatter / math.sqrt(len(of_rounds))
