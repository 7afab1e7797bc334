"""Choose networks to calibrate and to judge a latency model, fit it, and say how far it is off."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise, product

from nasflow.errors import BadMeasurement, UsageError
from stages.documents import HeldOutError
from stages.search_space import SearchLayer, SearchSpace

Choices = tuple[int, ...]

_DRAWS = 3000
_ENUMERATED = 4096
_TILT = 6.0  # at this tilt a layer takes its slowest (fastest) candidate 99 % of the time


def draw_networks(space: SearchSpace, block_ms: Mapping[str, float], count: int, seed: int) -> list[Choices]:
    """Distinct random networks, spread evenly over the latencies of the space, fastest first.

    Uniformly drawn choices give sums that crowd in the middle (they are sums of many terms). So each draw
    prefers slow or fast candidates by a random tilt, and of many draws those nearest to evenly spaced
    sums are taken. Raises UsageError where the space has fewer networks.
    """
    pool = _distinct(space, block_ms, _pool(space, block_ms, random.Random(f"{seed}/networks")))
    if len(pool) < count:
        raise UsageError(
            f"space {space.name} offers {len(pool)} different networks; the latency model wants {count}.",
            hint="Lower latency.calibration_networks and latency.held_out_networks, or widen the space.",
        )
    sums = sorted(pool)
    picked: list[Choices] = []
    for place in range(count):
        target = sums[0][0] + (sums[-1][0] - sums[0][0]) * place / max(1, count - 1)
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
    chosen = [network for place, network in enumerate(networks) if place in taken]
    return chosen, [network for place, network in enumerate(networks) if place not in taken]


def fit_line(sums_ms: Sequence[float], measured_ms: Sequence[float]) -> tuple[float, float]:
    """Scale and overhead_ms of ``measured = scale * sum + overhead`` with the least relative errors.

    An invocation cannot take less than none: a negative overhead is taken for noise and set to 0, unless
    its 95 % interval lies wholly below 0. Then it stays: parts that every network has take less amid a
    network than alone. Raises BadMeasurement where networks of slower blocks are not slower.
    """
    import numpy as np
    from scipy import stats

    sums, measured = np.asarray(sums_ms, float), np.asarray(measured_ms, float)
    design = np.stack([sums, np.ones_like(sums)], axis=1) / measured[:, None]
    target = np.ones_like(measured)
    (scale, overhead), *_ = np.linalg.lstsq(design, target)
    if overhead < 0:
        freedom = len(measured) - 2
        residual = target - design @ np.array([scale, overhead])
        covariance = np.linalg.pinv(design.T @ design) * (residual @ residual) / freedom
        if overhead + stats.t.ppf(0.975, freedom) * math.sqrt(covariance[1, 1]) >= 0:
            scale, overhead = (design[:, 0] @ target) / (design[:, 0] @ design[:, 0]), 0.0
    if not (math.isfinite(scale) and scale > 0):
        raise BadMeasurement(
            f"networks of slower blocks are not slower on this device: the calibration's scale is {scale:g}.",
            hint="Quieten the device and measure again: nasflow run --force profile.",
            raw=f"sums_ms {list(sums_ms)} measured_ms {list(measured_ms)}",
        )
    return float(scale), float(overhead)


def held_out_error(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> HeldOutError:
    """How far predictions are off. Raises BadMeasurement where ranks are undefined (all equal)."""
    import numpy as np
    from scipy import stats

    if len(set(predicted_ms)) < 2 or len(set(measured_ms)) < 2:
        raise BadMeasurement(
            f"{len(measured_ms)} different networks all take {measured_ms[0]:g} ms on this device.",
            hint="Measure again; if it stays so, run 'nasflow doctor'.",
        )
    errors = np.abs(np.asarray(predicted_ms, float) / np.asarray(measured_ms, float) - 1)
    return HeldOutError(
        networks=len(errors),
        share_within_5_percent=float(np.mean(errors <= 0.05)),
        share_within_10_percent=float(np.mean(errors <= 0.10)),
        mape_percent=float(100 * np.mean(errors)),
        spearman=float(stats.spearmanr(predicted_ms, measured_ms).statistic),
    )


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
                chance.choices(places, [math.exp(tilt * ms / max(times)) for ms in times])[0]
                for places, times in zip(layers, options, strict=True)
            )
        )
    return draws


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
