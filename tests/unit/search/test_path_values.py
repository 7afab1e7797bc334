"""What paths are worth is learned from noisy evaluations, of which those of a step share their images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.planted_values import SIZES, every_path, planted

from stages.nas.path_values import (
    Evaluations,
    PathValues,
    Posterior,
    Variances,
    likely_variances,
    one_hot,
    starts_of,
    step_variance,
)
from stages.nas.rules.posterior import posterior_of

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
ALL = every_path()


def evaluated(
    truth: PathValues,
    count: int,
    *,
    noise: float = 0.0,
    images: float = 0.0,
    a_step: int = 4,
    seed: int = 0,
    paths_NL: Integers | None = None,
) -> Evaluations:
    """So many networks, ``a_step`` at a time: each with noise, and each step with what its images add."""
    random = np.random.default_rng(seed)
    if paths_NL is None:
        every = every_path(truth.sizes)
        paths_NL = every[random.integers(len(every), size=count)]
    step_N = np.arange(count) // a_step
    added_N = images * random.normal(size=count)[step_N] + noise * random.normal(size=count)
    return Evaluations(paths_NL, truth.value(paths_NL) + added_N, step_N, np.ones(count))


def estimated(seen: Evaluations, sizes: tuple[int, ...] = SIZES) -> PathValues:
    return posterior_of(seen, sizes, likely_variances(seen, sizes)).mean()


def correlation(values: PathValues, truth: PathValues) -> float:
    paths_NL = every_path(truth.sizes)
    return float(np.corrcoef(values.value(paths_NL), truth.value(paths_NL))[0, 1])


# --- the posterior ---------------------------------------------------------------------------------


def dense(seen: Evaluations, sizes: tuple[int, ...], variances: Variances) -> tuple[Array, Array]:
    """Layers' and pairs' parts by the closed form, with all matrices written out.

    A column for each candidate, then one for each pair of candidates of two layers.
    """
    owner = np.repeat(np.arange(len(sizes)), sizes)
    first, second = np.nonzero(owner[:, None] < owner[None, :])
    hot_NC = one_hot(seen.paths_NL, sizes)
    features_NF = np.hstack([hot_NC, hot_NC[:, first] * hot_NC[:, second]])
    prior_F = np.r_[np.full(sum(sizes), variances.layer), np.full(len(first), variances.pair)]
    covariance_NN = features_NF @ np.diag(prior_F) @ features_NF.T
    covariance_NN += variances.step * (seen.step_N[:, None] == seen.step_N[None, :])
    covariance_NN += variances.noise * np.diag(seen.noise_N)
    centred_N = seen.observed_N - seen.observed_N.mean()
    parts_F = prior_F * (features_NF.T @ np.linalg.solve(covariance_NN, centred_N))
    pair_CC = np.zeros((sum(sizes), sum(sizes)))
    pair_CC[first, second] = parts_F[sum(sizes) :]
    return parts_F[: sum(sizes)], pair_CC + pair_CC.T


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    seed=st.integers(0, 2**20),
    count=st.integers(1, 40),
    a_step=st.integers(1, 6),
    pair=st.sampled_from([1e-12, 0.1, 1.0]),
    step=st.sampled_from([0.0, 0.5, 30.0]),
)
@settings(max_examples=60)
def test_the_mean_is_the_closed_forms(
    sizes: list[int], seed: int, count: int, a_step: int, pair: float, step: float
) -> None:
    random, all_sizes = np.random.default_rng(seed), tuple(sizes)
    paths_NL = random.integers(sizes, size=(count, len(sizes)))
    # Steps have gaps in their numbers where old evaluations were forgotten or another target had its turn.
    seen = Evaluations(
        paths_NL,
        random.normal(size=count) - 2.0,
        7 + 3 * (np.arange(count) // a_step),
        1 + random.random(count),
    )
    variances = Variances(0.7, pair, 0.3, step)
    layer_C, pair_CC = dense(seen, all_sizes, variances)
    mean = Posterior(seen, all_sizes, variances).mean()
    # Of the residual, conjugate gradients leave a ten-thousandth.
    assert mean.layer_C == pytest.approx(layer_C, abs=2e-3)
    assert mean.pair_CC == pytest.approx(pair_CC, abs=2e-3)
    assert mean.mean == pytest.approx(seen.observed_N.mean())


def test_the_estimate_is_that_of_the_gaussian_process_it_stands_for() -> None:
    random = np.random.default_rng(0)
    paths_NL = ALL[random.integers(len(ALL), size=150)]
    observed_N, step_N = random.normal(size=150), np.arange(150) // 5
    variances = Variances(0.7, 0.2, 0.5, 0.4)
    agreed = one_hot(paths_NL, SIZES) @ one_hot(paths_NL, SIZES).T
    covariance = variances.layer * agreed + variances.pair * agreed * (agreed - 1) / 2
    covariance += variances.step * (step_N[:, None] == step_N[None, :]) + variances.noise * np.eye(150)
    dual_N = np.linalg.solve(covariance, observed_N - observed_N.mean())
    across = one_hot(ALL, SIZES) @ one_hot(paths_NL, SIZES).T
    expected = (variances.layer * across + variances.pair * across * (across - 1) / 2) @ dual_N
    estimate = Posterior(Evaluations(paths_NL, observed_N, step_N, np.ones(150)), SIZES, variances).mean()
    assert estimate.value(ALL) == pytest.approx(expected + observed_N.mean(), abs=1e-3)


def test_parts_are_recovered_where_there_is_no_noise() -> None:
    truth = planted(1)
    paths_NL = ALL[np.random.default_rng(2).permutation(len(ALL))[:350]]
    assert correlation(estimated(evaluated(truth, 350, paths_NL=paths_NL)), truth) > 0.99


def test_what_a_candidate_would_add_is_its_part_and_its_pairs() -> None:
    truth, path = planted(3), np.array([1, 2, 0, 3, 1])
    added_C = truth.marginal_values(path[None])[0]
    starts = starts_of(SIZES)
    for layer, size in enumerate(SIZES):
        others = np.repeat(path[None], size, axis=0)
        others[:, layer] = np.arange(size)
        added = added_C[starts[layer] : starts[layer] + size]
        assert np.diff(added) == pytest.approx(np.diff(truth.value(others)))


# --- the variances ---------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [0.0, 10.0])
def test_the_share_of_pairs_and_the_noise_are_found_from_the_evaluations(images: float) -> None:
    for pairs, sd in ((0.0, 0.5), (0.5, 0.5)):
        found = likely_variances(evaluated(planted(4, pairs), 900, noise=sd, images=images, seed=3), SIZES)
        assert found.noise == pytest.approx(sd**2, rel=0.3)
        assert found.pair == pytest.approx(2 * pairs**2, rel=0.6, abs=0.02)


def test_what_the_images_of_a_step_add_does_not_count() -> None:
    seen = evaluated(planted(5), 400, noise=1.0, seed=5)
    plain = likely_variances(seen, SIZES)
    shift_N = np.random.default_rng(6).normal(size=400)[seen.step_N] * 100
    shifted = Evaluations(seen.paths_NL, seen.observed_N + shift_N, seen.step_N, seen.noise_N)
    found = likely_variances(shifted, SIZES)
    assert (found.layer, found.pair, found.noise) == pytest.approx((plain.layer, plain.pair, plain.noise))
    assert found.step == plain.step == 0.0


def test_noise_alone_is_taken_for_noise() -> None:
    """The negative control: where networks do not differ, hardly any difference is estimated."""
    nothing = planted(5, pairs=0.0)
    nothing = PathValues(SIZES, 0.0, 0.0 * nothing.layer_C, nothing.pair_CC, nothing.variances)
    for images in (0.0, 3.0):
        estimate = estimated(evaluated(nothing, 900, noise=1.0, images=images, seed=5))
        assert estimate.value(ALL).std() < 0.2


@pytest.mark.parametrize("a_step", [1, 2, 8])
def test_steps_of_any_number_of_evaluations_are_learned_from(a_step: int) -> None:
    """Single evaluations have nothing to be compared with but each other."""
    truth = planted(6, pairs=0.0)
    assert correlation(estimated(evaluated(truth, 400, noise=0.5, a_step=a_step, seed=6)), truth) > 0.97


def test_a_single_evaluation_says_nothing() -> None:
    seen = evaluated(planted(0), 1)
    assert all(
        part > 0 for part in (likely_variances(seen, SIZES).layer, likely_variances(seen, SIZES).noise)
    )
    assert step_variance(seen) == 0.0
    assert estimated(seen).value(ALL) == pytest.approx(seen.observed_N[0])


@pytest.mark.parametrize("images", [0.5, 2.0, 20.0])
def test_what_images_add_to_a_step_is_found(images: float) -> None:
    truth = planted(7)
    seen = evaluated(truth, 1600, noise=0.5, images=images, seed=7)
    # 400 steps: the standard error of a variance is 7 % of it.
    assert step_variance(seen, truth) == pytest.approx(images**2, rel=0.25, abs=0.05)
    assert step_variance(seen) == pytest.approx(images**2, rel=0.3, abs=0.5), "networks average out"


def test_where_images_add_nothing_hardly_anything_is_found() -> None:
    truth = planted(8)
    for seed in range(5):
        assert 0.0 <= step_variance(evaluated(truth, 800, noise=1.0, seed=seed), truth) < 0.1
    alone = evaluated(truth, 50, noise=1.0, a_step=1)
    together = evaluated(truth, 50, noise=1.0, a_step=50)
    assert step_variance(alone, truth) == step_variance(together, truth) == 0.0


@pytest.mark.parametrize("images", [1.0, 10.0])
def test_images_that_are_harder_than_others_are_not_held_against_the_networks(images: float) -> None:
    truth = planted(10, pairs=0.0)
    seen = evaluated(truth, 600, noise=1.0, images=images, seed=3)
    assert correlation(estimated(seen), truth) > 0.9
    blind = Evaluations(seen.paths_NL, seen.observed_N, np.arange(600), seen.noise_N)
    assert images < 5 or correlation(estimated(blind), truth) < 0.8, "the steps are not seen to matter"


def test_what_age_adds_to_an_evaluations_noise_is_not_taken_for_its_own() -> None:
    """Planted noise of 0.5 for a new evaluation, of four times its variance for the oldest."""
    random = np.random.default_rng(0)
    paths_NL = every_path()[random.integers(len(every_path()), size=600)]
    step_N = np.arange(600) // 4
    age_N = np.repeat(2.0 ** (2 * (1 - np.arange(150) / 149)), 4)
    noise_N = 0.5 * np.sqrt(age_N) * random.normal(size=600)
    seen = Evaluations(paths_NL, planted(0).value(paths_NL) + noise_N, step_N, age_N)
    assert likely_variances(seen, SIZES).noise == pytest.approx(0.25, rel=0.3)
