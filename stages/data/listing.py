"""What is in a folder of images or in a table: files, labels, parts, groups. No image is opened.

Three layouts are read::

    flowers/daisy/1.jpg               flowers/train/daisy/1.jpg         flowers/metadata.csv
    flowers/tulip/2.jpg               flowers/test/daisy/2.jpg            file_name,label[,split][,group]

The second is told from the first by its structure, not by one name: see :mod:`stages.data.layout`.
"""

from __future__ import annotations

from pathlib import Path

from nasflow.base.errors import DatasetMissingError, UsageError
from stages.data.image_table import TABLE_SUFFIXES, list_table, table_hint
from stages.data.layout import list_folder
from stages.data.listed import LAYOUT_HINT, ListedImage, Listing, Part, no_images
from stages.data.names import shown, shown_list
from stages.data.walking import suffix_of

__all__ = ["ListedImage", "Listing", "Part", "check_listing", "list_images"]


def list_images(path: Path) -> Listing:
    """List a folder of images or a table (CSV, TSV, JSONL); checked, so that it can be learned from.

    Raises DatasetMissingError where there is nothing of that name, UsageError where no classifier can be
    learned from what is there, MachineError where a folder may not be read.
    """
    if path.is_dir():
        listing = list_folder(path)
    elif path.is_file():
        if suffix_of(path.name) not in TABLE_SUFFIXES:
            raise UsageError(
                f"{shown(path)} is a file, but neither a folder of images nor a table (.csv, .tsv, .jsonl).",
                hint="Name the folder that holds the classes' folders, or a table with the columns "
                "file_name and label.",
            )
        listing = list_table(path)
    else:
        raise DatasetMissingError(
            f"There is no folder or table {shown(path)}.", hint="Correct the path (key data.path)."
        )
    check_listing(listing)
    return listing


def check_listing(listing: Listing) -> None:
    """Raises UsageError where no classifier can be learned from these images."""
    where, classes = shown(listing.root), listing.class_names
    if not listing.images:
        raise no_images(listing.root, listing.ignored)
    parts = {part: frozenset[str]() for part in ("train", "validation", "test")}
    for image in listing.images:
        if image.part is not None and image.label not in parts[image.part]:
            parts[image.part] |= {image.label}
    if any(parts.values()):
        _check_parts(where, parts)
    if len(classes) == 1:
        raise UsageError(
            f"{where} holds one class only: {shown(classes[0])}. A classifier needs two or more.",
            hint=_one_class_hint(listing),
        )
    learned = sum(image.part in (None, "train") for image in listing.images)
    if learned <= len(classes):
        raise UsageError(
            f"{where} holds {learned} training images in {len(classes)} classes: more classes than a "
            "network can learn from so few images.",
            hint="Give each class several images. In a table, check that the column label holds classes "
            "and not a name for each image.",
        )


def _check_parts(where: str, parts: dict[str, frozenset[str]]) -> None:
    if not parts["train"]:
        given = " and ".join(part for part, labels in parts.items() if labels)
        raise UsageError(
            f"{where} holds images for {given}, but none for train.",
            hint="Add a part train, or leave the parts out: then nasflow splits the images itself.",
        )
    for part in ("validation", "test"):
        if parts[part] and parts[part] != parts["train"]:
            alone = sorted(parts["train"] - parts[part])
            other = sorted(parts[part] - parts["train"])
            sides = [f"only train has {shown_list(alone)}"] if alone else []
            sides += [f"only {part} has {shown_list(other)}"] if other else []
            raise UsageError(
                f"{where}: the classes of train and {part} differ: {'; '.join(sides)}.",
                hint="Each part needs images of the same classes, named alike (capital letters count).",
            )


def _one_class_hint(listing: Listing) -> str:
    first = listing.images[0].path.split("/")
    nested = {image.path.split("/")[1] for image in listing.images if image.path.count("/") >= 2}
    if len(first) >= 2 and len(nested) >= 2:
        return f"If the folders in it are the classes, name that folder: {shown(listing.root / first[0])}"
    return f"{table_hint(listing.root, listing.ignored)}{LAYOUT_HINT}"
