"""Estimators that run whole paths forward and leave what is learned from them to a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.nas.architecture import Architecture
from stages.nas.estimators.base import SeenImages
from stages.nas.rules.base import PathRule, Rows
from stages.nn.supernet import Supernet
from stages.training.optimisation import Loss

if TYPE_CHECKING:
    from stages.nas.path_values import Evaluations

Paths = list[list[int]]


class WholePaths:
    """See :class:`stages.nas.estimators.base.Estimator`. A draw is some different paths."""

    multiplier = None

    def __init__(self, rule: PathRule) -> None:
        self.rule = rule

    def draw(self, architecture: Architecture, generator: torch.Generator) -> Paths:
        """Different paths of one target's window; the rule has random numbers of its own."""
        del architecture, generator
        paths: Paths = self.rule.draw().tolist()
        return paths

    def evaluate(
        self,
        supernet: Supernet,
        architecture: Architecture,
        x_NCHW: Tensor,
        labels_N: Tensor,
        draws: Paths,
        loss_of: Loss = functional.cross_entropy,
    ) -> SeenImages:
        """Each path's cross entropy on the same images; forward passes alone, one path in memory."""
        del architecture
        losses_K, correct = torch.zeros(len(draws), dtype=torch.float64), 0
        with torch.no_grad(), supernet.architecture_step():
            for number, path in enumerate(draws):
                logits = supernet(x_NCHW, path)
                losses_K[number] = float(loss_of(logits, labels_N))
                correct += int((logits.argmax(1) == labels_N).sum())
        return SeenImages(float(losses_K.mean()), correct, len(labels_N) * len(draws), (losses_K,))

    def learn(self, architecture: Architecture, draws: Paths, seen: SeenImages) -> None:
        """A path is worth its negative cross entropy."""
        (losses_K,) = seen.learned_from
        self.rule.learn(np.array(draws), -losses_K.numpy())
        self._show(architecture)

    def _show(self, architecture: Architecture) -> None:
        with torch.no_grad():
            for alpha, row in zip(architecture.alphas, self.rule.log_probabilities(), strict=True):
                alpha.copy_(torch.from_numpy(row))

    def expected_ms(self, architecture: Architecture) -> float:
        """Of the first target's window: no other path is drawn."""
        window = self.rule.windows[0]
        return architecture.fixed_ms + window.expected_ms(self.rule.log_probabilities())

    def further_log_probabilities(self) -> list[list[list[float]]]:
        """The rule's, for every target but the first."""
        return [_lists(self.rule.log_probabilities(n)) for n in range(1, len(self.rule.windows))]

    def evaluations(self) -> Evaluations | None:
        """The rule's."""
        return self.rule.evaluations()

    def state(self) -> dict[str, Any]:
        """The rule's."""
        return self.rule.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """The rule's."""
        self.rule.restore(state)


def _lists(rows: Rows) -> list[list[float]]:
    return [row.tolist() for row in rows]
