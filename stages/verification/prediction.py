"""Whether the found network takes as long as was predicted and as its target allows.

What ships came out of TensorFlow's converter; what was measured before, block by block and whole, was written
directly. If the converted file were made otherwise, or the latency model did not hold, only this would tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stages.documents import FoundLatency, LatencyModel, Verdict
from stages.measurement.interval import interval_percent
from stages.space.search_space import NetConfig
from stages.verification.estimate import Estimate
from stages.verification.power import CONFIDENCE
from stages.verification.rivals import AccuracyRelation
from stages.verification.statistics import latency_ratio


def evaluate_latency(
    net: NetConfig,
    target_ms: float,
    latency: LatencyModel,
    found_ms: Sequence[float],
    anchor_ms: Sequence[float],
    error: float = 1 - CONFIDENCE,
    resolutions_ms: tuple[float, float] = (0.0, 0.0),
) -> FoundLatency:
    """The found network's time against prediction and target.

    ``found_ms[i]`` and ``anchor_ms[i]`` are medians of round i, of the found network and of the latency
    model's reference. Both at once slow down with the device, so that their ratio tells the time at the speed
    that prediction and target stand for: also that of another device, whose model this one's was imported as.
    The reference's own uncertainty is in the interval. ``error``: with what probability the ratio's may miss
    the truth; ``resolutions_ms``: the steps of the clock behind both.
    """
    ratio = latency_ratio(found_ms, anchor_ms, error, resolutions_ms)
    reference = latency.reference.measurement
    width = interval_percent(reference.round_medians_ms, resolution_ms=reference.resolution_ms) / 200
    unsure = width if math.isfinite(width) else 0.0
    below, above = (math.hypot(end / ratio.value - 1, unsure) for end in ratio.interval)
    ms = ratio.value * reference.median_ms
    low, high = ms * max(0.0, 1 - below), ms * (1 + above)
    prediction = latency.predict(net)
    slower, faster = low > prediction.high_ms, high < prediction.low_ms
    return FoundLatency(
        ms=ms,
        interval_95=(low, high),
        predicted_ms=prediction.ms,
        predicted_interval_95=(prediction.low_ms, prediction.high_ms),
        target_ms=target_ms,
        prediction="slower" if slower else "faster" if faster else "holds",
        target="missed" if low > target_ms else "kept",
    )


def verdict(
    ratio: Estimate,
    max_ratio: float | None,
    found: FoundLatency | None = None,
    accuracy: AccuracyRelation = "equal",
    *,
    disturbed: bool = False,
) -> Verdict:
    """Whether the found network keeps the gate: only an interval wholly on one side decides.

    A ratio below the gate is no pass where the network takes another time than was predicted, or more than
    its target: it was chosen by times that do not hold for the file that ships. Above the target and slower
    than predicted, it fails, for it is not what was asked for; by one of them alone nothing is decided. Nor
    is a ratio a pass where the test images are too few to tell whether the accuracies are equal.
    ``disturbed``: the ratio is of rounds that do not count, which decide nothing.
    """
    if max_ratio is None:
        return "ungated"
    if disturbed:
        return "inconclusive"
    if ratio.low > max_ratio:
        return "fail"
    if ratio.high >= max_ratio:
        return "inconclusive"
    if found is None or (found.prediction, found.target) == ("holds", "kept"):
        return "inconclusive" if accuracy == "unknown" else "pass"
    return "fail" if (found.prediction, found.target) == ("slower", "missed") else "inconclusive"


def not_as_expected(found: FoundLatency | None) -> str:
    """What is wrong with the found network's time, in a sentence; empty where nothing is."""
    if found is None or (found.prediction, found.target) == ("holds", "kept"):
        return ""
    low, high = found.interval_95
    expected_low, expected_high = found.predicted_interval_95
    said = [f"it takes {found.ms:.4g} ms ({low:.4g} to {high:.4g}) at the speed that predictions stand for"]
    if found.prediction != "holds":
        said.append(
            f"{found.prediction} than the predicted {found.predicted_ms:.4g} ms ({expected_low:.4g} to "
            f"{expected_high:.4g})"
        )
    if found.target == "missed":
        said.append(f"above its target of {found.target_ms:.4g} ms")
    return f"The found network's latency is not as predicted: {', '.join(said)}."
