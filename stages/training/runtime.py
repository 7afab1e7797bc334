"""Where a training computes, and how often it is kept: what all training loops share.

Lightning Fabric owns devices, precision and processes, so that a GPU, or several, need no other loop. On one
CPU in float32 there is nothing to own: it is not loaded then, which takes a process as long as torch.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from stages.nn.blocks import to_channels_last
from stages.seeds import derived_seed

if TYPE_CHECKING:
    import lightning_fabric

CHECKPOINT_SECONDS = 20.0
Precision = Literal["auto", "32", "bf16"]
"""As in the configuration; ``auto``, where nobody has decided: float32."""


@dataclass(frozen=True)
class TrainingRuntime:
    """Where networks and images are, and seconds between two checkpoints within an epoch.

    ``fabric`` is launched; None on one CPU in float32.
    """

    device: torch.device
    fabric: lightning_fabric.Fabric | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    precision: Precision = "32"

    @property
    def rank(self) -> int:
        """This process's number among all that train together."""
        return self.fabric.global_rank if self.fabric is not None else 0

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.fabric.world_size if self.fabric is not None else 1

    def place(self, module: nn.Module) -> None:
        """Bring a module onto the device, its weights in NHWC order. Before it has an optimizer."""
        module.to(self.device)
        to_channels_last(module)

    def autocast(self) -> AbstractContextManager[object]:
        """Within, forward passes compute in the precision that was chosen; backward passes follow them."""
        return self.fabric.autocast() if self.fabric is not None else nullcontext()


def start_runtime(
    seed: int,
    *,
    accelerator: str = "auto",
    devices: int | list[int] = 1,
    precision: Precision = "32",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainingRuntime:
    """One process on the best device that there is; the global random state is set."""
    torch.manual_seed(derived_seed(seed))
    if devices == 1 and precision != "bf16" and _is_cpu(accelerator):
        return TrainingRuntime(torch.device("cpu"), None, checkpoint_seconds)
    import lightning_fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of what it was asked for
    fabric = lightning_fabric.Fabric(
        accelerator=accelerator,
        devices=devices,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return TrainingRuntime(fabric.device, fabric, checkpoint_seconds, precision)


def _is_cpu(accelerator: str) -> bool:
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
