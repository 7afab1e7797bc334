"""Several estimators in one search: each learns on its own from the same batches and the same weights.

That is what each would learn in a search of its own, as long as the weights are trained on fairly drawn paths
(``search.fair_share`` 1): then they do not depend on what is learned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from stages.nas.architecture import Architecture
from stages.nas.estimators.base import Estimator, SeenImages
from stages.nn.supernet import Supernet
from stages.training.optimisation import Loss

if TYPE_CHECKING:
    from stages.nas.latency_window import LatencyTarget
    from stages.nas.path_values import Evaluations


@dataclass
class Learner:
    """An estimator with an architecture of its own, and what it has cost.

    ``targets``: what it searches for, as the loop has them. ``labels``: what is made of a batch's labels
    before it sees them; ``losses``: of what it has seen. ``passes_of``: how many forward passes of a network
    a draw takes.
    """

    estimator: Estimator[Any]
    architecture: Architecture
    targets: Sequence[LatencyTarget]
    passes_of: Callable[[Any], int]
    labels: Callable[[Tensor], Tensor] = lambda labels_N: labels_N
    losses: Callable[[Tensor], Tensor] = lambda learned: learned
    passes: int = 0
    processor_seconds: float = 0.0
    _seen: SeenImages = field(init=False)

    def draw(self, state: Tensor) -> Any:
        """What it runs in this step, drawn as if it were alone."""
        began = time.process_time()
        generator = torch.Generator()
        generator.set_state(state)
        draws = self.estimator.draw(self.architecture, generator)
        self.passes += self.passes_of(draws)
        self.processor_seconds += time.process_time() - began
        return draws

    def evaluate(
        self, supernet: Supernet, x_NCHW: Tensor, labels_N: Tensor, draws: Any, loss_of: Loss
    ) -> SeenImages:
        """Run it."""
        began = time.process_time()
        labels_N = self.labels(labels_N)
        seen = self.estimator.evaluate(supernet, self.architecture, x_NCHW, labels_N, draws, loss_of)
        self._seen = replace(seen, learned_from=tuple(map(self.losses, seen.learned_from)))
        self.processor_seconds += time.process_time() - began
        return self._seen

    def learn(self, draws: Any) -> None:
        """From what it has seen."""
        began = time.process_time()
        self.estimator.learn(self.architecture, draws, self._seen)
        self.processor_seconds += time.process_time() - began


class SideBySide:
    """See :class:`stages.nas.estimators.base.Estimator`; to the loop it is the first of its learners."""

    def __init__(self, learners: Mapping[str, Learner]) -> None:
        self.learners = learners
        self._first = next(iter(learners.values())).estimator

    def draw(self, architecture: Architecture, generator: torch.Generator) -> Mapping[str, Any]:
        """Each learner's own draws."""
        del architecture
        state = generator.get_state()
        return {name: learner.draw(state) for name, learner in self.learners.items()}

    def evaluate(
        self,
        supernet: Supernet,
        architecture: Architecture,
        x_NCHW: Tensor,
        labels_N: Tensor,
        draws: Mapping[str, Any],
        loss_of: Loss = functional.cross_entropy,
    ) -> SeenImages:
        """All of them on the same batch."""
        del architecture
        seen = [
            learner.evaluate(supernet, x_NCHW, labels_N, draws[name], loss_of)
            for name, learner in self.learners.items()
        ]
        return seen[0]

    def learn(self, architecture: Architecture, draws: Mapping[str, Any], seen: SeenImages) -> None:
        """Each from what it has seen itself."""
        del architecture, seen
        for name, learner in self.learners.items():
            learner.learn(draws[name])

    def expected_ms(self, architecture: Architecture) -> float:
        """The first one's."""
        return self._first.expected_ms(architecture)

    @property
    def multiplier(self) -> float | None:
        """The first one's."""
        return self._first.multiplier

    def further_log_probabilities(self) -> list[list[list[float]]]:
        """The first one's."""
        return self._first.further_log_probabilities()

    def evaluations(self) -> Evaluations | None:
        """The first one's."""
        return self._first.evaluations()

    def state(self) -> dict[str, Any]:
        """Of all of them."""
        return {name: learner.estimator.state() for name, learner in self.learners.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Of all of them."""
        for name, learner in self.learners.items():
            learner.estimator.restore(state[name])
