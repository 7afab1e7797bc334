"""The exact choice under a latency target, against trying every path."""

from __future__ import annotations

import math
import random
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow.base.errors import InfeasibleTargetError
from stages.nas.solver import best_paths, path_ms

Rows = list[list[float]]

LAYER = st.lists(st.tuples(st.floats(-6, 0), st.floats(0, 0.05)), min_size=1, max_size=4)


def all_paths(rows: Rows) -> list[tuple[int, ...]]:
    return list(product(*(range(len(row)) for row in rows)))


@given(
    layers=st.lists(LAYER, min_size=1, max_size=5),
    index=st.floats(0, 1),
    share=st.floats(0, 1),
    count=st.integers(1, 6),
)
@settings(max_examples=120)
def test_the_best_paths_are_those_of_brute_force(
    layers: list[list[tuple[float, float]]], index: float, share: float, count: int
) -> None:
    values = [[value for value, _ in layer] for layer in layers]
    costs = [[cost for _, cost in layer] for layer in layers]
    slowest, fastest = sum(map(max, costs)), sum(map(min, costs))
    most = fastest + index * (slowest - fastest)
    least = share * most
    within = [path for path in all_paths(costs) if least <= path_ms(costs, path) <= most]
    best = sorted((path_ms(values, path) for path in within), reverse=True)[:count]
    if not within:
        with pytest.raises(InfeasibleTargetError):
            best_paths(values, costs, at_least_ms=least, at_most_ms=most, count=count)
        return
    found = best_paths(values, costs, at_least_ms=least, at_most_ms=most, count=count)
    # Sums that differ by less than the solver tells apart may change places.
    assert [path_ms(values, path) for path in found] == pytest.approx(best, abs=2e-6)
    assert len(set(found)) == len(found)
    assert set(found) <= set(within)


def test_no_path_of_a_large_space_slips_over_the_target_or_out_of_order() -> None:
    random_ = random.Random(5)
    values, costs = [], []
    for _ in range(21):
        weights = [random_.gammavariate(5, 1) for _ in range(7)]
        values.append([math.log(w / sum(weights)) for w in weights])
        costs.append([0.0, *(random_.uniform(0.01, 0.08) for _ in range(6))])
    target = 0.6 * sum(sum(row) / 7 for row in costs)
    found = best_paths(values, costs, at_least_ms=0.9 * target, at_most_ms=target, count=15)
    assert len(set(found)) == 15
    assert all(0.9 * target <= path_ms(costs, path) <= target for path in found)
    sums = [path_ms(values, path) for path in found]
    assert all(first >= second - 2e-6 for first, second in pairwise(sums))


def test_a_target_that_nothing_meets_is_refused_with_the_range_there_is() -> None:
    values, costs = [[0.0, -1.0]] * 3, [[0.1, 0.2]] * 3
    with pytest.raises(
        InfeasibleTargetError, match=r"the fastest takes 0\.3 ms, the slowest 0\.6 ms"
    ) as caught:
        best_paths(values, costs, at_least_ms=0.0, at_most_ms=0.29, count=1)
    assert caught.value.exit_code == 2
    with pytest.raises(InfeasibleTargetError):
        best_paths(values, costs, at_least_ms=0.61, at_most_ms=0.7, count=1)


def test_a_small_space_gives_the_paths_that_it_has() -> None:
    assert best_paths([[0.0, -1.0]], [[0.1, 0.2]], at_least_ms=0, at_most_ms=1, count=9) == [(0,), (1,)]
