"""Do the learned probabilities lead to the best network where the best network is known?

Planted values in place of a supernet: 21 layers of 7 candidates, a value from N(0, 1) for each, and
interactions of all pairs of layers that make up 20 % of the variance between networks. An evaluation is
noisy by as much as networks differ (one standard deviation). Each of ten targets has 10,000 evaluations, four
paths a step, and the most probable network of its window (0.9 of the target to the target) is the choice.
Regret is what that falls short of the best network of the window, relative to how far the best one is above
the mean of the window's networks.

``posterior`` and ``window`` are the search's own rules. Beside them, on as many evaluations, a REINFORCE
policy with a learned latency multiplier; on the first seeds only.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Bar, Outcome, at_least, main
from stages.nas.config import SearchConfig
from stages.nas.latency_window import LatencyWindow
from stages.nas.local_search import improved
from stages.nas.path_values import PathValues, Variances
from stages.nas.rules.base import PathRule, Rows, uniform
from stages.nas.rules.posterior import PosteriorRule
from stages.nas.rules.window import WindowRule
from stages.nas.targets import TargetConfig
from stages.search import Search

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

LAYERS, CANDIDATES, TARGETS = 21, 7, 10
INTERACTIONS_SHARE = 0.2
BUDGET, PATHS_PER_STEP = 10_000, 4
MINIMUM_SHARE = TargetConfig().minimum_share
SEEDS, QUICK_SEEDS, REGRET = 100, 1, 0.05
RIVALS_SEEDS = 10  # the rivals take twice the posterior's time, and are far off
ENOUGH, ENOUGH_OF_A_TARGET = 0.95, 0.90  # shares of instances within 5 %: of all, and of each target's
RESTARTS = 60  # of the search for the true optimum
RANDOM_NETWORKS = 2_000  # of a window, for their mean
POLICY_BATCH, POLICY_RATE, BASELINE_DECAY = 20, 0.05, 0.9
SIZES = (CANDIDATES,) * LAYERS
RIVALS = ("window", "reinforce")


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

    def windows(self) -> list[LatencyWindow]:
        """Targets evenly spread between the fastest and the slowest network, both left out."""
        low, high = (sum(map(end, self.costs_ms)) for end in (min, max))
        targets_ms = [low + (high - low) * (index + 1) / (TARGETS + 1) for index in range(TARGETS)]
        return [LatencyWindow(self.costs_ms, MINIMUM_SHARE * ms, ms) for ms in targets_ms]

    def optimum(self, window: LatencyWindow, random: np.random.Generator) -> float:
        """The best value of a window: the best of many local searches from good starts.

        Each starts where single layers' parts, with noise added, are best within the window.
        """
        import numpy as np

        noise_RC = random.normal(size=(RESTARTS, LAYERS * CANDIDATES))
        noise_RC[0] = 0.0
        starts = [window.most_probable(_rows(self.values.layer_C + noise_C))[0] for noise_C in noise_RC]
        tops = np.array([improved(np.array(path), self.values, window) for path in starts])
        return float(self.values.value(tops).max())

    def mean(self, window: LatencyWindow, random: np.random.Generator) -> float:
        """Mean value of a window's networks, all of which are equally likely."""
        drawn = window.draw(uniform(SIZES), RANDOM_NETWORKS, random)
        return float(self.values.value(drawn).mean())

    def observe(self, paths_NL: Integers, random: np.random.Generator) -> Array:
        """A noisy value of each network."""
        noise_N = random.normal(size=len(paths_NL)) * self.deviation
        observed: Array = self.values.value(paths_NL) + noise_N
        return observed


def _rows(parts_C: Array) -> Rows:
    import numpy as np

    return np.split(parts_C, LAYERS)


def run(full: bool) -> Outcome:
    """All seeds and targets, on all cores."""
    seeds = SEEDS if full else QUICK_SEEDS
    jobs: list[Job] = [(seed, target) for seed in range(seeds) for target in range(TARGETS)]
    kept = KeptLines("planted_optimum", [f"{BUDGET} {PATHS_PER_STEP} {MINIMUM_SHARE} {Search.version}"])
    outcome = summarise(dict(kept.results(jobs, regrets_of)), full=full)
    kept.finish()
    return outcome


def summarise(regrets: Mapping[Job, Mapping[str, float]], *, full: bool) -> Outcome:
    """Figures of all instances (seed, target), and their bars."""
    by_target = [
        [of_methods for (_, target), of_methods in regrets.items() if target == wanted]
        for wanted in range(TARGETS)
    ]
    figures: dict[str, Any] = {
        "seeds": len(by_target[0]),
        "seeds_of_rivals": sum(RIVALS[0] in of for of in by_target[0]),
        "evaluations": BUDGET,
        "methods": {
            method: _summary([[of[method] for of in target if method in of] for target in by_target])
            for method in ("posterior", *RIVALS)
        },
    }
    return Outcome(figures, _bars(figures["methods"]["posterior"], len(by_target[0])) if full else [])


