"""The images of an inventory by number, decoded to the size that random crops are taken from."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from nasflow.base.errors import IntegrityError
from stages.data.geometry import Picture, stored_side
from stages.data.image_bytes import ImageBytes
from stages.data.image_file import BrokenImageError
from stages.data.inventory import Inventory
from stages.data.names import shown
from stages.data.reading import LONGEST_RATIO, decode_once

_SIZE = sha256().digest_size
_NONE = "00" * _SIZE


@dataclass(frozen=True)
class Decoder:
    """``sides``: shorter and longer side in pixels of each decoded image; (0, 0) for one that is broken.

    ``place``: where the images lie, for errors. ``hashes``: SHA-256 of their files, one behind another.
    """

    source: ImageBytes
    place: str
    paths: tuple[str, ...]
    sides: tuple[tuple[int, int], ...]
    channels: int
    hashes: bytes = field(repr=False)

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
        hashes = b"".join(bytes.fromhex(image.sha256 or _NONE) for image in inventory.images)
        return cls(inventory.content, str(inventory.listing.root), paths, tuple(sides), channels, hashes)

    def all_bytes(self) -> int:
        """What all images take, decoded."""
        return self.channels * sum(shorter * longer for shorter, longer in self.sides)

    def __call__(self, number: int) -> Picture:
        """One image; of a broken one a black pixel, which nothing shows.

        Raises IntegrityError where its file can no longer be read, or is another one by now.
        """
        shorter, _ = self.sides[number]
        if not shorter:
            return np.zeros((1, 1, self.channels), np.uint8)
        try:
            content = self.source.read(number)
            if sha256(content).digest() != self.hashes[number * _SIZE : (number + 1) * _SIZE]:
                raise IntegrityError(
                    f"{self._shown(number)} has changed since this run looked at the images.",
                    hint="Run again: the images are then split anew.",
                )
            return decode_once(
                content,
                channels=1 if self.channels == 1 else 3,
                shorter_side=shorter,
            )
        except BrokenImageError as error:
            raise IntegrityError(
                f"{self._shown(number)} could be read before and now cannot: {error.detail}.",
                hint="Put it back, and run again: finished stages are kept.",
            ) from error

    def _shown(self, number: int) -> str:
        return f"{shown(self.paths[number])} in {shown(self.place)}"
