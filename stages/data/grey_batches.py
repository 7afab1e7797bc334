"""Batches of small grey images on the training device: shuffled, mirrored, shifted, normalised."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stages.data.grey import GreyImages
from stages.data.sharing import ALONE, Sharing
from stages.seeds import derived_seed

SHIFT = 2


class GreyBatches:
    """The images of one part, held as uint8 on the device where the network is."""

    class_weights_K: None = None
    evaluation_weights_K: None = None

    def __init__(
        self, images: GreyImages, batch_size: int, device: torch.device, sharing: Sharing = ALONE
    ) -> None:
        self.sharing = sharing
        self.pixels_NHW = torch.from_numpy(images.pixels_NHW.copy()).to(device)
        self.labels_N = torch.from_numpy(images.labels.copy()).to(device)
        self.channels, self.augmented = images.channels, images.augmented
        self.batch_size = min(batch_size, len(images))  # fewer images than that are one batch

    def __len__(self) -> int:
        """Full batches of an epoch; at least one."""
        return len(self.labels_N) // self.batch_size

    def training(
        self, seed: int, epoch: int, *, first: int = 0, mix: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch's batches from number ``first`` on: x_NCHW float32 and labels (N,).

        Shuffled; each image is mirrored with probability one half and shifted by up to 2 pixels. They are
        not mixed. The last, incomplete batch is left out: BN statistics of a few images would be noise.
        """
        generator = torch.Generator().manual_seed(derived_seed(seed, epoch))
        order = torch.randperm(len(self.labels_N), generator=generator)
        for batch in range(len(self)):
            mirror = torch.rand(self.batch_size, generator=generator) < 0.5
            shift = torch.randint(-SHIFT, SHIFT + 1, (2, self.batch_size), generator=generator)
            if not self.augmented:
                mirror, shift = torch.zeros_like(mirror), torch.zeros_like(shift)
            if batch < first:
                continue
            which = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            share = self.sharing.of(len(which))
            which = which[share].to(self.pixels_NHW.device)
            yield self._augmented(which, mirror[share], shift[:, share]), self.labels_N[which]

    def _augmented(self, which: Tensor, mirror: Tensor, shift: Tensor) -> Tensor:
        device = self.pixels_NHW.device
        side = self.pixels_NHW.shape[1]
        index = torch.arange(side, device=device)
        rows = (index + shift[0].to(device)[:, None]) % side
        columns = (index + shift[1].to(device)[:, None]) % side
        columns = torch.where(mirror.to(device)[:, None], columns.flip(1), columns)
        # The images have a border of 2 background pixels, so that wrapping around moves background only.
        moved = self.pixels_NHW[which[:, None, None], rows[:, :, None], columns[:, None, :]]
        return normalised_NCHW(moved, self.channels)

    def in_order(self, batch_size: int = 500, *, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, as they are, in order, from batch ``first`` on: x_NCHW float32 and labels (N,)."""
        for start in range(first * batch_size, len(self.labels_N), batch_size):
            share = self.sharing.of(len(self.labels_N[start : start + batch_size]))
            which = slice(start + share.start, start + share.stop)
            if len(self.labels_N[which]):
                yield normalised_NCHW(self.pixels_NHW[which], self.channels), self.labels_N[which]


def normalised_NCHW(pixels_NHW: Tensor, channels: int = 3) -> Tensor:
    """uint8 grey (N, H, W) to float32 (N, channels, H, W), -1..1, channels last in memory."""
    grey = (pixels_NHW.float() - 127.5) / 127.5
    return grey[:, None].expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)
