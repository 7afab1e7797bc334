"""Intervals for the figures that a report claims, and the rule that picks the network to compare with.

All intervals are two-sided 95 %. Accuracies and their differences are shares 0..1, latencies milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasflow.base.errors import UsageError
from stages.verification.estimate import Estimate
from stages.verification.power import CONFIDENCE
from stages.verification.sequential import clock_error, ratio_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TAIL = (1 - CONFIDENCE) / 2


def wilson_interval(correct: int, total: int) -> Estimate:
    """An accuracy with Wilson's score interval (Brown, Cai and DasGupta 2001, Stat. Sci. 16:101)."""
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} correct answers of {total} are not an accuracy")
    return score_interval(correct / total, total)


def score_interval(share: float, images: float) -> Estimate:
    """Wilson's score interval of a share of so many images; an effective number need not be whole."""
    z = normal_quantile()
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    # Rounding may leave the interval a hair beside the share at 0 and 1.
    return Estimate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def paired_difference(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Estimate:
    """Accuracy of ``a`` minus accuracy of ``b`` on the same images, as a share.

    ``a`` and ``b`` say which images were classified correctly: [images], or [seeds, images] where each
    network was trained with several seeds. One seed: the interval holds for these very weights (Wald
    interval with Bonett and Price's Laplace adjustment, which Fagerland, Lydersen and Laake recommend:
    Stat. Med. 2014, 33:2850). Several seeds: it holds for other seeds and other images of the same kind,
    both taken as random (Obuchowski-Rockette's analysis of variance with Hillis' degrees of freedom,
    Stat. Med. 2007, 26:596, where seeds stand for readers). Two seeds say too little about their own
    luck; take three or more.
    """
    import numpy as np

    if a.shape != b.shape or a.ndim not in (1, 2) or a.size < 2:
        raise ValueError(f"answers of shapes {a.shape} and {b.shape} cannot be paired image by image")
    difference = a.astype(np.float64) - b.astype(np.float64)
    if difference.ndim == 2 and len(difference) > 1:
        return _difference_over_seeds(difference)
    return _difference_of_weights(difference.ravel())


def difference_from_mean(a: NDArray[np.bool_], others: NDArray[np.bool_]) -> Estimate:
    """Accuracy of ``a`` minus the mean accuracy of ``others`` on the same images, as a share.

    ``others`` are a sample of the networks that might have been drawn. ``a`` is [images] and they
    [networks, images], or ``a`` is [seeds, images] and they [seeds, networks, images], each seed with a draw
    of its own. One network: as :func:`paired_difference`.

    Several networks, one seed: the interval holds for these very weights of ``a`` against the mean of all
    networks of the others' kind, and for other images. Networks and images are both taken as random (as
    seeds and images are there): the spread between networks, their training's luck with it, is in the
    interval. Take five or more: in simulations 94 to 96 % of such intervals held the truth, with two that
    differed widely only 89 %. Several seeds: it holds for other seeds, which have another ``a`` and other
    draws; the spread between networks is a part of that between seeds.
    """
    import numpy as np

    if others.ndim != a.ndim + 1 or others.shape[-1] != a.shape[-1] or others.shape[:-2] != a.shape[:-1]:
        raise ValueError(f"answers of shapes {a.shape} and {others.shape} cannot be paired image by image")
    if a.ndim == 2 and len(a) == 1:
        return difference_from_mean(a[0], others[0])
    if others.shape[-2] == 1:
        return paired_difference(a, others[..., 0, :])
    if a.ndim == 1:
        return paired_difference(np.broadcast_to(a, others.shape), others)
    return _difference_over_seeds(a.astype(np.float64) - others.mean(axis=1))


def _difference_of_weights(difference: NDArray[np.float64]) -> Estimate:
    images = len(difference)
    only_a = (int((difference > 0).sum()) + 1) / (images + 2)
    only_b = (int((difference < 0).sum()) + 1) / (images + 2)
    centre = only_a - only_b
    half = normal_quantile() * math.sqrt((only_a + only_b - centre**2) / (images + 2))
    return Estimate(float(difference.mean()), max(-1.0, centre - half), min(1.0, centre + half))


def _difference_over_seeds(difference_SN: NDArray[np.float64]) -> Estimate:
    seeds, images = difference_SN.shape
    by_seed, by_image = difference_SN.mean(axis=1), difference_SN.mean(axis=0)
    value = float(difference_SN.mean())
    residual = difference_SN - by_seed[:, None] - by_image[None, :] + value
    seed_square = images * float(by_seed.var(ddof=1))
    image_square = seeds * float(by_image.var(ddof=1))
    residual_square = float((residual**2).sum()) / ((seeds - 1) * (images - 1))
    # Seeds cannot vary less than chance within an image does; few seeds may look as if they did.
    total = max(seed_square, residual_square) + max(image_square - residual_square, 0.0)
    if seed_square == 0.0:  # all seeds agree: only the images vary
        half = normal_quantile() * math.sqrt(image_square / difference_SN.size)
    else:
        freedom = (seeds - 1) * (total / seed_square) ** 2
        half = _t_quantile(freedom) * math.sqrt(total / difference_SN.size)
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def latency_ratio(
    numerator_ms: Sequence[float],
    denominator_ms: Sequence[float],
    error: float = 1 - CONFIDENCE,
    resolutions_ms: tuple[float, float] = (0.0, 0.0),
) -> Estimate:
    """How many times as long the first network takes as the second.

    ``numerator_ms[i]`` and ``denominator_ms[i]`` are medians of the same interleaved round, in order of time:
    what slows the device down for a while strikes both and cancels in their ratio. Value and interval are
    those of :func:`stages.verification.sequential.ratio_interval`, which misses the ratio with probability
    ``error``; ``resolutions_ms``, the steps of the clock behind both, widen it.
    """
    import numpy as np

    rounds = len(numerator_ms)
    if rounds != len(denominator_ms) or rounds < 2:
        raise ValueError(f"{rounds} and {len(denominator_ms)} rounds do not give a ratio with an interval")
    above, below = np.asarray(numerator_ms, np.float64), np.asarray(denominator_ms, np.float64)
    if not (np.all(above > 0) and np.all(below > 0)):
        raise ValueError("latencies must be above 0 ms")
    steps = zip(resolutions_ms, (numerator_ms, denominator_ms), strict=True)
    unseen = sum(clock_error(resolution_ms, medians_ms) for resolution_ms, medians_ms in steps)
    return ratio_interval(np.log(above / below).tolist(), error).widened(unseen)


@dataclass(frozen=True)
class Contender:
    """A network in the comparison. ``correct``: [images] or [seeds, images]; ``round_ms``: [rounds].

    ``resolution_ms``: the step of the clock behind these.
    """

    name: str
    correct: NDArray[np.bool_]
    round_ms: Sequence[float]
    resolution_ms: float = 0.0

    @property
    def accuracy(self) -> float:
        """Share of correct answers, over all seeds."""
        return float(self.correct.mean())

    @property
    def median_ms(self) -> float:
        """Median over the rounds."""
        from statistics import median

        return median(self.round_ms)


@dataclass(frozen=True)
class EqualAccuracy:
    """Which network the found one is compared with, why, and how the two differ.

    ``difference`` is the reference's accuracy minus the found network's (share), ``ratio`` the found
    network's latency over the reference's, ``speedup`` its inverse.
    """

    reference: str
    found_beats_all: bool
    difference: Estimate
    ratio: Estimate
    speedup: Estimate
    reason: str


def equal_accuracy_speedup(
    found: Contender,
    baselines: Sequence[Contender],
    kind: str = "MobileNetV2",
    error: float = 1 - CONFIDENCE,
) -> EqualAccuracy:
    """Compare the found network with the baseline that is fastest at equal accuracy.

    The reference is the fastest baseline that is not significantly less accurate than the found network
    (its paired 95 % interval does not lie wholly below zero). Where all are, it is the fastest of those
    that are not significantly less accurate than the best of them. ``kind``: what they are called;
    ``error``: with what probability the ratio's interval may miss the truth. Raises UsageError without
    baselines.
    """
    if not baselines:
        raise UsageError(
            "there is no MobileNetV2 to compare the found network with.",
            hint="Give baseline.widths at least one width.",
        )
    rivals = [b for b in baselines if paired_difference(b.correct, found.correct).high >= 0]
    beats_all = not rivals
    if beats_all:
        best = max(baselines, key=lambda b: (b.accuracy, -b.median_ms))
        rivals = [b for b in baselines if b is best or paired_difference(b.correct, best.correct).high >= 0]
    reference = min(rivals, key=lambda b: b.median_ms)
    difference = paired_difference(reference.correct, found.correct)
    steps_ms = found.resolution_ms, reference.resolution_ms
    ratio = latency_ratio(found.round_ms, reference.round_ms, error, steps_ms)
    return EqualAccuracy(
        reference=reference.name,
        found_beats_all=beats_all,
        difference=difference,
        ratio=ratio,
        speedup=ratio.inverse(),
        reason=_reason(reference.name, kind, difference, beats_all=beats_all),
    )


def _reason(name: str, kind: str, difference: Estimate, *, beats_all: bool) -> str:
    low, high = 100 * difference.low, 100 * difference.high
    figures = f"{100 * difference.value:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"
    if beats_all:
        return (
            f"Every {kind} is significantly less accurate than the found network; {name} is the "
            f"fastest of those not significantly below the best of them (against the found network: "
            f"{figures})."
        )
    return (
        f"{name} is the fastest {kind} that is not significantly less accurate than the found "
        f"network ({figures})."
    )


def normal_quantile() -> float:
    """Of the two-sided 95 % interval: 1.96."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - _TAIL)


def _t_quantile(degrees_of_freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, 1 - _TAIL))
