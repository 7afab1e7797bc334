"""The photos of one part: see :class:`stages.data.dataset.Images`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from nasflow.base.processes import usable_cores
from stages.data.decoded import DecodedOnce, PixelSource
from stages.data.geometry import evaluated_NHWC
from stages.data.sharing import ALONE, Sharing
from stages.data.storage_units import StorageUnits
from stages.data.view import View

if TYPE_CHECKING:
    import torch

    from stages.data.loading import PhotoBatches

MOST_WORKERS = 8


@dataclass(frozen=True)
class Photos:
    """``numbers_N``: which of ``pixels`` they are; ``labels``: int64 (N,), the index of each one's class.

    ``workers``: processes that read them in training, shared by trainings side by side; None: as many as pay.
    ``units``: which of ``pixels`` lie together, where that bears on their order in training.
    """

    pixels: PixelSource
    numbers_N: NDArray[np.int64]
    labels: NDArray[np.int64]
    view: View
    balance: Literal["none", "weights", "sampling"] = "none"
    workers: int | None = None
    units: StorageUnits | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def balanced(self) -> bool:
        """Whether all classes count alike."""
        return self.balance != "none"

    def batch_NHWC(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Chosen images as evaluation shows them: float32 (n, H, W, channels), -1..1."""
        pixels_NHWC = evaluated_NHWC(self.pixels, self.numbers_N[which], self.view)
        return (pixels_NHWC.astype(np.float32) - 127.5) / 127.5

    def batches(self, batch_size: int, device: torch.device, sharing: Sharing = ALONE) -> PhotoBatches:
        """These images in batches for a network on ``device``; of each batch this process's share."""
        import torch

        from stages.data.loading import PhotoBatches

        weights_K = class_weights(self.labels, self.view.classes)
        weights = torch.tensor(weights_K, dtype=torch.float32) if self.balanced else None
        return PhotoBatches(
            self.pixels,
            self.numbers_N,
            self.labels,
            self.view,
            batch_size=batch_size,
            device=device,
            workers=self._workers(device.type, sharing.beside),
            sharing=sharing,
            class_weights_K=weights if self.balance == "weights" else None,
            evaluation_weights_K=weights,
            weights_N=weights_K[self.labels] if self.balance == "sampling" else None,
            units=self.units,
        )

    def _workers(self, device: str, beside: int) -> int:
        """Of this process; those of all ``beside`` are together no more than wanted, or than there are cores.

        None where the processor trains anyway, and images are decoded already: they cost little.
        """
        if self.workers is not None:
            return self.workers // beside
        if device == "cpu" and isinstance(self.pixels, DecodedOnce):
            return 0
        return min(MOST_WORKERS, usable_cores() // beside)


def class_weights(labels_N: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """The inverse of each class's share, their mean over the images 1: (classes,). 0 for an absent class."""
    counts_K = np.bincount(labels_N, minlength=classes)
    present = counts_K > 0
    weights_K = np.zeros(classes)
    weights_K[present] = len(labels_N) / (present.sum() * counts_K[present])
    return weights_K
