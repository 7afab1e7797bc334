"""Cross-validation: what the runs of all folds say together.

The whole chain runs once for each fold, which is its test part: every image is tested once, by networks that
were searched and trained without it. What is said holds for the chain on images of this kind, not for one
network: the found architecture may differ between folds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from nasflow.base.errors import UsageError
from stages.documents import (
    AgainstFound,
    ArchitectureAgreement,
    ClassImages,
    CrossValidation,
    FoldFigures,
    ImagesReport,
    PooledNetwork,
    Verification,
    VerifiedNetwork,
)
from stages.verification.estimate import Estimate
from stages.verification.statistics import normal_quantile

Interval = tuple[float, float]


@dataclass(frozen=True)
class FoldOutcome:
    """A fold's run: its verification, the found network's choices, and each layer's number of candidates."""

    verification: Verification
    choices: tuple[int, ...]
    candidates: tuple[int, ...]

    @property
    def images(self) -> ImagesReport:
        """Raises UsageError where an earlier version verified it."""
        if self.verification.images is None:
            raise UsageError("a fold was verified by an earlier version.", hint="nasflow run --force verify")
        return self.verification.images

    @property
    def found(self) -> VerifiedNetwork:
        """Its found network."""
        return next(n for n in self.verification.networks if n.role == "found")

    @property
    def reference(self) -> VerifiedNetwork:
        """The network that the found one was compared with."""
        verification = self.verification
        return next(n for n in verification.networks if n.name == verification.reference)


def pooled(figures: Sequence[tuple[float, Interval]], images: Sequence[int]) -> Estimate:
    """A figure over all images, from each fold's figure with its 95 % interval for that fold's networks.

    The interval holds for the chain on other images of this kind. Its variance has two parts. Images: the
    folds' own intervals; the folds share no test image, so these add up as independent ones do. Networks:
    what the folds differ by beyond that, times 1/k + 1/(k-1). Training sets of two folds overlap, so the
    networks are no independent sample of trainings: this is the correction of Nadeau and Bengio (Machine
    Learning 2003, 52:239) for test and training parts of 1 to k-1. On the whole spread, which that paper's
    t-test is for, it would charge the images' share for an overlap that disjoint test parts do not have. In
    simulations with linear classifiers (5 and 10 folds, 120 to 600 images) 94 to 100 % of such intervals held
    the truth; intervals from the images alone held it in 86 % where training was a matter of luck, Student's
    from the folds alone in 78 % where it was not. Three folds held it in 91 % at worst: they say little about
    luck; take five or more.
    """
    folds, total = len(figures), sum(images)
    weights = [count / total for count in images]
    value = sum(w * figure for w, (figure, _) in zip(weights, figures, strict=True))
    variances = [((high - low) / (2 * normal_quantile())) ** 2 for _, (low, high) in figures]
    of_images = sum(w * w * variance for w, variance in zip(weights, variances, strict=True))
    spread = sum(w * (figure - value) ** 2 for w, (figure, _) in zip(weights, figures, strict=True))
    of_networks = max(0.0, spread * folds / (folds - 1) - fmean(variances))
    half = normal_quantile() * math.sqrt(of_images + of_networks * (1 / folds + 1 / (folds - 1)))
    return Estimate(value, value - half, value + half)


def cross_validation(folds: Sequence[FoldOutcome]) -> CrossValidation:
    """What all folds say together.

    Raises UsageError where they are not all folds of one data set, each once.
    """
    folds = sorted(folds, key=lambda fold: fold.images.fold or 0)
    _check(folds)
    images = [fold.verification.test_images for fold in folds]
    ratio = pooled(
        [
            (math.log(v.ratio), (math.log(v.ratio_interval_95[0]), math.log(v.ratio_interval_95[1])))
            for v in (fold.verification for fold in folds)
        ],
        [1] * len(folds),
    )
    return CrossValidation(
        folds=tuple(map(_figures, folds)),
        test_images=sum(images),
        classes=_classes(folds),
        networks=(
            _pooled_network("found", [fold.found for fold in folds], images),
            _pooled_network("reference", [fold.reference for fold in folds], images),
            *_randoms(folds, images),
            *_in_every_fold(folds, images),
        ),
        latency_ratio=math.exp(ratio.value),
        latency_ratio_interval_95=(math.exp(ratio.low), math.exp(ratio.high)),
        architectures=agreement([fold.choices for fold in folds], folds[0].candidates),
        equal_points=folds[0].verification.equal_points,
    )


