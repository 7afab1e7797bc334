"""How wrong and how noisy the paper's two gradient estimators are, against the exact gradient.

Toys of 3 layers with 3 candidates each, small enough to run every network (27) and every draw of pairs (216).
The estimators are those of ``search.estimator``; their mean and variance over all draws, each with its exact
probability, are held against the gradient of the expected loss. Accuracy and latency terms are looked at
apart. ``fresh``: random weights, all paths equally likely. ``trained``: weights trained on a small task with
paths drawn evenly, probabilities uneven, as in the midst of a search. ``by_layers``: trained toys of two
candidates a layer, deeper and deeper, because three layers are few.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks._report import Outcome, at_most, main, say
from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig
from stages.nas.estimators.reinforce import RewardBaseline, reinforce_gradient
from stages.nas.estimators.two_path import two_path_gradient
from stages.nn.supernet import Supernet
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

SPACE = SearchSpace(
    name="three_by_three",
    resolution=8,
    classes=4,
    stem=StemSpec(width=8, stride=2),
    stages=(StageSpec(width=8, layers=3),),
    head_width=16,
    candidates=(Candidate(kernel=3, expansion=1), Candidate(kernel=5, expansion=2)),
)
"""Each layer: two blocks and the skip."""
LAYERS = (3, 5, 7)
IMAGES, TRAINING_STEPS, TARGET_MS = 64, 150, 0.5
BIAS_LIMIT = 1e-9
"""REINFORCE has no bias: what is left is rounding."""


@dataclass(frozen=True)
class Toy:
    """A supernet in float64, its architecture, and one batch of images."""

    supernet: Supernet
    architecture: Architecture
    x_NCHW: Tensor
    labels_N: Tensor

    def paths(self) -> list[tuple[tuple[int, ...], float]]:
        """Every path and its probability."""
        rows = self.architecture.probabilities()
        choices = product(*(range(len(p)) for p in rows))
        return [(path, math.prod(float(p[i]) for p, i in zip(rows, path, strict=True))) for path in choices]

    def pairs(self) -> list[tuple[list[tuple[int, int]], float]]:
        """Every draw of pairs, the active one first, and its probability."""
        rows = [_layer_pairs(p) for p in self.architecture.probabilities()]
        return [
            ([pair for pair, _ in draw], math.prod(share for _, share in draw)) for draw in product(*rows)
        ]

    def gradient(self) -> Tensor:
        """What an estimator has just put into the parameters, as one vector."""
        return torch.cat([alpha.grad for alpha in self.architecture.alphas if alpha.grad is not None])

    def two_path(self, multiplier: float) -> Callable[[Sequence[tuple[int, int]]], Tensor]:
        """The two-path estimate of one draw; its latency term alone is the difference of two multipliers."""

        def estimate(pairs: Sequence[tuple[int, int]]) -> Tensor:
            two_path_gradient(
                self.supernet,
                self.architecture,
                self.x_NCHW,
                self.labels_N,
                pairs,
                multiplier=multiplier,
                target_ms=TARGET_MS,
            )
            return self.gradient()

        return estimate

    def reinforce(self, usual: float | None) -> Callable[[tuple[int, ...]], Tensor]:
        """REINFORCE's estimate from one draw of a path; ``usual`` is what its baseline has settled on."""
        baseline = RewardBaseline(0.0)
        baseline.update(0.0 if usual is None else usual)

        def estimate(path: tuple[int, ...]) -> Tensor:
            reinforce_gradient(
                self.supernet,
                self.architecture,
                self.x_NCHW,
                self.labels_N,
                [path],
                baseline=baseline,
                multiplier=0.0,
                target_ms=TARGET_MS,
            )
            return self.gradient()

        return estimate

    def scores(self) -> list[Tensor]:
        """d log p(path) / d alpha of every path, in the order of :meth:`paths`."""
        rows = self.architecture.probabilities()
        return [
            torch.cat([torch.eye(len(p))[i].double() - p for p, i in zip(rows, path, strict=True)])
            for path, _ in self.paths()
        ]

    def losses(self) -> list[float]:
        """Cross entropy of every path, in the order of :meth:`paths`."""
        with torch.no_grad(), self.supernet.architecture_step():
            return [
                float(nn.functional.cross_entropy(self.supernet(self.x_NCHW, path), self.labels_N))
                for path, _ in self.paths()
            ]

    def exact(self, costs: Sequence[float]) -> Tensor:
        """The gradient of the expected cost by autograd, from every path's cost."""
        alphas = [alpha.detach().clone().requires_grad_() for alpha in self.architecture.alphas]
        rows = [alpha.softmax(0) for alpha in alphas]
        expected = torch.zeros((), dtype=torch.float64)
        for (path, _), cost in zip(self.paths(), costs, strict=True):
            share = torch.stack([p[i] for p, i in zip(rows, path, strict=True)]).prod()
            expected = expected + share * cost
        return torch.cat(torch.autograd.grad(expected, alphas))


def _layer_pairs(p: Tensor) -> list[tuple[tuple[int, int], float]]:
    """Two different candidates without replacement, then one of them active by its share of the two."""
    drawn = []
    for a, b in permutations(range(len(p)), 2):
        together = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        drawn.append(((a, b), float(together * p[a] / (p[a] + p[b]))))
    return drawn


def deeper(layers: int) -> SearchSpace:
    """So many layers, each a block or the skip."""
    stages = (StageSpec(width=8, layers=layers),)
    return SPACE.model_copy(update={"stages": stages, "candidates": SPACE.candidates[1:]})


