"""What is held against what: planted truths in place of trained networks, and one tiny real search."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks import _tabular_search, search_vs_random
from benchmarks._tabular_search import (
    ARMS,
    NO_MULTIPLIER,
    Found,
    all_choices,
    predicted_ms,
    search_once,
    target_ms,
)
from benchmarks.search_vs_random import (
    CONTROLS,
    Held,
    beaten_share,
    best_under_target,
    near,
    permuted,
    picks_of,
    rival_percent,
    summarise,
    under_target,
)
from benchmarks.tabular_space import Choices, Run, TrainedSpace, block_keys, distinct_networks
from stages.data.config import DataConfig
from stages.nas.config import PruneConfig, SearchConfig
from stages.space.equal_latency import equal_latency

WORTH: Mapping[Choices, float] = {
    choices: 80.0 + float(np.random.default_rng(n).normal()) for n, choices in enumerate(distinct_networks())
}
TRUTH = TrainedSpace(
    {
        block_keys(choices): [Run(choices, seed, worth, worth) for seed in range(3)]
        for choices, worth in WORTH.items()
    }
)


def planted(skill: float, seed: int) -> Found:
    """A search whose estimate is the truth and noise, mixed."""
    random = np.random.default_rng(seed)
    truth = np.array([TRUTH.test_percent(choices) for choices in all_choices()])
    estimated = skill * (truth - 80.0) + (1 - skill) * random.normal(size=len(truth))
    pick = best_under_target(estimated)
    uniform = [[0.0] * (1 + max(c[layer] for c in all_choices())) for layer in range(len(pick))]
    evaluated = [(worth, worth) for worth in WORTH.values()]
    return Found(seed, "search", pick, uniform, estimated.tolist(), 30.0, evaluated, None, 10.0)


def test_opponents_are_others_of_nearly_that_latency_that_could_be_picked() -> None:
    for index in under_target():
        choices = all_choices()[index]
        others = near(choices)
        assert block_keys(choices) not in {block_keys(other) for other in others}
        assert all(equal_latency(predicted_ms(other) / predicted_ms(choices)) for other in others)
        assert all(0.9 * target_ms() <= predicted_ms(other) <= target_ms() for other in others)


def test_the_ruler_is_even_a_blind_pick_beats_half_of_its_opponents() -> None:
    truth = TrainedSpace.read()
    shares = [beaten_share(all_choices()[index], truth) for index in under_target()]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


def test_what_is_picked_without_a_choice_is_under_the_target_and_uses_it() -> None:
    picked = best_under_target(np.arange(len(all_choices()), dtype=float))
    assert 0.9 * target_ms() <= predicted_ms(picked) <= target_ms()


def test_permuted_preferences_are_the_same_ones_of_other_candidates() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=len(all_choices()))
    exchanged = permuted(scores, random)
    assert sorted(exchanged) == sorted(scores)
    assert not np.array_equal(exchanged, scores)


def test_a_permuted_sum_is_a_sum_of_permuted_parts() -> None:
    parts = [np.arange(3.0) * 10.0**layer for layer in range(len(all_choices()[0]))]
    scores = np.array([sum(parts[n][c] for n, c in enumerate(path)) for path in all_choices()])
    table = permuted(scores, np.random.default_rng(1))
    by_path = dict(zip(all_choices(), table, strict=True))
    base = by_path[all_choices()[0]]
    for layer in (1, 2, 4, 5, 7):
        changed = [by_path[c] - base for c in all_choices() if sum(map(bool, c)) == 1 and c[layer]]
        assert len(changed) == 2 and all(abs(abs(gain) % 10.0**layer) < 1e-6 for gain in changed)


def test_who_knows_the_truth_wins_and_who_knows_nothing_does_not() -> None:
    random = np.random.default_rng(2)
    knowing = Held([[planted(1.0, seed).pick] for seed in range(20)], TRUTH)  # type: ignore[list-item]
    guessing = Held([[planted(0.0, seed).pick] for seed in range(100, 120)], TRUTH)  # type: ignore[list-item]
    assert knowing.wins(random) >= 16 and knowing.alarm_rate(random) > 0.9
    assert guessing.wins(random) < 16 and guessing.alarm_rate(random) < 0.1


def test_the_latency_of_what_a_pick_is_held_against_is_stated() -> None:
    picks = [all_choices()[index] for index in under_target()]
    assert all(map(near, picks)), "each has an opponent"
    figures = Held([picks[:3]], TRUTH).figures(np.random.default_rng(0))
    assert equal_latency(figures["random_over_pick_latency"])
    assert figures["picks_without_opponents"] == 0


def test_a_pick_that_none_stands_against_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_vs_random, "near", lambda _choices: [])
    alone = Held([[planted(1.0, 0).pick]], TRUTH)  # type: ignore[list-item]
    figures = alone.figures(np.random.default_rng(0))
    assert (figures["wins"], figures["picks_without_opponents"]) == (0, 1)
    assert figures["mean_percentile"][0] == 50
    ours = [planted(1.0, seed) for seed in range(20)]
    bars = {b.name: b for b in summarise(dict.fromkeys(ARMS, ours), TRUTH, full=True).bars}
    assert not bars["search_wins"].holds and not bars["search_picks_without_opponents"].holds


def test_equal_networks_are_half_beaten() -> None:
    flat = TrainedSpace({keys: [Run(runs[0].choices, 0, 80.0, 80.0)] for keys, runs in TRUTH.runs.items()})
    assert beaten_share(all_choices()[under_target()[0]], flat) == 0.5


def test_more_training_finds_more_and_a_single_one_the_mean() -> None:
    random = np.random.default_rng(3)
    worth = [TRUTH.test_percent(all_choices()[n]) for n in under_target()]
    assert rival_percent(1, TRUTH, random) == pytest.approx(np.mean(worth), abs=0.05)
    assert rival_percent(1, TRUTH, random) < rival_percent(4, TRUTH, random) < max(worth)
    assert rival_percent(len(worth), TRUTH, random) == pytest.approx(max(worth))


@pytest.mark.parametrize(("skill", "holds"), [(1.0, True), (0.0, False)])
def test_the_bar_tells_a_search_that_works_from_one_that_does_not(skill: float, holds: bool) -> None:
    ours = [planted(skill, seed) for seed in range(20)]
    nothing = [planted(0.0, 200 + seed) for seed in range(20)]
    outcome = summarise(dict.fromkeys(ARMS, nothing) | {"search": ours}, TRUTH, full=True)
    bars = {bar.name: bar for bar in outcome.bars}
    assert bars["search_wins"].holds is holds
    assert {f"{control}_rate_of_enough_wins" for control in CONTROLS} < set(bars)
    assert {f"{control}_wins" for control in CONTROLS} < set(bars)


def test_a_control_that_beats_chance_fails_the_benchmark() -> None:
    ours = [planted(1.0, seed) for seed in range(20)]
    outcome = summarise(dict.fromkeys(ARMS, ours), TRUTH, full=True)
    bars = {bar.name: bar for bar in outcome.bars}
    assert not bars["shuffled_labels_wins"].holds
    assert not bars["shuffled_labels_rate_of_enough_wins"].holds


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    small = DataConfig(train_images=200, architecture_images=100)
    monkeypatch.setattr(_tabular_search, "DATA", small)
    search = SearchConfig(warmup_epochs=1, epochs=1, batch_size=50, architecture_every=2)
    monkeypatch.setattr(_tabular_search, "SEARCH", search)
    pick = PruneConfig(evaluations=50, candidates=1, recalibration_batches=1)
    monkeypatch.setattr(_tabular_search, "PICK", pick)


def test_a_frozen_architecture_stays_even_and_shuffled_labels_make_no_choice(tiny: None) -> None:
    frozen, shuffled = search_once((0, "frozen")), search_once((0, "shuffled_labels"))
    assert all(max(row) - min(row) < 1e-6 for row in frozen.log_probabilities)
    assert frozen.pick is not None and predicted_ms(frozen.pick) <= target_ms()
    assert shuffled.pick is None
    assert any(max(row) - min(row) > 1e-3 for row in shuffled.log_probabilities)
    no_multiplier = [search_once((0, arm)) for arm in NO_MULTIPLIER]
    assert no_multiplier[0].log_probabilities != no_multiplier[1].log_probabilities
    assert [one.pick for one in no_multiplier] == [None, None]
    found = {arm: [frozen] for arm in ARMS} | {
        "shuffled_labels": [shuffled],
        "no_multiplier": no_multiplier[:1],
    }
    kinds = picks_of(found, np.random.default_rng(0))
    assert set(CONTROLS) < set(kinds)
    assert search_vs_random.enough_wins(20) == 16
