"""Probabilities from a posterior: when it is updated, what it forgets, and what a step's images add."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.planted_values import costs, every_path, narrow_window, percentile, planted, taught

from stages.nas.latency_window import LatencyWindow
from stages.nas.path_values import Evaluations, likely_variances
from stages.nas.rules import posterior
from stages.nas.rules.posterior import (
    DECIDED,
    LEAST,
    UPDATES,
    PosteriorRule,
    best_shares,
    of_shares,
    posterior_of,
    shares_of_one_target,
    update_moments,
)

Array = NDArray[np.float64]
Paths = NDArray[np.int64]
SIZES = (3, 2, 3, 3)
ALL = every_path(SIZES)


def new_rule(steps: int, windows: list[LatencyWindow] | None = None, paths: int = 4) -> PosteriorRule:
    return PosteriorRule(windows or [narrow_window(costs(0, SIZES), 0.6)], steps, paths, 3)


# --- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 5, 19, 100, 1000, 50_000])
@pytest.mark.parametrize("paths_per_step", [2, 4, 100])
def test_the_last_step_is_an_update_and_the_first_one_has_enough_to_learn_from(
    steps: int, paths_per_step: int
) -> None:
    moments = sorted(update_moments(steps, paths_per_step))
    assert moments[-1] == steps
    assert 1 <= len(moments) <= UPDATES
    assert moments[0] >= 1
    assert moments[0] == steps or moments[0] * (paths_per_step - 1) >= 20
    assert moments[0] >= min(steps, round(steps / 20))


def test_before_the_first_update_all_paths_are_equally_likely() -> None:
    rule, first = new_rule(60), min(update_moments(60, 4))
    assert first > 1
    taught(rule, planted(0, sizes=SIZES).value, first - 1)
    for row in rule.log_probabilities():
        assert np.exp(row) == pytest.approx(1 / len(row))
    taught(rule, planted(0, sizes=SIZES).value, 1)
    assert any(np.ptp(row) > 0.1 for row in rule.log_probabilities())


# --- what a step's images add ----------------------------------------------------------------------


def evaluations(images: float, *, noise: float = 0.5, steps: int = 40, seed: int = 0) -> Evaluations:
    """Four paths a step, and what its images add to them: of so large a standard deviation."""
    random = np.random.default_rng(seed)
    step_N = np.repeat(np.arange(steps), 4)
    paths_NL = ALL[random.integers(len(ALL), size=len(step_N))]
    own_N = planted(0, sizes=SIZES).value(paths_NL) + noise * random.normal(size=len(step_N))
    return Evaluations(
        paths_NL, own_N + images * random.normal(size=steps)[step_N], step_N, np.ones(len(step_N))
    )


def test_what_images_add_to_a_step_hardly_changes_what_is_learned_of_paths() -> None:
    means = []
    for images in (5.0, 50.0):
        seen = evaluations(images)
        mean = posterior_of(seen, SIZES, likely_variances(seen, SIZES)).mean()
        variances = mean.variances
        assert variances.step == pytest.approx(images**2, rel=0.6)
        means.append(mean.value(ALL) - mean.value(ALL).mean())
    truth = planted(0, sizes=SIZES).value(ALL)
    assert np.abs(means[0] - means[1]).max() < 0.03 * truth.std()
    assert np.corrcoef(means[1], truth)[0, 1] > 0.97


def test_the_same_images_for_all_steps_add_nothing_to_what_is_learned() -> None:
    plain, shifted = new_rule(40), new_rule(40)
    truth = planted(1, sizes=SIZES)
    taught(plain, truth.value, 40, noise=0.5)
    taught(shifted, lambda paths_NL: truth.value(paths_NL) + 64.0, 40, noise=0.5)
    for here, there in zip(plain.log_probabilities(), shifted.log_probabilities(), strict=True):
        assert np.exp(here) == pytest.approx(np.exp(there), abs=0.1)
    (window,) = plain.windows
    assert window.most_probable(plain.log_probabilities()) == window.most_probable(
        shifted.log_probabilities()
    )


@pytest.mark.parametrize("seed", range(3))
def test_steps_of_very_different_images_do_not_hide_the_best_network(seed: int) -> None:
    truth, window = planted(seed, sizes=SIZES), narrow_window(costs(seed, SIZES), 0.6)
    rule = PosteriorRule([window], 60, 4, seed)
    taught(rule, truth.value, 60, noise=0.3, images=20.0, seed=seed)
    (found,) = window.most_probable(rule.log_probabilities())
    assert percentile(truth, window, found) >= 90


# --- what is kept ----------------------------------------------------------------------------------


def test_an_evaluation_that_is_older_is_noisier() -> None:
    rule = new_rule(40)
    assert new_rule(40).evaluations().noise_N.size == 0
    taught(rule, planted(0, sizes=SIZES).value, 31)
    seen = rule.evaluations()
    assert np.unique(seen.step_N).tolist() == list(range(31))
    assert (np.diff(seen.step_N) >= 0).all()
    # Half a search of 40 steps: 20 steps double an evaluation's variance.
    assert seen.noise_N == pytest.approx(2.0 ** ((30 - seen.step_N) / 20))
    assert seen.noise_N[-1] == 1.0


def test_old_evaluations_count_less_in_what_is_learned() -> None:
    """The same networks, worth the opposite in the first half: what came last decides."""
    random = np.random.default_rng(4)
    paths_NL = np.tile(ALL[random.integers(len(ALL), size=120)], (2, 1))
    worth_N = planted(2, sizes=SIZES).value(paths_NL) * np.repeat([-1.0, 1.0], 120)
    step_N = np.arange(240) // 4
    agreement = []
    for older in (1.0, 8.0):
        seen = Evaluations(paths_NL, worth_N, step_N, np.repeat([older, 1.0], 120))
        mean = posterior_of(seen, SIZES, likely_variances(seen, SIZES)).mean()
        agreement.append(np.corrcoef(mean.value(ALL), planted(2, sizes=SIZES).value(ALL))[0, 1])
    assert agreement[1] > max(0.5, agreement[0] + 0.3)


def test_only_the_latest_evaluations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior, "MOST_EVALUATIONS", 50)
    rule = new_rule(30)
    taught(rule, planted(0, sizes=SIZES).value, 30, noise=0.2)
    seen = rule.evaluations()
    assert [len(part) for part in (seen.paths_NL, seen.observed_N, seen.step_N, seen.noise_N)] == [50] * 4
    assert seen.step_N[-1] == 29
    assert [len(rule.state()[part]) for part in ("paths", "values", "steps")] == [50] * 3


def test_variances_are_those_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks differ a tenth as much later on: once the first evaluations are gone, that is known."""
    monkeypatch.setattr(posterior, "MOST_EVALUATIONS", 400)
    monkeypatch.setattr(posterior, "LIKELIHOOD_NETWORKS", 100)
    truth, scales = planted(0, sizes=SIZES), []
    rule = new_rule(400)
    for scale, steps in ((1.0, 150), (0.1, 250)):
        taught(rule, lambda paths_NL, scale=scale: scale * truth.value(paths_NL), steps, noise=0.05)
        scales.append(rule.state()["variances"]["layer"])
    assert scales[1] < scales[0] / 3


