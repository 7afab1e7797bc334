"""A folder of images, looked at: what each file is, which are copies, and which image is in which part.

Everything is found once: the inventory and the copies are kept in this account's cache, and the catalogue of
a configuration in this process. Nothing is written into the folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from nasflow.base import files
from nasflow.base.errors import MachineError, UsageError
from pipeline.artifact import canonical_text, sha256_hex
from stages.data.config import CHOICE_SHARE, TEST_SHARE, DataConfig
from stages.data.copies import Copies, find_copies
from stages.data.dataset import PARTS, Part
from stages.data.descriptors import ImageDescriptor, describe
from stages.data.image_bytes import ImageBytes
from stages.data.inventory import InspectedImage, Inventory, Progress, take_inventory
from stages.data.listing import list_images
from stages.data.names import name_bytes, shown, shown_list
from stages.data.near_copies import NearPair
from stages.data.split_file import Present, read_split
from stages.data.splitting import (
    Given,
    Item,
    LeftOut,
    Shares,
    Splitting,
    find_conflicts,
    fold_items,
    sets_of,
    split_items,
)

COPIES_VERSION = "copies 1"


@dataclass(frozen=True)
class Catalogue:
    """The images of a folder and their parts. Images are numbered as the inventory has them."""

    inventory: Inventory
    copies: Copies | None
    splitting: Splitting
    train_images: int | None
    seed: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self.inventory.listing.class_names

    def labels(self) -> NDArray[np.int64]:
        """The index of each image's class."""
        return self._labels

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        index = {name: number for number, name in enumerate(self.class_names)}
        return np.array([index[image.label] for image in self.inventory.listing.images], np.int64)

    @cached_property
    def _number_of(self) -> Mapping[str, int]:
        return {image.path: index for index, image in enumerate(self.inventory.listing.images)}

    def numbers(self, part: Part) -> NDArray[np.int64]:
        """Which images a part holds, ascending."""
        number = self._number_of
        chosen = np.array(sorted(number[key] for key in self.splitting.keys(part)), np.int64)
        if part != "train" or self.train_images is None or len(chosen) <= self.train_images:
            return chosen
        return np.sort(_some_of_each_class(chosen, self.labels(), self.train_images, self.seed))

    def split_digest(self) -> str:
        """The identity of the split: which image is in which part."""
        parts = {"parts": dict(self.splitting.parts), "shared": self.splitting.shared}
        return sha256_hex(name_bytes(canonical_text(parts)))  # a name on the disk need not be text

    def median_shorter_side(self) -> int:
        """Of the images that can be read, in pixels."""
        side = self.inventory.median_shorter_side()
        assert side is not None, "a catalogue has images that can be read"
        return side

    def left_out(self) -> Mapping[LeftOut, int]:
        """How many images are in no part, by the reason."""
        return Counter(self.splitting.left_out.values())


_KNOWN: dict[DataConfig, Catalogue] = {}


Comparing = Callable[[float], None]
"""Is told which share of all pairs has been compared in the search for near copies, 0 to 1."""


def catalogue_of(
    config: DataConfig, progress: Progress | None = None, comparing: Comparing | None = None
) -> Catalogue:
    """Look at the images of a configuration, or recall what was found by this process.

    Raises UsageError where no classifier can be learned from them, DatasetMissingError where they are not
    there.
    """
    if config not in _KNOWN:
        _KNOWN[config] = _look(config, progress, comparing)
    return _KNOWN[config]


def _look(config: DataConfig, progress: Progress | None, comparing: Comparing | None) -> Catalogue:
    inventory = inventory_of(config, progress)
    check_broken(inventory, config.max_broken)
    copies = None if config.copies == "ignore" else copies_in(inventory, comparing)
    splitting = splitting_of(config, inventory, copies)
    return Catalogue(inventory, copies, splitting, config.train_images, config.split_seed)


def inventory_of(config: DataConfig, progress: Progress | None = None) -> Inventory:
    """Every image of a configuration as it is on the disk, with what copies are found by.

    Raises UsageError where what is there cannot be learned from, DatasetMissingError.
    """
    source: ImageBytes | None = None
    if config.source == "hub":
        from stages.data.hub import open_hub

        listing, source = open_hub(config)
    else:
        assert config.path is not None
        listing = list_images(Path(config.path))
    return take_inventory(
        listing,
        lambda image: describe(image).to_bytes(),
        describe_key=COPIES_VERSION,
        progress=progress,
        source=source,
    )


def allowed_broken(most: float, count: int) -> int:
    """How many of ``count`` images may be broken: a number, or of a share below 1 at least one image."""
    return int(most) if most >= 1 or most == 0 else max(1, int(most * count))


def check_broken(inventory: Inventory, most: float) -> None:
    """Raises UsageError where more images are broken than may be (see :func:`allowed_broken`)."""
    broken, count = inventory.broken, len(inventory.images)
    allowed = allowed_broken(most, count)
    if len(broken) <= allowed:
        return
    named = "; ".join(f"{shown(image.path)} ({described(image)})" for image in broken[:3])
    raise UsageError(
        f"{len(broken)} of {count} images cannot be read, and data.max_broken allows {allowed}: {named}.",
        hint="'nasflow data check --json' lists all. Repair or remove them, or raise data.max_broken.",
    )


