"""What is held against what: planted truths in place of trained networks, and one tiny real search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _tabular_search, search_vs_random
from benchmarks._tabular import TABULAR, Choices, Run, TrainedSpace
from benchmarks._tabular_ruler import (
    CONTROLS,
    MINIMUM_SHARE,
    PERMUTED,
    Ruler,
    control_bars,
    scores,
    targets_ms,
)
from benchmarks._tabular_search import ESTIMATORS, KINDS, OWN_TARGETS, Found, Learned, search_of, search_once
from benchmarks.search_vs_random import (
    Held,
    permuted_pick,
    picks_of,
    rival_percent,
    summarise,
)
from benchmarks.tabular_space import silent
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.config import DataConfig, open_dataset
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.search_loop import SearchLoop, architecture_of
from stages.nas.targets import latency_targets
from stages.space.equal_latency import equal_latency
from stages.training.runtime import start_runtime

WORTH: Mapping[Choices, float] = {
    choices: 80.0 + float(np.random.default_rng(n).normal()) for n, choices in enumerate(TABULAR.networks)
}
TRUTH = TrainedSpace(
    TABULAR,
    {
        TABULAR.keys(choices): [Run(choices, seed, worth, worth) for seed in range(3)]
        for choices, worth in WORTH.items()
    },
)
RULER = Ruler(TRUTH)
SIZES = [len(layer.blocks) for layer in TABULAR.space.layers()]
TARGETS_MS = targets_ms(TABULAR)
FIRST_MS = TARGETS_MS[0]
TINY = replace(TABULAR, data=DataConfig(train_images=160, architecture_images=100))


def learned(skill: float, seed: int) -> Learned:
    """Picks by the truth and noise, mixed; probabilities that are noise."""
    random = np.random.default_rng(seed)
    truth = np.array([TRUTH.test_percent(choices) for choices in TABULAR.paths])
    scores = skill * (truth - 80.0) + (1 - skill) * random.normal(size=len(truth))
    rows = [np.log(random.dirichlet(np.ones(size))).tolist() for size in SIZES]
    picks = [RULER.best_under_target(scores, target_ms) for target_ms in TARGETS_MS]
    return Learned([rows for _ in TARGETS_MS], picks, 0.1, 1248)


def planted(seed: int, **skills: float) -> Found:
    """A supernet on which the kinds have these skills; the others have none."""
    kinds = {kind: learned(skills.get(kind, 0.0), 1000 * number + seed) for number, kind in enumerate(KINDS)}
    training = TRUTH.runs[TABULAR.keys(TABULAR.paths[0])][0]
    return Found(TABULAR.name, seed, kinds, kinds["search"].picks[0], 30.0, training, 10.0)


def test_the_first_target_is_the_middle_of_all_latencies_and_all_are_different() -> None:
    times = sorted(map(TABULAR.ms, TABULAR.networks))
    assert times[len(times) // 2] == FIRST_MS
    assert len(set(TARGETS_MS)) == len(TARGETS_MS) == 8


@pytest.mark.parametrize("target_ms", TARGETS_MS)
def test_opponents_are_others_of_nearly_that_latency_that_could_be_picked(target_ms: float) -> None:
    for index in RULER.under_target(target_ms):
        choices = TABULAR.paths[index]
        others = RULER.near(choices, target_ms)
        assert others
        assert TABULAR.keys(choices) not in {TABULAR.keys(other) for other in others}
        assert all(equal_latency(TABULAR.ms(other) / TABULAR.ms(choices)) for other in others)
        assert all(0.9 * target_ms - 1e-9 <= TABULAR.ms(other) <= target_ms + 1e-9 for other in others)


def test_the_bars_ruler_has_opponents_of_five_percent_and_bars_are_held_against_it() -> None:
    of_bars = RULER.of_the_bars()
    near, further = (
        ruler.near(TABULAR.paths[RULER.under_target(FIRST_MS)[0]], FIRST_MS) for ruler in (RULER, of_bars)
    )
    assert set(near) < set(further)
    found = [planted(seed, search=0.7) for seed in range(20)]
    outcome = summarise(found, RULER, full=True)
    by_bars = Held(picks_of(RULER, found, np.random.default_rng(0))["search"], of_bars).means
    bars = {bar.name: bar.value for bar in outcome.bars}
    assert bars["search_percentile_over_targets"] == pytest.approx(np.mean(by_bars))
    assert (
        bars["search_percentile_over_targets"]
        != outcome.figures["kinds"]["search"]["percentile_over_targets"][0]
    )


def test_the_ruler_is_even_a_blind_pick_beats_half_of_its_opponents() -> None:
    ruler = Ruler.read(TABULAR)
    shares = [
        np.mean(
            [ruler.beaten_share(TABULAR.paths[index], target_ms) for index in ruler.under_target(target_ms)]
        )
        for target_ms in TARGETS_MS
    ]
    assert shares[0] == pytest.approx(0.5, abs=0.02)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


def test_the_rulers_noise_is_that_of_trainings_and_its_signal_is_without_it() -> None:
    random = np.random.default_rng(0)
    runs = {
        keys: [Run(of[0].choices, seed, 0.0, of[0].test_percent + random.normal() / 2) for seed in range(3)]
        for keys, of in TRUTH.runs.items()
    }
    ruler = Ruler(TrainedSpace(TABULAR, runs))
    seen = [ruler.signal_to_noise(target_ms) for target_ms in TARGETS_MS]
    assert np.mean([of["deviation_between_trainings_points"] for of in seen]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([of["deviation_between_networks_points"] for of in seen]) == pytest.approx(1.0, abs=0.2)
    assert RULER.signal_to_noise(FIRST_MS)["signal_to_noise"] is None, "trainings that do not differ"


def test_permuted_probabilities_are_the_same_ones_of_other_candidates() -> None:
    random = np.random.default_rng(0)
    rows = [[-(10.0**layer) * n for n in range(size)] for layer, size in enumerate(SIZES)]
    picks = {permuted_pick(RULER, rows, FIRST_MS, random) for _ in range(50)}
    assert len(picks) > 5
    assert all(TABULAR.paths.index(pick) in RULER.under_target(FIRST_MS) for pick in picks)
    assert scores(TABULAR, rows)[TABULAR.paths.index((0,) * len(SIZES))] == 0


def test_who_knows_the_truth_wins_and_who_knows_nothing_does_not() -> None:
    random = np.random.default_rng(2)
    knowing = Held([[learned(1.0, seed).picks] for seed in range(20)], RULER).figures(random)
    guessing = Held([[learned(0.0, seed).picks] for seed in range(20)], RULER).figures(random)
    assert knowing["wins"] >= 16 and knowing["expected_wins"] > 17 and knowing["supernets_below_60"] == 0
    assert guessing["wins"] < 16 and 5 < guessing["expected_wins"] < 15
    low, high = guessing["percentile_over_targets"][1:]
    assert low < 50 < high < knowing["percentile_over_targets"][1]


def test_the_latency_of_what_a_pick_is_held_against_is_stated() -> None:
    figures = Held([[learned(0.0, 0).picks]], RULER).figures(np.random.default_rng(0))
    assert equal_latency(figures["random_over_pick_latency"])
    assert figures["picks_without_opponents"] == 0


def test_a_pick_that_none_stands_against_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ruler, "near", lambda *_: [])
    outcome = summarise([planted(seed, search=1.0) for seed in range(20)], RULER, full=True)
    search = outcome.figures["kinds"]["search"]
    assert (search["wins"], search["picks_without_opponents"], search["percentile"][0]) == (0, 160, 50)
    bars = {bar.name: bar.holds for bar in outcome.bars}
    assert not bars["search_percentile_over_targets"] and not bars["search_picks_without_opponents"]


def test_equal_networks_are_half_beaten() -> None:
    flat = {keys: [Run(runs[0].choices, 0, 80.0, 80.0)] for keys, runs in TRUTH.runs.items()}
    ruler = Ruler(TrainedSpace(TABULAR, flat))
    assert ruler.beaten_share(TABULAR.paths[RULER.under_target(FIRST_MS)[0]], FIRST_MS) == 0.5


def test_more_training_finds_more_and_a_single_one_the_mean() -> None:
    random = np.random.default_rng(3)
    worth = [TRUTH.test_percent(TABULAR.paths[n]) for n in RULER.under_target(FIRST_MS)]
    assert rival_percent(1, RULER, random) == pytest.approx(np.mean(worth), abs=0.05)
    assert rival_percent(1, RULER, random) < rival_percent(4, RULER, random) < max(worth)
    assert rival_percent(len(worth), RULER, random) == pytest.approx(max(worth))


@pytest.mark.parametrize(("skill", "holds"), [(1.0, True), (0.0, False)])
def test_the_bars_tell_a_search_that_works_from_one_that_does_not(skill: float, holds: bool) -> None:
    found = [planted(seed, search=skill, **{OWN_TARGETS: skill}) for seed in range(20)]
    outcome = summarise(found, RULER, full=True)
    bars = {bar.name: bar.holds for bar in outcome.bars}
    of_search = ["percentile_over_targets", "percentile_over_targets_lower_end", "supernets_below_60"]
    for kind in ("search", OWN_TARGETS):
        assert [bars[f"{kind}_{name}"] for name in of_search] == [holds] * 3
    assert {f"{control}_lower_end" for control in CONTROLS} < set(bars)
    assert all(bars[f"{control}_lower_end"] for control in CONTROLS)
    assert outcome.figures["pruned_is_most_probable"] == 20
    difference = outcome.figures["kinds"]["two_path"]["search_minus_this_over_targets"]
    assert (difference[1] > 0) is holds
    assert outcome.figures["table_reproduced"] == [20, 20]


@pytest.mark.parametrize("control", ["blind", "shuffled_labels"])
def test_a_control_that_beats_chance_fails_the_benchmark(control: str) -> None:
    found = [planted(seed, search=1.0, **{control: 1.0}) for seed in range(20)]
    bars = {bar.name: bar.holds for bar in summarise(found, RULER, full=True).bars}
    assert not bars[f"{control}_lower_end"]
    assert bars["search_percentile_over_targets"]


def test_controls_that_know_nothing_may_not_be_worse_than_chance_either() -> None:
    intervals = {
        "blind": [40.0, 30.0, 49.0],
        PERMUTED: [51.0, 49.0, 53.0],
        "shuffled_labels": [7.0, 3.0, 12.0],
    }
    bars = {bar.name: (bar.holds, bar.limit) for bar in control_bars(intervals, 52.0)}
    assert bars == {
        "blind_lower_end": (True, 52.0),
        "blind_upper_end": (False, 52.0),
        f"{PERMUTED}_lower_end": (True, 52.0),
        f"{PERMUTED}_upper_end": (True, 52.0),
        "shuffled_labels_lower_end": (True, 52.0),
    }


def test_chance_is_what_a_path_drawn_at_random_is_worth() -> None:
    random = np.random.default_rng(0)
    drawn = [
        100 * RULER.beaten_share(TABULAR.paths[random.choice(RULER.under_target(target_ms))], target_ms)
        for target_ms in TARGETS_MS
        for _ in range(1000)
    ]
    assert RULER.chance_percentile() == pytest.approx(np.mean(drawn), abs=1.5)


def test_the_first_pick_is_the_products() -> None:
    found = planted(0)
    other = found.learned["blind"].picks[0]
    picks = picks_of(RULER, [Found(**{**vars(found), "pruned": other})], np.random.default_rng(0))
    assert picks["search"][0][0] == [other, *found.learned["search"].picks[1:]]
    assert len(picks[PERMUTED][0]) == search_vs_random.PERMUTATIONS


# --- a real search -----------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tabular_search, "SPACES", {TINY.name: TINY})
    search = SearchConfig(warmup_epochs=1, epochs=1, batch_size=20, architecture_every=2)
    monkeypatch.setattr(_tabular_search, "SEARCH", {TINY.name: search})
    pick = PruneConfig(candidates=1, recalibration_batches=1)
    monkeypatch.setattr(_tabular_search, "PICK", pick)
    training = Run(TINY.paths[0], 0, 80.0, 80.0)
    monkeypatch.setattr(_tabular_search, "train_network", lambda *_of: training)


def test_each_kind_picks_for_every_target_and_what_was_found_can_be_kept(tiny: None) -> None:
    read = search_once((TINY.name, 0))
    found = Found.parse(json.loads(json.dumps(read)))
    assert asdict(found) == read
    assert set(found.learned) == set(KINDS)
    for of_kind in found.learned.values():
        for target_ms, pick in zip(TARGETS_MS, of_kind.picks, strict=True):
            assert TABULAR.paths.index(pick) in RULER.under_target(target_ms)
    assert TABULAR.ms(found.pruned) <= FIRST_MS
    assert {of_kind.passes for of_kind in found.learned.values()} == {16}
    different = {str(of_kind.log_probabilities) for of_kind in found.learned.values()}
    assert len(different) == len(KINDS)
    own, first = found.learned[OWN_TARGETS], found.learned["search_one_target"]
    assert own.log_probabilities[0] == first.log_probabilities[0]
    assert own.log_probabilities[1] != first.log_probabilities[1]


def test_beside_others_a_kind_learns_what_it_learns_alone(tiny: None, tmp_path: Path) -> None:
    def context() -> Context:
        return Context("search", "", Store(tmp_path, silent), FleetingScratch(), silent)

    _, learners = search_of(TINY, 0, context())
    space, latency = TINY.space, TINY.latency
    data = open_dataset(TINY.data)
    for kind in ("search", "two_path"):
        runtime = start_runtime(0)  # which seeds the weights, too
        config = _tabular_search.SEARCH[TINY.name].model_copy(update=dict(ESTIMATORS[kind]))
        alone = SearchLoop(
            config,
            space,
            0,
            architecture_of(space, latency),
            latency_targets(space, latency, TARGETS_MS, MINIMUM_SHARE),
            context(),
            runtime,
            data.load("train").batches(config.batch_size, runtime.device),
            data.load("architecture").batches(config.architecture_batch_size, runtime.device),
        )
        alone.to_the_end()
        beside = learners[kind].architecture.probabilities()
        for own, other in zip(alone.architecture.probabilities(), beside, strict=True):
            assert own.tolist() == pytest.approx(other.tolist(), rel=1e-6)
