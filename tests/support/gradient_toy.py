"""Supernets small enough to enumerate every draw of a gradient estimator, and autograd's own answers.

Independent of the code under test: probabilities of draws from the definition of sampling, gates as
``onehot + q - stop_gradient(q)``, so that autograd itself applies the softmax's derivative, and a forward
pass that mixes both paths explicitly. All in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product

import torch
from torch import Tensor, nn

from stages.nas.architecture import Architecture
from stages.nas.estimators.two_path import two_path_gradient
from stages.nn.mixed_op import MixedOp
from stages.nn.supernet import Supernet
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

Pairs = list[tuple[int, int]]

MIXED = SearchSpace(
    name="mixed",
    resolution=8,
    classes=4,
    stem=StemSpec(width=4, stride=2),
    stages=(
        StageSpec(width=4, layers=1, fixed=Candidate(kernel=3, expansion=1)),
        StageSpec(width=4, layers=2),
        StageSpec(width=8, layers=1, stride=2),
    ),
    head_width=8,
    candidates=(Candidate(kernel=3, expansion=1), Candidate(kernel=5, expansion=1)),
)
"""A fixed layer, two layers that may be skipped (three candidates each), one with two candidates."""
THREE_BY_THREE = MIXED.model_copy(
    update={"name": "three_by_three", "stages": (StageSpec(width=4, layers=3),)}
)
"""Three layers of three candidates (two blocks and the skip): 27 paths, 216 draws of pairs."""
SPACES = {space.name: space for space in (MIXED, THREE_BY_THREE)}
MULTIPLIER, TARGET_MS = 0.7, 0.4
BLOCK_MS = {
    "mixed": [[0.05], [0.1, 0.3, 0.0], [0.2, 0.25, 0.0], [0.05, 0.4]],
    "three_by_three": [[0.1, 0.3, 0.0], [0.2, 0.25, 0.0], [0.05, 0.4, 0.0]],
}


class Toy:
    """A supernet with random weights in float64, unequal probabilities, a batch of random images."""

    def __init__(self, space: SearchSpace = MIXED) -> None:
        torch.manual_seed(1)
        self.block_ms = BLOCK_MS[space.name]
        self.supernet = Supernet(space).double()
        for part in self.supernet.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.data.uniform_(0.5, 1.5)
                part.bias.data.normal_()
            elif isinstance(part, nn.Linear):
                part.weight.data.normal_()
        self.architecture = Architecture(self.block_ms, 0.1).double()
        for alpha in self.architecture.alphas:
            alpha.data.normal_()
        self.x_NCHW = torch.randn(6, 3, 8, 8, dtype=torch.float64)
        self.labels_N = torch.randint(4, (6,))

    def gradient(self, pairs: Pairs, *, multiplier: float = MULTIPLIER) -> list[Tensor]:
        """What the code under test says."""
        two_path_gradient(
            self.supernet,
            self.architecture,
            self.x_NCHW,
            self.labels_N,
            pairs,
            multiplier=multiplier,
            target_ms=TARGET_MS,
        )
        gradients = [alpha.grad for alpha in self.architecture.alphas]
        return [gradient.clone() for gradient in gradients if gradient is not None]

    def expected_gradient(self, pairs: Pairs) -> list[Tensor]:
        """The same by autograd through explicit gates."""
        alphas = [alpha.detach().clone().requires_grad_() for alpha in self.architecture.alphas]
        gates = [mixing_gates(alpha, pair) for alpha, pair in zip(alphas, pairs, strict=True)]
        loss = nn.functional.cross_entropy(self.mixed(pairs, gates), self.labels_N)
        latency = torch.zeros((), dtype=torch.float64)
        for alpha, (active, other), row in zip(alphas, pairs, self.block_ms, strict=True):
            if active != other:
                which = [active, other]
                mass = alpha.detach().softmax(0)[which].sum()
                latency = latency + mass * (alpha[which].softmax(0) * alpha.new_tensor(row)[which]).sum()
        (loss + MULTIPLIER / TARGET_MS * latency).backward()
        return [torch.zeros_like(a) if a.grad is None else a.grad for a in alphas]

    def mixed(self, pairs: Pairs, gates: Sequence[Tensor]) -> Tensor:
        """Logits where every layer is the gate-weighted sum of its pair."""
        x_NCHW = self.supernet.stem(self.x_NCHW)
        for layer, (active, other), gate in zip(self.supernet.layers, pairs, gates, strict=True):
            assert isinstance(layer, MixedOp)
            if active == other:
                x_NCHW = layer(x_NCHW, active)
            else:
                x_NCHW = gate[0] * layer(x_NCHW, active) + gate[1] * layer(x_NCHW, other)
        logits: Tensor = self.supernet.classifier(self.supernet.head(x_NCHW))
        return logits


def mixing_gates(alpha: Tensor, pair: tuple[int, int]) -> Tensor:
    """(1, 0) in value, the pair's rescaled softmax in derivative."""
    q = alpha[list(pair)].softmax(0)
    return torch.tensor([1.0, 0.0], dtype=alpha.dtype) + q - q.detach()


def layer_draws(p: Tensor) -> Iterator[tuple[tuple[int, int], float]]:
    """Every (active, other) of one layer and how likely it is drawn."""
    if len(p) == 1:
        yield (0, 0), 1.0
    for a, b in permutations(range(len(p)), 2):
        together = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        yield (a, b), float(together * p[a] / (p[a] + p[b]))


def all_paths(architecture: Architecture) -> Iterator[tuple[list[int], float]]:
    """Every path and how likely it is drawn."""
    rows = architecture.probabilities()
    for path in product(*(range(len(p)) for p in rows)):
        yield list(path), float(torch.stack([p[i] for p, i in zip(rows, path, strict=True)]).prod())


def all_draws(architecture: Architecture) -> Iterator[tuple[Pairs, float]]:
    """Every draw of pairs, one for each layer, and how likely it is."""
    rows = [list(layer_draws(p)) for p in architecture.probabilities()]
    for draw in product(*rows):
        probability = 1.0
        for _, share in draw:
            probability *= share
        yield [pair for pair, _ in draw], probability
