"""Accuracy class by class: balanced accuracy, its differences, and who is taken for whom.

A share is 0..1. ``labels_N`` are the classes of N test images, ``answers_N`` those that a network gives.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from stages.verification.estimate import Estimate
from stages.verification.statistics import normal_quantile, score_interval, wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]


def by_class(values_N: NDArray[np.bool_], labels_N: NDArray[np.int64], classes: int) -> Counts:
    """How many of each class are true: int [classes]."""
    return np.bincount(labels_N[values_N], minlength=classes).astype(np.int64)


def balanced_accuracy(correct_K: Counts, images_K: Counts) -> Estimate:
    """Mean of the classes' accuracies, of those that have images, and its 95 % interval.

    Its bounds are the wider ones of two intervals. One combines the classes' Wilson intervals (method of
    variance estimates recovery: Zou, Huang and Zhang, Comput. Stat. Data Anal. 2009, 53:1080): sound for few
    classes, too narrow for many small ones, which are right in all images by chance. The other is Wilson's
    for the effective number of images (Korn and Graubard, Survey Methodology 1998, 24:193), the variance
    within each class having one image's worth of all classes' variance added: sound for many small classes,
    too narrow where a small class is unlike the others. In simulations (2 to 100 classes of 1 to 1,000
    images) the wider bounds held the truth in 93 to 99 %. Raises ValueError without images.
    """
    seen = images_K > 0
    if not seen.any():
        raise ValueError("no class has an image")
    correct, images = correct_K[seen].astype(float), images_K[seen].astype(float)
    share_K = correct / images
    share, classes, total = float(share_K.mean()), len(share_K), float(images.sum())
    wilson = [wilson_interval(int(c), int(n)) for c, n in zip(correct, images, strict=True)]
    below = math.sqrt(sum((e.value - e.low) ** 2 for e in wilson)) / classes
    above = math.sqrt(sum((e.high - e.value) ** 2 for e in wilson)) / classes
    square = normal_quantile() ** 2
    shrunk = (share * total + square / 2) / (total + square)
    of_all = shrunk * (1 - shrunk)
    variance = float(((images * share_K * (1 - share_K) + of_all) / images**2).sum()) / classes**2
    effective = score_interval(share, min(of_all / variance, total))
    return Estimate(
        share, max(0.0, min(share - below, effective.low)), min(1.0, max(share + above, effective.high))
    )


def balanced_difference(
    a_N: NDArray[np.bool_], b_N: NDArray[np.bool_], labels_N: NDArray[np.int64], classes: int
) -> Estimate:
    """Balanced accuracy of ``a`` less that of ``b`` on the same images, and its 95 % interval.

    ``a`` and ``b`` say which images were classified correctly. The variance is the larger of two, for the
    same reasons as in :func:`balanced_accuracy`: that of each class with Laplace's adjustment, as in
    :func:`stages.verification.statistics.paired_difference`, and that with one image's worth of all classes'
    added.
    """
    if not len(a_N) == len(b_N) == len(labels_N) > 0:
        raise ValueError(f"answers to {len(a_N)} and {len(b_N)} images cannot be paired")
    difference = a_N.astype(np.float64) - b_N.astype(np.float64)
    images = np.bincount(labels_N, minlength=classes)
    seen = images > 0
    n_K = images[seen].astype(float)
    a_K = np.bincount(labels_N, difference > 0, classes)[seen]
    b_K = np.bincount(labels_N, difference < 0, classes)[seen]
    mean_K = (a_K - b_K) / n_K
    value, total = float(mean_K.mean()), float(n_K.sum())
    only_a, only_b = (a_K + 1) / (n_K + 2), (b_K + 1) / (n_K + 2)
    adjusted = (only_a + only_b - (only_a - only_b) ** 2) / (n_K + 2)
    discordant = (float(((a_K + b_K) / n_K).mean()) * total + 2) / (total + 2)
    within = (a_K + b_K - n_K * mean_K**2 + discordant) / n_K**2
    half = normal_quantile() * math.sqrt(max(float(adjusted.sum()), float(within.sum()))) / len(n_K)
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def confusion(
    labels_N: NDArray[np.int64], answers_N: NDArray[np.int64], classes: int
) -> tuple[tuple[int, int, int], ...]:
    """(class, answered class, images) in order, what does not occur left out."""
    counts_KK = np.bincount(labels_N * classes + answers_N, minlength=classes * classes)
    cells = np.flatnonzero(counts_KK)
    return tuple(
        (int(label), int(answer), int(counts_KK[cell]))
        for cell in cells
        for label, answer in [divmod(int(cell), classes)]
    )


def majority_share(images_K: Counts) -> float:
    """What always answering the most frequent class would reach."""
    return float(images_K.max() / images_K.sum())
