"""Decoded images by number: each from its file, or from one file of all of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nasflow.base import files
from nasflow.base.errors import IntegrityError
from nasflow.base.processes import usable_cores
from pipeline.artifact import sha256_hex
from stages.data.decoded_folders import delete_old, mark_used
from stages.data.geometry import Picture, Pixels, pixels_of

VERSION = 1
SPARE_BYTES = 1_000_000_000
"""Left free on the cache's disk: results, and other programs, need room, too."""
_PIXELS, _INDEX = "pixels.bin", "index.npy"
_AHEAD = 4
_LOCKS = 64
_ANEW = "Delete its folder and run again: the images are then decoded anew."


class PixelSource(Protocol):
    """Decoded images by number."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> Picture:
        """One image. Raises IntegrityError where its file is not what it was."""
        ...


@dataclass(frozen=True)
class DecodedEachTime:
    """Every image is decoded whenever it is asked for."""

    decode: Callable[[int], Picture]
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, number: int) -> Picture:
        """Decode one image."""
        return self.decode(number)


class DecodedOnce:
    """All images in one file, each read when it is asked for: the operating system keeps what fits.

    Read, and not mapped: mapped pages count as memory of the process, up to the size of the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index_N4: NDArray[np.int64] = np.load(folder / _INDEX, allow_pickle=False)

    def __len__(self) -> int:
        return len(self._index_N4)

    def read(self, number: int) -> Pixels:
        """One image, as it was stored. Raises IntegrityError."""
        start, height, width, channels = map(int, self._index_N4[number])
        pixels = np.empty((height, width, channels), np.uint8)
        path = self._folder / _PIXELS
        try:
            # Opened each time: processes that load images share no position in it, and leave none open.
            with path.open("rb", buffering=0) as file:
                file.seek(start)
                whole = file.readinto(pixels.data) == pixels.nbytes
        except OSError as error:
            raise IntegrityError(f"{path}, a file of decoded images, cannot be read.", hint=_ANEW) from error
        if not whole:
            raise IntegrityError(f"{path}, a file of decoded images, is not whole.", hint=_ANEW)
        return pixels


def decoded_once(
    decode: Callable[[int], Picture],
    names: Sequence[str],
    settings: str,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], object] = lambda _done, _all: None,
) -> DecodedOnce:
    """All images that ``names`` identify by content, decoded under ``settings``; those of an earlier time.

    Raises MachineError where the cache folder cannot be written.
    """
    folder = _folder(names, settings)
    if not is_kept(names, settings):
        with _alone(folder):
            if not is_kept(names, settings):  # another process was quicker
                delete_old(folder.parent)
                _write(folder, decode, len(names), workers or usable_cores(), progress)
    mark_used(folder)
    return DecodedOnce(folder)


def is_kept(names: Sequence[str], settings: str) -> bool:
    """Whether :func:`decoded_once` would find these images. Raises MachineError where there is no cache."""
    return (_folder(names, settings) / _INDEX).is_file()


def too_little_space(needed_bytes: int) -> int | None:
    """The free bytes of the cache's disk, where they are too few to keep so many; None where there is room.

    Raises MachineError where the account has no cache.
    """
    free = files.free_bytes(files.cache_folder())
    return free if free is not None and free < needed_bytes + SPARE_BYTES else None


def _folder(names: Sequence[str], settings: str) -> Path:
    key = sha256_hex("\n".join((f"{VERSION} {settings}", *names)).encode())[:32]
    return files.cache_folder() / "images" / key


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let processes that want the same images decode them once: the others wait until they are there.

    Where a file system cannot lock files, each decodes them, and the first to finish is kept.
    """
    from filelock import FileLock

    locks = files.cache_folder() / "image-locks"
    with files.disk_faults(locks, "keep decoded images in"):
        files.make_folder(locks)
    lock = FileLock(locks / f"{crc32(folder.name.encode()) % _LOCKS}.lock")
    with suppress(OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write(
    folder: Path,
    decode: Callable[[int], Picture],
    count: int,
    workers: int,
    progress: Callable[[int, int], object],
) -> None:
    with files.disk_faults(folder.parent, "keep decoded images in"):
        files.make_folder(folder.parent)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            _fill(unfinished, _in_order(decode, range(count), workers), count, progress)
            with suppress(FileExistsError, OSError):  # another run was quicker: its folder holds the same
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _fill(
    folder: Path, images: Iterable[Picture], count: int, progress: Callable[[int, int], object]
) -> None:
    index, start = [], 0
    with (folder / _PIXELS).open("wb") as out:
        for done, picture in enumerate(images, start=1):
            pixels = pixels_of(picture)
            out.write(np.ascontiguousarray(pixels).data)
            index.append((start, *pixels.shape))
            start += pixels.size
            progress(done, count)
        out.flush()
        os.fsync(out.fileno())
    with (folder / _INDEX).open("wb") as out:
        np.save(out, np.array(index, np.int64).reshape(count, 4), allow_pickle=False)


def _in_order(decode: Callable[[int], Picture], numbers: Iterable[int], workers: int) -> Iterator[Picture]:
    """Decode in threads (Pillow lets go of the interpreter meanwhile), a few images ahead and no more."""
    left = iter(numbers)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: list[Future[Picture]] = [pool.submit(decode, n) for n in islice(left, _AHEAD * workers + 1)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(decode, number) for number in islice(left, 1)]
        finally:
            for future in waiting:
                future.cancel()
