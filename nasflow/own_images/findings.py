"""What ``nasflow data check`` finds out about a folder or table of images. Nothing is written there."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nasflow.base.errors import IntegrityError, MachineError, UsageError
from stages.data.catalogue import (
    Catalogue,
    Comparing,
    check_broken,
    copies_in,
    inventory_of,
    splitting_of,
    usable,
)
from stages.data.config import DataConfig
from stages.data.copies import Copies
from stages.data.dataset import PARTS, Part
from stages.data.decoded import too_little_space
from stages.data.decoder import Decoder
from stages.data.inventory import InspectedImage, Inventory, Progress
from stages.data.reading import LONGEST_RATIO
from stages.data.splitting import Conflict, Item, Splitting, find_conflicts

MEASURED_SECONDS = 2.0
_MOST_MEASURED = 500
_SMALLEST_USUAL, _LARGEST_USUAL = 32, 224
SMALL_PART = 4
"""A shorter side of less than this part of the networks' input is small."""
UNEQUAL = 5.0
"""Above this ratio of the largest class to the smallest, images of rare classes get a weight."""
FEW_TEST_IMAGES = 150
"""With fewer, folds are worth their time."""


@dataclass(frozen=True)
class Findings:
    """A folder's images, their copies and their parts. Images are numbered as the inventory has them.

    ``splitting`` is None where the images cannot be split, ``problem`` what keeps them from being learned
    from. ``exact`` and ``near`` are sets of images of one picture, ``pairs`` near copies with their distance
    (0: none), closest first. ``decoded_per_second``: on one core, None where no image can be read;
    ``decoded_bytes``: what all of them take at ``resolution``; ``free_bytes``: on the cache's disk, where
    that is too little for them.
    """

    config: DataConfig
    inventory: Inventory
    splitting: Splitting | None
    problem: UsageError | None
    searched_near: bool
    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int, float], ...]
    conflicts: tuple[Conflict, ...]
    resolution: int
    decoded_bytes: int
    free_bytes: int | None = None
    decoded_per_second: float | None = None

    @property
    def where(self) -> str:
        """The folder or table of the images, or the data set's name."""
        return str(self.config.path or self.config.name)

    @property
    def readable(self) -> list[InspectedImage]:
        """The images that can be used."""
        return [image for image in self.inventory.images if image.broken is None]

    @property
    def smallest_usual(self) -> int:
        """Pixels of a shorter side, below which an image is said to be small."""
        return self.resolution // SMALL_PART

    @property
    def small(self) -> list[InspectedImage]:
        """Images that are enlarged by much for networks of this resolution."""
        return [i for i in self.readable if min(i.width or 0, i.height or 0) < self.smallest_usual]

    @property
    def long(self) -> list[InspectedImage]:
        """Images of which the middle is shown alone, because they are too long."""
        sides = ((image, sorted((image.width or 0, image.height or 0))) for image in self.readable)
        return [image for image, (shorter, longer) in sides if longer > LONGEST_RATIO * shorter]

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self.inventory.listing.class_names

    def parts_of_classes(self) -> Mapping[str, Counter[str]]:
        """How many images of each class are in each part, ``broken``, and ``left_out``."""
        return self._parts_of_classes

    @cached_property
    def _parts_of_classes(self) -> Mapping[str, Counter[str]]:
        counts: dict[str, Counter[str]] = {name: Counter() for name in self.class_names}
        catalogue = self._catalogue
        for listed, image in zip(self.inventory.listing.images, self.inventory.images, strict=True):
            of_class = counts[listed.label]
            of_class["images"] += 1
            if image.broken is not None:
                of_class["broken"] += 1
            elif self.splitting is not None and listed.path in self.splitting.left_out:
                of_class["left_out"] += 1
        if catalogue is not None:
            labels = catalogue.labels()
            for part in PARTS:
                for label in labels[catalogue.numbers(part)]:
                    counts[self.class_names[label]][part] += 1
        return counts

    def counts(self) -> Mapping[Part, int] | None:
        """How many images each part holds; None where there is no split."""
        catalogue = self._catalogue
        return None if catalogue is None else {part: len(catalogue.numbers(part)) for part in PARTS}

    @cached_property
    def _catalogue(self) -> Catalogue | None:
        """The images as a run takes them; None where there is no split."""
        if self.splitting is None:
            return None
        return Catalogue(
            self.inventory, None, self.splitting, self.config.train_images, self.config.split_seed
        )


