"""What a network of a small space is worth, among all networks of its latency.

Every network of the space is trained (:mod:`benchmarks._tabular`), so the truth is known. A pick's percentile
is the share of others that it beats: paths to other networks of its latency that may be picked under the same
target.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from benchmarks._report import Bar, at_least, at_most
from benchmarks._tabular import Choices, Tabular, TrainedSpace
from stages.nas.targets import TargetConfig, bounds_ms
from stages.space.equal_latency import TOLERANCE, equal_latency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

QUANTILES = (0.5, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85)
"""Of all different networks' latencies: the targets. The first is the one that is searched for."""
MINIMUM_SHARE = TargetConfig().minimum_share
FIRST_TOLERANCE = 0.05
"""Of latencies that are called equal, by the ruler on which the bars of percentiles were set: the first
release's, commit 1700a1b. With :data:`TOLERANCE` opponents are fewer, and percentiles others."""
DRAWS = 10_000  # bootstraps
PERMUTED = "permuted_probabilities"
CONTROLS = ("blind", "shuffled_labels", PERMUTED)
AT_CHANCE = ("blind", PERMUTED)
"""Those controls that know nothing. Shuffled labels do teach something: networks that are sure of nothing
have the least loss then, and these are bad ones."""


def targets_ms(of: Tabular) -> tuple[float, ...]:
    """The targets, the one that is searched for first."""
    times = sorted(map(of.ms, of.networks))
    return tuple(times[int(quantile * len(times))] for quantile in QUANTILES)


