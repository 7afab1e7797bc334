"""An architecture step is the same whatever an earlier step left in the gradients: zeros, None or rubbish."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.gradient_toy import MULTIPLIER, TARGET_MS, THREE_BY_THREE, Toy
from torch import Tensor

from stages.nas.estimators.reinforce import RewardBaseline, reinforce_gradient
from stages.nas.estimators.two_path import rescale_pairs, two_path_gradient

Leave = Callable[[torch.nn.Parameter], Tensor | None]
LEFT: dict[str, Leave] = {
    "None": lambda _: None,
    "zeros": torch.zeros_like,
    "rubbish": lambda parameter: torch.full_like(parameter, 7.0),
}


def learned(gradient: str, leave: Leave) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of the last of five steps, and the parameters after it."""
    toy, generator = Toy(THREE_BY_THREE), torch.Generator().manual_seed(3)
    architecture, baseline = toy.architecture, RewardBaseline(0.9)
    optimizer = torch.optim.Adam(architecture.parameters(), lr=0.05, betas=(0.0, 0.999))
    for _ in range(5):
        for parameter in (*architecture.parameters(), *toy.supernet.parameters()):
            parameter.grad = leave(parameter)
        batch = toy.supernet, architecture, toy.x_NCHW, toy.labels_N
        if gradient == "two_path":
            pairs = architecture.sample_pairs(generator)
            before = [alpha.detach().clone() for alpha in architecture.alphas]
            two_path_gradient(*batch, pairs, multiplier=MULTIPLIER, target_ms=TARGET_MS)
            optimizer.step()
            rescale_pairs(architecture, before, pairs)
        else:
            paths = [architecture.sample_path(generator) for _ in range(2)]
            seen = reinforce_gradient(
                *batch, paths, baseline=baseline, multiplier=MULTIPLIER, target_ms=TARGET_MS
            )
            baseline.update(-seen.loss)
            optimizer.step()
    gradients = [alpha.grad for alpha in architecture.alphas if alpha.grad is not None]
    return gradients, [alpha.detach() for alpha in architecture.alphas]


@pytest.mark.parametrize("gradient", ["two_path", "reinforce"])
@pytest.mark.parametrize("left", ["zeros", "rubbish"])
def test_what_was_left_in_the_gradients_does_not_matter(gradient: str, left: str) -> None:
    for here, there in zip(learned(gradient, LEFT["None"]), learned(gradient, LEFT[left]), strict=True):
        assert len(here) == len(there) == 3
        assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
        assert all(float(a.abs().max()) > 0 for a in here)