def examine(
    config: DataConfig,
    *,
    resolution: Callable[[Inventory], int | None] | None = None,
    progress: Progress | None = None,
    comparing: Comparing | None = None,
) -> Findings:
    """Look at all images of a configuration whose path is absolute.

    ``resolution``: of the networks that will take them, in pixels; without: as the images are, up to 224.
    Decoding is timed for ``MEASURED_SECONDS``. Raises UsageError where they cannot be listed (one class, an
    empty folder), DatasetMissingError where they are not there. What else keeps them from being learned from
    is in the findings.
    """
    inventory = inventory_of(config, progress)
    problem: UsageError | None = None
    splitting: Splitting | None = None
    copies = None if config.copies == "ignore" else copies_in(inventory, comparing)
    try:
        if not usable(inventory):
            raise UsageError("None of the images can be read.", hint="Repair them, or name another folder.")
        check_broken(inventory, config.max_broken)
    except UsageError as error:
        problem = error
    if usable(inventory):
        try:
            splitting = splitting_of(config, inventory, copies)
        except UsageError as error:
            problem = problem or error
    pixels = (resolution(inventory) if resolution else None) or usual_resolution(inventory)
    decoder = Decoder.of(inventory, pixels, 3)
    number = usable(inventory)
    return Findings(
        config=config,
        inventory=inventory,
        splitting=splitting,
        problem=problem,
        searched_near=copies is not None and copies.searched_near,
        exact=() if copies is None else _numbered(copies.exact, number),
        near=() if copies is None else _numbered(copies.near, number),
        pairs=()
        if copies is None
        else tuple((number[pair.first], number[pair.second], pair.distance) for pair in copies.pairs),
        conflicts=() if copies is None else _conflicts(inventory, copies, number),
        resolution=pixels,
        decoded_bytes=decoder.all_bytes(),
        free_bytes=_too_few(decoder.all_bytes()),
        decoded_per_second=decoding_speed(decoder, number, MEASURED_SECONDS) if number else None,
    )


def usual_resolution(inventory: Inventory) -> int:
    """Pixels of a network's input that most of the images fill: a multiple of 32, of 32 to 224."""
    side = inventory.median_shorter_side() or _LARGEST_USUAL
    return max(_SMALLEST_USUAL, min(_LARGEST_USUAL, side // 32 * 32))


def decoding_speed(decode: Decoder, numbers: Sequence[int], seconds: float) -> float:
    """Images per second that one core reads and decodes, on a random sample of them."""
    sample = random.Random(0).sample(list(numbers), min(len(numbers), _MOST_MEASURED))
    started, done = time.perf_counter(), 0
    for number in sample:
        try:
            decode(number)
        except IntegrityError:  # it is being changed: told at the next look
            continue
        done += 1
        if time.perf_counter() - started > seconds:
            break
    return done / max(time.perf_counter() - started, 1e-9)


def _too_few(needed_bytes: int) -> int | None:
    """The free bytes of the cache's disk, where they are fewer than a run wants."""
    with suppress(MachineError):  # no home: told where something is kept
        return too_little_space(needed_bytes)
    return None


def data_root(config: DataConfig) -> Path | None:
    """The folder that holds the images, of a table its folder; None where they are not a person's files."""
    path = Path(config.path) if config.path is not None else None
    if path is None or not path.exists():
        return None
    return path if path.is_dir() else path.parent


def _numbered(sets: Sequence[tuple[int, ...]], number: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(number[index] for index in members) for members in sets)


def _conflicts(inventory: Inventory, copies: Copies, number: Sequence[int]) -> tuple[Conflict, ...]:
    """Copies that lie in different classes, whether or not the split leaves some of them out."""
    listed = inventory.listing.images
    label = {name: index for index, name in enumerate(inventory.listing.class_names)}
    near, exact = copies.near_set_of(), copies.exact_set_of()
    items = [
        Item(listed[n].path, label[listed[n].label], copy_set=near[index], exact_set=exact[index])
        for index, n in enumerate(number)
    ]
    return find_conflicts(items)
