"""What a run's images are, in words."""

from __future__ import annotations

from stages.documents import ImagesReport
from stages.verification.power import Shown

PARTS = ("train", "architecture", "choice", "test")
_COPIES = {
    "leave_out": "one of each exact set was used, and near copies stay in one part",
    "keep_together": "all were used, those of a set in one part",
    "ignore": "they were not looked for",
}
_BALANCE = {
    "none": "",
    "weights": "Images of rare classes count more in the training loss.",
    "sampling": "Images of rare classes are shown more often in training.",
}


def images_sentences(images: ImagesReport) -> list[tuple[str, str]]:
    """(subject, sentence) in order; what the source does not know is not said."""
    channels = {1: "grey", 3: "colour"}.get(images.channels, f"{images.channels} channels")
    said = [
        (
            "Source",
            f"{images.name}{'' if images.name == images.source else f' ({images.source})'}: "
            f"{len(images.classes)} classes, {images.resolution}×"
            f"{images.resolution} pixels as the networks take them, {channels}.",
        ),
        ("Parts", _parts(images)),
        ("Test", Shown(
            test_images=images.test_images,
            discordance=images.assumed_discordance,
            difference_points=images.difference_points,
            accuracy_points=images.accuracy_points,
        ).sentence()),
    ]  # fmt: skip
    if images.folds is not None and images.fold is not None:
        said.append(
            (
                "Folds",
                f"The test part is fold {images.fold + 1} of {images.folds} equal ones; the others were "
                "learned from.",
            )
        )
    if copies := _copies(images):
        said.append(("Copies", copies))
    if images.broken_images is not None:
        said.append(("Broken", _broken(images)))
    balance = _class_balance(images)
    said.append(("Classes", balance))
    preset = {"none": "none", "light": "preset light", "strong": "preset strong"}.get(
        images.augmentation, images.augmentation
    )
    said.append(("Augmentation", f"{preset.capitalize()}; the test images are never varied."))
    return said


def class_parts(images: ImagesReport) -> tuple[str, ...]:
    """The parts of which the images of each class are known."""
    return tuple(part for part in PARTS if any(getattr(one, part) is not None for one in images.classes))


def _parts(images: ImagesReport) -> str:
    said = f"{images.train_images:,} images for the weights"
    if images.shared_choice:
        said += (
            f"; the same {images.choice_images:,} for the architecture and for every later choice, because "
            "there are few"
        )
    else:
        said += (
            f", {images.architecture_images:,} for the architecture, {images.choice_images:,} for every "
            "later choice"
        )
    return f"{said}; {images.test_images:,} for the test, which no choice has seen."


def _copies(images: ImagesReport) -> str:
    if images.copies == "ignore":
        return "Copies were not looked for: the same picture may be in two parts."
    if images.exact_copies is None:
        return ""
    found = f" of {images.files_found:,}" if images.files_found is not None else ""
    said = f"{images.exact_copies:,}{found} images are exact copies of others"
    if images.near_copies is not None:
        said += f", {images.near_copies:,} nearly copies"
    if images.copies is not None:
        said += f"; {_COPIES[images.copies]}"
    if images.left_out:
        said += f" ({images.left_out:,} left out)"
    said += "."
    if images.label_conflicts:
        said += (
            f" {images.label_conflicts:,} set{'s' if images.label_conflicts > 1 else ''} of copies stood in "
            "two classes: all of their images were left out."
        )
    if images.groups:
        said += f" {images.groups:,} groups were kept in one part each."
    return said


def _broken(images: ImagesReport) -> str:
    if not images.broken_images:
        return "Every image could be read."
    names = images.broken or ()
    listed = ", ".join(names) + (" and others" if images.broken_images > len(names) else "")
    one = images.broken_images == 1
    return (
        f"{images.broken_images:,} file{' was' if one else 's were'} left out, because "
        f"{'it' if one else 'they'} could not be read{f': {listed}' if names else ''}."
    )


def _class_balance(images: ImagesReport) -> str:
    counts = [(one.test, one.name) for one in images.classes if one.test is not None]
    if not counts:
        return ""
    (least, rare), (most, frequent) = min(counts), max(counts)
    if least == most:
        said = f"Every class has {most:,} test images."
    else:
        said = f"The classes have {least:,} ({rare}) to {most:,} ({frequent}) test images."
    return f"{said} {_BALANCE[images.balance]}".strip()
