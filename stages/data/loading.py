"""Batches of photos: read, cropped and varied by worker processes, then changed as a batch.

Every image is varied by its own random numbers, drawn from (seed, epoch, its place in the epoch): how many
workers there are changes nothing. Workers are PyTorch's DataLoader's.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from nasflow.base.errors import MachineError, NasflowError
from stages.data.batch_augmentation import BatchAugmentation
from stages.data.decoded import PixelSource
from stages.data.geometry import Pixels, as_varied, evaluated_NHWC
from stages.data.storage_units import StorageUnits
from stages.data.view import View
from stages.seeds import derived_seed

Key = tuple[int, int]
"""An image's place in its part, and the seed of its variation."""
Loaded = tuple[Tensor, Tensor]
"""Pixels uint8 (n, H, W, channels) and labels int64 (n,)."""
TIMEOUT_SECONDS = 300.0
"""Without a batch for so long, workers are said to hang."""
_LOOK_SECONDS = 5.0
_IDLE = -1


class PhotoBatches:
    """Photos of one part in batches; see :class:`stages.data.dataset.Batches`.

    ``numbers_N`` are their numbers in ``pixels``, ``labels_N`` their classes. ``weights_N``: how often each
    is shown in an epoch, relative to the others; None: once. ``units``: of ``pixels``, those that are stored
    together are shown together, in windows; None: all are shuffled.
    """

    def __init__(
        self,
        pixels: PixelSource,
        numbers_N: NDArray[np.int64],
        labels_N: NDArray[np.int64],
        view: View,
        *,
        batch_size: int,
        device: torch.device,
        workers: int,
        class_weights_K: Tensor | None = None,
        weights_N: NDArray[np.float64] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        units: StorageUnits | None = None,
    ) -> None:
        self.pixels, self.numbers_N, self.labels_N, self.view = pixels, numbers_N, labels_N, view
        self.batch_size = min(batch_size, len(labels_N))
        self.device, self.workers, self.timeout_seconds = device, workers, timeout_seconds
        self.class_weights_K = None if class_weights_K is None else class_weights_K.to(device)
        self.weights_N, self.units = weights_N, units
        self._change = BatchAugmentation(view.augmentation, view.classes)

    def __len__(self) -> int:
        return len(self.labels_N) // self.batch_size

    def training(
        self, seed: int, epoch: int, *, first: int = 0, mix: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch's batches from number ``first`` on; raises MachineError where a worker dies or hangs."""
        order = self._order(derived_seed(seed, epoch))
        numbered = [
            [(int(place), derived_seed(seed, epoch, 1, at)) for at, place in enumerate(batch, start)]
            for start, batch in (
                (index * self.batch_size, order[index * self.batch_size : (index + 1) * self.batch_size])
                for index in range(first, len(self))
            )
        ]
        loaded = self._in_process(numbered) if self.workers == 0 else self._by_workers(numbered)
        for index, (pixels_NHWC, labels_N) in enumerate(loaded, start=first):
            yield self._change(
                on_device(pixels_NHWC, self.device),
                labels_N.to(self.device),
                seed=derived_seed(seed, epoch, 2, index),
                mix=mix,
            )

    def in_order(self, batch_size: int = 500, *, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """All photos once, as evaluation shows them, in order, from batch ``first`` on."""
        for start in range(first * batch_size, len(self.labels_N), batch_size):
            chosen = slice(start, start + batch_size)
            pixels_NHWC = torch.from_numpy(evaluated_NHWC(self.pixels, self.numbers_N[chosen], self.view))
            labels_N = torch.from_numpy(self.labels_N[chosen])
            yield on_device(pixels_NHWC, self.device), labels_N.to(self.device)

    def _order(self, seed: int) -> NDArray[np.int64]:
        random = np.random.default_rng(seed)
        shuffled = self._shuffled(random)
        if self.units is None:
            return shuffled
        return shuffled[self.units.in_windows(self.numbers_N[shuffled], random)]

    def _shuffled(self, random: np.random.Generator) -> NDArray[np.int64]:
        count = len(self.labels_N)
        if self.weights_N is None:
            return random.permutation(count)
        # Each image as often as its weight says, the rest of it by chance: less noise than single draws.
        wanted_N = self.weights_N * count / self.weights_N.sum()
        often_N = np.floor(wanted_N).astype(np.int64)
        chances_N = wanted_N - often_N
        missing = count - int(often_N.sum())
        if missing:
            drawn = random.choice(count, missing, replace=False, p=chances_N / chances_N.sum())
            often_N[drawn] += 1
        return random.permutation(np.repeat(np.arange(count), often_N))

    def _items(self, at_work: Tensor | None = None) -> _Items:
        return _Items(self.pixels, self.numbers_N, self.labels_N, self.view, at_work)

    def _in_process(self, batches: list[list[Key]]) -> Iterator[Loaded]:
        items = self._items()
        for keys in batches:
            yield items.batch(keys)

    def _by_workers(self, batches: list[list[Key]]) -> Iterator[Loaded]:
        at_work = torch.full((self.workers,), _IDLE, dtype=torch.int64)
        at_work.share_memory_()  # type: ignore[no-untyped-call]
        loader: DataLoader[Loaded | NasflowError] = DataLoader(
            self._items(at_work),
            batch_sampler=batches,
            collate_fn=_as_it_is,
            num_workers=self.workers,
            timeout=min(_LOOK_SECONDS, self.timeout_seconds),
            pin_memory=self.device.type == "cuda",
        )
        with _own_child_handler():
            arriving = iter(loader)
        for _ in batches:
            try:
                batch = self._next(arriving)
            except (RuntimeError, OSError, EOFError) as error:
                raise self._named(error, at_work) from error
            if isinstance(batch, NasflowError):
                raise batch
            yield batch

    def _next(self, arriving: Iterator[Loaded | NasflowError]) -> Loaded | NasflowError:
        """The next batch; the loader looks after its workers whenever its own, short wait is over."""
        waited_since = time.monotonic()
        while True:
            try:
                return next(arriving)
            except RuntimeError as error:
                patient = time.monotonic() - waited_since < self.timeout_seconds
                if not (patient and "timed out" in str(error)):
                    raise

    def _named(self, error: Exception, at_work: Tensor) -> MachineError:
        """A worker that died or hangs, and the images that workers had before them."""
        numbers = [int(number) for number in at_work if int(number) != _IDLE]
        names = ", ".join(self.view.names[n] if n < len(self.view.names) else str(n) for n in numbers[:4])
        what = str(error).splitlines()[0].rstrip(".")
        return MachineError(
            f"A process that reads images stopped working: {what}."
            + (f" Images in work: {names}." if names else ""),
            hint="If memory ran out, lower data.workers or the batch size; data.workers: 0 reads them in the "
            "process that trains.",
            raw=str(error),
        )


@contextmanager
def _own_child_handler() -> Iterator[None]:
    """Keep the process's handler of SIGCHLD.

    PyTorch's would raise the error of a dead worker from whatever code runs at that moment. Without it the
    error comes where a batch is waited for.
    """
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGCHLD, before)


def _as_it_is(loaded: Any) -> Any:
    return loaded


class _Items(torch.utils.data.Dataset["Loaded | NasflowError"]):
    """Images by their places and seeds: as a network is shown them in training."""

    def __init__(
        self,
        pixels: PixelSource,
        numbers_N: NDArray[np.int64],
        labels_N: NDArray[np.int64],
        view: View,
        at_work: Tensor | None,
    ) -> None:
        self.pixels, self.numbers_N, self.labels_N, self.view = pixels, numbers_N, labels_N, view
        self.at_work = at_work

    def __getitems__(self, keys: list[Key]) -> Loaded | NasflowError:
        """A batch for a worker's queue, on which an error keeps its class as a value alone."""
        try:
            return self.batch(keys)
        except NasflowError as error:
            return error

    def batch(self, keys: list[Key]) -> Loaded:
        """Pixels uint8 (n, H, W, channels) and labels int64 (n,)."""
        images = [self._image(place, seed) for place, seed in keys]
        labels_N = self.labels_N[[place for place, _ in keys]]
        return torch.from_numpy(np.stack(images)), torch.from_numpy(labels_N)

    def _image(self, place: int, seed: int) -> Pixels:
        number = int(self.numbers_N[place])
        worker = torch.utils.data.get_worker_info()
        if self.at_work is not None and worker is not None:
            self.at_work[worker.id] = number
        return as_varied(self.pixels.read(number), self.view, np.random.default_rng(seed))


def on_device(pixels_NHWC: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W), -1..1, channels last in memory."""
    x_NHWC = pixels_NHWC.to(device, non_blocking=True).float()
    return x_NHWC.sub_(127.5).div_(127.5).permute(0, 3, 1, 2)