@dataclass(frozen=True, eq=False)
class Ruler:
    """The trained networks of a space, by target. ``tolerance``: of latencies that are called equal."""

    truth: TrainedSpace
    tolerance: float = TOLERANCE
    _under: dict[float, list[int]] = field(default_factory=dict, init=False, repr=False)
    _near: dict[tuple[Choices, float], list[Choices]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def read(cls, of: Tabular) -> Self:
        """Raises UsageError where the space's table is not whole."""
        return cls(TrainedSpace.read(of))

    def of_the_bars(self) -> Self:
        """The same with the tolerance on which the bars were set."""
        return replace(self, tolerance=FIRST_TOLERANCE)

    @property
    def of(self) -> Tabular:
        """The space."""
        return self.truth.of

    @cached_property
    def targets_ms(self) -> tuple[float, ...]:
        """The targets, the one that is searched for first."""
        return targets_ms(self.of)

    def under_target(self, target_ms: float) -> list[int]:
        """Where among the space's paths those stand that a pick may be."""
        if target_ms not in self._under:
            least_ms, most_ms = bounds_ms(target_ms, MINIMUM_SHARE, self.of.latency)
            self._under[target_ms] = [
                n for n, choices in enumerate(self.of.paths) if least_ms <= self.of.ms(choices) <= most_ms
            ]
        return self._under[target_ms]

    def best_under_target(self, scores: Array, target_ms: float) -> Choices:
        """The path of the highest score, (all paths,), under a target."""
        return self.of.paths[max(self.under_target(target_ms), key=lambda n: scores[n])]

    def near(self, choices: Choices, target_ms: float) -> list[Choices]:
        """All paths to other networks of a network's latency that a pick may be, too.

        Paths, and not networks: all paths are equally likely for whoever chooses at random, and for a search
        that has learned nothing. To a network with skips lead several. Only such as could be picked: else a
        blind pick beats more than half of them, since networks just below what a pick must use of the target
        are worse.
        """
        if (choices, target_ms) not in self._near:
            own, ms = self.of.keys(choices), self.of.ms(choices)
            candidates = (self.of.paths[n] for n in self.under_target(target_ms))
            self._near[choices, target_ms] = [
                other
                for other in candidates
                if equal_latency(self.of.ms(other) / ms, self.tolerance) and self.of.keys(other) != own
            ]
        return self._near[choices, target_ms]

    def beaten_share(self, pick: Choices, target_ms: float) -> float:
        """Share of the paths to other networks of its latency that are less accurate; equal ones count half.

        One half where there are none: such a pick says nothing.
        """
        own = self.truth.test_percent(pick)
        others = [self.truth.test_percent(choices) for choices in self.near(pick, target_ms)]
        if not others:
            return 0.5
        return sum((other < own) + 0.5 * (other == own) for other in others) / len(others)

    def chance_percentile(self) -> float:
        """What a path is worth that is drawn from a target's networks, all equally likely: mean over targets.

        Not 50: each network is held against those of its own latency, of which some have many and some few.
        """
        of_targets = [
            [self.beaten_share(self.of.paths[n], target_ms) for n in self.under_target(target_ms)]
            for target_ms in self.targets_ms
        ]
        return 100 * sum(sum(shares) / len(shares) for shares in of_targets) / len(of_targets)

    def points_below_best(self, picks: Sequence[tuple[Choices, float]]) -> float:
        """How far picks (with targets) are below the most accurate network under the target: mean, points."""
        best = {
            target_ms: max(self.truth.test_percent(self.of.paths[n]) for n in self.under_target(target_ms))
            for target_ms in {target_ms for _, target_ms in picks}
        }
        return sum(best[target_ms] - self.truth.test_percent(pick) for pick, target_ms in picks) / len(picks)

    def random_over_pick(self, picks: Sequence[tuple[Choices, float]]) -> float:
        """Mean latency of the networks that picks (and their targets) are held against, over the pick's."""
        ratios = [
            sum(map(self.of.ms, others)) / len(others) / self.of.ms(pick)
            for pick, target_ms in picks
            if (others := self.near(pick, target_ms))
        ]
        return sum(ratios) / len(ratios) if ratios else 1.0

    def signal_to_noise(self, target_ms: float) -> dict[str, Any]:
        """How much networks under a target differ, and how much trainings of one network do (in points).

        The first is that between finished accuracies of networks whose latency is within 3 %, without what
        trainings add to it.
        """
        import numpy as np

        of, truth = self.of, self.truth
        by_keys = {of.keys(of.paths[n]): of.paths[n] for n in self.under_target(target_ms)}
        runs = [[run.test_percent for run in truth.runs[keys]] for keys in by_keys]
        noise = float(np.mean([np.var(percent, ddof=1) for percent in runs]))
        squares = [
            (truth.test_percent(one) - truth.test_percent(other)) ** 2
            for one in by_keys.values()
            for other in by_keys.values()
            if of.keys(one) < of.keys(other) and equal_latency(of.ms(one) / of.ms(other))
        ]
        between = float(np.mean(squares)) / 2 if squares else 0.0
        signal = max(0.0, between - noise / len(runs[0]))
        return {
            "networks": len(by_keys),
            "deviation_between_networks_points": signal**0.5,
            "deviation_between_trainings_points": noise**0.5,
            "signal_to_noise": (signal / noise) ** 0.5 if noise > 0 else None,
        }


def scores(of: Tabular, rows: Sequence[Sequence[float] | Array]) -> Array:
    """Log-probability of every path, (all paths,), from those of each layer's candidates."""
    import numpy as np

    choices_PL = np.array(of.paths)
    of_layers = [np.asarray(row)[choices_PL[:, layer]] for layer, row in enumerate(rows)]
    total: Array = np.sum(of_layers, axis=0)
    return total


def interval(values: Sequence[float] | Array, random: np.random.Generator) -> list[float]:
    """Mean over supernets, and its 95 % interval by supernets drawn anew."""
    import numpy as np

    drawn = random.choice(np.asarray(values), (DRAWS, len(values))).mean(axis=1)
    return [float(np.mean(values)), *np.percentile(drawn, (2.5, 97.5)).tolist()]


def control_bars(intervals: Mapping[str, Sequence[float]], chance: float, prefix: str = "") -> list[Bar]:
    """What is asked of the controls' ``intervals`` (mean, lower end, upper end; by name).

    None is better than ``chance``, and those of ``AT_CHANCE`` are not worse either.
    """
    bars = []
    for control, (_, low, high) in intervals.items():
        bars.append(at_most(f"{prefix}{control}_lower_end", low, chance))
        if control in AT_CHANCE:
            bars.append(at_least(f"{prefix}{control}_upper_end", high, chance))
    return bars
