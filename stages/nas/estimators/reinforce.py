"""REINFORCE for the architecture parameters (ProxylessNAS, arXiv 1812.00332, section 3.3.1).

The other way to a gradient, beside :mod:`stages.nas.estimators.two_path`: whole paths are drawn,
and those that do better than usual become likelier. It needs forward passes only and is right on average,
where the two-path gradient has a bias; ``benchmarks/gradient_bias.py`` measures both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig
from stages.nas.estimators.base import Searched, SeenImages
from stages.nas.estimators.priced import PricedGradient, gradients_of
from stages.nn.supernet import Supernet
from stages.training.optimisation import Loss

Paths = Sequence[Sequence[int]]


class Reinforce(PricedGradient):
    """See :class:`stages.nas.estimators.base.Estimator`. A draw is some whole paths."""

    def __init__(self, config: SearchConfig, architecture: Architecture, searched: Searched) -> None:
        super().__init__(config, architecture, searched)
        self.paths_per_step = config.paths_per_step
        self.baseline = RewardBaseline(config.baseline_decay)

    def draw(self, architecture: Architecture, generator: torch.Generator) -> Paths:
        """So many paths as a step runs."""
        return [architecture.sample_path(generator) for _ in range(self.paths_per_step)]

    def evaluate(
        self,
        supernet: Supernet,
        architecture: Architecture,
        x_NCHW: Tensor,
        labels_N: Tensor,
        draws: Paths,
        loss_of: Loss = functional.cross_entropy,
    ) -> SeenImages:
        """See :func:`reinforce_gradient`."""
        seen = reinforce_gradient(
            supernet,
            architecture,
            x_NCHW,
            labels_N,
            draws,
            baseline=self.baseline,
            multiplier=self.price.value,
            target_ms=self.target_ms,
            loss_of=loss_of,
        )
        return gradients_of(architecture, seen)

    def learn(self, architecture: Architecture, draws: Paths, seen: SeenImages) -> None:
        """Follow the gradient; the step's reward counts from now on."""
        self._follow()
        self.baseline.update(-seen.loss)
        self._pay(architecture)

    def state(self) -> dict[str, Any]:
        """The baseline's too."""
        return {**super().state(), "baseline": self.baseline.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The baseline's too."""
        super().restore(state)
        self.baseline.restore(state["baseline"])


class RewardBaseline:
    """What reward is usual: an exponential average of all earlier steps' rewards.

    Corrected for its start as Adam's averages are (arXiv 1412.6980, section 3), so that the first rewards
    count in full. It holds earlier steps alone: subtracting it lowers the variance and leaves the mean.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.sum = 0.0
        self.weight = 0.0

    @property
    def value(self) -> float | None:
        """The average; None before the first reward."""
        return self.sum / self.weight if self.weight > 0 else None

    def update(self, reward: float) -> None:
        """Take in one step's mean reward."""
        self.sum = self.decay * self.sum + (1.0 - self.decay) * reward
        self.weight = self.decay * self.weight + (1.0 - self.decay)

    def advantages(self, rewards: Sequence[float]) -> list[float]:
        """How much better than usual each draw is.

        Before there is an average, usual is the mean of the step's other draws; a single draw says nothing.
        """
        usual = self.value
        if usual is not None:
            return [reward - usual for reward in rewards]
        if len(rewards) == 1:
            return [0.0]
        total = sum(rewards)
        return [reward - (total - reward) / (len(rewards) - 1) for reward in rewards]

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"sum": self.sum, "weight": self.weight}

    def restore(self, state: Mapping[str, float]) -> None:
        """From a checkpoint."""
        self.sum, self.weight = float(state["sum"]), float(state["weight"])


def reinforce_gradient(
    supernet: Supernet,
    architecture: Architecture,
    x_NCHW: Tensor,
    labels_N: Tensor,
    paths: Sequence[Sequence[int]],
    *,
    baseline: RewardBaseline,
    multiplier: float,
    target_ms: float,
    loss_of: Loss = functional.cross_entropy,
) -> SeenImages:
    """Put the gradient of ``E[cross entropy] + multiplier * E[latency] / target`` into ``alphas.grad``.

    ``paths`` are drawn from the architecture. The reward of a draw is -cross entropy - multiplier * latency /
    target, so that the multiplier means what it means in the two-path gradient. The first term's part is
    -(reward - baseline) * d log p(path) / d alpha, averaged over the draws. Of the second the expectation is
    known, and its gradient p_i (ms_i - sum_j p_j ms_j) is taken exactly: the same mean as from the draws,
    without their noise.
    The baseline is read, not updated: the caller does that once the loss is known to be finite.
    """
    losses, correct = [], 0
    with torch.no_grad(), supernet.architecture_step():
        for path in paths:
            logits = supernet(x_NCHW, path)
            losses.append(float(loss_of(logits, labels_N)))
            correct += int((logits.argmax(1) == labels_N).sum())
    advantages = baseline.advantages([-loss for loss in losses])
    rows = zip(architecture.alphas, architecture.probabilities(), architecture.block_ms, strict=True)
    for index, (alpha, p, ms) in enumerate(rows):
        gradient = multiplier / target_ms * p * (ms - (p * ms).sum())
        for path, advantage in zip(paths, advantages, strict=True):
            score = -p
            score[path[index]] += 1.0
            gradient = gradient - advantage / len(paths) * score
        alpha.grad = gradient.to(alpha)
    return SeenImages(loss=sum(losses) / len(losses), correct=correct, images=len(labels_N) * len(paths))