# --- probabilities ---------------------------------------------------------------------------------


def test_a_candidate_that_was_in_no_drawn_network_may_still_be_drawn() -> None:
    rows = of_shares(np.array([1.0, 0.0, 0.0, 0.25, 0.75]), (3, 2))
    assert [len(row) for row in rows] == [3, 2]
    for row in rows:
        assert np.exp(row).sum() == pytest.approx(1.0)
        assert np.isfinite(row).all()
    assert np.exp(rows[0][1]) == pytest.approx(LEAST / (1 + 3 * LEAST))


def test_shares_say_how_often_a_candidate_is_part_of_the_best_drawn_network() -> None:
    seen, window = evaluations(0.0, noise=0.1, steps=60), narrow_window(costs(0, SIZES), 0.6)
    variances, random = likely_variances(seen, SIZES), np.random.default_rng(0)
    inside = ALL[window.holds(ALL)]
    mean = posterior_of(seen, SIZES, variances).mean()
    best = inside[mean.value(inside).argmax()]
    (sure_C,) = best_shares(seen, SIZES, variances, [window], random, networks=20)
    for share, choice in zip(np.split(sure_C, np.cumsum(SIZES)[:-1]), best, strict=True):
        assert share.sum() == pytest.approx(1.0)
        assert share.argmax() == choice
    noisy = evaluations(0.0, noise=30.0)
    (open_C,) = best_shares(noisy, SIZES, likely_variances(noisy, SIZES), [window], random, networks=20)
    assert max(row.max() for row in np.split(open_C, np.cumsum(SIZES)[:-1])) < 0.95


