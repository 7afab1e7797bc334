"""Does the exploration find the best network where the best network is known?

Planted values in place of a supernet: 21 layers of 7 candidates, a value from N(0, 1) for each, and
interactions of all pairs of layers that make up 20 % of the variance between networks. An evaluation is
noisy by as much as networks differ (one standard deviation). For each of ten targets the program may spend
10,000 evaluations; regret is what its choice falls short of the best network under the target, relative to
how far that one is above the mean of random networks of that latency.

Beside it: from the same estimate each layer's best candidate, traded down until the target is kept
(greedy); and, on as many evaluations of its own, a REINFORCE policy with a learned latency multiplier, whose
log-probabilities are then solved exactly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.nas.exploration import draw_near, explore

from benchmarks._report import Bar, Outcome, at_least, main, say
from stages.nas.path_values import PathValues, Variances, starts_of
from stages.nas.solver import best_by_value, best_paths, improved, path_ms
from stages.space.equal_latency import TOLERANCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

LAYERS, CANDIDATES, TARGETS = 21, 7, 10
INTERACTIONS_SHARE = 0.2
BUDGET, SEEDS, ENOUGH_SEEDS, REGRET = 10_000, 100, 95, 0.05
RESTARTS = 60  # of the search for the true optimum
NEAREST = 200  # random networks of a latency: so many at least
POLICY_BATCH, POLICY_RATE, BASELINE_DECAY = 20, 0.05, 0.9
SIZES = (CANDIDATES,) * LAYERS
RATIO = "random_latency_over_target"


@dataclass(frozen=True)
class Planted:
    """Known values and costs of all candidates; ``deviation`` is that between uniformly drawn networks."""

    values: PathValues
    costs_ms: list[list[float]]
    deviation: float

    @classmethod
    def draw(cls, seed: int) -> Planted:
        """An instance. Interactions have no part that a single layer could explain (double-centred)."""
        import numpy as np

        random = np.random.default_rng([seed, 0])
        main = random.normal(size=(LAYERS, CANDIDATES))
        pair_CC = np.zeros((LAYERS * CANDIDATES,) * 2)
        for first in range(LAYERS):
            for second in range(first + 1, LAYERS):
                block = random.normal(size=(CANDIDATES, CANDIDATES))
                block += block.mean() - block.mean(axis=0) - block.mean(axis=1)[:, None]
                rows, columns = (slice(n * CANDIDATES, (n + 1) * CANDIDATES) for n in (first, second))
                pair_CC[rows, columns], pair_CC[columns, rows] = block, block.T
        main_variance = float(main.var(axis=1).sum())
        pair_variance = float((pair_CC**2).sum()) / 2 / CANDIDATES**2
        share = INTERACTIONS_SHARE / (1 - INTERACTIONS_SHARE)
        pair_CC *= np.sqrt(share * main_variance / pair_variance)
        costs = random.gamma(2.0, 1.0, size=(LAYERS, CANDIDATES))
        costs[:, -1] = 0.0  # the skip
        values = PathValues(SIZES, 0.0, main.ravel(), pair_CC, Variances(1.0, 0.0, 0.0))
        return cls(values, costs.tolist(), float(np.sqrt(main_variance * (1 + share))))

    def targets_ms(self) -> list[float]:
        """Evenly spread between the fastest and the slowest network, both left out."""
        low, high = (sum(map(end, self.costs_ms)) for end in (min, max))
        return [low + (high - low) * (index + 1) / (TARGETS + 1) for index in range(TARGETS)]

    def optimum(self, target_ms: float, random: np.random.Generator) -> float:
        """The best value under a target: the best of many local searches from good starts.

        Each takes the best step of one or two layers until none helps.
        """
        import numpy as np

        noise = random.normal(size=(RESTARTS, LAYERS * CANDIDATES))
        starts = draw_near(self.values.layer_C + noise, self.values, self.costs_ms, target_ms, random)
        kept = [path for path in starts if path_ms(self.costs_ms, path) <= target_ms]
        kept.append(np.array(_exact(self.values.layer_C, self.costs_ms, target_ms)))
        tops = np.array([improved(path, self.values, self.costs_ms, (0.0, target_ms)) for path in kept])
        return float(self.values.value(tops).max())

    def mean_of_latency(self, target_ms: float, random: np.random.Generator) -> tuple[float, float]:
        """Mean value of random networks within 3 % of a latency, and their mean latency over it.

        All of them are equally likely.

        Drawn from the uniform distribution tilted towards the target, and weighed back.
        """
        import numpy as np

        cost_LC = np.array(self.costs_ms)
        low, high = -20.0, 20.0
        for _ in range(60):
            tilt = (low + high) / 2
            weight = np.exp(tilt * cost_LC - (tilt * cost_LC).max(axis=1, keepdims=True))
            share_LC = weight / weight.sum(axis=1, keepdims=True)
            low, high = (tilt, high) if (share_LC * cost_LC).sum() < target_ms else (low, tilt)
        near: list[Integers] = []
        while sum(map(len, near)) < NEAREST:
            drawn = np.stack([random.choice(CANDIDATES, 20_000, p=share) for share in share_LC], axis=1)
            ms = cost_LC[np.arange(LAYERS), drawn].sum(axis=1)
            near.append(drawn[np.abs(ms / target_ms - 1) <= TOLERANCE])
        paths = np.concatenate(near)
        ms = cost_LC[np.arange(LAYERS), paths].sum(axis=1)
        weights = np.exp(-tilt * (ms - target_ms))
        value, ratio = (np.average(of, weights=weights) for of in (self.values.value(paths), ms / target_ms))
        return float(value), float(ratio)


def run(full: bool) -> Outcome:
    """All seeds, on all cores."""
    seeds = range(SEEDS if full else 4)
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        by_seed = []
        for seed, regrets in enumerate(pool.map(regrets_of, seeds)):
            say(f"planted_optimum: seed {seed + 1} of {len(seeds)}, worst regret {max(regrets['ours']):.3f}")
            by_seed.append(regrets)
    ratios = [regrets.pop(RATIO) for regrets in by_seed]
    figures: dict[str, Any] = {
        "seeds": len(seeds),
        "evaluations": BUDGET,
        RATIO: [sum(of_target) / len(ratios) for of_target in zip(*ratios, strict=True)],
        "methods": {method: _summary([r[method] for r in by_seed]) for method in by_seed[0]},
    }
    return Outcome(figures, _bars(figures) if full else [])


def _bars(figures: dict[str, Any]) -> list[Bar]:
    worst = min(figures["methods"]["ours"]["seeds_within_5_percent"])
    return [at_least("seeds_within_5_percent_at_the_worst_target", worst, ENOUGH_SEEDS)]


def _summary(regrets: Sequence[Sequence[float]]) -> dict[str, Any]:
    by_target = list(zip(*regrets, strict=True))
    return {
        "seeds_within_5_percent": [sum(r <= REGRET for r in target) for target in by_target],
        "mean_regret_percent": [100 * sum(target) / len(target) for target in by_target],
        "worst_regret_percent": [100 * max(target) for target in by_target],
    }


def regrets_of(seed: int) -> dict[str, list[float]]:
    """Regret by target, of each method; beside it what random networks take over the target."""
    import numpy as np

    planted = Planted.draw(seed)
    random = np.random.default_rng([seed, 1])

    def evaluate(paths_NL: Integers, _: Integers) -> Array:
        noise: Array = random.normal(size=len(paths_NL)) * planted.deviation
        return planted.values.value(paths_NL) + noise

    regrets: dict[str, list[float]] = {"ours": [], "log_probabilities": [], "greedy": [], RATIO: []}
    for target_ms in planted.targets_ms():
        optimum = planted.optimum(target_ms, random)  # by local search: nothing better is known
        mean, ratio = planted.mean_of_latency(target_ms, random)
        regrets[RATIO].append(ratio)
        gap = optimum - mean
        explored = explore(evaluate, planted.costs_ms, [target_ms], budget=BUDGET, seed=seed)
        (ours,) = best_by_value(
            explored.values,
            planted.costs_ms,
            at_least_ms=0.0,
            at_most_ms=target_ms,
            count=1,
            seed=seed,
            known_NL=explored.paths_NL,
        )
        log_p = policy_log_probabilities(evaluate, planted.costs_ms, target_ms, random)
        chosen = {
            "ours": ours,
            "log_probabilities": _exact(log_p, planted.costs_ms, target_ms),
            "greedy": greedy(explored.values, planted.costs_ms, target_ms),
        }
        for method, path in chosen.items():
            value = float(planted.values.value(np.array([path]))[0])
            regrets[method].append((optimum - value) / gap)
    return regrets


def _exact(parts_C: Array, costs_ms: Sequence[Sequence[float]], target_ms: float) -> tuple[int, ...]:
    """The best path by parts of single layers."""
    import numpy as np

    parts = [row.tolist() for row in np.split(parts_C, starts_of(SIZES)[1:])]
    return best_paths(parts, costs_ms, at_least_ms=0.0, at_most_ms=target_ms, count=1)[0]


def greedy(values: PathValues, costs_ms: Sequence[Sequence[float]], target_ms: float) -> tuple[int, ...]:
    """Every layer's best candidate by itself; then, while the path is too slow, the change that gives up
    least value for a millisecond."""
    import numpy as np

    value_LC, cost_LC = values.layer_C.reshape(LAYERS, CANDIDATES), np.array(costs_ms)
    path = value_LC.argmax(axis=1)
    layers = np.arange(LAYERS)
    while cost_LC[layers, path].sum() > target_ms:
        saved = cost_LC[layers, path][:, None] - cost_LC
        given_up = value_LC[layers, path][:, None] - value_LC
        rate = np.where(saved > 0, given_up / np.where(saved > 0, saved, 1.0), np.inf)
        layer, choice = np.unravel_index(rate.argmin(), rate.shape)
        path[layer] = choice
    return tuple(path.tolist())


def policy_log_probabilities(
    evaluate: Any, costs_ms: Sequence[Sequence[float]], target_ms: float, random: np.random.Generator
) -> Array:
    """Log-probabilities of a policy that REINFORCE has trained on as many evaluations.

    Reward: value less a learned multiplier times latency, over a smoothed baseline, in its deviations.
    """
    import numpy as np

    cost_LC = np.array(costs_ms)
    layers = np.arange(LAYERS)
    alpha_LC = np.zeros((LAYERS, CANDIDATES))
    baseline, scale, multiplier = 0.0, 1.0, 0.0
    steps = BUDGET // POLICY_BATCH
    for step in range(steps):
        share_LC = np.exp(alpha_LC - alpha_LC.max(axis=1, keepdims=True))
        share_LC /= share_LC.sum(axis=1, keepdims=True)
        drawn = (random.random((POLICY_BATCH, LAYERS, 1)) > share_LC.cumsum(axis=1)).sum(axis=2)
        paths = np.minimum(drawn, CANDIDATES - 1)
        observed = evaluate(paths, np.zeros(len(paths), dtype=np.int64))
        first = step == 0
        baseline = (
            observed.mean() if first else baseline + (1 - BASELINE_DECAY) * (observed.mean() - baseline)
        )
        spread = observed.std()
        scale = spread if first else scale + (1 - BASELINE_DECAY) * (spread - scale)
        ms = cost_LC[layers, paths].sum(axis=1)
        expected_ms = float((share_LC * cost_LC).sum())
        multiplier = max(0.0, multiplier + 0.02 * (expected_ms / target_ms - 1))
        advantage = (observed - baseline) / scale - multiplier * (ms - expected_ms)
        gradient = np.zeros_like(alpha_LC)
        for path, gain in zip(paths, advantage, strict=True):
            gradient[layers, path] += gain
            gradient -= gain * share_LC
        alpha_LC += POLICY_RATE * gradient / POLICY_BATCH**0.5
    log_p: Array = (alpha_LC - np.log(np.exp(alpha_LC).sum(axis=1, keepdims=True))).ravel()
    return log_p


if __name__ == "__main__":
    sys.exit(main("planted_optimum", run))
