"""Rules that learn from whole paths: they find planted networks, nothing in noise, and go on if stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from support.planted_values import costs, every_path, narrow_window, percentile, planted, taught

from stages.nas.latency_window import LatencyWindow
from stages.nas.rules import posterior
from stages.nas.rules.base import PathRule, target_of_step
from stages.nas.rules.posterior import PosteriorRule
from stages.nas.rules.window import WindowRule

Array = NDArray[np.float64]
Paths = NDArray[np.int64]
SIZES = (3,) * 6
PATHS_PER_STEP = 4

RULES: dict[str, Callable[[Sequence[LatencyWindow], int, int], PathRule]] = {
    "posterior": lambda windows, steps, seed: PosteriorRule(windows, steps, PATHS_PER_STEP, seed),
    "window": lambda windows, _steps, seed: WindowRule(windows, PATHS_PER_STEP, 0.1, seed),
}
BOTH = pytest.mark.parametrize("name", RULES)


def most_probable(rule: PathRule, target: int = 0) -> tuple[int, ...]:
    (path,) = rule.windows[target].most_probable(rule.log_probabilities(target))
    return path


def found_percentile(
    name: str, seed: int, worth: Callable[[Paths], Array] | None = None, *, steps: int = 80, **spread: float
) -> float:
    """Where the most probable network stands among those of its window, by planted values."""
    truth, window = planted(seed, 0.3, SIZES), narrow_window(costs(seed, SIZES), 0.5)
    rule = RULES[name]([window], steps, seed)
    taught(rule, worth or truth.value, steps, seed=seed, **spread)
    return percentile(truth, window, most_probable(rule))


@BOTH
def test_the_best_network_or_nearly_so_becomes_the_most_probable(name: str) -> None:
    """With noise, and with an effect of the images, as large as half of what networks differ."""
    found = [found_percentile(name, seed, noise=1.0, images=1.0) for seed in range(4)]
    assert min(found) >= 95
    assert sum(found) / len(found) >= 98


@BOTH
def test_from_noise_alone_the_most_probable_network_is_at_chance(name: str) -> None:
    """Negative control: a percentile drawn uniformly has a standard deviation of 28.9."""
    seeds = 16
    found = [
        found_percentile(name, seed, lambda paths: np.zeros(len(paths)), steps=40, noise=1.0, images=1.0)
        for seed in range(seeds)
    ]
    assert abs(sum(found) / seeds - 50) < 3.5 * 28.9 / np.sqrt(seeds)
    assert min(found) < 35 < 65 < max(found), "from seed to seed it is another one"


@BOTH
def test_values_given_to_the_wrong_networks_lead_to_the_wrong_network(name: str) -> None:
    """Negative control: the worst network is worth most."""
    truth = planted(1, 0.3, SIZES)
    assert found_percentile(name, 1, lambda paths_NL: -truth.value(paths_NL), noise=1.0) < 5


# --- several targets -------------------------------------------------------------------------------


@BOTH
def test_each_target_finds_a_network_of_its_own(name: str) -> None:
    truth, costs_ms = planted(2, 0.3, SIZES), costs(2, SIZES)
    windows = [narrow_window(costs_ms, quantile, 0.93) for quantile in (0.5, 0.15, 0.9)]
    assert windows[1].most_ms < windows[0].least_ms and windows[0].most_ms < windows[2].least_ms
    rule = RULES[name](windows, 160, 2)
    taught(rule, truth.value, 160, noise=0.5, images=0.5)
    for number, window in enumerate(windows):
        path = most_probable(rule, number)
        assert window.holds(np.array([path])).all()
        assert percentile(truth, window, path) >= 90, f"target {number}"


@BOTH
def test_the_paths_of_a_step_are_different_ones_of_one_targets_window(name: str) -> None:
    windows = [narrow_window(costs(3, SIZES), quantile, 0.93) for quantile in (0.5, 0.15, 0.9)]
    rule, truth = RULES[name](windows, 40, 3), planted(3, 0.3, SIZES)
    drawn_for = []
    for step in range(40):
        paths_KL = rule.draw()
        assert len(np.unique(paths_KL, axis=0)) == len(paths_KL) <= PATHS_PER_STEP
        assert windows[target_of_step(step, 3)].holds(paths_KL).all()
        (own,) = (number for number, window in enumerate(windows) if window.holds(paths_KL).any())
        drawn_for.append(own)
        rule.learn(paths_KL, truth.value(paths_KL))
    assert drawn_for == [0, 1, 0, 2] * 10, "every second step is the first target's"


def test_one_target_has_all_steps_and_further_ones_share_every_second() -> None:
    assert [target_of_step(step, 1) for step in range(4)] == [0] * 4
    assert [target_of_step(step, 2) for step in range(4)] == [0, 1] * 2
    turns = [target_of_step(step, 9) for step in range(160)]
    assert [turns.count(target) for target in range(9)] == [80] + [10] * 8


# --- the same again --------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("targets", [1, 2])
def test_restored_from_json_at_any_step_it_goes_on_identically(
    name: str, targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first update too, and where old evaluations were forgotten."""
    monkeypatch.setattr(posterior, "MOST_EVALUATIONS", 60)
    monkeypatch.setattr(posterior, "NETWORKS", 4)
    sizes, steps = (3, 2, 3), 24
    truth = planted(4, 0.3, sizes)
    windows = [narrow_window(costs(4, sizes), quantile, 0.5) for quantile in (0.8, 0.4)[:targets]]

    def step(rule: PathRule, number: int) -> list[tuple[int, ...]]:
        paths_KL = rule.draw()
        noise_K = np.random.default_rng(number).normal(size=len(paths_KL))
        rule.learn(paths_KL, truth.value(paths_KL) + 0.3 * noise_K)
        return [tuple(path) for path in paths_KL.tolist()]

    def probabilities(rule: PathRule) -> list[list[float]]:
        return [row.tolist() for target in range(targets) for row in rule.log_probabilities(target)]

    rule = RULES[name](windows, steps, 4)
    for number in range(steps):
        again = RULES[name](windows, steps, 4)
        kept = json.dumps(rule.state(), allow_nan=False)
        again.restore(json.loads(kept))
        assert json.dumps(again.state(), allow_nan=False) == kept
        assert probabilities(again) == probabilities(rule)
        assert step(again, number) == step(rule, number)
        assert probabilities(again) == probabilities(rule)
        assert again.state() == rule.state()
    assert np.abs(np.diff(probabilities(rule)[0])).max() > 0.1, "nothing was learned"


