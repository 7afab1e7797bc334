"""Which splits and columns of a data set of the hub are used, and the label of each row in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasflow.base.errors import UsageError
from stages.data.listed import PART_WORDS, ListedImage, Listing, Part, make_listing
from stages.data.listing import check_listing
from stages.data.names import label_of, shown, shown_list

if TYPE_CHECKING:
    import datasets

LABEL_NAMES = ("label", "labels", "class", "category", "target", "cls", "fine_label")
IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp")


@dataclass(frozen=True)
class Columns:
    """``image`` and ``label``: the columns; ``kind``: the labels' feature; ``parts``: of each split."""

    image: str
    label: str
    kind: Any
    parts: Mapping[str, Part | None]

    @classmethod
    def of(cls, features: datasets.Features, splits: Sequence[str], name: str) -> Columns:
        """Raises UsageError where images or labels are not found."""
        image, label = image_column(features, name), label_column(features, name)
        return cls(image, label, features[label], parts_of(splits, name))


def listing_of(
    name: str,
    columns: Columns,
    splits: Sequence[str],
    labels: Iterable[tuple[str, Iterable[str]]],
) -> Listing:
    """The images in the rows' order, split by split: ``labels`` of each, in words.

    Raises UsageError where no classifier can be learned from them.
    """
    images: list[ListedImage] = []
    for split, texts in labels:
        of_split = list(texts)
        digits = len(str(len(of_split)))
        start, part = label_of(split), columns.parts[split]
        images += [ListedImage(f"{start}/{row:0{digits}d}", text, part) for row, text in enumerate(of_split)]
    ignored = [f"split {split}" for split in splits if split not in columns.parts]
    listing = make_listing(Path(name), images, ignored, f"splits {', '.join(columns.parts)}")
    # As the rows are, one after another, not by the images' names.
    listing = replace(listing, images=tuple(images))
    check_listing(listing)
    return listing


def parts_of(splits: Sequence[str], name: str) -> dict[str, Part | None]:
    """Which splits are used, and as which part: one alone is cut by nasflow."""
    known = {split: PART_WORDS[split.lower()] for split in splits if split.lower() in PART_WORDS}
    if len(known) > 1:
        return dict(known)
    if len(splits) == 1 or known:
        return {next(iter(known), splits[0]): None}
    raise UsageError(
        f"{shown(name)} has the splits {shown_list(list(splits))}: which of them to learn from is not known.",
        hint="A split named train is looked for.",
    )


def image_column(features: datasets.Features, name: str) -> str:
    """The column of images. Raises UsageError where there is not one."""
    import datasets

    found: list[str] = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if len(found) == 1:
        return found[0]
    if preferred := [column for column in IMAGE_NAMES if column in found]:
        return preferred[0]
    raise UsageError(
        f"{shown(name)} has {len(found)} columns of images among {shown_list(list(features), 8)}.",
        hint="One column of images is needed.",
    )


def label_column(features: datasets.Features, name: str) -> str:
    """The column of labels. Raises UsageError where there is not one."""
    import datasets

    classes: list[str] = [
        column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)
    ]
    if len(classes) == 1:
        return classes[0]
    plain = [
        column
        for column, kind in features.items()
        if isinstance(kind, datasets.Value)
        and (kind.dtype == "string" or kind.dtype.startswith(("int", "uint")))
    ]
    for candidates in (classes, plain):
        if preferred := [column for column in LABEL_NAMES if column in candidates]:
            return preferred[0]
    raise UsageError(
        f"{shown(name)} has no column of labels among {shown_list(list(features), 8)}.",
        hint=f"One is needed: of type ClassLabel, or named {', '.join(LABEL_NAMES[:5])}.",
    )


@dataclass
class Labels:
    """Turns one split's labels into words, row by row. ``kind``: the feature; ``where``: for errors."""

    column: str
    kind: Any
    where: str
    _row: int = field(default=-1, init=False)
    _names: Sequence[str] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        import datasets

        self._names = self.kind.names if isinstance(self.kind, datasets.ClassLabel) else None

    def text(self, value: int | str | None) -> str:
        """The label of the next row. Raises UsageError where it has none."""
        self._row += 1
        if self._names is not None and isinstance(value, str):
            value = self._names.index(value) if value in self._names else None
        in_range = self._names is None or value is None or 0 <= int(value) < len(self._names)
        if value is None or not in_range:
            raise UsageError(
                f"{self.where}: image {self._row} has no label.",
                hint="Only images with one label each can be learned from.",
            )
        label = label_of(self._names[int(value)] if self._names is not None else str(value))
        if not label:
            raise UsageError(f"{self.where}: the label of image {self._row} is empty.")
        return label

    def texts(self, table: Iterable[Any]) -> Iterator[str]:
        """The labels of the next rows: of a column, or of a ``pyarrow.Table`` that holds it alone."""
        values = table.column(0).to_pylist() if hasattr(table, "column") else table
        for value in values:
            yield self.text(value)
