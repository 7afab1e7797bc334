"""Small grey images of equal size, held in memory whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.data.sharing import ALONE, Sharing

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from stages.data.grey_batches import GreyBatches


@dataclass(frozen=True)
class GreyImages:
    """Images and their labels. ``pixels_NHW`` is uint8 grey (N, H, W), ``labels`` int64 (N,).

    ``channels``: as so many equal channels the network takes them. ``augmented``: whether training batches
    are mirrored and shifted.
    """

    pixels_NHW: NDArray[np.uint8]
    labels: NDArray[np.int64]
    channels: int = 3
    augmented: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def balanced(self) -> bool:
        """Its classes have as many images as each other."""
        return False

    def batch_NHWC(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Chosen images as the network takes them: float32 (n, H, W, channels), -1..1."""
        import numpy as np

        grey = (self.pixels_NHW[which].astype(np.float32) - 127.5) / 127.5
        return np.repeat(grey[..., None], self.channels, axis=-1)

    def batches(self, batch_size: int, device: torch.device, sharing: Sharing = ALONE) -> GreyBatches:
        """These images in batches for a network on ``device``; of each batch this process's share."""
        from stages.data.grey_batches import GreyBatches

        return GreyBatches(self, batch_size, device, sharing)
