"""Improving a path step by step: what it must never lose, and how often it finds the best there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.planted_values import costs, every_path, planted

from stages.nas.path_values import PathValues
from stages.nas.solver import improved, path_ms

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
    found = improved(path, values, costs_ms, bounds)
    assert (path == before).all(), "its start was changed"
    assert found.shape == path.shape
    assert all(0 <= choice < size for choice, size in zip(found, sizes, strict=True))
    assert bounds[0] - 1e-9 <= path_ms(costs_ms, found.tolist()) <= bounds[1] + 1e-9
    assert values.value(found[None])[0] >= values.value(path[None])[0] - 1e-9
    assert (improved(found, values, costs_ms, bounds) == found).all(), "a second time it went on"
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
        found = values.value(improved(start, values, costs_ms, bounds)[None])[0]
        assert found <= optimum + 1e-9
        hits += bool(found >= optimum - 1e-9)
    assert hits >= 36, f"{hits} of 40"


def test_without_bounds_and_pairs_every_start_leads_to_the_optimum() -> None:
    values, costs_ms, paths = planted(1, pairs=0.0), costs(1), every_path()
    optimum = tuple(paths[values.value(paths).argmax()])
    for start in paths[::17]:
        assert tuple(improved(start, values, costs_ms, (0.0, 99.0))) == optimum


def test_a_space_of_one_layer_is_improved_too() -> None:
    values, costs_ms = planted(4, sizes=(5,)), costs(4, sizes=(5,))
    best = int(values.layer_C.argmax())
    for start in range(5):
        assert improved(np.array([start]), values, costs_ms, (0.0, 9.0)).tolist() == [best]
