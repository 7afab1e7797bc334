"""The files of images by number, wherever they lie: on the disk, or inside a data set of the hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stages.data.image_file import read_file
from stages.data.inventory_cache import FileState
from stages.data.listed import Listing
from stages.data.storage_units import StorageUnits


class ImageBytes(Protocol):
    """Goes to worker processes, too."""

    @property
    def place(self) -> Path:
        """What the inventory of these images is kept under: other images never have the same."""
        ...

    def state(self, number: int) -> FileState | None:
        """What changes when an image does; None where it is not there."""
        ...

    def read(self, number: int) -> bytes:
        """The content of its file. Raises BrokenImageError."""
        ...

    def units(self) -> StorageUnits | None:
        """Which images are only reached together; None where each is reached alone."""
        ...


@dataclass(frozen=True)
class FileBytes:
    """Images that are files below a folder, ``paths`` relative to it."""

    place: Path
    paths: tuple[str, ...]

    @classmethod
    def of(cls, listing: Listing) -> FileBytes:
        """The files of a listing, by their places in it."""
        return cls(listing.root, tuple(image.path for image in listing.images))

    def state(self, number: int) -> FileState | None:
        """Size, times and inode."""
        try:
            status = os.stat(f"{self.place}/{self.paths[number]}")  # noqa: PTH116 - a Path costs more
        except (OSError, ValueError):
            return None
        return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def read(self, number: int) -> bytes:
        """The file's content. Raises BrokenImageError."""
        return read_file(self.place / self.paths[number])

    def units(self) -> None:
        """Each image is a file."""
