"""What each image of a listing is: hash, size, format, descriptor, or why it is broken. Files are read once.

What was found is kept in this account's cache. A file whose size, times and inode are the same as then is not
read again. Descriptors stay in a file: memory does not hold them. Threads read and decode: Pillow releases
Python's lock while it decodes and resizes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median

from PIL import Image

from nasflow.base.errors import MachineError
from nasflow.base.processes import usable_cores
from stages.data.descriptor_file import DescriptorFile, Place
from stages.data.image_bytes import FileBytes, ImageBytes
from stages.data.image_file import BrokenImageError, Reason
from stages.data.inventory_cache import CachedImage, FileState, InventoryCache
from stages.data.listed import Listing
from stages.data.names import name_bytes
from stages.data.reading import decode_image, measure_bytes

Describe = Callable[[Image.Image], bytes]
Progress = Callable[[int, int], None]

_BATCH = 256
_SECONDS_BETWEEN_SAVES = 30.0
_NOT_KEPT: frozenset[Reason | None] = frozenset({"missing", "unreadable"})  # a right may be given later


@dataclass(frozen=True, slots=True)
class InspectedImage:
    """One image. ``width`` and ``height`` in pixels, upright; ``sha256`` of the file, in hexadecimal.

    ``broken``: why it cannot be used, in one word, with ``detail``; None where it can. What a broken file
    does not tell is None. ``descriptor``: where it stands (:meth:`Inventory.descriptor`).
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    broken: Reason | None = None
    detail: str = ""
    descriptor: Place | None = field(default=None, compare=False)


Looked = tuple[InspectedImage, bytes | None]


@dataclass(frozen=True)
class Inventory:
    """A listing and its images as they are on the disk: ``images`` in the listing's order.

    ``read``: how many files were read now; the others were known from the cache. ``cache_fault``: why the
    cache could not be used, if so.
    """

    listing: Listing
    images: tuple[InspectedImage, ...]
    read: int
    cache_fault: MachineError | None = field(default=None, compare=False)
    source: ImageBytes | None = field(default=None, compare=False)
    descriptors: DescriptorFile | None = field(default=None, compare=False)

    def descriptor(self, number: int) -> bytes | None:
        """What ``describe`` made of an image; None where nothing did. Raises IntegrityError."""
        place = self.images[number].descriptor
        return None if place is None or self.descriptors is None else self.descriptors.read(place)

    @cached_property
    def content(self) -> ImageBytes:
        """The images' files by number: of ``source``, or those of the listing."""
        return self.source or FileBytes.of(self.listing)

    @property
    def broken(self) -> tuple[InspectedImage, ...]:
        """The images that cannot be used."""
        return tuple(image for image in self.images if image.broken is not None)

    def median_shorter_side(self) -> int | None:
        """Of the images that can be used, in pixels; None where there is none."""
        readable = [image for image in self.images if image.broken is None]
        sides = [min(image.width, image.height) for image in readable if image.width and image.height]
        return int(median(sides)) if sides else None

    def digest(self) -> str:
        """The identity of the data set: SHA-256 over path, label, part, group and content of every image.

        Independent of the images' order, of the folder's place and of the files' times.
        """
        entries = []
        for listed, image in zip(self.listing.images, self.images, strict=True):
            hashed = hashlib.sha256()
            for value in (listed.path, listed.label, listed.part, listed.group, image.sha256):
                content = b"" if value is None else name_bytes(value)
                hashed.update(b"%d:%d:" % (value is not None, len(content)) + content)
            entries.append(hashed.digest())
        return hashlib.sha256(b"".join(sorted(entries))).hexdigest()