def described(image: InspectedImage) -> str:
    """Why an image cannot be used, in words."""
    return f"{(image.broken or '').replace('_', ' ')}{': ' if image.detail else ''}{image.detail}"


def usable(inventory: Inventory) -> list[int]:
    """The numbers of the images that can be read; copies are numbered by their places in it."""
    return [number for number, image in enumerate(inventory.images) if image.broken is None]


def copies_in(inventory: Inventory, comparing: Comparing | None = None) -> Copies:
    """Among the readable images, numbered as :func:`usable` lists them; from the cache, if it has them."""
    numbers = usable(inventory)
    hashes = [inventory.images[number].sha256 or "" for number in numbers]
    key = sha256_hex("\n".join((COPIES_VERSION, *hashes)).encode())[:32]
    kept: Path | None = None
    with suppress(MachineError, ValueError, KeyError, TypeError):  # no home, or damaged: they are found again
        kept = files.cache_folder() / "copies" / f"{key}.json"
        if (content := files.read_or_none(kept)) is not None:
            return _from_json(content)
    copies = find_copies(hashes, _Descriptors(inventory, numbers), on_progress=comparing)
    if kept is not None:
        with suppress(MachineError):  # a full or read-only disk: they are found again next time
            files.write_atomic(kept, _as_json(copies))
    return copies


class _Descriptors(Sequence[ImageDescriptor]):
    """Of some images of an inventory, each read from its file whenever it is asked for."""

    def __init__(self, inventory: Inventory, numbers: Sequence[int]) -> None:
        self._inventory, self._numbers = inventory, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> ImageDescriptor: ...

    @overload
    def __getitem__(self, index: slice) -> _Descriptors: ...

    def __getitem__(self, index: int | slice) -> ImageDescriptor | _Descriptors:
        if isinstance(index, slice):
            return _Descriptors(self._inventory, self._numbers[index])
        return ImageDescriptor.from_bytes(self._inventory.descriptor(self._numbers[index]) or b"")


def _as_json(copies: Copies) -> bytes:
    pairs = [[pair.first, pair.second, pair.distance, pair.mirrored] for pair in copies.pairs]
    return json.dumps({**vars(copies), "pairs": pairs}).encode()


def _from_json(content: bytes) -> Copies:
    kept = json.loads(content)
    return Copies(
        count=int(kept["count"]),
        exact=tuple(tuple(map(int, members)) for members in kept["exact"]),
        near=tuple(tuple(map(int, members)) for members in kept["near"]),
        pairs=tuple(NearPair(int(a), int(b), float(d), bool(m)) for a, b, d, m in kept["pairs"]),
        searched_near=bool(kept["searched_near"]),
    )


def splitting_of(config: DataConfig, inventory: Inventory, copies: Copies | None) -> Splitting:
    """Which image is in which part. Raises UsageError where there is no such split."""
    listed, readable = inventory.listing.images, usable(inventory)
    label = {name: number for number, name in enumerate(inventory.listing.class_names)}
    near = copies.near_set_of() if copies is not None else [None] * len(readable)
    exact = copies.exact_set_of() if copies is not None else [None] * len(readable)
    items = [
        Item(
            key=listed[number].path,
            label=label[listed[number].label],
            given=listed[number].part,
            group=listed[number].group,
            copy_set=near[index],
            exact_set=exact[index],
        )
        for index, number in enumerate(readable)
    ]
    if config.split_file is not None:
        return _given_back(Path(config.split_file), inventory, items)
    superfluous = _superfluous(items) if config.copies == "leave_out" else frozenset[str]()
    names = inventory.listing.class_names
    shares = shares_of(config, [item.given for item in items if item.key not in superfluous])
    if config.folds is None:
        return split_items(items, names, shares=shares, seed=config.split_seed, superfluous=superfluous)
    splits = fold_items(
        items, names, config.folds, shares=shares, seed=config.split_seed, superfluous=superfluous
    )
    return splits[config.fold]


def _given_back(path: Path, inventory: Inventory, items: Sequence[Item]) -> Splitting:
    content = files.read_or_none(path)
    if content is None:
        raise UsageError(
            f"data.split_file: {path} does not exist.", hint="Correct it, or write one: nasflow data split."
        )
    names = inventory.listing.class_names
    sha256 = {image.path: image.sha256 or "" for image in inventory.images}
    present = [Present(item.key, names[item.label], sha256[item.key]) for item in items]
    written = read_split(content, present, name=str(path))
    parts = {line.path: line.part for line in written.lines if line.part is not None}
    left_out = {line.path: line.left_out for line in written.lines if line.left_out is not None}
    conflicts = find_conflicts([item for item in items if left_out.get(item.key) != "exact-copy"])
    straddling = sum(
        len({parts.get(item.key) for item in members} - {None}) > 1 for members in sets_of(items)
    )
    splitting = Splitting(parts, left_out, written.shared, conflicts, straddling)
    for part in PARTS:
        keys = set(splitting.keys(part))
        seen = {item.label for item in items if item.key in keys}
        lacking = [name for label, name in enumerate(names) if label not in seen]
        if lacking:
            raise UsageError(
                f"{path}: the part {part} has no image of {shown_list(lacking)}.",
                hint="Each part needs images of every class. Correct the file, or unset data.split_file: "
                "nasflow then splits the images again.",
            )
    return splitting


