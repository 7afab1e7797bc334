"""Whatever networks are worth and cost: none is chosen that should take longer than the target."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy_search import latency_model

from nasflow.base.errors import InfeasibleTargetError
from stages.documents import LatencyModel
from stages.nas.latency_window import LatencyWindow
from stages.nas.local_search import best_path, improved
from stages.nas.path_values import PathValues, Variances, starts_of
from stages.nas.solver import best_paths, path_ms
from stages.nas.targets import latency_window
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.block_spec import BlockSpec
from stages.space.search_space import SearchSpace

SPACES = {name: load_space(SpaceConfig(name=name)) for name in shipped_spaces()}
ROUNDING = 1e-12  # relative: sums in another order
TOLERANCE = 1.001e-9  # relative: that of targets.bounds_ms


def random_costs(space: SearchSpace, seed: int) -> LatencyModel:
    """A latency model of random block times, over three orders of magnitude, with an overhead."""
    chance = random.Random(f"costs/{seed}")

    def cost(block: BlockSpec) -> float:
        return 10 ** random.Random(f"{seed}/{block.key}").uniform(-4, -1)

    return latency_model(space, cost, overhead_ms=chance.uniform(0.0, 0.1))


def random_values(sizes: tuple[int, ...], seed: int, pairs: float) -> PathValues:
    """N(0, 1) for every candidate, and ``pairs`` times that for every pair of two layers' candidates."""
    chance = np.random.default_rng(seed)
    count = sum(sizes)
    half_CC = np.triu(chance.normal(size=(count, count)) * pairs)
    owner_C = np.repeat(np.arange(len(sizes)), sizes)
    pair_CC = np.where(owner_C[:, None] == owner_C[None, :], 0.0, half_CC + half_CC.T)
    return PathValues(sizes, 0.0, chance.normal(size=count), pair_CC, Variances(1.0, 1.0, 0.0))


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("pairs", [0.0, 0.1, 1.0])
@given(
    seed=st.integers(0, 10_000),
    index=st.floats(0, 1),
    share=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    count=st.integers(1, 4),
)
@settings(max_examples=12)
def test_no_network_that_is_drawn_or_chosen_is_predicted_outside_of_the_targets_window(
    name: str, pairs: float, seed: int, index: float, share: float, count: int
) -> None:
    space = SPACES[name]
    latency = random_costs(space, seed)
    fastest_ms, slowest_ms = latency.feasible_ms
    target_ms = fastest_ms + index * (slowest_ms - fastest_ms)
    window = latency_window(space, latency, target_ms, share)
    costs_ms = [row.tolist() for row in window.costs_ms]
    values, random = random_values(tuple(map(len, costs_ms)), seed, pairs), np.random.default_rng(seed)
    logits = [5 * row for row in np.split(values.layer_C, starts_of(values.sizes)[1:])]
    try:
        drawn = [tuple(path) for path in window.draw(logits, count, random).tolist()]
    except InfeasibleTargetError:
        # Only where so little room is left that the exact solver finds none either.
        with pytest.raises(InfeasibleTargetError):
            best_path(values, window, random)
        with pytest.raises(InfeasibleTargetError):
            best_paths(costs_ms, costs_ms, at_least_ms=window.least_ms, at_most_ms=window.most_ms, count=1)
        return
    assert 1 <= len(set(drawn)) == len(drawn) <= count
    chosen = [*drawn, tuple(best_path(values, window, random)), *window.most_probable(logits, count)]
    least_ms = share * min(target_ms, slowest_ms)
    for path in chosen:
        predicted_ms = latency.predict_ms(space.network(path))
        assert predicted_ms <= target_ms * (1 + TOLERANCE)
        assert predicted_ms >= least_ms - target_ms * TOLERANCE


@pytest.mark.parametrize("name", sorted(SPACES))
@given(seed=st.integers(0, 10_000), index=st.floats(0, 1))
@settings(max_examples=15)
def test_a_path_that_is_improved_stays_within_its_bounds_and_loses_nothing(
    name: str, seed: int, index: float
) -> None:
    chance = random.Random(f"improved/{seed}")
    sizes = tuple(len(layer.blocks) for layer in SPACES[name].layers())
    costs_ms = [[10 ** chance.uniform(-4, -1) for _ in range(size)] for size in sizes]
    values = random_values(sizes, seed, 0.3)
    start = np.array([chance.randrange(size) for size in sizes])
    start_ms = path_ms(costs_ms, start.tolist())
    bounds = (0.9 * start_ms * index, start_ms * (1 + ROUNDING))
    top = improved(start, values, LatencyWindow(costs_ms, *bounds))
    assert bounds[0] <= path_ms(costs_ms, top.tolist()) <= bounds[1] * (1 + ROUNDING)
    assert values.value(top[None])[0] >= values.value(start[None])[0]
