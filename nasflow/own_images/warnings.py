"""What a person should know of their images before a run: one line each."""

from __future__ import annotations

from collections.abc import Iterator

from stages.data.catalogue import Catalogue, described, usable
from stages.data.names import shown, shown_list

SHOWS = "'nasflow data check' shows them"


def image_warnings(catalogue: Catalogue) -> Iterator[str]:
    """Images that are left out or doubtful, and why; nothing where all is well."""
    inventory, splitting = catalogue.inventory, catalogue.splitting
    listing, left_out = inventory.listing, catalogue.left_out()
    total = len(inventory.images)
    if broken := inventory.broken:
        first = f"{shown(broken[0].path)}: {described(broken[0])}"
        yield (
            f"{len(broken)} of {total:,} images cannot be read and {_are(len(broken))} left out ({first}"
            f"{', ...' if len(broken) > 1 else ''}): {SHOWS}."
        )
    if foreign := listing.to_convert:
        yield (
            f"{_images(len(foreign))} {_are(len(foreign))} in a format that is not read "
            f"({shown_list(foreign, 2)}), and left out: convert to JPEG or PNG."
        )
    if unused := listing.unused:
        yield (
            f"{_images(len(unused))} outside the class folders, or not in the table, {_are(len(unused))} not "
            f"used ({shown_list(unused, 2)})."
        )
    if count := left_out.get("conflicting-labels", 0):
        yield f"{_images(count)} with exact copies in another class {_are(count)} left out: {SHOWS}."
    if count := left_out.get("exact-copy", 0):
        copies = "is an exact copy of another" if count == 1 else "are exact copies of others"
        yield f"{_images(count)} {copies}, and left out: {SHOWS}."
    linked = left_out.get("linked-to-test", 0) + left_out.get("linked-to-validation", 0)
    if linked:
        yield (
            f"{_images(linked)} given for training {_are(linked)} copies of test or validation images, or of "
            f"their groups, and left out: {SHOWS}."
        )
    if splitting.straddling:
        sets = "1 set stands" if splitting.straddling == 1 else f"{splitting.straddling:,} sets stand"
        yield (
            f"{sets} in several parts of data.split_file, though its images are copies of each other or of "
            "one group: accuracy on test images comes out too high. 'nasflow data split' separates them."
        )
    near = sum(conflict.kind == "near" for conflict in splitting.conflicts)
    if near:
        sets = "1 set of near copies lies" if near == 1 else f"{near} sets of near copies lie"
        yield f"{sets} in more than one class: {SHOWS}."
    if catalogue.copies is not None and not catalogue.copies.searched_near:
        count = len(usable(inventory))
        yield f"{count:,} images are too many to search for near copies; exact ones are found."
    if fault := inventory.cache_fault:
        yield f"All images are read again at each start: {fault.message.rstrip('.')}."


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
