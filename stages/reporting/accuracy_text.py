"""What the test images say about accuracy, in words: equal or not, class by class, or neither."""

from __future__ import annotations

from typing import NamedTuple

from stages.documents import AgainstFound
from stages.reporting.classes import ClassResult
from stages.reporting.notation import signed
from stages.reporting.result import NetworkResult, ResultDocument
from stages.verification.power import accuracy_margin, points, smallest_difference
from stages.verification.rivals import AccuracyRelation, accuracy_relation

_MOST_CONFUSIONS = 3


def relation(result: ResultDocument) -> AccuracyRelation:
    """The found network's accuracy beside the reference's; ``equal`` where it is that network."""
    low, high = _found_less_reference(result)
    margin = result.verification.equal_points
    return accuracy_relation(low, high, 100.0 if margin is None else margin)


def accuracy_clause(result: ResultDocument, *, but: bool) -> str:
    """How the headline's sentence ends. ``but``: what it says before speaks against the found network."""
    against = _against(result)
    if against is None:
        return ", and is that network itself"
    by = f"{abs(against.accuracy_points):.2f} points"
    match relation(result):
        case "better":
            return f", {'but' if but else 'and'} is {by} more accurate"
        case "worse":
            return f", {'and' if but else 'but'} is {by} less accurate"
        case "equal":
            return ", at an accuracy that does not differ significantly"
    return f"; whether it is as accurate cannot be told with {_images(result)}"


def speedup_terms(result: ResultDocument) -> str:
    """In what terms the speed-up is meant: equal accuracy only where it is shown."""
    against = _against(result)
    match relation(result):
        case "better":
            return "at better accuracy"
        case "worse":
            return f"at {against.accuracy_points if against else 0:.2f} points less"
        case "equal":
            return "at equal accuracy"
    return "at unproven accuracy"


def cannot_tell(result: ResultDocument) -> str:
    """That the test images do not decide whether the accuracies are equal; empty where they do."""
    if relation(result) != "unknown":
        return ""
    low, high = _found_less_reference(result)
    return (
        f"Whether the found network is as accurate as {result.verification.reference}, within "
        f"{points(result.verification.equal_points or 0)}, cannot be told with {_images(result)}: the "
        f"difference is between {signed(low)} and {signed(high)} points."
    )


def test_images_sentence(result: ResultDocument) -> str:
    """What differences so many test images can show between networks like these; empty where not kept."""
    against, images = _against(result), result.verification.test_images
    if against is None or against.only_correct is None or against.only_found_correct is None:
        return ""
    differing = against.only_correct + against.only_found_correct
    discordance = differing / images
    shown = smallest_difference(images, discordance=discordance)
    (found,) = (n for n in result.verification.networks if n.role == "found")
    return (
        f"The found network and the reference differ in {differing:,} of {images:,} test images "
        f"({100 * discordance:.2g} %), where only one of them is right: differences under {points(shown)} "
        "could not be shown. One accuracy is known to "
        f"±{points(accuracy_margin(images, found.accuracy_percent / 100))}."
    )


def classes_sentence(result: ResultDocument) -> str:
    """Balanced accuracy, the least accurate class, and who is taken for whom; empty where not kept."""
    verification = result.verification
    (found,) = (n for n in verification.networks if n.role == "found")
    if found.balanced_accuracy_percent is None or found.balanced_accuracy_interval_95 is None:
        return ""
    low, high = found.balanced_accuracy_interval_95
    said = [
        f"Balanced accuracy of the found network: {found.balanced_accuracy_percent:.2f} % ({low:.2f} to "
        f"{high:.2f})."
    ]
    if verification.majority_percent is not None:
        said.append(
            f"Always answering the most frequent class would reach {verification.majority_percent:.2f} %."
        )
    if least := least_accurate(verification.classes):
        low, high = least.accuracy_interval_95
        said.append(
            f"Least accurate class: {least.name}, {least.accuracy_percent:.1f} % ({low:.1f} to {high:.1f})."
        )
    if confused := largest_confusions(verification.classes):
        said.append(f"Most frequent confusions: {'; '.join(confused)}.")
    return " ".join(said)


class _Least(NamedTuple):
    name: str
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]


def least_accurate(classes: tuple[ClassResult, ...]) -> _Least | None:
    """The class that the found network is least accurate on; None where it is right everywhere."""
    seen = [
        _Least(c.name, c.found.accuracy_percent, c.found.accuracy_interval_95) for c in classes if c.found
    ]
    least = min(seen, key=lambda one: one.accuracy_percent, default=None)
    return least if least is not None and least.accuracy_percent < 100 else None


def largest_confusions(classes: tuple[ClassResult, ...], most: int = _MOST_CONFUSIONS) -> list[str]:
    """The found network's: ``141 of 1,000 Shirt answered T-shirt/top``; the most images first."""
    cells = [
        (confusion.images, of.images, of.name, confusion.answered)
        for of in classes
        if of.found
        for confusion in of.found.confusions
    ]
    cells.sort(key=lambda cell: (-cell[0], cell[2], cell[3]))
    return [
        f"{images:,} of {total:,} {name} taken for {answered}"
        for images, total, name, answered in cells[:most]
    ]


def balance_matters(networks: tuple[NetworkResult, ...]) -> bool:
    """Whether balanced accuracies differ from accuracies: classes have different numbers of images."""
    return any(
        n.balanced_accuracy_percent is not None
        and abs(n.balanced_accuracy_percent - n.accuracy_percent) > 0.005
        for n in networks
    )


def _against(result: ResultDocument) -> AgainstFound | None:
    verification = result.verification
    return next(n for n in verification.networks if n.name == verification.reference).against_found


def _found_less_reference(result: ResultDocument) -> tuple[float, float]:
    against = _against(result)
    if against is None:
        return 0.0, 0.0
    low, high = against.accuracy_points_interval_95
    return -high, -low


def _images(result: ResultDocument) -> str:
    count = result.verification.test_images
    return f"{count:,} test image{'s' if count != 1 else ''}"
