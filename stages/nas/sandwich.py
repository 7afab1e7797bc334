"""In-place distillation by the sandwich rule (BigNAS, arXiv 2003.11142, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional

from stages.nn.supernet import Supernet
from stages.space.search_space import SearchSpace


def extreme_paths(space: SearchSpace) -> tuple[list[int], list[int]]:
    """The path of the most multiply-accumulates in every layer, and that of the fewest."""
    largest, smallest = [], []
    for layer in space.layers():
        macs = [0 if block is None else block.macs for block in layer.blocks]
        largest.append(macs.index(max(macs)))
        smallest.append(macs.index(min(macs)))
    return largest, smallest


def sandwich_loss(
    supernet: Supernet,
    x_NCHW: Tensor,
    labels: Tensor,
    path: Sequence[int],
    of_labels: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Mean loss of three paths: the largest from the labels, the smallest and ``path`` from its answers.

    The mean, where BigNAS adds up: weights that all three share then move as far as without distillation.
    """
    largest, smallest = extreme_paths(supernet.space)
    logits = supernet(x_NCHW, largest)
    loss = of_labels(logits, labels)
    soft = logits.detach().float().softmax(1)
    for other in (smallest, path):
        loss = loss + functional.cross_entropy(supernet(x_NCHW, other).float(), soft)
    return loss / 3