@BOTH
def test_a_state_that_was_taken_is_not_changed_by_further_steps(name: str) -> None:
    rule = RULES[name]([narrow_window(costs(5, SIZES), 0.5)], 20, 5)
    truth = planted(5, 0.3, SIZES)
    taught(rule, truth.value, 5)
    state = rule.state()
    before = json.dumps(state)
    taught(rule, truth.value, 5)
    assert json.dumps(state) == before


@BOTH
def test_another_seed_draws_other_paths_and_the_same_one_the_same(name: str) -> None:
    windows = [narrow_window(costs(6, SIZES), 0.5)]
    first, same, other = (RULES[name](windows, 20, seed) for seed in (1, 1, 2))
    assert (first.draw() == same.draw()).all()
    assert (first.draw() != other.draw()).any()
    assert (first.draw() == first.draw()).all(), "a draw by itself changes nothing"


@BOTH
def test_a_rule_starts_with_all_paths_equally_likely_and_draws_such_ones(name: str) -> None:
    window = narrow_window(costs(7, SIZES), 0.5)
    inside = int(window.holds(every_path(SIZES)).sum())
    seen = [tuple(path) for seed in range(150) for path in RULES[name]([window], 20, seed).draw().tolist()]
    for row in RULES[name]([window], 20, 0).log_probabilities():
        assert np.exp(row) == pytest.approx(1 / 3)
    # 600 draws of n paths: n (1 - exp(-600 / n)) different ones.
    assert len(set(seen)) == pytest.approx(inside * (1 - np.exp(-len(seen) / inside)), rel=0.1)
