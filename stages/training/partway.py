"""How far a network goes from published weights towards what a training made of them.

A few hundred images teach a network its classes, and spoil what its layers knew. On the straight line between
the weights at the start and those at the end there are often better networks than at either of them (WiSE-FT,
arXiv 2109.01903, section 4). It takes that the statistics of batch normalisation are kept
(:mod:`stages.nn.kept_statistics`). What is taken has the least cross entropy on the images for choices: along
a line that changes smoothly, and so it says more than accuracies on as few images. With ``data.balance``
every class counts alike in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from stages.data.dataset import Batches
from stages.nn.network import Network, save_state
from stages.space.search_space import NetConfig
from stages.training.optimisation import evaluate
from stages.training.runtime import TrainingRuntime

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the way; of equally good ones the shortest is taken."""


@dataclass(frozen=True)
class Kept:
    """The network that was taken: how far it is along the way, and its accuracy on images for choices."""

    share: float
    validation_accuracy_percent: float


def best_on_the_way(
    net: NetConfig,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    validation: Batches,
    runtime: TrainingRuntime,
) -> tuple[bytes, Kept]:
    """Weights (safetensors) between two states of a network, and what they are."""
    network = Network(net)
    runtime.place(network)
    found: list[tuple[float, bytes, Kept]] = []
    for share in SHARES:
        network.load_state_dict(between(start, end, share))
        seen = evaluate(
            network,
            validation.in_order(),
            runtime.sums,
            class_weights_K=validation.evaluation_weights_K,
        )
        kept = Kept(share, seen.accuracy_percent)
        if not found or seen.loss < found[-1][0]:
            found.append((seen.loss, save_state(network.state_dict()), kept))
    return found[-1][1:]


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """``start`` + ``share`` (``end`` - ``start``); counters are the end's. Exactly an end where it is one."""
    return {
        name: (1 - share) * start[name] + share * tensor if tensor.is_floating_point() else tensor
        for name, tensor in end.items()
    }
