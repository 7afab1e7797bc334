"""Values drawn from the posterior: their mean, their covariance, and what was never seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from support.planted_values import SIZES, every_path, planted

from stages.nas.path_values import Evaluations, PathValues, Posterior, Variances, one_hot

Array = NDArray[np.float64]
Paths = NDArray[np.int64]
ALL = every_path()
VARIANCES = Variances(0.8, 0.1, 1.0, 0.5)
DRAWS = 1500


def seen() -> tuple[Posterior, PathValues, Evaluations]:
    """A posterior from 200 evaluations of 90 networks, all without the first layer's last candidate.

    Four in a step; those of the first half are twice as noisy.
    """
    random = np.random.default_rng(0)
    without = ALL[ALL[:, 0] < 2]
    paths_NL = without[random.integers(len(without), size=90)][random.integers(90, size=200)]
    observed_N = planted(0).value(paths_NL) + random.normal(size=200)
    evaluations = Evaluations(paths_NL, observed_N, np.arange(200) // 4, np.repeat([2.0, 1.0], 100))
    posterior = Posterior(evaluations, SIZES, VARIANCES)
    return posterior, posterior.mean(), evaluations


def agreement(left_NL: Paths, right_NL: Paths) -> Array:
    agreed: Array = one_hot(left_NL, SIZES) @ one_hot(right_NL, SIZES).T
    return VARIANCES.layer * agreed + VARIANCES.pair * agreed * (agreed - 1) / 2


def test_joint_draws_have_the_gaussian_process_posteriors_mean_and_covariance() -> None:
    posterior, mean, evaluations = seen()
    random = np.random.default_rng(1)
    paths_NL, step_N = evaluations.paths_NL, evaluations.step_N
    some_NL = ALL[random.permutation(len(ALL))[:40]]
    drawn = np.array([posterior.draw(mean, random).value(some_NL) for _ in range(DRAWS)])
    across = agreement(some_NL, paths_NL)
    one_step = VARIANCES.step * (step_N[:, None] == step_N[None, :])
    noise = VARIANCES.noise * np.diag(evaluations.noise_N)
    inverse = np.linalg.inv(agreement(paths_NL, paths_NL) + one_step + noise)
    covariance = agreement(some_NL, some_NL) - across @ inverse @ across.T
    sd = np.sqrt(np.diag(covariance))
    # The level of all networks together is not drawn, for it ranks nothing: differences are compared.
    centre = np.eye(len(some_NL)) - 1 / len(some_NL)
    assert np.abs((drawn.mean(axis=0) - mean.value(some_NL)) @ centre / sd).max() < 5 / np.sqrt(DRAWS)
    off = centre @ (np.cov(drawn.T) - covariance) @ centre / np.outer(sd, sd)
    assert np.abs(off).max() < 0.15


def test_what_was_never_seen_is_drawn_most_widely() -> None:
    posterior, mean, _ = seen()
    unseen, well_seen = ALL[ALL[:, 0] == 2], ALL[ALL[:, 0] < 2]

    def spread(paths_NL: Paths) -> float:
        random = np.random.default_rng(2)
        draws = [posterior.draw(mean, random).value(paths_NL) for _ in range(200)]
        return float(np.std(draws, axis=0).mean())

    assert spread(unseen) > 1.1 * spread(well_seen)
