"""Which hidden channels of a full block a smaller one keeps, chosen on images: backward elimination.

Those channels are removed first whose loss the others can make up for best when the projection is
fitted again: the saliency of Optimal Brain Surgeon (Hassibi and Stork, NIPS 1992) for a linear layer, whose
Hessian is the Gram matrix of its inputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.nn.blocks import MBConv
from stages.nn.derive import Parts, convolution, gain_and_shift, norm
from stages.nn.refit import Moments

GROUP, POOL = 16, 48
DAMPING = 1e-3
"""Share of the channels' mean variance that is added to each."""


@dataclass(frozen=True)
class ChannelOrder:
    """A full block's hidden channels, the first to be given up first."""

    removed_first: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, full: MBConv, x_batches: Iterable[Tensor]) -> ChannelOrder:
        """By the block's inputs as the full network computes them, x_NCHW."""
        parts = Parts.of(full)
        projection, bn = convolution(parts.project), norm(parts.project)
        moments = Moments(projection.in_channels, 0)
        for x_NCHW in x_batches:
            hidden = parts.depthwise(parts.hidden(x_NCHW))
            moments.add(hidden, hidden[:, :0])
        gain, _ = gain_and_shift(bn)
        return cls(
            eliminated(
                moments.mean_and_covariance()[1], projection.weight.flatten(1).double() * gain[:, None]
            )
        )

    def best(self, keep: int) -> Tensor:
        """Indices of the ``keep`` channels to keep, in ascending order."""
        return self.removed_first[len(self.removed_first) - keep :].sort().values


def eliminated(covariance: Tensor, weight_OI: Tensor) -> Tensor:
    """A linear layer's inputs in the order in which backward elimination removes them.

    One after the other of the least salient :data:`POOL`; what that changes for all others is worked out
    after each :data:`GROUP`.
    """
    size = len(covariance)
    left = torch.arange(size)
    damping = DAMPING * covariance.diagonal().mean().clamp(min=1e-12)
    inverse = torch.linalg.inv(covariance + damping * torch.eye(size, dtype=covariance.dtype))
    removed: list[Tensor] = []
    while len(left):
        pool = (weight_OI.square().sum(0) / inverse.diagonal()).argsort(stable=True)[:POOL]
        out = pool[_eliminated_of_few(inverse[pool][:, pool], weight_OI[:, pool])]
        removed.append(left[out])
        stay = torch.ones(len(left), dtype=torch.bool)
        stay[out] = False
        # Without these rows and columns of the matrix, its inverse is a Schur complement of the inverse.
        solved = torch.linalg.solve(inverse[out][:, out], inverse[out][:, stay])
        weight_OI = weight_OI[:, stay] - weight_OI[:, out] @ solved
        inverse = inverse[stay][:, stay] - inverse[stay][:, out] @ solved
        left = left[stay]
    return torch.cat(removed)


def _eliminated_of_few(inverse: Tensor, weight_OI: Tensor) -> list[int]:
    """The first GROUP of a few inputs to be removed, one by one."""
    removed: list[int] = []
    for _ in range(min(GROUP, len(inverse))):
        saliency = weight_OI.square().sum(0) / inverse.diagonal()
        saliency[removed] = float("inf")
        worst = int(saliency.argmin())
        removed.append(worst)
        row = inverse[worst] / inverse[worst, worst]
        weight_OI = weight_OI - weight_OI[:, worst, None] * row
        inverse = inverse - inverse[:, worst, None] * row
    return removed
