"""Spaces of paths whose values and latencies are known, small enough to try every path."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stages.nas.path_values import PathValues, Variances

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
