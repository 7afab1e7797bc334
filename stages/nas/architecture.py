"""Architecture parameters: which path of each layer is how likely, and how that is learned.

Notation of ProxylessNAS (arXiv 1812.00332): alpha_i is a path's parameter, p = softmax(alpha) its
probability, g the binary gates. The two-path gradient is its section 3.2.1, the expected latency its section
3.3. The price of latency is a Lagrange multiplier that is learned (LightNAS, arXiv 2208.14446), so that a
target in milliseconds replaces the paper's fixed weight of that term.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.nn.supernet import Supernet


class Architecture(nn.Module):
    """One row of parameters for each layer; all paths start equally likely.

    ``block_ms[l][i]`` is what candidate i adds to the network's latency in layer l (0 for the skip), and
    ``fixed_ms`` the rest of the network.
    """

    def __init__(self, block_ms: Sequence[Sequence[float]], fixed_ms: float) -> None:
        super().__init__()
        self.alphas = nn.ParameterList(nn.Parameter(torch.zeros(len(row))) for row in block_ms)
        self.block_ms = [torch.tensor(row, dtype=torch.float64) for row in block_ms]
        self.fixed_ms = fixed_ms

    def probabilities(self) -> list[Tensor]:
        """p of each layer, float64 on the CPU."""
        return [alpha.detach().double().cpu().softmax(0) for alpha in self.alphas]

    def expected_ms(self) -> float:
        """Expected latency of a network drawn from the probabilities (section 3.3)."""
        terms = zip(self.probabilities(), self.block_ms, strict=True)
        return self.fixed_ms + float(sum((p * ms).sum() for p, ms in terms))

    @property
    def slowest_ms(self) -> float:
        """Latency of the slowest network."""
        return self.fixed_ms + float(sum(row.max() for row in self.block_ms))

    def entropy(self) -> float:
        """Mean entropy of the layers that have a choice, each relative to its maximum (0..1)."""
        parts = [
            float(torch.special.entr(p).sum()) / math.log(len(p)) for p in self.probabilities() if len(p) > 1
        ]
        return sum(parts) / len(parts) if parts else 0.0

    def sample_path(self, generator: torch.Generator) -> list[int]:
        """One candidate for each layer, drawn from p."""
        return [int(torch.multinomial(p, 1, generator=generator)) for p in self.probabilities()]

    def sample_pairs(self, generator: torch.Generator) -> list[tuple[int, int]]:
        """For each layer two different candidates drawn from p, the active one first.

        Drawing without replacement and then one of the two by their rescaled probabilities is what the
        paper does; a layer with one candidate gives (0, 0).
        """
        pairs = []
        for p in self.probabilities():
            if len(p) == 1:
                pairs.append((0, 0))
                continue
            first, second = torch.multinomial(p, 2, generator=generator).tolist()
            share = float(p[first] / (p[first] + p[second]))
            if float(torch.rand((), generator=generator, dtype=torch.float64)) >= share:
                first, second = second, first
            pairs.append((first, second))
        return pairs


@dataclass(frozen=True)
class SeenImages:
    """What an architecture step saw of the paths that it ran: mean loss, right answers of ``images``."""

    loss: float
    correct: int
    images: int


def two_path_gradient(
    supernet: Supernet,
    architecture: Architecture,
    x_NCHW: Tensor,
    labels_N: Tensor,
    pairs: Sequence[tuple[int, int]],
    *,
    price: float,
    target_ms: float,
) -> SeenImages:
    """Put the two-path gradient of ``cross entropy + price * E[latency] / target`` into ``alphas.grad``.

    Within a pair with rescaled probabilities q (q_0 + q_1 = 1) and gates g:
    dL/dalpha_i = sum_j dL/dg_j q_j (delta_ij - q_i) (equation 4 on two paths). The latency term moves
    the pair's mass m = p_i + p_j between its two: dE/dalpha_i = m q_i (ms_i - sum_j q_j ms_j).
    """
    gates = [
        None if active == other else x_NCHW.new_tensor([1.0, 0.0], requires_grad=True)
        for active, other in pairs
    ]
    with supernet.architecture_step():
        logits = supernet.forward_pairs(x_NCHW, pairs, gates)
        loss = nn.functional.cross_entropy(logits, labels_N)
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
        cost = gate_grad + price / target_ms * mass * ms[which]
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


class LatencyPrice:
    """The multiplier of the constraint E[latency] = target, and the target's way down (or up) to it.

    A proportional-integral controller of the relative excess over the *momentary* target, which moves in
    a straight line from the first expectation to the real one over ``anneal_steps``. The integral alone
    (dual ascent) winds up while the expectation is on its way and keeps pushing when the target is met;
    the proportional part (``damping``) takes that push away at once.
    Two-sided: below the target the price falls and may become a bonus, because budget that is not
    used is accuracy that is given away.
    """

    def __init__(
        self, target_ms: float, *, rate: float, damping: float, anneal_steps: int, limit: float
    ) -> None:
        self.target_ms = target_ms
        self.rate = rate
        self.damping = damping
        self.anneal_steps = anneal_steps
        self.limit = limit
        self.integral = 0.0
        self.excess = 0.0
        self.steps = 0
        self.first_ms: float | None = None

    @property
    def value(self) -> float:
        """The present price: what one target's worth of latency costs, in units of the loss."""
        return self.integral + self.damping * self.excess

    def momentary_target_ms(self) -> float:
        """Where the expectation should be now."""
        if self.first_ms is None or self.steps >= self.anneal_steps:
            return self.target_ms
        done = self.steps / self.anneal_steps
        return self.first_ms + done * (self.target_ms - self.first_ms)

    def update(self, expected_ms: float) -> None:
        """One step of the controller."""
        if self.first_ms is None:
            self.first_ms = expected_ms
        self.steps += 1
        self.excess = expected_ms / self.momentary_target_ms() - 1.0
        self.integral = min(self.limit, max(-self.limit, self.integral + self.rate * self.excess))

    def state(self) -> dict[str, float | None]:
        """For a checkpoint."""
        return {
            "integral": self.integral,
            "excess": self.excess,
            "steps": self.steps,
            "first_ms": self.first_ms,
        }

    def restore(self, state: Mapping[str, float | None]) -> None:
        """From a checkpoint."""
        self.integral, self.excess = float(state["integral"] or 0.0), float(state["excess"] or 0.0)
        self.steps, self.first_ms = int(state["steps"] or 0), state["first_ms"]