def make_toy(seed: int, space: SearchSpace = SPACE, *, trained: bool) -> Toy:
    """A toy whose weights and images are drawn from ``seed``."""
    torch.manual_seed(seed)
    supernet = Supernet(space).double().train()
    for part in supernet.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0.0, 0.5)
        elif isinstance(part, nn.Linear):
            part.weight.data.normal_(0.0, 0.5)
    patterns = torch.randn(SPACE.classes, 3, SPACE.resolution, SPACE.resolution, dtype=torch.float64)

    def batch() -> tuple[Tensor, Tensor]:
        labels_N = torch.randint(SPACE.classes, (IMAGES,))
        return patterns[labels_N] + 2.0 * torch.randn(IMAGES, *patterns.shape[1:]).double(), labels_N

    sizes = [len(layer.blocks) for layer in space.layers()]
    block_ms = [[*(0.02 + 0.1 * torch.rand(size - 1)).tolist(), 0.0] for size in sizes]
    architecture = Architecture(block_ms, 0.1).double()
    if trained:
        optimizer = torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9)
        for step in range(TRAINING_STEPS):
            x_NCHW, labels_N = batch()
            optimizer.zero_grad(set_to_none=True)
            path = [int(torch.randint(size, ())) for size in sizes]
            torch.autograd.backward(nn.functional.cross_entropy(supernet(x_NCHW, path), labels_N))
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * (1 - step / TRAINING_STEPS)
            optimizer.step()
        for alpha in architecture.alphas:
            alpha.data.normal_()
    return Toy(supernet, architecture, *batch())


@dataclass(frozen=True)
class Moments:
    """An estimator's mean over all draws, and the sum of its variances."""

    mean: Tensor
    variance: float


def moments(estimates: Sequence[Tensor], shares: Sequence[float]) -> Moments:
    """Mean and total variance of estimates that come with probabilities ``shares``."""
    weights = torch.tensor(shares, dtype=torch.float64)
    stacked = torch.stack(list(estimates))
    mean = weights @ stacked
    return Moments(mean, float(weights @ (stacked - mean).square().sum(1)))


def compare(toy: Toy, draws: int) -> dict[str, float]:
    """One toy's figures. Lengths and noise are relative to the exact gradient's length."""
    losses = toy.losses()
    shares = [share for _, share in toy.paths()]
    expected = sum(share * loss for share, loss in zip(shares, losses, strict=True))
    exact = toy.exact(losses)
    pairs = toy.pairs()
    free = [toy.two_path(0.0)(pair) for pair, _ in pairs]
    two_path = moments(free, [share for _, share in pairs])
    with_baseline, without = (
        moments([toy.reinforce(usual)(path) for path, _ in toy.paths()], shares)
        for usual in (-expected, None)
    )
    milliseconds = [
        sum(float(row[i]) for row, i in zip(toy.architecture.block_ms, path, strict=True)) / TARGET_MS
        for path, _ in toy.paths()
    ]
    exact_latency = toy.exact(milliseconds)
    weighted = [toy.two_path(1.0)(pair) - before for (pair, _), before in zip(pairs, free, strict=True)]
    latency = moments(weighted, [share for _, share in pairs])
    costs = [loss + ms for loss, ms in zip(losses, milliseconds, strict=True)]
    usual = sum(share * cost for share, cost in zip(shares, costs, strict=True))
    scored = [(cost - usual) * score for cost, score in zip(costs, toy.scores(), strict=True)]
    in_reward = moments(scored, shares)
    length = float(exact.norm())
    return {
        "two_path_bias": float((two_path.mean - exact).norm()) / length,
        "two_path_cosine": _cosine(two_path.mean, exact),
        "two_path_length": float(two_path.mean.norm()) / length,
        "two_path_noise": math.sqrt(two_path.variance) / length,
        "two_path_latency_cosine": _cosine(latency.mean, exact_latency),
        "two_path_latency_length": float(latency.mean.norm() / exact_latency.norm()),
        "reinforce_bias": float((with_baseline.mean - exact).norm()) / length,
        "reinforce_noise": math.sqrt(with_baseline.variance / draws) / length,
        "reinforce_noise_without_baseline": math.sqrt(without.variance / draws) / length,
        "latency_in_the_reward_over_exact": math.sqrt(in_reward.variance / with_baseline.variance),
    }


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def summary(rows: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median, least and greatest of each figure over the toys."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: {"median": median(values), "least": min(values), "greatest": max(values)}
        for name, values in columns.items()
    }


def run(full: bool) -> Outcome:
    """Look at toys with fresh and with trained weights."""
    toys, draws = 20 if full else 4, SearchConfig().paths_per_step
    figures: dict[str, object] = {"toys": toys, "paths_per_step": draws}
    worst = 0.0
    for state in ("fresh", "trained"):
        rows = []
        for seed in range(toys):
            rows.append(compare(make_toy(seed, trained=state == "trained"), draws))
            say(f"{state}: toy {seed + 1} of {toys}")
        figures[state] = summary(rows)
        worst = max(worst, *(row["reinforce_bias"] for row in rows))
    by_layers = {}
    for layers in LAYERS if full else LAYERS[:2]:
        rows = [compare(make_toy(seed, deeper(layers), trained=True), draws) for seed in range(toys // 2)]
        by_layers[str(layers)] = summary(rows)
        worst = max(worst, *(row["reinforce_bias"] for row in rows))
        say(f"{layers} layers: {len(rows)} toys")
    figures["by_layers"] = by_layers
    return Outcome(figures=figures, bars=[at_most("reinforce_bias", worst, BIAS_LIMIT)])


if __name__ == "__main__":
    sys.exit(main("gradient_bias", run))
