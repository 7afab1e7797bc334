"""Which hidden channels of a full block a smaller one keeps, chosen on images: backward elimination.

In small groups, those channels are removed whose loss the others can make up for best when the projection is
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

GROUP = 8
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
    """A linear layer's inputs in the order in which backward elimination removes them, GROUP at a time."""
    size = len(covariance)
    left = torch.arange(size)
    damping = DAMPING * covariance.diagonal().mean().clamp(min=1e-12)
    inverse = torch.linalg.inv(covariance + damping * torch.eye(size, dtype=covariance.dtype))
    removed: list[Tensor] = []
    while len(left) > GROUP:
        saliency = weight_OI.square().sum(0) / inverse.diagonal()
        out = saliency.argsort(stable=True)[:GROUP]
        stay = torch.ones(len(left), dtype=torch.bool)
        stay[out] = False
        # Without these rows and columns of the matrix, its inverse is a Schur complement of the inverse.
        solved = torch.linalg.solve(inverse[out][:, out], inverse[out])
        weight_OI = (weight_OI - weight_OI[:, out] @ solved)[:, stay]
        inverse = (inverse - inverse[:, out] @ solved)[stay][:, stay]
        removed.append(left[out])
        left = left[stay]
    saliency = weight_OI.square().sum(0) / inverse.diagonal()
    return torch.cat([*removed, left[saliency.argsort(stable=True)]])
