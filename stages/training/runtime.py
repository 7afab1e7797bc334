"""Where a training computes, and how often it is kept: what all training loops share.

Lightning Fabric owns devices, precision and processes, so that a GPU, or several, need no other loop. On one
CPU in float32 there is nothing to own: it is not loaded then, which takes a process as long as torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stages.seeds import derived_seed

if TYPE_CHECKING:
    import lightning_fabric

CHECKPOINT_SECONDS = 20.0
Precision = Literal["32-true", "bf16-mixed"]
AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)


@dataclass(frozen=True)
class TrainingRuntime:
    """Where networks and images are, and seconds between two checkpoints within an epoch.

    ``fabric`` is launched; None on one CPU in float32.
    """

    device: torch.device
    fabric: lightning_fabric.Fabric | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def rank(self) -> int:
        """This process's number among all that train together."""
        return self.fabric.global_rank if self.fabric is not None else 0

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.fabric.world_size if self.fabric is not None else 1

    def setup(self, module: nn.Module, optimizer: AnyOptimizer) -> tuple[nn.Module, AnyOptimizer]:
        """Both on the device, the module's forward in the precision that was chosen."""
        if self.fabric is None:
            return module, optimizer
        wrapped, optimizer = self.fabric.setup(module, optimizer)
        return wrapped, optimizer

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss`` to those of the parameters."""
        if self.fabric is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self.fabric.backward(loss)


def start_runtime(
    seed: int,
    *,
    accelerator: str = "auto",
    devices: int | list[int] = 1,
    precision: Precision = "32-true",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainingRuntime:
    """One process on the best device that there is; the global random state is set."""
    torch.manual_seed(derived_seed(seed))
    if devices == 1 and precision == "32-true" and _is_cpu(accelerator):
        return TrainingRuntime(torch.device("cpu"), None, checkpoint_seconds)
    import lightning_fabric

    fabric = lightning_fabric.Fabric(accelerator=accelerator, devices=devices, precision=precision)
    fabric.launch()
    return TrainingRuntime(fabric.device, fabric, checkpoint_seconds)


def _is_cpu(accelerator: str) -> bool:
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
