"""Choose networks to calibrate and to evaluate a latency model, evenly over the latencies of a space."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise, product

from nasflow.base.errors import UsageError
from stages.space.search_space import SearchLayer, SearchSpace

Choices = tuple[int, ...]
FEWEST = 3
"""Networks that a latency model can be fitted to, and so many others that it can be evaluated on."""

_DRAWS = 3000
_ENUMERATED = 4096
_TILT = 6.0  # at this tilt a layer takes its slowest (fastest) candidate 99 % of the time


def check_enough(space: SearchSpace, offered: int, wanted: int) -> None:
    """Raises UsageError where a space offers fewer different networks than the latency model wants."""
    if offered < wanted:
        more = "give the space's layers more candidates"
        hint = (
            f"It needs {2 * FEWEST} at least, {FEWEST} to fit it and {FEWEST} to evaluate it: {more}."
            if offered < 2 * FEWEST
            else f"Set latency.calibration_networks={max(FEWEST, offered // 3)} and "
            f"latency.held_out_networks={offered - max(FEWEST, offered // 3)}, or {more}."
        )
        networks = f"{offered} different network{'s' if offered != 1 else ''}"
        raise UsageError(
            f"space {space.name} offers {networks}; the latency model wants {wanted}.",
            hint=hint,
        )


def draw_networks(space: SearchSpace, block_ms: Mapping[str, float], count: int, seed: int) -> list[Choices]:
    """Distinct random networks, spread evenly over the latencies of the space, fastest first.

    Uniformly drawn choices give sums that crowd in the middle (they are sums of many terms). So each draw
    prefers slow or fast candidates by a random tilt, and of many draws those nearest to evenly spaced
    sums are taken. Raises UsageError where the space has fewer networks.
    """
    chance = random.Random(f"{seed}/networks")
    pool = _distinct(space, block_ms, _pool(space, block_ms, chance))
    check_enough(space, len(pool), count)
    sums = sorted(pool)
    if any(max(_options_ms(layer, block_ms)) == 0 for layer in space.layers()):
        # Of networks of equal latency, which then are many, the first is not to be preferred.
        chance.shuffle(sums)
        sums.sort(key=lambda entry: entry[0])
    picked: list[Choices] = []
    for index in range(count):
        target = sums[0][0] + (sums[-1][0] - sums[0][0]) * index / max(1, count - 1)
        nearest = min(sums, key=lambda entry: abs(entry[0] - target))
        sums.remove(nearest)
        picked.append(nearest[1])
    return sorted(picked, key={choices: ms for ms, choices in pool}.__getitem__)


def split_networks(
    networks: Sequence[Choices], calibration: int, seed: int
) -> tuple[list[Choices], list[Choices]]:
    """Set ``calibration`` networks aside, one at random from each of as many equal runs of the order.

    Both parts so cover the whole range of latencies, and which network is in which part is chance.
    """
    chance = random.Random(f"{seed}/split")
    bounds = [len(networks) * run // calibration for run in range(calibration + 1)]
    taken = {chance.randrange(low, high) for low, high in pairwise(bounds)}
    chosen = [network for index, network in enumerate(networks) if index in taken]
    return chosen, [network for index, network in enumerate(networks) if index not in taken]


def range_ms(space: SearchSpace, block_ms: Mapping[str, float]) -> tuple[float, float]:
    """Least and greatest sum of block latencies in the space: exact, as layers choose freely."""
    fixed = sum(block_ms[block.key] for block in space.fixed_blocks())
    options = [_options_ms(layer, block_ms) for layer in space.layers()]
    return fixed + sum(map(min, options)), fixed + sum(map(max, options))


def _options_ms(layer: SearchLayer, block_ms: Mapping[str, float]) -> list[float]:
    return [0.0 if block is None else block_ms[block.key] for block in layer.blocks]


def _pool(space: SearchSpace, block_ms: Mapping[str, float], chance: random.Random) -> list[Choices]:
    layers = [range(len(layer.blocks)) for layer in space.layers()]
    if space.size <= _ENUMERATED:
        return list(product(*layers))
    options = [_options_ms(layer, block_ms) for layer in space.layers()]
    draws = []
    for _ in range(_DRAWS):
        tilt = chance.uniform(-_TILT, _TILT)
        draws.append(
            tuple(
                chance.choices(indices, _weights(times, tilt))[0]
                for indices, times in zip(layers, options, strict=True)
            )
        )
    return draws


def _weights(times_ms: Sequence[float], tilt: float) -> list[float]:
    """How a layer's candidates are preferred: alike where none takes any measurable time."""
    slowest_ms = max(times_ms)
    return [math.exp(tilt * ms / slowest_ms) if slowest_ms > 0 else 1.0 for ms in times_ms]


def _distinct(
    space: SearchSpace, block_ms: Mapping[str, float], pool: Sequence[Choices]
) -> list[tuple[float, Choices]]:
    """One entry for each network: a skip here or there in a run of equal layers gives the same one."""
    fixed = sum(block_ms[block.key] for block in space.fixed_blocks())
    names = [["" if block is None else block.key for block in layer.blocks] for layer in space.layers()]
    seen: dict[tuple[str, ...], tuple[float, Choices]] = {}
    for choices in pool:
        keys = tuple(filter(None, (layer[choice] for layer, choice in zip(names, choices, strict=True))))
        seen.setdefault(keys, (fixed + sum(block_ms[key] for key in keys), choices))
    return list(seen.values())
