"""What cross-validation says, in words."""

from __future__ import annotations

from typing import NamedTuple

from stages.documents import CrossValidation, PooledNetwork
from stages.reporting.notation import display_name, signed
from stages.verification.estimate import Estimate
from stages.verification.rivals import accuracy_relation
from stages.verification.statistics import wilson_interval


def folds_sentences(folds: CrossValidation) -> list[tuple[str, str]]:
    """(subject, sentence) in order."""
    by_name = {network.name: network for network in folds.networks}
    found, reference = by_name["found"], by_name["reference"]
    count = len(folds.folds)
    said = [
        (
            "Folds",
            f"The whole chain was run {count} times, each time with another of {count} equal parts of the "
            f"images for the test: all {folds.test_images:,} images were tested once, by networks that had "
            "not seen them. The figures are of the chain, not of one network; intervals hold for other "
            "images of this kind, and the luck of training is in them.",
        ),
        ("Accuracy", _accuracy(found, "The found networks")),
        ("Reference", _beside(found, reference, folds)),
    ]
    if random := by_name.get("random"):
        said.append(("Random", _less("the random networks of equal predicted latency (mean)", random)))
    low, high = folds.latency_ratio_interval_95
    said += [
        (
            "Latency",
            f"The found networks take {folds.latency_ratio:.3f} times as long as their references (geometric "
            f"mean, 95 % interval {low:.3f} to {high:.3f}).",
        ),
        ("Architectures", architectures_sentence(folds)),
    ]
    return said


class ClassRow(NamedTuple):
    """A class of all folds, and the share of its images that the networks classify correctly."""

    name: str
    images: int
    found: Estimate
    reference: Estimate


def class_rows(folds: CrossValidation) -> list[ClassRow]:
    """Each class that has images; the intervals are Wilson's, for these very networks."""
    by_name = {network.name: network.correct_by_class for network in folds.networks}
    return [
        ClassRow(
            one.name,
            one.test,
            wilson_interval(by_name["found"][index], one.test),
            wilson_interval(by_name["reference"][index], one.test),
        )
        for index, one in enumerate(folds.classes)
        if one.test
    ]


def architectures_sentence(folds: CrossValidation) -> str:
    """How the found architectures agree."""
    agreement, count = folds.architectures, len(folds.folds)
    if agreement.distinct == 1:
        return f"All {count} folds found the same architecture."
    return (
        f"The {count} folds found {agreement.distinct} different architectures. Of {agreement.layers} layers "
        f"with a choice {agreement.same_in_all} have the same candidate in all folds; two folds agree in "
        f"{agreement.shared_percent:.0f} % of the layers on average (drawn at random: "
        f"{agreement.chance_percent:.0f} %)."
    )


def _accuracy(network: PooledNetwork, subject: str) -> str:
    low, high = network.accuracy_interval_95
    said = f"{subject}: {network.accuracy_percent:.2f} % ({low:.2f} to {high:.2f})"
    if network.balanced_accuracy_percent is None or network.balanced_accuracy_interval_95 is None:
        return f"{said}."
    low, high = network.balanced_accuracy_interval_95
    return f"{said}; balanced {network.balanced_accuracy_percent:.2f} % ({low:.2f} to {high:.2f})."


def _beside(found: PooledNetwork, reference: PooledNetwork, folds: CrossValidation) -> str:
    names = dict.fromkeys(display_name(fold.reference) for fold in folds.folds)
    said = _accuracy(reference, f"The reference ({', '.join(names)})")
    interval = reference.accuracy_points_interval_95
    if reference.accuracy_points is None or interval is None:
        return said
    low, high = -interval[1], -interval[0]
    difference = f"{signed(-reference.accuracy_points)} points, 95 % interval {signed(low)} to {signed(high)}"
    margin = 100.0 if folds.equal_points is None else folds.equal_points
    match accuracy_relation(low, high, margin):
        case "better":
            verdict = f"The found networks are more accurate ({difference})."
        case "worse":
            verdict = f"The found networks are less accurate ({difference})."
        case "equal":
            verdict = f"The accuracies do not differ significantly ({difference})."
        case _:
            verdict = (
                f"Whether they are equally accurate, within {margin:g} points, cannot be told with "
                f"{folds.test_images:,} images ({difference})."
            )
    return f"{said} {verdict}"


def _less(other: str, network: PooledNetwork) -> str:
    points, interval = network.accuracy_points, network.accuracy_points_interval_95
    if points is None or interval is None:
        return ""
    return (
        f"Accuracy of the found networks less that of {other}: {signed(-points)} points (95 % interval "
        f"{signed(-interval[1])} to {signed(-interval[0])})."
    )
