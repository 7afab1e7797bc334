"""Changes to whole batches, by kornia, on the device where the network is: RandAugment, erasing, mixing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from stages.data.augmentation import Augmentation

ERASED_AREA, ERASED_ASPECT = (0.02, 0.25), (0.3, 3.3)
"""As in arXiv 1708.04896, section 3.2; the largest area is smaller, for pictures of one object."""


class BatchAugmentation:
    """What an :class:`Augmentation` does to batches. Nothing is imported where it does nothing."""

    def __init__(self, augmentation: Augmentation, classes: int) -> None:
        self.augmentation, self.classes = augmentation, classes
        self._changes: list[Callable[[Tensor], Tensor]] | None = None

    def __call__(self, x_NCHW: Tensor, labels_N: Tensor, *, seed: int, mix: bool) -> tuple[Tensor, Tensor]:
        """Images in -1..1 and labels; of mixed images float32 labels (N, classes).

        The same seed gives the same batch; the global random state is left as it was.
        """
        wanted = self.augmentation
        if not self.acts(mix):
            return x_NCHW, labels_N
        with torch.random.fork_rng(devices=[x_NCHW.device] if x_NCHW.device.type == "cuda" else []):
            torch.manual_seed(seed)
            with torch.no_grad():
                x_NCHW = self._changed(x_NCHW)
                if mix and (wanted.mixup or wanted.cutmix):
                    return self._mixed(x_NCHW, labels_N)
        return x_NCHW, labels_N

    def acts(self, mix: bool) -> bool:
        """Whether it does anything, where images may be mixed or not."""
        wanted = self.augmentation
        return bool(wanted.randaugment or wanted.erasing or (mix and (wanted.mixup or wanted.cutmix)))

    def _changed(self, x_NCHW: Tensor) -> Tensor:
        if self._changes is None:
            self._changes = _changes(self.augmentation)
        if not self._changes:
            return x_NCHW
        x_NCHW = x_NCHW * 0.5 + 0.5
        for change in self._changes:
            x_NCHW = change(x_NCHW)
        return (x_NCHW * 2 - 1).clamp_(-1, 1).contiguous(memory_format=torch.channels_last)

    def _mixed(self, x_NCHW: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        """One of the two, or neither, on each batch: with one share and one partner for each image.

        The label is mixed as the pixels are (arXiv 1710.09412, equation 1; arXiv 1905.04899, equation 1).
        """
        wanted, (count, _, height, width) = self.augmentation, x_NCHW.shape
        targets_NK = one_hot(labels_N, self.classes).float()
        kinds = [name for name in ("mixup", "cutmix") if getattr(wanted, name)]
        chosen = int(torch.randint(2, ()))
        if chosen >= len(kinds):
            return x_NCHW, targets_NK
        order = torch.randperm(count).to(x_NCHW.device)
        alpha = torch.tensor(float(getattr(wanted, kinds[chosen])))
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        if kinds[chosen] == "mixup":
            x_NCHW = x_NCHW * share + x_NCHW[order] * (1 - share)
        else:
            side = (1 - share) ** 0.5
            tall, wide = round(side * height), round(side * width)
            top = int(torch.randint(height - tall + 1, ()))
            left = int(torch.randint(width - wide + 1, ()))
            x_NCHW = x_NCHW.clone(memory_format=torch.channels_last)
            place = (..., slice(top, top + tall), slice(left, left + wide))
            x_NCHW[place] = x_NCHW[order][place]
            share = 1 - tall * wide / (height * width)
        return x_NCHW, targets_NK * share + targets_NK[order] * (1 - share)


def _changes(augmentation: Augmentation) -> list[Callable[[Tensor], Tensor]]:
    """kornia's, each of which takes images in 0..1."""
    if not (augmentation.randaugment or augmentation.erasing):
        return []
    import kornia.augmentation as kornia

    changes: list[Callable[[Tensor], Tensor]] = []
    if augmentation.randaugment:
        changes.append(kornia.auto.RandAugment(n=augmentation.randaugment, m=augmentation.magnitude))
    if augmentation.erasing:
        changes.append(
            kornia.RandomErasing(p=augmentation.erasing, scale=ERASED_AREA, ratio=ERASED_ASPECT, value=0.5)
        )
    return changes
