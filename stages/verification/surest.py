"""The images on which a network is surest of its answer, right and wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stages.documents import SureAnswer
from stages.verification.answers import Answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 12
"""Images of each kind that are kept."""


def surest(answers: Answers, labels_N: NDArray[np.int64]) -> tuple[tuple[SureAnswer, ...], ...]:
    """Two tuples: right answers, of each class the surest, and wrong ones; in both the surest first.

    ``labels_N``: int64 (images,). Of equally sure ones the first image counts. With a thousand classes the
    surest right answers are of :data:`MOST` different ones.
    """
    right_N = np.equal(answers.classes_N, labels_N)
    order_N = np.argsort(-answers.probability_N, kind="stable")
    best: dict[int, int] = {}
    for image in order_N[right_N[order_N]]:
        best.setdefault(int(labels_N[image]), int(image))
        if len(best) == MOST:
            break
    worst = [int(image) for image in order_N[~right_N[order_N]][:MOST]]
    return tuple(
        tuple(
            SureAnswer(
                image=image,
                label=int(labels_N[image]),
                answer=int(answers.classes_N[image]),
                # Of a softmax in float32 it may be a little above 1.
                probability=min(1.0, float(answers.probability_N[image])),
            )
            for image in images
        )
        for images in (best.values(), worst)
    )
