"""The two-path gradient (ProxylessNAS, arXiv 1812.00332, section 3.2.1).

Of each layer two paths are drawn, and the architecture moves probability between them. ``g`` are the paper's
binary gates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stages.nas.architecture import Architecture
from stages.nas.estimators.base import SeenImages
from stages.nas.estimators.priced import PricedGradient, gradients_of
from stages.nn.supernet import Supernet
from stages.training.optimisation import Loss

Pairs = Sequence[tuple[int, int]]


class TwoPath(PricedGradient):
    """See :class:`stages.nas.estimators.base.Estimator`. A draw is a pair of each layer."""

    def draw(self, architecture: Architecture, generator: torch.Generator) -> Pairs:
        """For each layer two different candidates, the active one first."""
        return architecture.sample_pairs(generator)

    def evaluate(
        self,
        supernet: Supernet,
        architecture: Architecture,
        x_NCHW: Tensor,
        labels_N: Tensor,
        draws: Pairs,
        loss_of: Loss = functional.cross_entropy,
    ) -> SeenImages:
        """See :func:`two_path_gradient`."""
        seen = two_path_gradient(
            supernet,
            architecture,
            x_NCHW,
            labels_N,
            draws,
            multiplier=self.price.value,
            target_ms=self.target_ms,
            loss_of=loss_of,
        )
        return gradients_of(architecture, seen)

    def learn(self, architecture: Architecture, draws: Pairs, seen: SeenImages) -> None:
        """Move each pair's probability, and give the paths that were not drawn theirs back."""
        before = [alpha.detach().clone() for alpha in architecture.alphas]
        self._follow()
        rescale_pairs(architecture, before, draws)
        self._pay(architecture)


def two_path_gradient(
    supernet: Supernet,
    architecture: Architecture,
    x_NCHW: Tensor,
    labels_N: Tensor,
    pairs: Sequence[tuple[int, int]],
    *,
    multiplier: float,
    target_ms: float,
    loss_of: Loss = functional.cross_entropy,
) -> SeenImages:
    """Put the two-path gradient of ``cross entropy + multiplier * E[latency] / target`` into ``alphas.grad``.

    Within a pair with rescaled probabilities q (q_0 + q_1 = 1) and gates g:
    dL/dalpha_i = sum_j dL/dg_j q_j (delta_ij - q_i) (equation 4 on two paths). The latency term moves
    the pair's mass m = p_i + p_j between its two: dE/dalpha_i = m q_i (ms_i - sum_j q_j ms_j).
    """
    gates = [
        None if active == other else x_NCHW.new_tensor([1.0, 0.0], requires_grad=True)
        for active, other in pairs
    ]
    with supernet.architecture_step():
        logits = supernet(x_NCHW, pairs=pairs, gates_L2=gates)
        loss = loss_of(logits, labels_N)
        leaves = [gate for gate in gates if gate is not None]
        gate_grads = iter(torch.autograd.grad(loss, leaves) if leaves else ())
    for alpha, p, ms, pair, gate in zip(
        architecture.alphas,
        architecture.probabilities(),
        architecture.block_ms,
        pairs,
        gates,
        strict=True,
    ):
        alpha.grad = torch.zeros_like(alpha)
        if gate is None:
            continue
        which = list(pair)
        mass = p[which].sum()
        q = p[which] / mass
        gate_grad = next(gate_grads).cpu().double()
        cost = gate_grad + multiplier / target_ms * mass * ms[which]
        alpha.grad[which] = (q * (cost - (q * cost).sum())).to(alpha)
    return SeenImages(
        loss=float(loss.detach()),
        correct=int((logits.detach().argmax(1) == labels_N).sum()),
        images=len(labels_N),
    )


def rescale_pairs(
    architecture: Architecture, before: Sequence[Tensor], pairs: Sequence[tuple[int, int]]
) -> None:
    """Shift each updated pair so that all other paths keep their probabilities (section 3.2.1).

    ``before`` are the parameters ahead of the update: the pair's summed exp(alpha) is restored.
    """
    with torch.no_grad():
        for alpha, old, (active, other) in zip(architecture.alphas, before, pairs, strict=True):
            if active == other:
                continue
            which = [active, other]
            alpha[which] += old[which].logsumexp(0) - alpha[which].logsumexp(0)