def agreement(choices: Sequence[tuple[int, ...]], candidates: Sequence[int]) -> ArchitectureAgreement:
    """How architectures agree: ``choices[fold][layer]``; ``candidates[layer]`` is how many there are."""
    open_layers = [layer for layer, count in enumerate(candidates) if count > 1]
    pairs = list(combinations(choices, 2))
    shared = [sum(a[layer] == b[layer] for layer in open_layers) for a, b in pairs]
    layers = max(1, len(open_layers))
    return ArchitectureAgreement(
        distinct=len(set(choices)),
        layers=len(open_layers),
        same_in_all=sum(len({of_fold[layer] for of_fold in choices}) == 1 for layer in open_layers),
        shared_percent=100 * fmean(shared) / layers if open_layers else 100.0,
        chance_percent=100 * fmean(1 / candidates[layer] for layer in open_layers) if open_layers else 100.0,
    )


def _check(folds: Sequence[FoldOutcome]) -> None:
    names = {tuple(one.name for one in fold.images.classes) for fold in folds}
    numbers = [fold.images.fold for fold in folds]
    told = {
        (fold.images.source, fold.images.name, fold.images.folds, fold.images.split_seed) for fold in folds
    }
    if len(names) > 1 or len(told) > 1 or len({fold.candidates for fold in folds}) > 1:
        raise UsageError(
            "the folds are not those of one data set and space: their classes, data.folds, data.split_seed "
            "or layers differ.",
            hint="Run all folds with one configuration.",
        )
    wanted = list(range(folds[0].images.folds or 0)) if folds else []
    if len(folds) < 2 or numbers != wanted:
        raise UsageError(
            f"cross-validation needs each of {len(wanted)} folds once, and was given {numbers}.",
            hint="Run those that are missing: data.fold.",
        )


def _figures(fold: FoldOutcome) -> FoldFigures:
    return FoldFigures(
        fold=fold.images.fold or 0,
        test_images=fold.verification.test_images,
        choices=fold.choices,
        reference=fold.reference.name,
        found_accuracy_percent=fold.found.accuracy_percent,
        reference_accuracy_percent=fold.reference.accuracy_percent,
        accuracy_points=fold.found.accuracy_percent - fold.reference.accuracy_percent,
        ratio=fold.verification.ratio,
    )


def _classes(folds: Sequence[FoldOutcome]) -> tuple[ClassImages, ...]:
    of_folds = zip(*(fold.images.classes for fold in folds), strict=True)
    return tuple(ClassImages(name=same[0].name, test=sum(one.test or 0 for one in same)) for same in of_folds)


def _pooled_network(name: str, networks: Sequence[VerifiedNetwork], images: Sequence[int]) -> PooledNetwork:
    accuracy = pooled([(n.accuracy_percent, n.accuracy_interval_95) for n in networks], images)
    balanced = _known(
        [(n.balanced_accuracy_percent, n.balanced_accuracy_interval_95) for n in networks], images
    )
    points = balanced_points = None
    if name != "found":
        points = _differences(networks, images, lambda a: (a.accuracy_points, a.accuracy_points_interval_95))
        balanced_points = _differences(
            networks, images, lambda a: (a.balanced_points, a.balanced_points_interval_95)
        )
    return PooledNetwork(
        name=name,
        role=networks[0].role,
        accuracy_percent=accuracy.value,
        accuracy_interval_95=_within(accuracy, 0, 100),
        balanced_accuracy_percent=balanced.value if balanced else None,
        balanced_accuracy_interval_95=_within(balanced, 0, 100) if balanced else None,
        correct_by_class=tuple(map(sum, zip(*(n.correct_by_class for n in networks), strict=True))),
        **_points(points, balanced_points),
    )


