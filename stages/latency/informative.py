"""Which networks to measure on a new device, so that a few say most about all others.

Of random networks most are alike: they hold every kind of block in about the same shares. Networks are
chosen here to make the expected variance of predictions over the space's latencies least: an I-optimal design
(D-optimal, which looks at the blocks' ratios and not at predictions, was worse: docs/benchmarks.md). By
coordinate exchange: one layer of one network after another takes the candidate that lowers it most (Meyer and
Nachtsheim, Technometrics 37, 1995).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasflow.base.errors import UsageError
from stages.latency.calibration import Choices, draw_networks
from stages.latency.likeness import Likeness, Spread
from stages.space.search_space import SearchSpace

Array = NDArray[np.float64]
Criterion = Literal["predictions", "ratios"]

EXPECTED = Spread(kind=0.2, size=0.1, own=0.1)
"""How far devices are taken to differ when the networks are chosen."""
_STARTS = 3
_SWEEPS = 20
_AIMED_AT = 100
_WORTHWHILE = 1e-6  # relative; less is rounding


def counts_of(space: SearchSpace, networks: Sequence[Choices]) -> Array:
    """How often each distinct block is in each network (N, B + 1); the last column is the invocation."""
    places = {block.key: index for index, block in enumerate(space.distinct_blocks())}
    counts = np.zeros((len(networks), len(places) + 1))
    for row, choices in zip(counts, networks, strict=True):
        for block in space.network(choices).blocks:
            row[places[block.key]] += 1
        row[-1] = 1
    return counts


def choose_networks(
    space: SearchSpace,
    times_ms: Array,
    likeness: Likeness,
    count: int,
    *,
    noise: float,
    seed: int,
    criterion: Criterion = "predictions",
) -> list[Choices]:
    """``count`` different networks, fastest first. Raises UsageError where the space has fewer.

    ``times_ms`` (B + 1) are an old device's, ``noise`` the relative deviation of one measurement.
    ``criterion``: what is to be known well, predictions (I-optimal) or the blocks' ratios (D-optimal).
    """
    if space.different_networks < count:
        raise UsageError(
            f"space {space.name} offers {space.different_networks} different networks; {count} are to be "
            "measured.",
            hint="Measure fewer: --networks.",
        )
    exchange = _Exchange(space, times_ms, likeness, noise, seed, criterion)
    found = [exchange.improved(random.Random(f"{seed}/design/{start}"), count) for start in range(_STARTS)]
    networks = _different(space, min(found, key=lambda result: result[0])[1], times_ms, count, seed)
    order = counts_of(space, networks) @ times_ms
    return [networks[index] for index in np.argsort(order, kind="stable")]


def block_times(space: SearchSpace, times_ms: Array) -> Mapping[str, float]:
    """The blocks' times by their keys."""
    return {block.key: float(ms) for block, ms in zip(space.distinct_blocks(), times_ms[:-1], strict=True)}


def _different(
    space: SearchSpace, networks: Sequence[Choices], times_ms: Array, count: int, seed: int
) -> list[Choices]:
    """Each network once; in place of equal ones, others that are spread over the latencies."""
    spare = draw_networks(
        space, block_times(space, times_ms), min(2 * count, space.different_networks), seed + 1
    )
    chosen: dict[tuple[str, ...], Choices] = {}
    for network in (*networks, *spare):
        keys = tuple(block.key for block in space.network(network).blocks)
        if len(chosen) < count:
            chosen.setdefault(keys, network)
    return list(chosen.values())


class _Exchange:
    """The search for a design of one space."""

    def __init__(
        self,
        space: SearchSpace,
        times_ms: Array,
        likeness: Likeness,
        noise: float,
        seed: int,
        criterion: Criterion,
    ) -> None:
        places = {block.key: index for index, block in enumerate(space.distinct_blocks())}
        self._layers = [
            [None if block is None else places[block.key] for block in layer.blocks]
            for layer in space.layers()
        ]
        self._space, self._times_ms, self._noise, self._criterion = space, times_ms, noise, criterion
        aims = draw_networks(
            space, block_times(space, times_ms), min(_AIMED_AT, space.different_networks), seed
        )
        aimed = counts_of(space, aims) * times_ms
        shares = aimed / aimed.sum(axis=1, keepdims=True)
        self._prior = likeness.covariance(EXPECTED)
        self._aimed = shares @ self._prior
        self._variance = float(np.einsum("ij,ij->i", self._aimed, shares).mean())

    def improved(self, chance: random.Random, count: int) -> tuple[float, list[Choices]]:
        """The variance that is left, and the networks that leave it, from a random start."""
        networks = [[chance.randrange(len(layer)) for layer in self._layers] for _ in range(count)]
        times = counts_of(self._space, [tuple(network) for network in networks]) * self._times_ms
        best = self._left(times)
        for _ in range(_SWEEPS):
            before = best
            for network, row in zip(networks, times, strict=True):
                for index in range(len(self._layers)):
                    best = self._exchanged(network, row, index, times, best)
            if best > before - _WORTHWHILE * abs(before):
                break
        return best, [tuple(network) for network in networks]

    def _exchanged(self, network: list[int], row: Array, index: int, times: Array, best: float) -> float:
        """Give one layer its best candidate; ``row`` is the network's row of ``times``, changed in place."""
        layer, kept, without = self._layers[index], network[index], row.copy()
        self._add(without, layer[kept], -1)
        tried = []
        for choice, place in enumerate(layer):
            row[:] = without
            self._add(row, place, 1)
            tried.append(best if choice == kept else self._left(times))
        chosen = min(range(len(layer)), key=lambda choice: (tried[choice], choice != kept))
        network[index] = chosen
        row[:] = without
        self._add(row, layer[chosen], 1)
        return tried[chosen]

    def _add(self, row: Array, place: int | None, sign: int) -> None:
        if place is not None:
            row[place] += sign * self._times_ms[place]

    def _left(self, times: Array) -> float:
        shares = times / times.sum(axis=1, keepdims=True)
        total = shares @ self._prior @ shares.T + self._noise**2 * np.eye(len(shares))
        if self._criterion == "ratios":
            return -float(np.linalg.slogdet(total)[1])
        seen = self._aimed @ shares.T
        told = np.einsum("ij,ij->", seen, np.linalg.solve(total, seen.T).T) / len(seen)
        return self._variance - float(told)
