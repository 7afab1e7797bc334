"""A person's own images: a folder for each class, or a table; see :class:`stages.data.dataset.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nasflow.base.errors import DatasetMissingError
from nasflow.base.text import human_bytes
from stages.data.config import DataConfig, SizedData
from stages.data.dataset import PARTS, ImageFacts, Part
from stages.data.names import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.data.catalogue import Catalogue
    from stages.data.decoded import PixelSource
    from stages.data.photos import Photos

DECODED_VERSION = 1
BALANCE_VERSION = "2"
"""Of what ``data.balance`` bears on; raised where that changes. Results without it stay as they are."""


@dataclass(frozen=True)
class ImageFolder:
    """The images below ``config.path``. Files are listed and read when something is first asked for."""

    config: DataConfig

    @property
    def name(self) -> str:
        """As a person would call them; what lies in a folder of theirs has no name that is told."""
        return "folder"

    @property
    def catalogue(self) -> Catalogue:
        """All that is known about the images. Raises UsageError, DatasetMissingError."""
        return self.look()

    def look(
        self,
        progress: Callable[[int, int], None] | None = None,
        comparing: Callable[[float], None] | None = None,
    ) -> Catalogue:
        """As :attr:`catalogue`; ``progress`` is told how many images are read, of how many.

        ``comparing``: which share of all pairs has been compared, to find near copies.
        """
        from stages.data.catalogue import catalogue_of

        # The size of a network's input has no part in it.
        plain = {name: getattr(self.config, name) for name in DataConfig.model_fields}
        return catalogue_of(DataConfig.model_validate(plain), progress, comparing)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' folders, or the table's labels, sorted; the files are listed once."""
        return self._listed_names

    @cached_property
    def _listed_names(self) -> tuple[str, ...]:
        from stages.data.listing import list_images

        return list_images(self._path).class_names

    @property
    def _path(self) -> Path:
        assert self.config.path is not None
        return Path(self.config.path)

    @property
    def natural_resolution(self) -> int:
        """The images' median shorter side, in pixels."""
        return self.catalogue.median_shorter_side()

    @property
    def resolution(self) -> int:
        """As the space has it; without one the images' own."""
        sized = self.config.resolution if isinstance(self.config, SizedData) else None
        return sized or self.natural_resolution

    @property
    def channels(self) -> int:
        """As the space has it; 3 without one."""
        return self.config.channels if isinstance(self.config, SizedData) else 3

    @property
    def counts(self) -> Mapping[Part, int]:
        """How many images each part holds."""
        return {part: len(self.catalogue.numbers(part)) for part in PARTS}

    @property
    def shared_choice(self) -> bool:
        """Whether ``architecture`` and ``choice`` are the same images."""
        return self.catalogue.splitting.shared

    def facts(self) -> ImageFacts:
        """Copies, conflicts and broken files, as the catalogue has them."""
        catalogue = self.catalogue
        copies, left_out, labels = catalogue.copies, catalogue.left_out(), catalogue.labels()
        classes = len(catalogue.class_names)
        near = 0 if copies is None else sum(len(members) - 1 for members in copies.near)
        exact = 0 if copies is None else sum(len(members) - 1 for members in copies.exact)
        groups = {image.group for image in catalogue.inventory.listing.images if image.group is not None}
        return ImageFacts(
            files_found=len(catalogue.inventory.images),
            exact_copies=None if copies is None else exact,
            near_copies=None if copies is None or not copies.searched_near else near - exact,
            left_out=sum(left_out.values()),
            label_conflicts=sum(conflict.kind == "exact" for conflict in catalogue.splitting.conflicts),
            groups=len(groups),
            broken=tuple(shown(image.path) for image in catalogue.inventory.broken),
            by_class={part: _counts(labels[catalogue.numbers(part)], classes) for part in PARTS},
        )

    def identity(self) -> dict[str, str]:
        """Hashes of all images with their names and labels, and of the split; how classes are balanced."""
        catalogue = self.catalogue
        balance = {} if self.config.balance == "none" else {"balance": BALANCE_VERSION}
        return {
            "dataset": self.config.source,
            "dataset_sha256": catalogue.inventory.digest(),
            "split_sha256": catalogue.split_digest(),
            **balance,
        }

    def is_at_hand(self) -> bool:
        """Whether the folder, or the table, is there."""
        return self._path.exists()

    def check_at_hand(self) -> None:
        """Raises DatasetMissingError where there is no such folder or table."""
        if not self.is_at_hand():
            raise DatasetMissingError(f"data.path: {self._path} does not exist.", hint="Correct data.path.")

    def check_folder(self, part: Part) -> None:
        """Raises DatasetMissingError where there is no folder, UsageError where it cannot be learned from."""
        self.check_at_hand()
        self.look()

    def load(self, part: Part) -> Photos:
        """The images of one part. Raises IntegrityError where a file can no longer be read."""
        from stages.data.photos import Photos
        from stages.data.view import View

        catalogue = self.catalogue
        numbers = catalogue.numbers(part)
        view = View(
            resolution=self.resolution,
            fit=self.config.fit,
            augmentation=self.config.augmentation.resolved(),
            classes=len(catalogue.class_names),
            names=tuple(image.path for image in catalogue.inventory.listing.images),
        )
        return Photos(
            self._pixels(catalogue, lambda _done, _all: None, lambda _text: None),
            numbers,
            catalogue.labels()[numbers],
            view,
            self.config.balance,
            self.config.workers,
            catalogue.inventory.content.units(),
        )

    def decode(self, progress: Callable[[int, int], None], warn: Callable[[str], None]) -> None:
        """Decode all images into the cache, if they fit into it: a :meth:`load` then finds them there.

        ``progress`` is told how many are decoded, of how many; ``warn``, that the disk has no room for them.
        Raises as :meth:`load`.
        """
        self._pixels(self.catalogue, progress, warn)

    def _pixels(
        self, catalogue: Catalogue, progress: Callable[[int, int], None], warn: Callable[[str], None]
    ) -> PixelSource:
        """All images, decoded once where they fit into the cache, and the cache onto its disk."""
        from stages.data.decoded import DecodedEachTime, decoded_once, is_kept, too_little_space
        from stages.data.decoder import Decoder

        decode = Decoder.of(catalogue.inventory, self.resolution, self.channels)
        if decode.all_bytes() > self.config.cache_gigabytes * 1e9:
            return DecodedEachTime(decode, len(decode.sides))
        names = [image.sha256 or "" for image in catalogue.inventory.images]
        settings = f"{DECODED_VERSION} {self.resolution} {self.channels}"
        free = None if is_kept(names, settings) else too_little_space(decode.all_bytes())
        if free is not None:
            warn(
                f"all images take {human_bytes(decode.all_bytes())} decoded, and the cache's disk has "
                f"{human_bytes(free)} free: they are decoded each time, which is slower. Free some space, or "
                "set XDG_CACHE_HOME to a folder on another disk."
            )
            return DecodedEachTime(decode, len(decode.sides))
        return decoded_once(decode, names, settings, progress=progress)


def _counts(labels: NDArray[np.int64], classes: int) -> tuple[int, ...]:
    import numpy as np

    return tuple(int(count) for count in np.bincount(labels, minlength=classes))