def take_inventory(
    listing: Listing,
    describe: Describe | None = None,
    *,
    describe_key: str = "",
    shorter_side: int = 256,
    workers: int | None = None,
    progress: Progress | None = None,
    cache_folder: Path | None = None,
    source: ImageBytes | None = None,
) -> Inventory:
    """Look at every image of a listing.

    ``describe`` makes a descriptor of an upright RGB image whose shorter side has ``shorter_side`` pixels;
    ``describe_key`` names it with its version: descriptors by another are not reused. ``workers``: threads;
    None: one per core. ``progress`` is called with (done, total), from this thread. ``cache_folder``: None:
    this account's. A cache that cannot be used is reported (``cache_fault``), and is no error. ``source``:
    where images come from that are no files of the listing's folder.
    """
    settings = f"{describe_key}/{shorter_side}" if describe is not None else ""
    content = source or FileBytes.of(listing)
    cache = InventoryCache.load(content.place, settings, cache_folder)
    looked_ns = time.time_ns()
    states = [content.state(number) for number in range(len(listing.images))]
    found: list[InspectedImage | None] = []
    for listed, state in zip(listing.images, states, strict=True):
        row = cache.get(listed.path, state) if state is not None else None
        found.append(None if row is None else InspectedImage(listed.path, row.state.size, *row.values()))
    waiting = [index for index, image in enumerate(found) if image is None]
    if waiting:
        cache.keep_only({image.path for image in listing.images})
    total, done = len(found), len(found) - len(waiting)
    if progress is not None:
        progress(done, total)
    saved_at = time.monotonic()
    moved = False

    def look(index: int) -> tuple[InspectedImage, bytes | None]:
        return _look(content, index, listing.images[index].path, states[index], describe, shorter_side)

    for indices, images in _in_batches(look, waiting, workers or usable_cores()):
        if not moved and any(descriptor is not None for _, descriptor in images):
            moved = True
            _move_descriptors(cache, found)
        for index, (image, descriptor) in zip(indices, images, strict=True):
            if descriptor is not None and cache.descriptors is not None:
                image = replace(image, descriptor=cache.descriptors.append(descriptor))
            found[index] = image
            state = states[index]
            if state is not None and image.broken not in _NOT_KEPT:
                cache.put(image.path, _cached(image, state, looked_ns))
        done += len(indices)
        if progress is not None:
            progress(done, total)
        if time.monotonic() - saved_at > _SECONDS_BETWEEN_SAVES:
            cache.save()
            saved_at = time.monotonic()
    if waiting:
        cache.save(finished=True)
    in_order = tuple(image for image in found if image is not None)
    return Inventory(listing, in_order, len(waiting), cache.fault, source, cache.descriptors)


def _move_descriptors(cache: InventoryCache, found: list[InspectedImage | None]) -> None:
    """Put the known descriptors into a file of this run's own, to which it adds."""
    moved = cache.new_descriptors()
    for index, image in enumerate(found):
        if image is not None:
            found[index] = replace(image, descriptor=moved.get(image.path))
    for path, place in moved.items():
        cache.put(path, replace(cache.rows[path], descriptor=place))


def _look(
    content: ImageBytes,
    number: int,
    path: str,
    state: FileState | None,
    describe: Describe | None,
    shorter_side: int,
) -> tuple[InspectedImage, bytes | None]:
    """The image, and its descriptor, which has no place yet."""
    size_bytes = state.size if state is not None else 0
    sha256 = width = height = name = None
    try:
        data = content.read(number)
        sha256 = hashlib.sha256(data).hexdigest()
        size = measure_bytes(data)
        width, height, name = size.width, size.height, size.format
        image = decode_image(data, shorter_side=shorter_side)
    except BrokenImageError as error:
        return InspectedImage(
            path, size_bytes, sha256, width, height, name, broken=error.reason, detail=error.detail
        ), None
    descriptor = None if describe is None else describe(image)
    return InspectedImage(path, size_bytes, sha256, width, height, name), descriptor


def _cached(image: InspectedImage, state: FileState, looked_ns: int) -> CachedImage:
    return CachedImage(
        state, looked_ns, image.sha256, image.width, image.height, image.format, image.broken, image.detail,
        image.descriptor,
    )  # fmt: skip


def _in_batches(
    look: Callable[[int], Looked], waiting: Sequence[int], workers: int
) -> Iterator[tuple[Sequence[int], list[Looked]]]:
    """A batch at a time: memory does not grow with the images, and what is done can be saved."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="inventory")
    try:
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            yield batch, list(pool.map(look, batch))
    finally:
        pool.shutdown(cancel_futures=True)
