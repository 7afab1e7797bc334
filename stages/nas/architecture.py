"""Architecture parameters: which path of each layer is how likely, and how that is learned.

Notation of ProxylessNAS (arXiv 1812.00332): alpha_i is a path's parameter, p = softmax(alpha) its
probability. The expected latency is its section 3.3; how alpha's gradient is estimated is a matter of
:mod:`stages.nas.estimators`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
