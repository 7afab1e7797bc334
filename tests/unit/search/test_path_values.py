"""What paths are worth is learned from noisy evaluations, and the best path under a bound is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from support.planted_values import SIZES, costs, every_path, planted

from nasflow.base.errors import InfeasibleTargetError
from stages.nas.exploration import explore
from stages.nas.path_values import (
    PathValues,
    Variances,
    estimate_values,
    likely_variances,
    one_hot,
    values_of_parts,
)
from stages.nas.solver import best_by_value, best_paths, path_ms

Array = NDArray[np.float64]
ALL = every_path()


def noisy(truth: PathValues, sd: float, seed: int) -> Callable[[NDArray[np.int64], NDArray[np.int64]], Array]:
    random = np.random.default_rng(seed)

    def evaluate(paths_NL: NDArray[np.int64], _: NDArray[np.int64]) -> Array:
        return truth.value(paths_NL) + random.normal(size=len(paths_NL)) * sd

    return evaluate


def test_the_estimate_is_that_of_the_gaussian_process_it_stands_for() -> None:
    random = np.random.default_rng(0)
    paths_NL = ALL[random.integers(len(ALL), size=150)]
    observed_N = random.normal(size=150)
    variances = Variances(0.7, 0.2, 0.5)
    agreed = one_hot(paths_NL, SIZES) @ one_hot(paths_NL, SIZES).T
    covariance = variances.layer * agreed + variances.pair * agreed * (agreed - 1) / 2
    dual_N = np.linalg.solve(covariance + variances.noise * np.eye(150), observed_N - observed_N.mean())
    across = one_hot(ALL, SIZES) @ one_hot(paths_NL, SIZES).T
    expected = (variances.layer * across + variances.pair * across * (across - 1) / 2) @ dual_N
    estimate = estimate_values(paths_NL, observed_N, SIZES, variances)
    assert estimate.value(ALL) == pytest.approx(expected + observed_N.mean(), abs=1e-3)


def test_parts_are_recovered_where_there_is_no_noise() -> None:
    truth = planted(1)
    paths_NL = ALL[np.random.default_rng(2).permutation(len(ALL))[:350]]
    estimate = estimate_values(paths_NL, truth.value(paths_NL), SIZES)
    assert np.corrcoef(estimate.value(ALL), truth.value(ALL))[0, 1] > 0.99


def test_the_share_of_pairs_and_the_noise_are_found_from_the_evaluations() -> None:
    random = np.random.default_rng(3)
    paths_NL = ALL[random.integers(len(ALL), size=900)]
    for pairs, sd in ((0.0, 0.5), (0.5, 0.5)):
        observed = planted(4, pairs).value(paths_NL) + sd * random.normal(size=900)
        found = likely_variances(paths_NL, observed, SIZES)
        assert found.noise == pytest.approx(sd**2, rel=0.3)
        assert found.pair == pytest.approx(2 * pairs**2, rel=0.6, abs=0.02)


def test_noise_alone_is_taken_for_noise() -> None:
    """The negative control: where networks do not differ, hardly any difference is estimated."""
    random = np.random.default_rng(5)
    paths_NL = ALL[random.integers(len(ALL), size=900)]
    estimate = estimate_values(paths_NL, random.normal(size=900), SIZES)
    assert estimate.value(ALL).std() < 0.2


@pytest.mark.parametrize("seed", range(5))
def test_the_best_path_by_parts_and_pairs_is_found_under_the_bounds(seed: int) -> None:
    values, costs_ms = planted(seed), costs(seed)
    spent = np.array([path_ms(costs_ms, path) for path in ALL])
    for low, high in ((0.0, 2.1), (2.1, 2.6), (0.0, 9.0)):
        inside = ALL[(spent >= low) & (spent <= high)]
        ranked = inside[np.argsort(-values.value(inside))]
        found = best_by_value(values, costs_ms, at_least_ms=low, at_most_ms=high, count=3, seed=0)
        assert found[0] == tuple(ranked[0])
        assert all(low <= path_ms(costs_ms, path) <= high for path in found)
        assert list(values.value(np.array(found))) == sorted(values.value(np.array(found)), reverse=True)


def test_without_pairs_the_ranking_is_that_of_the_exact_solver() -> None:
    parts = [row.tolist() for row in np.split(planted(6).layer_C, np.cumsum(SIZES)[:-1])]
    costs_ms = costs(6)
    exact = best_paths(parts, costs_ms, at_least_ms=0.0, at_most_ms=2.5, count=6)
    found = best_by_value(values_of_parts(parts), costs_ms, at_least_ms=0.0, at_most_ms=2.5, count=6, seed=0)
    assert found == exact


def test_networks_that_are_the_same_are_taken_once() -> None:
    values = planted(7, pairs=0.0)
    found = best_by_value(
        values, costs(7), at_least_ms=0.0, at_most_ms=9.0, count=5, seed=0, identity=lambda path: path[:2]
    )
    assert len({path[:2] for path in found}) == len(found) == 5


def test_bounds_that_no_path_keeps_are_refused() -> None:
    with pytest.raises(InfeasibleTargetError):
        best_by_value(planted(8), costs(8), at_least_ms=0.0, at_most_ms=0.1, count=1, seed=0)


@pytest.mark.parametrize("seed", range(2))
def test_exploring_finds_a_path_near_the_optimum_under_noise(seed: int) -> None:
    truth, costs_ms, target_ms = planted(seed), costs(seed), 2.2
    inside = ALL[[path_ms(costs_ms, path) <= target_ms for path in ALL]]
    optimum, mean = truth.value(inside).max(), truth.value(inside).mean()
    explored = explore(noisy(truth, 1.0, seed), costs_ms, [target_ms], budget=1500, seed=seed)
    assert len(explored.paths_NL) == len(explored.observed_N) == 1500
    (found,) = best_by_value(
        explored.values, costs_ms, at_least_ms=0.0, at_most_ms=target_ms, count=1, seed=0
    )
    regret = (optimum - truth.value(np.array([found]))[0]) / (optimum - mean)
    assert regret < 0.1


def test_later_rounds_look_where_networks_are_good_and_fast_enough() -> None:
    truth, costs_ms = planted(2), costs(2)
    explored = explore(noisy(truth, 0.5, 9), costs_ms, [2.4], budget=1000, seed=0)
    first, last = explored.paths_NL[:200], explored.paths_NL[-200:]
    assert truth.value(last).mean() > truth.value(first).mean() + truth.value(first).std()
    spent = np.array([path_ms(costs_ms, path) for path in last])
    assert spent.mean() < 2.5


@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_a_batch_that_is_harder_than_others_is_not_held_against_the_networks(spread: float) -> None:
    truth, random = planted(10, pairs=0.0), np.random.default_rng(3)
    difficulty = spread * random.normal(size=16)

    def evaluate(paths_NL: NDArray[np.int64], contexts_N: NDArray[np.int64]) -> Array:
        noise = random.normal(size=len(paths_NL))
        return truth.value(paths_NL) - difficulty[contexts_N] + noise

    explored = explore(evaluate, costs(10), [9.0], budget=600, seed=0, contexts=16)
    assert explored.values.sizes == SIZES
    assert np.corrcoef(explored.values.value(ALL), truth.value(ALL))[0, 1] > 0.9


def test_there_may_be_more_targets_than_networks_in_a_round() -> None:
    targets = list(np.linspace(2.0, 4.0, 45))
    explored = explore(noisy(planted(1), 1.0, 1), costs(1), targets, budget=250, seed=0)
    assert len(explored.paths_NL) == 250


def test_the_same_answers_give_the_same_paths() -> None:
    runs = [explore(noisy(planted(11), 1.0, 1), costs(11), [2.0, 2.5], budget=400, seed=7) for _ in range(2)]
    assert (runs[0].paths_NL == runs[1].paths_NL).all()
    assert (runs[0].values.layer_C == runs[1].values.layer_C).all()
