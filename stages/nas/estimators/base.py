"""What an architecture step asks of an estimator of the architecture's gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from stages.nas.architecture import Architecture
from stages.nn.supernet import Supernet
from stages.training.group import ProcessGroup

Draws = TypeVar("Draws")


@dataclass(frozen=True)
class SeenImages:
    """What an architecture step saw of the paths that it ran: mean loss, right answers of ``images``."""

    loss: float
    correct: int
    images: int


class Estimator(Protocol[Draws]):
    """Estimates the gradient of ``E[cross entropy] + multiplier * E[latency] / target`` in alpha.

    A step calls ``draw``, ``gradient``, then the optimiser's step, then ``after_step``.
    """

    def draw(self, architecture: Architecture, generator: torch.Generator) -> Draws:
        """What a step runs, drawn from the architecture's probabilities."""
        ...

    def gradient(
        self,
        supernet: Supernet,
        architecture: Architecture,
        x_NCHW: Tensor,
        labels_N: Tensor,
        draws: Draws,
        *,
        multiplier: float,
        target_ms: float,
    ) -> SeenImages:
        """Put the gradient into ``alphas.grad``."""
        ...

    def after_step(self, architecture: Architecture, draws: Draws, seen: SeenImages) -> None:
        """What is to be done once alpha has moved."""
        ...

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        ...


def averaged(seen: SeenImages, architecture: Architecture, group: ProcessGroup) -> SeenImages:
    """What all processes saw of equal shares of a batch; ``alphas.grad`` becomes the mean of theirs."""
    gradients = [alpha.grad for alpha in architecture.alphas]
    for gradient in gradients:
        if gradient is not None:
            gradient /= group.size
    counts = torch.tensor([seen.correct, seen.images], dtype=torch.float64)
    loss = group.add_up([*gradients, counts], torch.tensor(seen.loss / group.size))
    return SeenImages(loss=float(loss), correct=int(counts[0]), images=int(counts[1]))
