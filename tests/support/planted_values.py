"""Spaces of paths whose values and latencies are known, small enough to try every path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stages.nas.latency_window import LatencyWindow
from stages.nas.path_values import PathValues, Variances
from stages.nas.rules.base import PathRule

SIZES = (3, 4, 3, 4, 3)


def every_path(sizes: Sequence[int] = SIZES) -> NDArray[np.int64]:
    """All paths of layers with so many candidates, (N, L)."""
    return np.array(list(product(*map(range, sizes))), dtype=np.int64)


def planted(seed: int, pairs: float = 0.3, sizes: Sequence[int] = SIZES) -> PathValues:
    """Known parts: one for each candidate, and for each pair of candidates of two layers."""
    random = np.random.default_rng(seed)
    count = sum(sizes)
    pair_CC = random.normal(size=(count, count)) * pairs
    pair_CC = pair_CC + pair_CC.T
    owner = np.repeat(np.arange(len(sizes)), sizes)
    pair_CC[owner[:, None] == owner[None, :]] = 0.0
    return PathValues(
        tuple(sizes), 2.0, random.normal(size=count), pair_CC, Variances(1.0, 2 * pairs**2, 0.0)
    )


def costs(seed: int, sizes: Sequence[int] = SIZES) -> list[list[float]]:
    """A latency in ms for each candidate of each layer."""
    random = np.random.default_rng(seed)
    return [random.uniform(0.1, 1.0, size).tolist() for size in sizes]


def narrow_window(costs_ms: Sequence[Sequence[float]], quantile: float, share: float = 0.9) -> LatencyWindow:
    """From a share of a target to the target, which is a quantile of all paths' latencies."""
    paths_NL = every_path([len(row) for row in costs_ms])
    spent_N = LatencyWindow(costs_ms, 0.0, 1e9).total_ms(paths_NL)
    target_ms = float(np.quantile(spent_N, quantile))
    return LatencyWindow(costs_ms, share * target_ms, target_ms)


def percentile(truth: PathValues, window: LatencyWindow, path: Sequence[int]) -> float:
    """In percent, how many of the window's other paths are worth less; equally good ones count half."""
    paths_NL = every_path(truth.sizes)
    worth_N = truth.value(paths_NL[window.holds(paths_NL)])
    own = truth.value(np.array([path]))[0]
    close = 1e-9 * (1 + abs(own))
    less, alike = (worth_N < own - close).sum(), (np.abs(worth_N - own) <= close).sum() - 1
    return float(100 * (less + alike / 2) / (len(worth_N) - 1))


def taught(
    rule: PathRule,
    worth: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    steps: int,
    *,
    noise: float = 0.0,
    images: float = 0.0,
    seed: int = 0,
) -> None:
    """Let a rule take so many steps: paths have noise, and a step's images add something to all of them."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        paths_KL = rule.draw()
        own_K = worth(paths_KL) + noise * random.normal(size=len(paths_KL))
        rule.learn(paths_KL, own_K + images * random.normal())
