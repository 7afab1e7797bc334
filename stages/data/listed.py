"""A list of images with their labels, parts and groups, as it was found in a folder or a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nasflow.base.errors import UsageError
from stages.data.names import shown, shown_list
from stages.data.walking import CONVERT_HINT, IMAGE_SUFFIXES, TO_CONVERT, suffix_of

Part = Literal["train", "validation", "test"]
PART_WORDS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
}

LAYOUT_HINT = (
    "Give each class a folder with its images, and name the folder that holds them all: 'flowers', where "
    "images are flowers/daisy/1.jpg, flowers/daisy/2.jpg, flowers/tulip/3.jpg."
)


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image. ``path``: relative to the listing's root, with ``/``, as the disk has it (other bytes
    than UTF-8 as surrogates). ``label``: as it is shown. ``part``: None where the person gave no split.
    ``group``: images of one group belong to one part (a burst, a person, a scene).
    """

    path: str
    label: str
    part: Part | None = None
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """The images below ``root``, sorted by path; ``class_names`` in the order of the labels 0, 1, ...

    ``ignored``: files and folders (ending in ``/``) that were left out. ``layout``: how the folder was
    read, in words.
    """

    root: Path
    images: tuple[ListedImage, ...]
    class_names: tuple[str, ...]
    ignored: tuple[str, ...]
    layout: str

    @property
    def to_convert(self) -> tuple[str, ...]:
        """Those of ``ignored`` that are images in a format that is not read, as a phone's HEIC."""
        return tuple(path for path in self.ignored if is_to_convert(path))

    @property
    def unused(self) -> tuple[str, ...]:
        """Those of ``ignored`` that are images: outside all class folders, or not in the table."""
        return tuple(path for path in self.ignored if _is_image(path))

    def counts(self) -> dict[str, int]:
        """How many images each class has, in the order of the classes."""
        counted = Counter(image.label for image in self.images)
        return {name: counted[name] for name in self.class_names}


def make_listing(root: Path, images: Iterable[ListedImage], ignored: Iterable[str], layout: str) -> Listing:
    """Sort what was found, and name its classes."""
    in_order = tuple(sorted(images, key=lambda image: image.path))
    classes = tuple(sorted({image.label for image in in_order}))
    return Listing(root, in_order, classes, tuple(sorted(ignored)), layout)


def _is_image(path: str) -> bool:
    name = path.rpartition("/")[2]
    return suffix_of(name) in IMAGE_SUFFIXES and not name.startswith(".")


def is_to_convert(path: str) -> bool:
    """Whether a file's suffix is that of an image in a format that is not read."""
    name = path.rpartition("/")[2]
    return suffix_of(name) in TO_CONVERT and not name.startswith(".")


def no_images(root: Path, ignored: Iterable[str]) -> UsageError:
    """The error for a folder that holds no image at all."""
    ignored = sorted(ignored)
    foreign = [path for path in ignored if is_to_convert(path)]
    if foreign:
        return UsageError(
            f"{shown(root)} holds no image that can be read, but {len(foreign)} in other formats: "
            f"{shown_list(foreign)}.",
            hint=CONVERT_HINT,
        )
    rest = f"; {len(ignored)} other files were left out ({shown_list(ignored)})" if ignored else ""
    return UsageError(f"{shown(root)} holds no images{rest}.", hint=LAYOUT_HINT)