def test_the_last_probabilities_are_decided_for_the_best_path_by_the_mean() -> None:
    """Also where little is known, and each draw has another best path."""
    seen, window = evaluations(0.0, noise=30.0), narrow_window(costs(0, SIZES), 0.6)
    variances = likely_variances(seen, SIZES)
    (share_C,) = best_shares(
        seen, SIZES, variances, [window], np.random.default_rng(0), networks=20, decided=True
    )
    inside = ALL[window.holds(ALL)]
    best = inside[posterior_of(seen, SIZES, variances).mean().value(inside).argmax()]
    assert window.most_probable(of_shares(share_C, SIZES)) == [tuple(best)]
    for share, choice in zip(np.split(share_C, np.cumsum(SIZES)[:-1]), best, strict=True):
        assert share.sum() == pytest.approx(1.0)
        assert share[choice] >= DECIDED
    assert share_C.max() < 1.0


def test_probabilities_of_another_target_are_learned_from_the_evaluations_afterwards() -> None:
    truth = planted(5, sizes=SIZES)
    low, high = (narrow_window(costs(5, SIZES), quantile) for quantile in (0.2, 0.8))
    rule = PosteriorRule([high], 60, 4, 0)
    taught(rule, truth.value, 60, noise=0.2)
    rows = shares_of_one_target(rule.evaluations(), SIZES, low, 7, networks=32)
    (found,) = low.most_probable(rows)
    assert percentile(truth, low, found) >= 80
    again = shares_of_one_target(rule.evaluations(), SIZES, low, 7, networks=32)
    assert all((a == b).all() for a, b in zip(rows, again, strict=True))


# --- next to nothing to learn from -----------------------------------------------------------------


@pytest.mark.parametrize(("steps", "paths"), [(1, 2), (1, 4), (2, 2), (3, 100)])
def test_few_steps_are_enough_for_an_update(steps: int, paths: int) -> None:
    rule = new_rule(steps, paths=paths)
    taught(rule, planted(0, sizes=SIZES).value, steps, noise=0.5)
    for row in rule.log_probabilities():
        assert np.isfinite(row).all()
        assert np.exp(row).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_a_window_of_one_network_is_learned_to_hold_it(steps: int) -> None:
    costs_ms, path = costs(0, SIZES), [1, 0, 2, 1]
    ms = float(LatencyWindow(costs_ms, 0.0, 99.0).total_ms(np.array([path]))[0])
    rule = new_rule(steps, [LatencyWindow(costs_ms, ms - 1e-9, ms + 1e-9)])
    taught(rule, planted(0, sizes=SIZES).value, steps, noise=0.5, images=0.5)
    assert (rule.evaluations().paths_NL == path).all()
    assert [int(row.argmax()) for row in rule.log_probabilities()] == path


def test_networks_that_are_all_worth_the_same_are_no_fault() -> None:
    rule = new_rule(12)
    taught(rule, lambda paths_NL: np.full(len(paths_NL), -2.3), 12)
    for row in rule.log_probabilities():
        assert np.isfinite(row).all()


def test_a_window_of_one_network_beside_another_target_is_no_fault() -> None:
    costs_ms = costs(0, SIZES)
    ms = float(LatencyWindow(costs_ms, 0.0, 99.0).total_ms(np.array([[1, 0, 2, 1]]))[0])
    windows = [narrow_window(costs_ms, 0.6), LatencyWindow(costs_ms, ms - 1e-9, ms + 1e-9)]
    rule = new_rule(24, windows)
    taught(rule, planted(0, sizes=SIZES).value, 24, noise=0.5, images=0.5)
    assert [int(row.argmax()) for row in rule.log_probabilities(1)] == [1, 0, 2, 1]
    counts = np.bincount(rule.evaluations().step_N)
    assert set(counts[1::2]) == {1}
    assert counts[0] == 4
