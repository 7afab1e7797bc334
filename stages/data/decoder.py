"""The images of an inventory by number, decoded to the size that random crops are taken from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasflow.base.errors import IntegrityError
from stages.data.geometry import Picture, stored_side
from stages.data.image_bytes import ImageBytes
from stages.data.image_file import BrokenImageError
from stages.data.inventory import Inventory
from stages.data.reading import LONGEST_RATIO, decode_once


@dataclass(frozen=True)
class Decoder:
    """``sides``: shorter and longer side in pixels of each decoded image; (0, 0) for one that is broken.

    ``place``: where the images lie, for errors.
    """

    source: ImageBytes
    place: str
    paths: tuple[str, ...]
    sides: tuple[tuple[int, int], ...]
    channels: int

    @classmethod
    def of(cls, inventory: Inventory, resolution: int, channels: int) -> Decoder:
        """For networks that take images of ``resolution`` pixels."""
        sides = []
        for image in inventory.images:
            if image.broken is not None or not image.width or not image.height:
                sides.append((0, 0))
                continue
            shorter, longer = sorted((image.width, image.height))
            stored = stored_side(shorter, resolution)
            sides.append((stored, round(stored * min(longer / shorter, LONGEST_RATIO))))
        paths = tuple(image.path for image in inventory.images)
        return cls(inventory.content, str(inventory.listing.root), paths, tuple(sides), channels)

    def all_bytes(self) -> int:
        """What all images take, decoded."""
        return self.channels * sum(shorter * longer for shorter, longer in self.sides)

    def __call__(self, number: int) -> Picture:
        """One image; of a broken one a black pixel, which nothing shows.

        Raises IntegrityError where its file can no longer be read.
        """
        shorter, _ = self.sides[number]
        if not shorter:
            return np.zeros((1, 1, self.channels), np.uint8)
        try:
            return decode_once(
                self.source.read(number),
                channels=1 if self.channels == 1 else 3,
                shorter_side=shorter,
            )
        except BrokenImageError as error:
            raise IntegrityError(
                f"{self.paths[number]} in {self.place} could be read before and now cannot: {error.detail}.",
                hint="Put it back, and run again: finished stages are kept.",
            ) from error
