"""What a network of the tabular space is worth, among all networks of its latency.

Every network of the space is trained (:mod:`benchmarks.tabular_space`), so the truth is known. A pick's
percentile is the share of others that it beats: paths to other networks of its latency that may be picked
under the same target.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from benchmarks._report import Bar, at_least, at_most
from benchmarks.tabular_space import (
    Choices,
    TrainedSpace,
    block_keys,
    distinct_networks,
    tabular_latency,
    tabular_space,
)
from stages.nas.targets import TargetConfig, bounds_ms
from stages.space.equal_latency import equal_latency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

QUANTILES = (0.5, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85)
"""Of all different networks' latencies: the targets. The first is the one that is searched for."""
MINIMUM_SHARE = TargetConfig().minimum_share
PERMUTED = "permuted_probabilities"
CONTROLS = ("blind", "shuffled_labels", PERMUTED)
AT_CHANCE = ("blind", PERMUTED)
"""Those controls that know nothing. Shuffled labels do teach something: networks that are sure of nothing
have the least loss then, and these are bad ones."""


@cache
def all_choices() -> tuple[Choices, ...]:
    """Every path of the space, also those that give the same network."""
    return tuple(product(*(range(len(layer.blocks)) for layer in tabular_space().layers())))


@cache
def predicted_ms(choices: Choices) -> float:
    """A network's latency by the space's latency model."""
    return tabular_latency().predict_ms(tabular_space().network(choices))


@cache
def targets_ms() -> tuple[float, ...]:
    """The targets, the one that is searched for first."""
    times = sorted(map(predicted_ms, distinct_networks()))
    return tuple(times[int(quantile * len(times))] for quantile in QUANTILES)


@cache
def under_target(target_ms: float) -> list[int]:
    """Where in ``all_choices()`` those networks stand that a pick may be."""
    least_ms, most_ms = bounds_ms(target_ms, MINIMUM_SHARE, tabular_latency())
    return [n for n, choices in enumerate(all_choices()) if least_ms <= predicted_ms(choices) <= most_ms]


def best_under_target(scores: Array, target_ms: float) -> Choices:
    """The path of the highest score, (all choices,), under a target."""
    return all_choices()[max(under_target(target_ms), key=lambda n: scores[n])]


@cache
def near(choices: Choices, target_ms: float) -> list[Choices]:
    """All paths to other networks of a network's latency (within 3 %) that a pick may be, too.

    Paths, and not networks: all paths are equally likely for whoever chooses at random, and for a search that
    has learned nothing. To a network with skips lead several. Only such as could be picked: else a blind pick
    beats more than half of them, since networks just below what a pick must use of the target are worse.
    """
    own, ms = block_keys(choices), predicted_ms(choices)
    candidates = (all_choices()[n] for n in under_target(target_ms))
    return [
        other for other in candidates if equal_latency(predicted_ms(other) / ms) and block_keys(other) != own
    ]


def beaten_share(pick: Choices, target_ms: float, truth: TrainedSpace) -> float:
    """Share of the paths to other networks of its latency that are less accurate; equal ones count half.

    One half where there are none: such a pick says nothing.
    """
    own = truth.test_percent(pick)
    others = [truth.test_percent(choices) for choices in near(pick, target_ms)]
    if not others:
        return 0.5
    return sum((other < own) + 0.5 * (other == own) for other in others) / len(others)


def chance_percentile(truth: TrainedSpace) -> float:
    """What a path is worth that is drawn from a target's networks, all equally likely: the mean over targets.

    Not 50: each network is held against those of its own latency, of which some have many and some few.
    """
    of_targets = [
        [beaten_share(all_choices()[n], target_ms, truth) for n in under_target(target_ms)]
        for target_ms in targets_ms()
    ]
    return 100 * sum(sum(shares) / len(shares) for shares in of_targets) / len(of_targets)


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


def points_below_best(picks: Sequence[tuple[Choices, float]], truth: TrainedSpace) -> float:
    """How far picks (with targets) are below the most accurate network under the target: mean, in points."""
    best = {
        target_ms: max(truth.test_percent(all_choices()[n]) for n in under_target(target_ms))
        for target_ms in {target_ms for _, target_ms in picks}
    }
    return sum(best[target_ms] - truth.test_percent(pick) for pick, target_ms in picks) / len(picks)


def random_over_pick(picks: Sequence[tuple[Choices, float]]) -> float:
    """Mean latency of the networks that picks (and their targets) are held against, over the pick's own."""
    ratios = [
        sum(map(predicted_ms, others)) / len(others) / predicted_ms(pick)
        for pick, target_ms in picks
        if (others := near(pick, target_ms))
    ]
    return sum(ratios) / len(ratios) if ratios else 1.0


def signal_to_noise(target_ms: float, truth: TrainedSpace) -> dict[str, Any]:
    """How much networks under a target differ, and how much trainings of one network do (both in points).

    The first is that between finished accuracies of networks whose latency is within 3 %, without what
    trainings add to it.
    """
    import numpy as np

    of_network = {block_keys(all_choices()[n]): all_choices()[n] for n in under_target(target_ms)}
    runs = [[run.test_percent for run in truth.runs[keys]] for keys in of_network]
    noise = float(np.mean([np.var(of, ddof=1) for of in runs]))
    squares = [
        (truth.test_percent(one) - truth.test_percent(other)) ** 2
        for one in of_network.values()
        for other in of_network.values()
        if block_keys(one) < block_keys(other) and equal_latency(predicted_ms(one) / predicted_ms(other))
    ]
    between = float(np.mean(squares)) / 2 if squares else 0.0
    signal = max(0.0, between - noise / len(runs[0]))
    return {
        "networks": len(of_network),
        "deviation_between_networks_points": signal**0.5,
        "deviation_between_trainings_points": noise**0.5,
        "signal_to_noise": (signal / noise) ** 0.5 if noise > 0 else None,
    }
