"""Improving a path step by step: what it must never lose, and how often it finds the best there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.planted_values import costs, every_path, planted

from nasflow.base.errors import InfeasibleTargetError
from stages.nas.latency_window import LatencyWindow
from stages.nas.local_search import best_path, improved
from stages.nas.path_values import PathValues
from stages.nas.solver import path_ms

LAYERS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@given(
    sizes=LAYERS,
    seed=st.integers(0, 2**20),
    pairs=st.sampled_from([0.0, 0.3, 2.0]),
    start=st.floats(0, 1, exclude_max=True),
    room=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
)
@settings(max_examples=150)
def test_an_improved_path_is_valid_within_the_bounds_and_no_worse_than_its_start(
    sizes: list[int], seed: int, pairs: float, start: float, room: tuple[float, float]
) -> None:
    values, costs_ms, paths = planted(seed, pairs, sizes), costs(seed, sizes), every_path(sizes)
    path = paths[int(start * len(paths))]
    before = path.copy()
    ms = path_ms(costs_ms, path.tolist())
    bounds = (ms * (1 - room[0]) - 1e-9, ms * (1 + room[1]) + 1e-9)
    window = LatencyWindow(costs_ms, *bounds)
    found = improved(path, values, window)
    assert (path == before).all(), "its start was changed"
    assert found.shape == path.shape
    assert all(0 <= choice < size for choice, size in zip(found, sizes, strict=True))
    assert bounds[0] - 1e-9 <= path_ms(costs_ms, found.tolist()) <= bounds[1] + 1e-9
    assert values.value(found[None])[0] >= values.value(path[None])[0] - 1e-9
    assert (improved(found, values, window) == found).all(), "a second time it went on"
    better = best_step(found, values, costs_ms, bounds)
    assert better <= values.value(found[None])[0] + 1e-6, "a change of one or two layers was missed"


def best_step(
    path: NDArray[np.int64], values: PathValues, costs_ms: list[list[float]], bounds: tuple[float, float]
) -> float:
    """The best value within the bounds that differs from a path in two layers at most, by trying all."""
    paths = every_path(values.sizes)
    near = paths[(paths != path).sum(axis=1) <= 2]
    spent = np.array([path_ms(costs_ms, other.tolist()) for other in near])
    return float(values.value(near[(spent >= bounds[0]) & (spent <= bounds[1])]).max(initial=-np.inf))


@pytest.mark.parametrize("pairs", [0.0, 0.3], ids=["layers alone", "with pairs"])
def test_from_a_random_start_the_optimum_of_a_small_space_is_found_in_most_seeds(
    pairs: float,
) -> None:
    sizes, hits = (3, 4, 3, 4, 3, 4), 0
    paths = every_path(sizes)
    for seed in range(40):
        values, costs_ms = planted(seed, pairs, sizes), costs(seed, sizes)
        spent = np.array([path_ms(costs_ms, path.tolist()) for path in paths])
        bounds = (0.0, float(np.quantile(spent, 0.4)))
        inside = paths[spent <= bounds[1]]
        optimum = values.value(inside).max()
        start = inside[np.random.default_rng(seed).integers(len(inside))]
        found = values.value(improved(start, values, LatencyWindow(costs_ms, *bounds))[None])[0]
        assert found <= optimum + 1e-9
        hits += bool(found >= optimum - 1e-9)
    assert hits >= 36, f"{hits} of 40"


def test_without_bounds_and_pairs_every_start_leads_to_the_optimum() -> None:
    values, costs_ms, paths = planted(1, pairs=0.0), costs(1), every_path()
    optimum = tuple(paths[values.value(paths).argmax()])
    for start in paths[::17]:
        assert tuple(improved(start, values, LatencyWindow(costs_ms, 0.0, 99.0))) == optimum


def test_a_space_of_one_layer_is_improved_too() -> None:
    values = planted(4, sizes=(5,))
    best = int(values.layer_C.argmax())
    window = LatencyWindow(costs(4, sizes=(5,)), 0.0, 9.0)
    for start in range(5):
        assert improved(np.array([start]), values, window).tolist() == [best]
    assert best_path(values, window, np.random.default_rng(0)).tolist() == [best]


# --- from drawn starts -----------------------------------------------------------------------------


@pytest.mark.parametrize("low", [0.0, 0.9])
@pytest.mark.parametrize("pairs", [0.0, 0.3], ids=["layers alone", "with pairs"])
def test_the_best_path_of_a_window_or_one_about_as_good_is_found(pairs: float, low: float) -> None:
    sizes, hits, seeds = (3, 4, 3, 4, 3, 4), 0, 40
    paths = every_path(sizes)
    for seed in range(seeds):
        values, costs_ms = planted(seed, pairs, sizes), costs(seed, sizes)
        most_ms = float(np.quantile([path_ms(costs_ms, path) for path in paths.tolist()], 0.4))
        window = LatencyWindow(costs_ms, low * most_ms, most_ms)
        worth = values.value(paths[window.holds(paths)])
        optimum = worth.max()
        found = best_path(values, window, np.random.default_rng(seed))
        assert window.holds(found[None]).all()
        own = values.value(found[None])[0]
        assert (worth > own + 1e-9).mean() < 0.02, "another local optimum is among the best 2 %"
        assert own <= optimum + 1e-9
        hits += bool(own >= optimum - 1e-9)
    assert hits >= 0.8 * seeds, f"{hits} of {seeds}"


@pytest.mark.parametrize("seed", range(5))
def test_more_starts_find_it_in_narrow_and_in_open_windows(seed: int) -> None:
    values, costs_ms, paths = planted(seed), costs(seed), every_path()
    for low, high in ((0.0, 2.1), (2.1, 2.6), (0.0, 9.0)):
        window = LatencyWindow(costs_ms, low, high)
        inside = paths[window.holds(paths)]
        found = best_path(values, window, np.random.default_rng(0), starts=8)
        assert tuple(found) == tuple(inside[values.value(inside).argmax()])


def test_values_in_another_unit_lead_to_the_same_path() -> None:
    values, window = planted(3), LatencyWindow(costs(3), 1.8, 2.2)
    large = PathValues(values.sizes, 0.0, 1e6 * values.layer_C, 1e6 * values.pair_CC, values.variances)
    found = [best_path(each, window, np.random.default_rng(1)) for each in (values, large)]
    assert (found[0] == found[1]).all()


def test_where_all_are_worth_the_same_a_path_of_the_window_is_given() -> None:
    values, window = planted(3), LatencyWindow(costs(3), 1.8, 2.2)
    nothing = PathValues(values.sizes, 0.0, 0 * values.layer_C, 0 * values.pair_CC, values.variances)
    assert window.holds(best_path(nothing, window, np.random.default_rng(1))[None]).all()


def test_a_window_that_no_path_keeps_is_refused() -> None:
    with pytest.raises(InfeasibleTargetError):
        best_path(planted(8), LatencyWindow(costs(8), 0.0, 0.1), np.random.default_rng(0))
