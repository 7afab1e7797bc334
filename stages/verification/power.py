"""What a number of test images can show at all, said before anything is trained.

Percentage points throughout. No numpy: this is asked by commands that load nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
USUAL_DISCORDANCE = 0.2
"""Assumed share of images on which exactly one of two networks is right, where nothing is known of them."""
_Z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2)


def smallest_difference(
    test_images: int,
    *,
    accuracy: float | None = None,
    discordance: float | None = None,
    power: float = 0.5,
) -> float:
    """The difference in accuracy of two networks that so many test images show, in points (0..100).

    A true difference of this size is shown with probability ``power``: then the paired 95 % interval of
    :func:`stages.verification.statistics.paired_difference` leaves out 0. With one half, anything smaller is
    more often missed than shown. ``discordance`` is the share of images (0..1) on which exactly one of the
    two networks is right. Without it, it is half of what two networks of this ``accuracy`` (0..1) would have
    if they were wrong independently of each other, or :data:`USUAL_DISCORDANCE`. A difference of d needs a
    discordance of at least d: where few images ask for more than was assumed, all of it is taken to be on one
    side. After Connor (Biometrics 1987, 43:207), with the interval's own adjustment for few images.

    Raises ValueError without images, and where a share is not between 0 and 1.
    """
    for name, share in (("accuracy", accuracy), ("discordance", discordance), ("power", power)):
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name} {share} is not between 0 and 1")
    if test_images < 1:
        raise ValueError(f"{test_images} test images show nothing")
    assumed = assumed_discordance(accuracy) if discordance is None else discordance
    quantile = _Z + NormalDist().inv_cdf(min(max(power, 1e-9), 1 - 1e-9))
    if quantile <= 0:
        return 0.0
    # The interval counts one image more for each of the two networks (Bonett and Price).
    counted, square = test_images + 2, quantile**2
    centre = quantile * math.sqrt((test_images * assumed + 2) / counted / (counted + square))
    images = centre * counted
    if images > test_images * assumed:  # more than may differ: all that differ are on one side
        half = square * counted / 2
        images = (half + math.sqrt(half**2 + 2 * square * counted * (counted + square))) / (counted + square)
    return min(100.0, 100 * images / test_images)


def assumed_discordance(accuracy: float | None = None) -> float:
    """On what share of images exactly one of two networks is right, as far as it can be guessed."""
    return USUAL_DISCORDANCE if accuracy is None else accuracy * (1 - accuracy)


def accuracy_margin(test_images: int, accuracy: float = 0.5) -> float:
    """Half the width of Wilson's 95 % interval of one network's accuracy (0..1), in points; one half: widest.

    Raises ValueError without images.
    """
    if test_images < 1:
        raise ValueError(f"{test_images} test images show nothing")
    square = _Z**2
    spread = accuracy * (1 - accuracy) / test_images + square / (4 * test_images**2)
    return 100 * _Z * math.sqrt(spread) / (1 + square / test_images)


@dataclass(frozen=True)
class Shown:
    """What so many test images can show; ``difference_points`` under that discordance (0..1)."""

    test_images: int
    discordance: float
    difference_points: float
    accuracy_points: float

    def sentence(self) -> str:
        """In words, with the assumption."""
        return (
            f"{_images(self.test_images)}: differences under {points(self.difference_points)} cannot be "
            "shown (they are more often missed than found, if only one of two networks is right on "
            f"{100 * self.discordance:.2g} % of the images); one network's accuracy is known to "
            f"±{points(self.accuracy_points)} or better."
        )


def what_can_be_shown(test_images: int, *, discordance: float | None = None) -> Shown:
    """What so many test images can show. Raises ValueError without images."""
    assumed = assumed_discordance() if discordance is None else discordance
    return Shown(
        test_images=test_images,
        discordance=assumed,
        difference_points=smallest_difference(test_images, discordance=assumed),
        accuracy_points=accuracy_margin(test_images),
    )


def points(value: float) -> str:
    """``8 points``, ``0.9 points``, ``1 point``: as precise as such a statement is."""
    text = f"{value:.0f}" if value >= 2 else f"{value:.1f}".removesuffix(".0")
    return f"{text} point{'' if text == '1' else 's'}"


def _images(count: int) -> str:
    return f"{count:,} test image{'s' if count != 1 else ''}"