def _superfluous(items: Sequence[Item]) -> frozenset[str]:
    """Of each exact set of one label all but one: a given test image stays before a validation image."""
    order = {"test": 0, "validation": 1, "train": 2, None: 3}
    sets: dict[int, list[Item]] = {}
    for item in items:
        if item.exact_set is not None:
            sets.setdefault(item.exact_set, []).append(item)
    alike = [members for members in sets.values() if len({item.label for item in members}) == 1]
    return frozenset(
        item.key
        for members in alike
        for item in sorted(members, key=lambda item: (order[item.given], item.key))[1:]
    )


def shares_of(config: DataConfig, given: Sequence[Given | None]) -> Shares:
    """Which share each part gets of the images that are cut, from the given part of each image that is used.

    Cut are those without a part of their own, and those given for training; in cross-validation those of the
    other folds. Given validation images are cut in two: a number of images is that of one half, and shares
    are the proportion of both. Raises UsageError where none would be left to train with, and where a number
    is asked for of a part that is given.
    """
    if "test" in given and config.folds is None and config.test_images is not None:
        raise UsageError(
            f"data.test_images is {config.test_images:g}, but the images have a test part of their own "
            f"({given.count('test'):,} images): it is used as it is.",
            hint="Leave data.test_images unset, or take the test part out of the folder or the table.",
        )
    count = sum(part in (None, "train") for part in given)
    if config.folds is not None:
        count = count * (config.folds - 1) // config.folds

    def share(amount: float | None, usual: float) -> float:
        return usual if amount is None else amount if amount < 1 else amount / max(1, count)

    test = 0.0 if "test" in given or config.folds is not None else share(config.test_images, TEST_SHARE)
    if "validation" in given:
        architecture = 2 * CHOICE_SHARE * _share_of_architecture(config, given.count("validation"))
        choice = 2 * CHOICE_SHARE - architecture
    else:
        architecture = share(config.architecture_images, CHOICE_SHARE)
        choice = architecture if config.choice_images is None else share(config.choice_images, CHOICE_SHARE)
    cut = test if "validation" in given else architecture + choice + test
    if cut >= 1:
        set_keys = {
            name: getattr(config, name) for name in ("architecture_images", "choice_images", "test_images")
        }
        named = ", ".join(
            f"data.{name} {amount:g}" for name, amount in set_keys.items() if amount is not None
        )
        raise UsageError(
            f"{named}: of {count:,} images that are to be split, none would be left to train with.",
            hint="Make them smaller: each is a share below 1, or a number of images.",
        )
    if architecture + choice + test >= 1:  # of given validation images, whose proportion alone counts
        shrink = (1 - test) / 2 / (architecture + choice)
        architecture, choice = shrink * architecture, shrink * choice
    return Shares(architecture, choice, test or min(TEST_SHARE, (1 - architecture - choice) / 2))


def _share_of_architecture(config: DataConfig, count: int) -> float:
    """Which share of ``count`` given validation images is for the architecture; the others are for choices.

    Raises UsageError where there are not so many.
    """
    keys = ("architecture_images", "choice_images")
    wanted: dict[str, float | None] = {name: getattr(config, name) for name in keys}
    numbers = {name: amount for name, amount in wanted.items() if amount is not None and amount >= 1}
    if numbers and (sum(numbers.values()) > count or max(numbers.values()) >= count):
        named = " and ".join(f"data.{name} {amount:g}" for name, amount in numbers.items())
        raise UsageError(
            f"{named}: the images have a validation part of their own, of {count:,} images, which is cut "
            "into these two.",
            hint="Make them smaller, or leave them unset: then each is half of it.",
        )
    if list(numbers) == ["architecture_images"]:
        return numbers["architecture_images"] / count
    if list(numbers) == ["choice_images"]:
        return 1 - numbers["choice_images"] / count
    architecture = config.architecture_images or CHOICE_SHARE
    return architecture / (architecture + (config.choice_images or architecture))


def _some_of_each_class(
    numbers: NDArray[np.int64], labels: NDArray[np.int64], wanted: int, seed: int
) -> NDArray[np.int64]:
    """``wanted`` images, one of each class in turn."""
    random = np.random.default_rng(seed)
    of_classes = [
        random.permutation(numbers[labels[numbers] == label]) for label in np.unique(labels[numbers])
    ]
    turn = np.concatenate([np.arange(len(of_class)) for of_class in of_classes])
    return np.concatenate(of_classes)[np.argsort(turn, kind="stable")][:wanted]
