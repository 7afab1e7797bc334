"""The paper's two estimators move parameters along a gradient in which latency has a price.

ProxylessNAS, arXiv 1812.00332: Adam on the architecture's parameters (section 3.3), and a learned latency
multiplier in the place of its fixed weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig
from stages.nas.estimators.base import Searched, SeenImages
from stages.nas.multiplier import LatencyMultiplier

if TYPE_CHECKING:
    from stages.nas.path_values import Evaluations

BETAS = (0.0, 0.999)
"""The paper's. The first is no setting: with momentum, a path would move in steps that did not sample it."""


class PricedGradient:
    """What both have in common: the optimizer's step, and the multiplier's after it."""

    def __init__(self, config: SearchConfig, architecture: Architecture, searched: Searched) -> None:
        self.optimizer = torch.optim.Adam(
            architecture.parameters(), lr=config.architecture_learning_rate, betas=BETAS
        )
        self.target_ms = searched.targets[0].target_ms
        # A target that every network meets binds nothing: a bonus for slowness would only grow.
        binding = self.target_ms < architecture.slowest_ms
        self.price = LatencyMultiplier(
            self.target_ms,
            rate=config.multiplier_rate if binding else 0.0,
            damping=config.multiplier_damping if binding else 0.0,
            anneal_steps=int(config.anneal_share * searched.steps),
            limit=config.multiplier_limit,
        )

    def expected_ms(self, architecture: Architecture) -> float:
        """Of networks drawn from the probabilities (section 3.3)."""
        return architecture.expected_ms()

    @property
    def multiplier(self) -> float | None:
        """The present price of one target's worth of latency, in units of the loss."""
        return self.price.value

    def _follow(self) -> None:
        """One step along the gradient in ``alphas.grad``."""
        self.optimizer.step()

    def _pay(self, architecture: Architecture) -> None:
        """Once the parameters have their places: the multiplier follows the expected latency."""
        self.price.update(architecture.expected_ms())

    def further_log_probabilities(self) -> list[list[list[float]]]:
        """None: the price is that of the first target."""
        return []

    def evaluations(self) -> Evaluations | None:
        """None are kept."""
        return None

    def state(self) -> dict[str, Any]:
        """The multiplier's, and Adam's moments of every parameter."""
        moments = [
            {name: value.tolist() for name, value in moment.items()}
            for moment in self.optimizer.state_dict()["state"].values()
        ]
        return {"multiplier": self.price.state(), "moments": moments}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.price.restore(state["multiplier"])
        moments = {
            number: {name: torch.tensor(value) for name, value in moment.items()}
            for number, moment in enumerate(state["moments"])
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def gradients_of(architecture: Architecture, seen: SeenImages) -> SeenImages:
    """What was seen, with the architecture's gradients to be averaged over processes."""
    gradients: list[Tensor] = [alpha.grad for alpha in architecture.alphas if alpha.grad is not None]
    return SeenImages(seen.loss, seen.correct, seen.images, tuple(gradients))
