"""Changes to whole batches, by kornia, on the device where the network is: RandAugment, erasing, mixing.

What is random is drawn for the whole batch, and carried out for some of its images alone: where several
processes share a batch, each changes its own share, and the images that are mixed into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from stages.data.augmentation import Augmentation

ERASED_AREA, ERASED_ASPECT = (0.02, 0.25), (0.3, 3.3)
"""As in arXiv 1708.04896, section 3.2; the largest area is smaller, for pictures of one object."""
_SHAPE = "forward_input_shape"  # of kornia's parameters the one that is not one value for each image


@dataclass(frozen=True)
class Mix:
    """How a batch's images are mixed: with which one each (``partners_N``), and how much of it is kept.

    ``share``: of an image's own label. ``place``: rows and columns that are the partner's in CutMix.
    """

    kind: Literal["mixup", "cutmix"]
    partners_N: Tensor
    share: float
    place: tuple[slice, slice] = (slice(0), slice(0))


@dataclass(frozen=True)
class BatchChange:
    """What is done to one batch. ``changes``: kornia's, with the parameters of all images of the batch."""

    changes: Sequence[tuple[Callable[..., Tensor], Any]]
    mix: Mix | None
    classes: int
    mixes: bool
    """Whether labels are shares of classes: also in a batch in which nothing happens to be mixed."""

    def partners(self, share: slice) -> Tensor:
        """What the images of a share are mixed with: int64, on the CPU; empty where they are not."""
        return torch.empty(0, dtype=torch.int64) if self.mix is None else self.mix.partners_N[share]

    def __call__(self, x_NCHW: Tensor, rows_N: Tensor, labels: Tensor, share: slice) -> tuple[Tensor, Tensor]:
        """The images of ``share`` and their labels.

        ``x_NCHW``: in -1..1, those of ``rows_N``: numbers in the batch (int64, on the CPU), first those of
        ``share``, then :meth:`partners`, or without these where they are all among the first. ``labels``: of
        the whole batch (N,). Labels of mixed images are float32 (share, classes).
        """
        x_NCHW = self._changed(x_NCHW, rows_N, len(labels))
        count = share.stop - share.start
        if not self.mixes:
            return x_NCHW[:count], labels[share]
        targets_NK = one_hot(labels, self.classes).float()
        mix = self.mix
        if mix is None:
            return x_NCHW[:count], targets_NK[share]
        partners_N = mix.partners_N[share]
        place_of = {int(row): place for place, row in enumerate(rows_N)}
        others_NCHW = x_NCHW[torch.tensor([place_of[int(row)] for row in partners_N], device=x_NCHW.device)]
        x_NCHW = x_NCHW[:count]
        if mix.kind == "mixup":
            x_NCHW = x_NCHW * mix.share + others_NCHW * (1 - mix.share)
        else:
            x_NCHW = x_NCHW.clone(memory_format=torch.channels_last)
            x_NCHW[(..., *mix.place)] = others_NCHW[(..., *mix.place)]
        others_NK = targets_NK[partners_N.to(labels.device)]
        return x_NCHW, targets_NK[share] * mix.share + others_NK * (1 - mix.share)

    def _changed(self, x_NCHW: Tensor, rows_N: Tensor, count: int) -> Tensor:
        if not self.changes:
            return x_NCHW
        with torch.no_grad():
            x_NCHW = x_NCHW * 0.5 + 0.5
            for change, parameters in self.changes:
                x_NCHW = change(x_NCHW, params=_of_rows(parameters, rows_N, count))
            return (x_NCHW * 2 - 1).clamp_(-1, 1).contiguous(memory_format=torch.channels_last)


class BatchAugmentation:
    """What an :class:`Augmentation` does to batches. Nothing is imported where it does nothing."""

    def __init__(self, augmentation: Augmentation, classes: int) -> None:
        self.augmentation, self.classes = augmentation, classes
        self._changes: list[Any] | None = None

    def __call__(self, x_NCHW: Tensor, labels_N: Tensor, *, seed: int, mix: bool) -> tuple[Tensor, Tensor]:
        """A whole batch, changed: images in -1..1 and labels; of mixed images float32 labels (N, classes)."""
        if not self.acts(mix):
            return x_NCHW, labels_N
        count = len(labels_N)
        change = self.drawn(x_NCHW.shape, seed=seed, mix=mix)
        return change(x_NCHW, torch.arange(count), labels_N, slice(0, count))

    def acts(self, mix: bool) -> bool:
        """Whether it does anything, where images may be mixed or not."""
        wanted = self.augmentation
        return bool(wanted.randaugment or wanted.erasing or (mix and (wanted.mixup or wanted.cutmix)))

    def drawn(self, shape_NCHW: Sequence[int], *, seed: int, mix: bool) -> BatchChange:
        """What is done to a batch of this shape.

        The same seed gives the same; the global random state is left as it was.
        """
        wanted = self.augmentation
        if self._changes is None:
            self._changes = _changes(wanted)
        mixes = bool(mix and (wanted.mixup or wanted.cutmix))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            shape = torch.Size(shape_NCHW)
            changes = [(change, change.forward_parameters(shape)) for change in self._changes]
            return BatchChange(changes, self._mix(shape) if mixes else None, self.classes, mixes)

    def _mix(self, shape_NCHW: Sequence[int]) -> Mix | None:
        """One of the two, or neither, on each batch: with one share and one partner for each image.

        The label is mixed as the pixels are (arXiv 1710.09412, equation 1; arXiv 1905.04899, equation 1).
        """
        wanted, (count, _, height, width) = self.augmentation, shape_NCHW
        kinds: list[Literal["mixup", "cutmix"]] = []
        kinds += ["mixup"] if wanted.mixup else []
        kinds += ["cutmix"] if wanted.cutmix else []
        chosen = int(torch.randint(2, ()))
        if chosen >= len(kinds):
            return None
        partners_N = torch.randperm(count)
        alpha = torch.tensor(float(getattr(wanted, kinds[chosen])))
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        if kinds[chosen] == "mixup":
            return Mix("mixup", partners_N, share)
        side = (1 - share) ** 0.5
        tall, wide = round(side * height), round(side * width)
        top = int(torch.randint(height - tall + 1, ()))
        left = int(torch.randint(width - wide + 1, ()))
        place = slice(top, top + tall), slice(left, left + wide)
        return Mix("cutmix", partners_N, 1 - tall * wide / (height * width), place)


def _of_rows(parameters: Any, rows_N: Tensor, count: int) -> Any:
    """kornia's parameters of ``count`` images, of some of these alone."""
    if isinstance(parameters, Mapping):
        return {
            name: value[rows_N.to(value.device)] if name != _SHAPE and value.shape[:1] == (count,) else value
            for name, value in parameters.items()
        }
    return [item._replace(data=_of_rows(item.data, rows_N, count)) for item in parameters]


def _changes(augmentation: Augmentation) -> list[Any]:
    """kornia's, each of which takes images in 0..1."""
    if not (augmentation.randaugment or augmentation.erasing):
        return []
    import kornia.augmentation as kornia

    changes: list[Any] = []
    if augmentation.randaugment:
        changes.append(kornia.auto.RandAugment(n=augmentation.randaugment, m=augmentation.magnitude))
    if augmentation.erasing:
        changes.append(
            kornia.RandomErasing(p=augmentation.erasing, scale=ERASED_AREA, ratio=ERASED_ASPECT, value=0.5)
        )
    return changes
