"""A model that classifies images: which output stands for which class, and how it takes its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from nasflow.base.errors import UsageError
from nasflow.base.files import disk_faults, read_or_none
from nasflow.base.text import plain_line
from nasflow.gate.subjects import Subject
from nasflow.publish import RESULT
from stages.data.names import shown_list
from stages.packaging.labels import LABELS
from stages.packaging.reading import ReadMetadata, labels_in, read_metadata
from stages.reporting.result import ResultDocument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LARGEST = 1e6


@dataclass(frozen=True)
class Normalization:
    """A float input takes ``(pixel - mean) / std``, of all channels or of each. Pixels are 0 to 255.

    Raises UsageError for figures that do not make one.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        if (
            len(self.mean) != len(self.std)
            or len(self.mean) not in (1, 3)
            or not all(abs(number) < _LARGEST for number in numbers)
            or not all(std > 0 for std in self.std)
        ):
            raise UsageError(
                f"--mean {_shown(self.mean)} and --std {_shown(self.std)} are no normalization.",
                hint="Give one number or three to each, of pixels from 0 to 255; --std is above 0.",
            )


@dataclass(frozen=True)
class Judge:
    """A model that classifies images: its labels, and what it takes. ``side``: pixels of its input.

    ``normalization`` None: it takes pixels as they are.
    """

    subject: Subject
    labels: tuple[str, ...]
    side: int
    normalization: Normalization | None

    @classmethod
    def of(cls, subject: Subject, given: Normalization | None = None) -> Judge:
        """``given``: how a model takes its pixels that does not say so itself.

        Raises UsageError for a model that does not classify square images of 3 channels by name, and for one
        of which it is not known how it takes its pixels.
        """
        inputs, outputs = subject.seen.inputs, subject.seen.outputs
        shape = inputs[0].shape if len(inputs) == 1 else []
        if (
            len(shape) != 4
            or shape[0] != 1
            or shape[1] != shape[2]
            or shape[3] != 3
            or inputs[0].type not in ("float32", "uint8")
            or len(outputs) != 1
            or len(outputs[0].shape) != 2
        ):
            raise UsageError(
                f"the accuracy of {subject.name} cannot be found: it takes {subject.takes} and answers "
                f"{', '.join(one.describe() for one in outputs)}.",
                hint="--max-accuracy-drop is for classifiers of square images with 3 channels, float32 or "
                "uint8.",
            )
        metadata = read_metadata(subject.content, name=subject.name)
        pixels = inputs[0].type == "uint8"
        labels = metadata.labels or _labels_beside(subject)
        if len(labels) != outputs[0].shape[1]:
            raise UsageError(
                f"{subject.name} has {outputs[0].shape[1]} outputs, and {len(labels)} labels.",
                hint="A label file has a line for each output.",
            )
        if len(metadata.mean) not in (1, 3):
            raise UsageError(
                f"{subject.name} wants {len(metadata.mean)} channels normalized, and has 3.",
                hint="Its metadata are of another model: write them anew.",
            )
        return cls(
            subject, labels, int(shape[1]), None if pixels else _normalization(subject, metadata, given)
        )

    def places(self, class_names: Sequence[str]) -> list[int]:
        """Which output stands for each class. Raises UsageError where one has no label, or several."""
        index: dict[str, list[int]] = {}
        for place, label in enumerate(self.labels):
            index.setdefault(label.casefold(), []).append(place)
        if missing := [name for name in class_names if len(index.get(name.strip().casefold(), [])) != 1]:
            raise UsageError(
                f"{self.subject.name} has not one label for each class of the images: "
                f"{shown_list(missing)}; its labels: {shown_list(self.labels[:5])}.",
                hint="Classes and labels are compared by their names, whatever their case. Rename the "
                "folders, or correct the label file.",
            )
        return [index[name.strip().casefold()][0] for name in class_names]

    def taken(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Pixels 0 to 255 as the model takes them."""
        import numpy as np

        if self.normalization is None:
            return pixels_NHWC
        mean, std = (np.asarray(of, np.float32) for of in (self.normalization.mean, self.normalization.std))
        normalized: NDArray[np.float32] = (pixels_NHWC.astype(np.float32) - mean) / std
        return normalized


def _shown(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _normalization(subject: Subject, metadata: ReadMetadata, given: Normalization | None) -> Normalization:
    """As the file states it, or as it is given, or as networks of nasflow have it."""
    if metadata.stated:
        return Normalization(metadata.mean, metadata.std)
    if given is not None:
        return given
    if (result := _result_beside(subject)) is not None:
        ours = {result.network.model_sha256, *(file.model_sha256 for file in result.precisions)}
        if subject.model.sha256 in ours:
            return Normalization(metadata.mean, metadata.std)
    raise UsageError(
        f"{subject.name} does not say how it takes its pixels: (pixel - mean) / std, with which figures?",
        hint="Pixels are 0 to 255. For a model that takes -1 to 1: --mean 127.5 --std 127.5; 0 to 1: "
        "--mean 0 --std 255; ImageNet's: --mean 123.675,116.28,103.53 --std 58.395,57.12,57.375. "
        "'nasflow ship' writes them into the file.",
    )


def _result_beside(subject: Subject) -> ResultDocument | None:
    """Of the run that the model lies among; None where it lies elsewhere."""
    folder = subject.path.parent if subject.path is not None else None
    if folder is None or (content := read_or_none(folder / RESULT)) is None:
        return None
    try:
        return ResultDocument.model_validate_json(content)
    except ValidationError as error:
        raise UsageError(
            f"{plain_line(str(folder / RESULT))} was written by another version of nasflow.",
            hint="Write it again: nasflow report. Or move the model, and put a label file beside it.",
        ) from error


def _labels_beside(subject: Subject) -> tuple[str, ...]:
    """From a label file, or from the result of the run that made the model."""
    folder = subject.path.parent if subject.path is not None else None
    if folder is not None and (folder / LABELS).is_file():
        with disk_faults(folder / LABELS, "read"):
            lines = (folder / LABELS).read_bytes()
        try:
            return labels_in(lines)
        except ValueError as error:
            raise UsageError(
                f"{plain_line(str(folder / LABELS))} is no label file: {plain_line(str(error), limit=100)}.",
                hint="It has a line of UTF-8 for each output of the model.",
            ) from error
    if (result := _result_beside(subject)) is not None and result.images is not None:
        return tuple(one.name for one in result.images.classes)
    raise UsageError(
        f"{subject.name} does not say what its outputs stand for.",
        hint=f"Ship it with 'nasflow ship', or put {LABELS} beside it, one class a line, in the outputs' "
        "order. MobileNetV2 by name has random weights: give another baseline.",
    )
