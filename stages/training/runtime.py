"""Where a training computes, and how often it is kept: what all training loops share.

Lightning Fabric owns devices, precision and processes, so that a GPU, or several, need no other loop. On one
CPU in float32 there is nothing to own, and it is not loaded.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from stages.data.dataset import Batches, Images
from stages.data.sharing import Sharing
from stages.nn.blocks import to_channels_last
from stages.seeds import derived_seed
from stages.training.group import ProcessGroup, synchronise_bn, the_group
from stages.training.launch import launched_by

if TYPE_CHECKING:
    import lightning_fabric

CHECKPOINT_SECONDS = 20.0
Precision = Literal["auto", "32", "bf16"]
"""As in the configuration; ``auto``, where nobody has decided: float32."""


@dataclass(frozen=True)
class TrainingRuntime:
    """Where networks and images are, and seconds between two checkpoints within an epoch.

    ``fabric`` is launched; None on one CPU in float32. ``group``: the processes that train one network
    together; None where it is this one alone. ``beside``: processes of this computer that train at the same
    time, this one included.
    """

    device: torch.device
    fabric: lightning_fabric.Fabric | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    precision: Precision = "32"
    group: ProcessGroup | None = None
    beside: int = 1

    def place(self, module: nn.Module) -> None:
        """Bring a module onto the device, its weights in NHWC order. Before it has an optimizer."""
        module.to(self.device)
        to_channels_last(module)
        if self.group is not None:
            synchronise_bn(module)

    def autocast(self) -> AbstractContextManager[object]:
        """Within, forward passes compute in the precision that was chosen; backward passes follow them."""
        return self.fabric.autocast() if self.fabric is not None else nullcontext()

    @property
    def sharing(self) -> Sharing:
        """Which images of each batch this process computes on."""
        if self.group is None:
            return Sharing(beside=self.beside)
        return Sharing(self.group.rank, self.group.size, self.group.gather, self.beside)

    def batches(self, images: Images, batch_size: int) -> Batches:
        """Images for a network of this runtime; of each batch this process's share."""
        return images.batches(batch_size, self.device, self.sharing)

    def sums(self, values: Sequence[float]) -> Sequence[float]:
        """Each value, added up over the processes that train together."""
        return values if self.group is None else self.group.sums(values)

    def add_gradients(
        self,
        network: nn.Module,
        loss_of: Callable[[Tensor, Tensor], Tensor],
        x_NCHW: Tensor,
        labels: Tensor,
        *,
        batch_size: int | None = None,
        parts: int = 1,
    ) -> Tensor:
        """Leave the gradients of a batch's mean loss in the parameters of ``network``; return the loss.

        ``x_NCHW`` is this process's share of the batch, ``batch_size`` the number of images in all shares
        (None: in this one). It is computed on in ``parts``, one after another.
        """
        batch_size = batch_size or len(x_NCHW)
        total = x_NCHW.new_zeros(())
        parts = max(1, min(parts, len(x_NCHW)))  # the mean of no image is no number
        for x_part, labels_part in zip(x_NCHW.tensor_split(parts), labels.tensor_split(parts), strict=True):
            with self.autocast():
                loss = loss_of(x_part, labels_part)
            if len(x_part) < batch_size:
                loss = loss * (len(x_part) / batch_size)
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        if self.group is not None:
            total = self.group.add_up((p.grad for p in network.parameters()), total)
        return total

    def of_first(self, payload: bytes | None) -> bytes | None:
        """What the first of all processes that train together has."""
        return payload if self.group is None else self.group.of_first(payload)

    def agreed(self, value: Any) -> Any:
        """What the first of all processes has, where they may differ in the last digits; JSON can hold it."""
        if self.group is None:
            return value
        return json.loads(self.group.of_first(json.dumps(value).encode()) or b"null")

    def tell(self, work: str, **arguments: Any) -> None:
        """Let the others take part (:mod:`stages.nas.following`), where this is the first of several."""
        if self.group is not None and self.group.rank == 0:
            self.group.of_first(json.dumps({"work": work, **arguments}).encode())


def start_runtime(
    seed: int,
    *,
    accelerator: str = "auto",
    devices: int | list[int] = 1,
    precision: Precision = "32",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    together: bool = False,
    beside: int = 1,
) -> TrainingRuntime:
    """The best device that there is; the global random state is set.

    ``together``: with all processes that torchrun or SLURM started, each of which calls this. ``beside``:
    processes of this computer that train at the same time, each its own network.
    """
    torch.manual_seed(derived_seed(seed))
    several = together and launched_by(os.environ)[1] > 1
    if devices == 1 and precision != "bf16" and not several and _is_cpu(accelerator):
        return TrainingRuntime(torch.device("cpu"), None, checkpoint_seconds, beside=beside)
    import lightning_fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of what it was asked for
    arithmetic: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if precision == "bf16" else "32-true"
    if not several:
        fabric = lightning_fabric.Fabric(accelerator=accelerator, devices=devices, precision=arithmetic)
        fabric.launch()
        return TrainingRuntime(fabric.device, fabric, checkpoint_seconds, precision, beside=beside)
    nodes = int(os.environ.get("GROUP_WORLD_SIZE") or os.environ.get("SLURM_NNODES") or 1)
    here = launched_by(os.environ)[1] // nodes
    fabric = lightning_fabric.Fabric(
        accelerator=accelerator,
        devices=here,
        num_nodes=nodes,
        strategy="ddp",
        precision=arithmetic,
    )
    fabric.launch()
    return TrainingRuntime(fabric.device, fabric, checkpoint_seconds, precision, the_group(), here)


def _is_cpu(accelerator: str) -> bool:
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
