"""Intervals over splits, seeds, random networks and images: a hierarchical bootstrap.

Each replicate draws splits with replacement, within each split its test images and its seeds, within each
seed its random networks. Splits of each set are drawn among themselves. The interval is the 2.5th to the
97.5th percentile. Folds of a cross-validation share training images, which no bootstrap of them can show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks._ablation import Finished
from stages.verification.estimate import Estimate

REPLICATES, SEED = 4000, 17


@dataclass(frozen=True)
class Run:
    """One split of a set and one seed: the pipeline, and maybe that whose search saw shuffled labels."""

    name: str
    fold: int
    seed: int
    finished: Finished
    control: Finished | None = None

    @property
    def randoms(self) -> list[str]:
        """The names of its random networks."""
        return self.finished.named("random")


@dataclass(frozen=True)
class Score:
    """The accuracy of ``one`` minus the mean of ``others``; None: of the run's random networks."""

    one: str
    others: tuple[str, ...] | None
    of_control: bool = False

    def by_network(self, run: Run) -> NDArray[np.float64]:
        """[others, images], -1..1."""
        of = run.control if self.of_control else run.finished
        assert of is not None, "the control was run"
        names = run.randoms if self.others is None else self.others
        others_RN = np.stack([run.finished.correct[name] for name in names])
        return of.correct[self.one].astype(np.float64)[None, :] - others_RN.astype(np.float64)


def difference(runs: Sequence[Run], score: Score, *, replicates: int = REPLICATES) -> Estimate:
    """Of accuracies on the test images of all runs, each image counted alike, as a share."""
    splits = [[score.by_network(run) for run in seeds] for seeds in _by_split(runs)]

    def of_split(index: int, random: np.random.Generator | None) -> tuple[float, float]:
        """Sum over the images of a split of the mean over its seeds, and how many images they are."""
        seeds = splits[index]
        images = seeds[0].shape[1]
        if random is None:
            return float(np.mean([each.mean(axis=0).sum() for each in seeds])), images
        chosen = random.integers(images, size=images)
        total = 0.0
        for number in random.integers(len(seeds), size=len(seeds)):
            each = seeds[number]
            total += float(each[random.integers(len(each), size=len(each))][:, chosen].mean(axis=0).sum())
        return total / len(seeds), images

    return _bootstrap(runs, of_split, replicates)


def speedup(runs: Sequence[Run], other: str, *, replicates: int = REPLICATES) -> Estimate:
    """How many times as long ``other`` takes as the found network: geometric mean over the runs."""
    splits = [[_log_ratios(run, other) for run in seeds] for seeds in _by_split(runs)]

    def of_split(index: int, random: np.random.Generator | None) -> tuple[float, float]:
        seeds = splits[index]
        if random is None:
            return float(np.mean([np.median(each) for each in seeds])), 1
        drawn = [seeds[number] for number in random.integers(len(seeds), size=len(seeds))]
        return float(np.mean([np.median(random.choice(each, len(each))) for each in drawn])), 1

    logs = _bootstrap(runs, of_split, replicates)
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


def _log_ratios(run: Run, other: str) -> NDArray[np.float64]:
    """Of each round, in which all networks were timed."""
    above, below = (run.finished.verified(name).measurement.round_medians_ms for name in (other, "found"))
    ratios: NDArray[np.float64] = np.log(np.asarray(above) / np.asarray(below))
    return ratios


def _by_split(runs: Sequence[Run]) -> list[list[Run]]:
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.name, run.fold), []).append(run)
    return list(groups.values())


def _bootstrap(
    runs: Sequence[Run],
    of_split: Callable[[int, np.random.Generator | None], tuple[float, float]],
    replicates: int,
) -> Estimate:
    names = [seeds[0].name for seeds in _by_split(runs)]
    sets = [[index for index, own in enumerate(names) if own == name] for name in dict.fromkeys(names)]

    def mean(random: np.random.Generator | None) -> float:
        total = weight = 0.0
        for own in sets:
            indices = own if random is None else random.choice(own, len(own))
            for index in indices:
                part, images = of_split(int(index), random)
                total, weight = total + part, weight + images
        return total / weight

    random = np.random.default_rng(SEED)
    low, high = np.percentile([mean(random) for _ in range(replicates)], [2.5, 97.5])
    value = mean(None)
    return Estimate(value, min(value, float(low)), max(value, float(high)))
