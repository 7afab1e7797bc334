"""What an architecture step asks of an estimator, which learns how probable each candidate is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from stages.nas.architecture import Architecture
from stages.nas.latency_window import LatencyTarget, LatencyWindow
from stages.nn.supernet import Supernet
from stages.training.group import ProcessGroup
from stages.training.optimisation import Loss

if TYPE_CHECKING:
    from stages.nas.path_values import Evaluations

Draws = TypeVar("Draws")


@dataclass(frozen=True)
class Searched:
    """What is searched for, and how long: ``steps`` of the architecture.

    The first target is what the architecture's probabilities are for.
    """

    targets: Sequence[LatencyTarget]
    steps: int
    seed: int

    @property
    def windows(self) -> list[LatencyWindow]:
        """Of all targets."""
        return [target.window for target in self.targets]


@dataclass(frozen=True)
class SeenImages:
    """What an architecture step saw of the paths that it ran: mean loss, right answers of ``images``.

    ``learned_from``: numbers that are means over images, such as gradients or each path's loss.
    """

    loss: float
    correct: int
    images: int
    learned_from: tuple[Tensor, ...] = ()


class Estimator(Protocol[Draws]):
    """Learns the architecture's probabilities for ``E[cross entropy]`` under a latency target.

    A step calls ``draw``, ``evaluate``, then ``learn``; between the last two, several processes exchange what
    they saw.
    """

    def draw(self, architecture: Architecture, generator: torch.Generator) -> Draws:
        """What a step runs."""
        ...

    def evaluate(
        self,
        supernet: Supernet,
        architecture: Architecture,
        x_NCHW: Tensor,
        labels_N: Tensor,
        draws: Draws,
        loss_of: Loss = functional.cross_entropy,
    ) -> SeenImages:
        """Run it on a batch of images, whose mean loss ``loss_of`` tells; nothing is learned yet."""
        ...

    def learn(self, architecture: Architecture, draws: Draws, seen: SeenImages) -> None:
        """Move the architecture's probabilities."""
        ...

    def expected_ms(self, architecture: Architecture) -> float:
        """Mean latency of the networks that it draws for the first target."""
        ...

    @property
    def multiplier(self) -> float | None:
        """The present price of one target's worth of latency, in units of the loss; None: there is none."""
        ...

    def further_log_probabilities(self) -> list[list[list[float]]]:
        """For each further target those of every layer's candidates; none where they are not learned."""
        ...

    def evaluations(self) -> Evaluations | None:
        """What other targets' probabilities can be learned from after the search; None: nothing."""
        ...

    def state(self) -> dict[str, Any]:
        """For a checkpoint: numbers that JSON can hold."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        ...


def averaged(seen: SeenImages, group: ProcessGroup) -> SeenImages:
    """What all processes saw of equal shares of a batch; ``learned_from`` is changed in place."""
    for tensor in seen.learned_from:
        tensor /= group.size
    counts = torch.tensor([seen.correct, seen.images], dtype=torch.float64)
    loss = group.add_up([*seen.learned_from, counts], torch.tensor(seen.loss / group.size))
    return replace(seen, loss=float(loss), correct=int(counts[0]), images=int(counts[1]))
