"""With many evaluations to spend, further rounds look at what is not yet known of pairs, ever more calmly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.planted_values import SIZES, costs, every_path, planted

from stages.nas.exploration import MOST_ROUNDS, ROUNDS, explore
from stages.nas.path_values import PathValues, Posterior, Variances, one_hot
from stages.nas.solver import path_ms

Array = NDArray[np.float64]
Paths = NDArray[np.int64]
ALL = every_path()
VARIANCES = Variances(0.8, 0.1, 1.0)
DRAWS = 1500


def seen() -> tuple[Posterior, PathValues, Paths]:
    """A posterior from 200 evaluations of 90 networks, all without the first layer's last candidate."""
    random = np.random.default_rng(0)
    without = ALL[ALL[:, 0] < 2]
    paths_NL = without[random.integers(len(without), size=90)][random.integers(90, size=200)]
    posterior = Posterior(paths_NL, SIZES, VARIANCES)
    return posterior, posterior.mean(planted(0).value(paths_NL) + random.normal(size=200)), paths_NL


def agreement(left_NL: Paths, right_NL: Paths) -> Array:
    agreed: Array = one_hot(left_NL, SIZES) @ one_hot(right_NL, SIZES).T
    return VARIANCES.layer * agreed + VARIANCES.pair * agreed * (agreed - 1) / 2


def test_joint_draws_have_the_gaussian_process_posteriors_mean_and_covariance() -> None:
    posterior, mean, paths_NL = seen()
    random = np.random.default_rng(1)
    some_NL = ALL[random.permutation(len(ALL))[:40]]
    drawn = np.array([posterior.draw(mean, random).value(some_NL) for _ in range(DRAWS)])
    across = agreement(some_NL, paths_NL)
    inverse = np.linalg.inv(agreement(paths_NL, paths_NL) + VARIANCES.noise * np.eye(len(paths_NL)))
    covariance = agreement(some_NL, some_NL) - across @ inverse @ across.T
    sd = np.sqrt(np.diag(covariance))
    # The level of all networks together is not drawn, for it ranks nothing: differences are compared.
    centre = np.eye(len(some_NL)) - 1 / len(some_NL)
    assert np.abs((drawn.mean(axis=0) - mean.value(some_NL)) @ centre / sd).max() < 5 / np.sqrt(DRAWS)
    off = centre @ (np.cov(drawn.T) - covariance) @ centre / np.outer(sd, sd)
    assert np.abs(off).max() < 0.15


def test_what_was_never_seen_is_drawn_most_widely_and_a_share_scales_it() -> None:
    posterior, mean, _ = seen()
    unseen, well_seen = ALL[ALL[:, 0] == 2], ALL[ALL[:, 0] < 2]

    def spread(paths_NL: Paths, share: float) -> float:
        random = np.random.default_rng(2)
        draws = [posterior.draw(mean, random, share=share).value(paths_NL) for _ in range(200)]
        return float(np.std(draws, axis=0).mean())

    assert spread(unseen, 1.0) > 1.1 * spread(well_seen, 1.0)
    assert spread(unseen, 0.25) == pytest.approx(0.25 * spread(unseen, 1.0))
    nothing = posterior.draw(mean, np.random.default_rng(3), share=0.0)
    assert (nothing.layer_C == mean.layer_C).all() and (nothing.pair_CC == mean.pair_CC).all()


def rounds_of(budget: int, targets_ms: list[float]) -> list[Paths]:
    """The networks of each round, under a noise of one standard deviation of a network."""
    truth, random, rounds = planted(3), np.random.default_rng(4), []

    def evaluate(paths_NL: Paths, _: Paths) -> Array:
        rounds.append(paths_NL)
        return truth.value(paths_NL) + random.normal(size=len(paths_NL)) * truth.value(ALL).std()

    explored = explore(evaluate, costs(3), targets_ms, budget=budget, seed=0)
    assert len(explored.paths_NL) == sum(map(len, rounds)) == budget
    return rounds


@pytest.mark.parametrize(
    ("budget", "rounds"), [(600, ROUNDS), (2999, ROUNDS), (4500, 15), (9600, MOST_ROUNDS)]
)
def test_many_evaluations_buy_further_rounds(budget: int, rounds: int) -> None:
    assert len(rounds_of(budget, [2.2])) == 1 + rounds


def test_the_last_of_the_further_rounds_are_the_calmest() -> None:
    rounds = rounds_of(6000, [2.2])
    kinds = [len(np.unique(paths_NL, axis=0)) for paths_NL in rounds]
    assert kinds[ROUNDS + 1] > 1.5 * kinds[-1]
    values = [planted(3).value(paths_NL) for paths_NL in rounds]
    assert values[-1].mean() > values[ROUNDS + 1].mean() > values[0].mean()


def test_every_target_is_looked_at_in_the_further_rounds_too() -> None:
    def last_ms(targets_ms: list[float]) -> Array:
        last = np.concatenate(rounds_of(4500, targets_ms)[-3:])
        return np.array([path_ms(costs(3), path) for path in last])

    ms = last_ms([1.6, 2.2, 3.0])
    assert (ms < 1.76).mean() > 0.25, "half are for the first target"
    assert (ms > 2.3).mean() > 0.15, "a quarter is for the last"
    assert (last_ms([3.0]) < 1.76).mean() < 0.05
    assert (last_ms([1.6]) > 2.3).mean() < 0.05
