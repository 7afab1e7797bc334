"""How networks are drawn while values are learned: Thompson samples, the latency multiplier, the draw."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare
from support.planted_values import SIZES, costs, every_path, planted

from stages.nas.exploration import draw_near, least_multipliers, thompson_samples
from stages.nas.path_values import PathValues, Variances, estimate_values, one_hot, starts_of, values_of_parts
from stages.nas.solver import path_ms

Array = NDArray[np.float64]
Paths = NDArray[np.int64]
DRAWS = 4000


# --- shaken ----------------------------------------------------------------------------------------


def seen_unevenly() -> tuple[PathValues, Paths]:
    """An estimate from 120 paths, of which only one takes the last candidate of the first layer."""
    random = np.random.default_rng(0)
    paths_NL = random.integers(SIZES, size=(120, len(SIZES)))
    paths_NL[:, 0] %= 2
    paths_NL[0, 0] = 2
    observed_N = planted(0).value(paths_NL) + random.normal(size=len(paths_NL))
    return estimate_values(paths_NL, observed_N, SIZES, Variances(0.8, 0.02, 1.0)), paths_NL


def test_shaken_parts_have_the_posteriors_mean_and_covariance() -> None:
    values, paths_NL = seen_unevenly()
    draws = thompson_samples(values, paths_NL, DRAWS, np.random.default_rng(1))
    assert draws.shape == (DRAWS, sum(SIZES))
    # Bayesian linear regression, the pairs' variance added to the noise: five layers have ten pairs.
    hot_NC = one_hot(paths_NL, SIZES)
    covariance = np.linalg.inv(hot_NC.T @ hot_NC / (1.0 + 10 * 0.02) + np.eye(sum(SIZES)) / 0.8)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((draws.mean(axis=0) - values.layer_C) / sd).max() < 5 / np.sqrt(DRAWS)
    correlation = (np.cov(draws.T) - covariance) / np.outer(sd, sd)
    assert np.abs(correlation).max() < 6 / np.sqrt(DRAWS)


def test_what_was_rarely_seen_is_shaken_most() -> None:
    values, paths_NL = seen_unevenly()
    spread = thompson_samples(values, paths_NL, DRAWS, np.random.default_rng(2)).std(axis=0)
    # All candidates of a layer share what is not known of its level.
    assert spread[2] > 1.3 * spread[:2].max()


def test_what_was_seen_very_often_is_hardly_shaken() -> None:
    values, paths_NL = seen_unevenly()
    drawn = thompson_samples(values, np.repeat(paths_NL, 500, axis=0), 500, np.random.default_rng(3))
    # The sum over a path is known; that one layer gains what another loses is not, and does not matter.
    sums = drawn @ one_hot(paths_NL, SIZES).T
    assert sums.std(axis=0).max() < 0.1


# --- the multiplier ------------------------------------------------------------------------------


def expected_ms(
    parts_C: Array, multiplier: float, cost_C: Array, sizes: tuple[int, ...], temperature: float
) -> float:
    """Of a network whose layers are drawn from a softmax of (part - multiplier * cost) / temperature."""
    total = 0.0
    for parts, layer_ms in zip(
        *(np.split(row, starts_of(sizes)[1:]) for row in (parts_C, cost_C)), strict=True
    ):
        logits = (parts - multiplier * layer_ms) / temperature
        weights = np.exp(logits - logits.max())
        total += float((weights * layer_ms).sum() / weights.sum())
    return total


@given(seed=st.integers(0, 2**20), share=st.floats(0.02, 1.2), temperature=st.sampled_from([0.05, 0.3, 2.0]))
@settings(max_examples=100)
def test_the_multiplier_is_the_least_that_meets_the_target(
    seed: int, share: float, temperature: float
) -> None:
    costs_ms = costs(seed)
    cost_C = np.concatenate([np.asarray(row) for row in costs_ms])
    fastest, slowest = (sum(map(end, costs_ms)) for end in (min, max))
    target_ms = fastest + share * (slowest - fastest)
    added_NC = np.random.default_rng(seed).normal(size=(4, sum(SIZES)))
    # Halved 24 times: from the highest multiplier needed, which nearly equal candidates make high.
    highest = 100 * (np.ptp(added_NC, axis=1).max() + temperature) / min(map(np.ptp, costs_ms))
    resolution = 1.01 * highest / 2**24
    for parts_C, multiplier in zip(
        added_NC, least_multipliers(added_NC, cost_C, starts_of(SIZES), target_ms, temperature), strict=True
    ):
        assert multiplier >= 0
        assert expected_ms(parts_C, multiplier, cost_C, SIZES, temperature) <= target_ms * (1 + 1e-6)
        free = expected_ms(parts_C, 0.0, cost_C, SIZES, temperature) <= target_ms
        if free:
            assert multiplier < resolution, "the multiplier is not 0 although the target is met without"
        elif multiplier > resolution:
            lower = multiplier - resolution
            assert expected_ms(parts_C, lower, cost_C, SIZES, temperature) > target_ms * (1 - 1e-6)


def test_a_target_below_all_has_the_multiplier_of_the_fastest() -> None:
    costs_ms = costs(3)
    cost_C = np.concatenate([np.asarray(row) for row in costs_ms])
    parts_NC = planted(3).layer_C[None]
    (multiplier,) = least_multipliers(parts_NC, cost_C, starts_of(SIZES), 0.0, 0.1)
    fastest = sum(map(min, costs_ms))
    assert np.isfinite(multiplier)
    assert expected_ms(parts_NC[0], multiplier, cost_C, SIZES, 0.1) == pytest.approx(fastest, rel=1e-3)


def test_equal_latencies_have_a_multiplier_too() -> None:
    multipliers = least_multipliers(np.zeros((2, 6)), np.full(6, 0.5), starts_of((3, 3)), 0.4, 0.1)
    assert np.isfinite(multipliers).all()


# --- the draw --------------------------------------------------------------------------------------


def drawn(values: PathValues, costs_ms: list[list[float]], target_ms: float, **options: float) -> Paths:
    layer_NC = np.repeat(values.layer_C[None], DRAWS, axis=0)
    return draw_near(layer_NC, values, costs_ms, target_ms, np.random.default_rng(7), **options)


def test_without_pairs_and_multiplier_layers_are_a_softmax() -> None:
    parts = [[0.0, 0.5, 1.0], [0.3, 0.0]]
    paths_NL = drawn(values_of_parts(parts), [[0.1] * 3, [0.1] * 2], 9.0, temperature=1.0)
    temperature = np.sqrt(sum(np.var(row) for row in parts))
    for layer, row in enumerate(parts):
        weights = np.exp(np.asarray(row) / temperature)
        counts = np.bincount(paths_NL[:, layer], minlength=len(row))
        assert chisquare(counts, DRAWS * weights / weights.sum()).pvalue > 0.001


def test_with_pairs_networks_are_drawn_from_the_softmax_of_their_values() -> None:
    sizes = (2, 3, 2)
    values, paths = planted(5, pairs=0.4, sizes=sizes), every_path(sizes)
    paths_NL = drawn(values, [[0.1] * size for size in sizes], 9.0, temperature=1.5)
    temperature = 1.5 * np.sqrt(sum(np.var(row) for row in np.split(values.layer_C, starts_of(sizes)[1:])))
    weights = np.exp((values.value(paths) - values.value(paths).max()) / temperature)
    counts = [int((paths_NL == path).all(axis=1).sum()) for path in paths]
    # Six sweeps of Gibbs sampling come near the distribution, not quite to it.
    assert np.abs(np.array(counts) / DRAWS - weights / weights.sum()).max() < 0.03


@pytest.mark.parametrize("seed", range(4))
def test_draws_are_valid_near_the_target_and_better_than_random_ones_of_that_latency(seed: int) -> None:
    values, costs_ms, paths = planted(seed), costs(seed), every_path()
    spent = np.array([path_ms(costs_ms, path) for path in paths])
    target_ms = float(np.quantile(spent, 0.3))
    paths_NL = drawn(values, costs_ms, target_ms)
    assert paths_NL.shape == (DRAWS, len(SIZES))
    assert (paths_NL >= 0).all() and (paths_NL < SIZES).all()
    ms = np.array([path_ms(costs_ms, path) for path in paths_NL])
    assert ms.mean() <= 1.05 * target_ms
    alike = paths[np.abs(spent - target_ms) <= 0.1 * target_ms]
    assert values.value(paths_NL).mean() > values.value(alike).mean() + values.value(alike).std()


def test_a_lower_temperature_draws_better_networks() -> None:
    values, costs_ms = planted(1), costs(1)
    temperatures = (1.0, 0.3, 0.1, 0.02)
    means = [values.value(drawn(values, costs_ms, 9.0, temperature=t)).mean() for t in temperatures]
    assert all(warm < cold for warm, cold in pairwise(means))
    every = values.value(every_path())
    assert every.max() - means[-1] < 0.1 * every.std(), "a few stay where one change alone does not help"


def test_each_row_of_parts_has_a_draw_of_its_own() -> None:
    """Thompson sampling: a candidate whose shaken part is high is drawn, whatever the estimate says."""
    values = values_of_parts([[0.0, 1.0], [0.0, 1.0]])
    layer_NC = np.array([[9.0, 0.0, 0.0, 9.0], [0.0, 9.0, 9.0, 0.0]])
    paths = draw_near(layer_NC, values, [[0.1] * 2] * 2, 9.0, np.random.default_rng(0))
    assert paths.tolist() == [[0, 1], [1, 0]]


def test_draws_repeat_with_their_seed() -> None:
    values, costs_ms = planted(2), costs(2)
    assert (drawn(values, costs_ms, 2.2) == drawn(values, costs_ms, 2.2)).all()