def _points(points: Estimate | None, balanced: Estimate | None) -> dict[str, float | Interval | None]:
    return {
        "accuracy_points": points.value if points else None,
        "accuracy_points_interval_95": _within(points, -100, 100) if points else None,
        "balanced_points": balanced.value if balanced else None,
        "balanced_points_interval_95": _within(balanced, -100, 100) if balanced else None,
    }


def _known(figures: Sequence[tuple[float | None, Interval | None]], images: Sequence[int]) -> Estimate | None:
    known = [(value, interval) for value, interval in figures if value is not None and interval is not None]
    return pooled(known, images) if len(known) == len(figures) else None


def _differences(
    networks: Sequence[VerifiedNetwork],
    images: Sequence[int],
    of: Callable[[AgainstFound], tuple[float | None, Interval | None]],
) -> Estimate | None:
    """Where a fold's reference is the found network itself, the two do not differ there."""
    against = [n.against_found for n in networks]
    return _known([of(a) if a is not None else (0.0, (0.0, 0.0)) for a in against], images)


def _randoms(folds: Sequence[FoldOutcome], images: Sequence[int]) -> list[PooledNetwork]:
    """The mean of each fold's random networks; nothing where a fold has none."""
    against = [fold.verification.against_random for fold in folds]
    drawn = [[n for n in fold.verification.networks if n.role == "random"] for fold in folds]
    if not all(drawn) or None in against:
        return []
    means = [_mean_network(networks) for networks in drawn]
    accuracy = pooled([(value, interval) for value, interval, _ in means], images)
    balanced = _known([of_balanced for _, _, of_balanced in means], images)
    less = pooled(
        [
            (-a.accuracy_points, (-a.accuracy_points_interval_95[1], -a.accuracy_points_interval_95[0]))
            for a in against
            if a is not None
        ],
        images,
    )
    return [
        PooledNetwork(
            name="random",
            role="random",
            accuracy_percent=accuracy.value,
            accuracy_interval_95=_within(accuracy, 0, 100),
            balanced_accuracy_percent=balanced.value if balanced else None,
            balanced_accuracy_interval_95=_within(balanced, 0, 100) if balanced else None,
            correct_by_class=(),
            **_points(less, None),
        )
    ]


def _mean_network(
    networks: Sequence[VerifiedNetwork],
) -> tuple[float, Interval, tuple[float | None, Interval | None]]:
    """Mean accuracy, and a mean interval: random networks of one fold share their test images."""
    balanced = [n.balanced_accuracy_percent for n in networks]
    intervals = [n.balanced_accuracy_interval_95 for n in networks]
    mean_balanced: tuple[float | None, Interval | None] = (None, None)
    if None not in balanced and None not in intervals:
        mean_balanced = (
            fmean(value for value in balanced if value is not None),
            _mean_interval([interval for interval in intervals if interval is not None]),
        )
    return (
        fmean(n.accuracy_percent for n in networks),
        _mean_interval([n.accuracy_interval_95 for n in networks]),
        mean_balanced,
    )


def _mean_interval(intervals: Sequence[Interval]) -> Interval:
    return fmean(low for low, _ in intervals), fmean(high for _, high in intervals)


def _in_every_fold(folds: Sequence[FoldOutcome], images: Sequence[int]) -> list[PooledNetwork]:
    """The baselines, and the full network: the same architecture in every fold, trained anew in each."""
    by_name = [{n.name: n for n in fold.verification.networks} for fold in folds]
    names = [
        n.name
        for n in folds[0].verification.networks
        if n.role in ("full", "baseline", "baseline_published")
        and all(n.name in of_fold for of_fold in by_name)
    ]
    return [_pooled_network(name, [of_fold[name] for of_fold in by_name], images) for name in names]


def _within(estimate: Estimate, low: float, high: float) -> Interval:
    return max(low, estimate.low), min(high, estimate.high)