def _bars(of_method: Mapping[str, Any], seeds: int) -> list[Bar]:
    within = of_method["seeds_within_5_percent"]
    return [
        at_least("instances_within_5_percent", sum(within), ENOUGH * TARGETS * seeds),
        at_least("seeds_within_5_percent_at_the_worst_target", min(within), ENOUGH_OF_A_TARGET * seeds),
    ]


def _summary(by_target: Sequence[Sequence[float]]) -> dict[str, Any]:
    return {
        "seeds_within_5_percent": [sum(r <= REGRET for r in target) for target in by_target],
        "mean_regret_percent": [100 * sum(target) / len(target) for target in by_target],
        "least_regret_percent": [100 * min(target) for target in by_target],  # below 0: no optimum
        "worst_regret_percent": [100 * max(target) for target in by_target],
    }


def regrets_of(job: Job) -> dict[str, float]:
    """Regret of the posterior, for the first seeds of the rivals too: a seed and the number of a target."""
    import numpy as np

    seed, target = map(int, job)
    planted = Planted.draw(seed)
    window = planted.windows()[target]
    random = np.random.default_rng([seed, 1, target])
    optimum = planted.optimum(window, random)  # by local search: nothing better is known
    gap = optimum - planted.mean(window, random)
    steps = BUDGET // PATHS_PER_STEP
    log_probabilities = {
        "posterior": learned(PosteriorRule([window], steps, PATHS_PER_STEP, seed), planted, steps, random)
    }
    if seed < RIVALS_SEEDS:
        rate = SearchConfig().window_learning_rate
        log_probabilities |= {
            "window": learned(WindowRule([window], PATHS_PER_STEP, rate, seed), planted, steps, random),
            "reinforce": policy_log_probabilities(planted, window, random),
        }
    regrets = {}
    for method, rows in log_probabilities.items():
        (path,) = window.most_probable(rows)
        regrets[method] = (optimum - float(planted.values.value(np.array([path]))[0])) / gap
    return regrets


def learned(rule: PathRule, planted: Planted, steps: int, random: np.random.Generator) -> Rows:
    """Log-probabilities after a rule has taken all steps."""
    for _ in range(steps):
        paths_KL = rule.draw()
        rule.learn(paths_KL, planted.observe(paths_KL, random))
    return rule.log_probabilities()


def policy_log_probabilities(planted: Planted, window: LatencyWindow, random: np.random.Generator) -> Rows:
    """Log-probabilities of a policy that REINFORCE has trained on as many evaluations.

    Reward: value less a learned multiplier times latency, over a smoothed baseline, in its deviations.
    """
    import numpy as np

    cost_LC = np.array(planted.costs_ms)
    layers = np.arange(LAYERS)
    alpha_LC = np.zeros((LAYERS, CANDIDATES))
    baseline, scale, multiplier = 0.0, 1.0, 0.0
    steps = BUDGET // POLICY_BATCH
    for step in range(steps):
        share_LC = np.exp(alpha_LC - alpha_LC.max(axis=1, keepdims=True))
        share_LC /= share_LC.sum(axis=1, keepdims=True)
        drawn = (random.random((POLICY_BATCH, LAYERS, 1)) > share_LC.cumsum(axis=1)).sum(axis=2)
        paths = np.minimum(drawn, CANDIDATES - 1)
        observed = planted.observe(paths, random)
        first = step == 0
        baseline = (
            observed.mean() if first else baseline + (1 - BASELINE_DECAY) * (observed.mean() - baseline)
        )
        spread = observed.std()
        scale = spread if first else scale + (1 - BASELINE_DECAY) * (spread - scale)
        ms = cost_LC[layers, paths].sum(axis=1)
        expected_ms = float((share_LC * cost_LC).sum())
        multiplier = max(0.0, multiplier + 0.02 * (expected_ms / window.most_ms - 1))
        advantage = (observed - baseline) / scale - multiplier * (ms - expected_ms)
        gradient = np.zeros_like(alpha_LC)
        for path, gain in zip(paths, advantage, strict=True):
            gradient[layers, path] += gain
            gradient -= gain * share_LC
        alpha_LC += POLICY_RATE * gradient / POLICY_BATCH**0.5
    return list(alpha_LC - np.log(np.exp(alpha_LC).sum(axis=1, keepdims=True)))


if __name__ == "__main__":
    sys.exit(main("planted_optimum", run))
