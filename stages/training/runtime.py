"""Where a training computes, and how often it is kept: what all training loops share.

Lightning Fabric owns device, precision and processes, so that a GPU, or several, need no other loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import lightning_fabric
import torch

from stages.seeds import derived_seed

CHECKPOINT_SECONDS = 20.0
Precision = Literal["32-true"]


@dataclass(frozen=True)
class TrainingRuntime:
    """A launched Fabric, and seconds between two checkpoints within an epoch."""

    fabric: lightning_fabric.Fabric
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def device(self) -> torch.device:
        """Where networks and images are."""
        return self.fabric.device

    @property
    def rank(self) -> int:
        """This process's number among all that train together."""
        return self.fabric.global_rank

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.fabric.world_size


def start_runtime(
    seed: int,
    *,
    accelerator: str = "auto",
    devices: int | list[int] = 1,
    precision: Precision = "32-true",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainingRuntime:
    """One process on the best device that there is, in float32; the global random state is set."""
    torch.manual_seed(derived_seed(seed))
    fabric = lightning_fabric.Fabric(accelerator=accelerator, devices=devices, precision=precision)
    fabric.launch()
    return TrainingRuntime(fabric, checkpoint_seconds)
