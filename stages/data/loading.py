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
from stages.data.colours import on_device
from stages.data.decoded import PixelSource
from stages.data.geometry import evaluated_NHWC
from stages.data.names import shown
from stages.data.sharing import ALONE, Sharing
from stages.data.storage_units import StorageUnits
from stages.data.variation import Varied, as_varied
from stages.data.view import View
from stages.seeds import derived_seed

Key = tuple[int, int]
"""An image's place in its part, and the seed of its variation."""
Loaded = tuple[Tensor, Tensor | None, Tensor]
"""Pixels uint8 (n, H, W, channels), how their colours change (n, 3) or not, and labels int64 (n,)."""
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
        evaluation_weights_K: Tensor | None = None,
        weights_N: NDArray[np.float64] | None = None,
        sharing: Sharing = ALONE,
        timeout_seconds: float = TIMEOUT_SECONDS,
        units: StorageUnits | None = None,
    ) -> None:
        self.pixels, self.numbers_N, self.labels_N, self.view = pixels, numbers_N, labels_N, view
        self.batch_size = min(batch_size, len(labels_N))
        self.device, self.workers, self.timeout_seconds = device, workers, timeout_seconds
        self.class_weights_K, self.evaluation_weights_K = (
            None if weights_K is None else weights_K.to(device)
            for weights_K in (class_weights_K, evaluation_weights_K)
        )
        self.weights_N, self.sharing, self.units = weights_N, sharing, units
        self._change = BatchAugmentation(view.augmentation, view.classes)

    def __len__(self) -> int:
        return len(self.labels_N) // self.batch_size

    def training(
        self, seed: int, epoch: int, *, first: int = 0, mix: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch's batches from number ``first`` on; raises MachineError where a worker dies or hangs."""
        order_N, share = self._order(derived_seed(seed, epoch)), self.sharing.of(self.batch_size)
        numbered = _EpochKeys(order_N, self.batch_size, share, seed, epoch, first)
        loaded = self._in_process(numbered) if self.workers == 0 else self._by_workers(numbered)
        for index, batch in enumerate(loaded, start=first):
            yield self._changed(batch, derived_seed(seed, epoch, 2, index), mix)

    def _changed(self, loaded: Loaded, seed: int, mix: bool) -> tuple[Tensor, Tensor]:
        """A share of a batch as the network takes it.

        Where images are mixed with those of other shares, all of them are exchanged, as 8-bit pixels. The
        changes to them are made to this share's images and their partners alone.
        """
        pixels_NHWC, factors_N3, labels_N = (
            None if tensor is None else tensor.to(self.device, non_blocking=True) for tensor in loaded
        )
        assert pixels_NHWC is not None and labels_N is not None
        gather = self.sharing.gather
        if gather is None or not self._change.acts(mix):
            x_NCHW = on_device(pixels_NHWC, self.device, factors_N3)
            return self._change(x_NCHW, labels_N, seed=seed, mix=mix)
        share = self.sharing.of(self.batch_size)
        _, height, width, channels = pixels_NHWC.shape
        change = self._change.drawn((self.batch_size, channels, height, width), seed=seed, mix=mix)
        labels_N = gather(labels_N, self.batch_size)
        rows_N = torch.arange(share.start, share.stop)
        partners_N = change.partners(share)
        if len(partners_N):  # in all processes, or in none
            rows_N = torch.cat([rows_N, partners_N[(partners_N < share.start) | (partners_N >= share.stop)]])
            chosen_N = rows_N.to(self.device)
            pixels_NHWC = gather(pixels_NHWC, self.batch_size)[chosen_N]
            if factors_N3 is not None:
                factors_N3 = gather(factors_N3, self.batch_size)[chosen_N]
        return change(on_device(pixels_NHWC, self.device, factors_N3), rows_N, labels_N, share)

    def in_order(self, batch_size: int = 500, *, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """All photos once, as evaluation shows them, in order, from batch ``first`` on."""
        for start in range(first * batch_size, len(self.labels_N), batch_size):
            share = self.sharing.of(len(self.labels_N[start : start + batch_size]))
            chosen = slice(start + share.start, start + share.stop)
            if not len(self.labels_N[chosen]):
                continue
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

    def _in_process(self, batches: _EpochKeys) -> Iterator[Loaded]:
        items = self._items()
        for keys in batches:
            yield items.batch(keys)

    def _by_workers(self, batches: _EpochKeys) -> Iterator[Loaded]:
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
        for _ in range(len(batches)):
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
        names = ", ".join(
            shown(self.view.names[n]) if n < len(self.view.names) else str(n) for n in numbers[:4]
        )
        what = (str(error).splitlines() or ["its end of a pipe was closed"])[0].rstrip(".")
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


class _EpochKeys:
    """The keys of an epoch's full batches from number ``first`` on, each made when it is asked for.

    ``order_N``: places in the part, in the order in which they are shown; ``share``: of a batch, this
    process's.
    """

    def __init__(
        self, order_N: NDArray[np.int64], batch_size: int, share: slice, seed: int, epoch: int, first: int
    ) -> None:
        self._order_N, self._batch_size, self._share, self._first = order_N, batch_size, share, first
        self._seed, self._epoch = seed, epoch

    def __len__(self) -> int:
        return max(0, len(self._order_N) // self._batch_size - self._first)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in range(self._first, self._first + len(self)):
            start = batch * self._batch_size
            yield [
                (int(self._order_N[at]), derived_seed(self._seed, self._epoch, 1, at))
                for at in range(start + self._share.start, start + self._share.stop)
            ]


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
        """The images of some keys."""
        images, factors = zip(*(self._image(place, seed) for place, seed in keys), strict=True)
        factors_N3 = torch.from_numpy(np.stack(factors)) if self.view.augmentation.colour else None
        labels_N = self.labels_N[[place for place, _ in keys]]
        return torch.stack(images), factors_N3, torch.from_numpy(labels_N)

    def _image(self, place: int, seed: int) -> Varied:
        number = int(self.numbers_N[place])
        worker = torch.utils.data.get_worker_info()
        if self.at_work is not None and worker is not None:
            self.at_work[worker.id] = number
        return as_varied(self.pixels.read(number), self.view, np.random.default_rng(seed))
