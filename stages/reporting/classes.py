"""The found network and the reference class by class, and their most frequent confusions."""

from __future__ import annotations

from pydantic import Field

from pipeline.artifact import Record
from stages.documents import Verification, VerifiedNetwork
from stages.verification.statistics import wilson_interval

MOST_CONFUSIONS = 10
"""Of one class, in the result: with a thousand classes all of them would be megabytes."""


class Confusion(Record):
    """So many test images of one class are answered with another."""

    answered: str
    images: int


class ClassAccuracy(Record):
    """A network's accuracy on the test images of one class."""

    correct: int
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    confusions: tuple[Confusion, ...] = Field(description="the most frequent first")


class ClassResult(Record):
    """A class of the test images. The networks are None where it has none."""

    name: str
    images: int
    found: ClassAccuracy | None
    reference: ClassAccuracy | None


def class_results(verification: Verification) -> tuple[ClassResult, ...]:
    """Every class, in the order of the labels; empty where an earlier version kept no classes."""
    images = verification.images
    if images is None:
        return ()
    names = [each.name for each in images.classes]
    counts = [each.test or 0 for each in images.classes]
    found = next(n for n in verification.networks if n.role == "found")
    reference = next(n for n in verification.networks if n.name == verification.reference)
    return tuple(
        ClassResult(
            name=names[index],
            images=counts[index],
            found=_accuracy(found, index, counts[index], names),
            reference=_accuracy(reference, index, counts[index], names),
        )
        for index in range(len(names))
    )


def _accuracy(network: VerifiedNetwork, index: int, images: int, names: list[str]) -> ClassAccuracy | None:
    if not images or index >= len(network.correct_by_class):
        return None
    correct = network.correct_by_class[index]
    share = wilson_interval(correct, images)
    cells = [cell for cell in network.confusion or () if cell[0] == index != cell[1]]
    return ClassAccuracy(
        correct=correct,
        accuracy_percent=100 * share.value,
        accuracy_interval_95=(100 * share.low, 100 * share.high),
        confusions=tuple(
            Confusion(answered=names[answered], images=count)
            for _, answered, count in sorted(cells, key=lambda cell: -cell[2])[:MOST_CONFUSIONS]
        ),
    )
