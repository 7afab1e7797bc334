"""Processes that train one network together: each loads its share of every batch and computes on it.

All draw the same random numbers, so that all sample the same path and share the same batches
(:mod:`stages.data.sharing`). What they exchange are the gradients of the path that was sampled, and the sums
of batch normalisation: with those, two processes do what one does on the same batch, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from stages.data.sharing import share_of
from stages.training.launch import launched_by

PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which also measures on the device."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together.

    ``control`` exchanges what is in main memory; PyTorch's default group what is on a GPU.
    """

    rank: int
    size: int
    control: Any

    def gather(self, share: Tensor, count: int) -> Tensor:
        """All processes' shares of a batch of ``count`` images, in order: (count, ...)."""
        shares = [share_of(count, rank, self.size) for rank in range(self.size)]
        mine = share.new_zeros(shares[0].stop, *share.shape[1:])  # the first share is a largest one
        mine[: len(share)] = share
        parts = [torch.empty_like(mine) for _ in shares]
        dist.all_gather(parts, mine, group=self.control if share.device.type == "cpu" else None)
        return torch.cat([part[: s.stop - s.start] for part, s in zip(parts, shares, strict=True)])

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value, added up over all processes; the same numbers in all of them."""
        totals = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(totals, group=self.control)
        return [float(total) for total in totals]

    def add_up(self, gradients: Iterable[Tensor | None], loss: Tensor) -> Tensor:
        """Replace each gradient by the sum of all processes', in place; return the sum of the losses.

        Gradients of None, of what the sampled path does not have, are None in every process.
        """
        present = [gradient for gradient in gradients if gradient is not None]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in present), loss.detach().reshape(1).float()])
        dist.all_reduce(flat, group=self.control if flat.device.type == "cpu" else None)
        start = 0
        for gradient in present:
            gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()
        return flat[-1]

    def of_first(self, payload: bytes | None) -> bytes | None:
        """What the first process has, in all of them."""
        size = torch.tensor([-1 if payload is None else len(payload)])
        dist.broadcast(size, 0, group=self.control)
        if size.item() < 0:
            return None
        content = torch.empty(int(size.item()), dtype=torch.uint8)
        if self.rank == 0 and payload:
            content.copy_(torch.frombuffer(bytearray(payload), dtype=torch.uint8))
        dist.broadcast(content, 0, group=self.control)
        return content.numpy().tobytes()


@cache
def the_group() -> ProcessGroup:
    """This process among those that were launched with it. They have been connected before."""
    return ProcessGroup(*launched_by(os.environ), dist.new_group(backend="gloo", timeout=PATIENCE))


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Statistics of the whole batch, of which each process has a share (PyTorch's own has none for CPUs)."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """As a batch normalisation of all shares together."""
        if not self.training:
            return super().forward(x_NCHW)
        x = x_NCHW.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = torch.cat([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), count])
        sums = all_reduce(sums)  # type: ignore[no-untyped-call]
        channels, total = x.shape[1], sums[-1].detach()
        mean = sums[:channels] / total
        variance = (sums[channels:-1] / total - mean * mean).clamp_min(0.0)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self._remember(mean.detach(), variance.detach() * total / (total - 1).clamp_min(1.0))
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        normalised: Tensor = x * scale[:, None, None] + shift[:, None, None]
        return normalised.to(x_NCHW.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def synchronise_bn(module: nn.Module) -> None:
    """Let every batch normalisation see the whole batch. State and names stay."""
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = SyncedBatchNorm2d
