"""Rules replayed on recorded losses: what is recorded, what a rule makes of it, and what controls do."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._tabular import TABULAR
from benchmarks._tabular_ruler import Ruler, scores, targets_ms
from benchmarks.record_losses import CHOSEN_BY, CONFIRMED_BY, recorded
from benchmarks.search_rules import (
    RULES,
    Replay,
    _bars,
    replay,
    summarise,
    tried_percentiles,
)

pytestmark = pytest.mark.parametrize("rule", RULES)


def test_every_supernet_is_recorded_whole_and_rewards_what_is_right(rule: str) -> None:
    del rule
    for supernet in (*CHOSEN_BY, *CONFIRMED_BY):
        true, shuffled = (recorded(TABULAR, kind, supernet) for kind in ("true", "shuffled"))
        assert true.shape == shuffled.shape == (156, len(TABULAR.paths))
        assert true.mean() < np.log(10) < shuffled.mean()


def test_what_a_rule_finds_is_better_than_most_networks_of_its_latency(rule: str) -> None:
    ruler, target_ms = Ruler.read(TABULAR), targets_ms(TABULAR)[0]
    (rows,) = replay(Replay(TABULAR.name, 0, rule, "true", (0,)))
    assert ruler.beaten_share(ruler.best_under_target(scores(TABULAR, rows), target_ms), target_ms) > 0.6
    shuffled, blind = (
        replay(Replay(TABULAR.name, 0, rule, losses, (0,)))[0] for losses in ("shuffled", "blind")
    )
    for other in (shuffled, blind):
        assert not np.array_equal(scores(TABULAR, rows), scores(TABULAR, other)), (
            "the rule has not looked at the losses"
        )


def test_figures_and_bars_name_what_misses_them(rule: str) -> None:
    supernets = (CHOSEN_BY[0], CONFIRMED_BY[0])
    uniform = [np.zeros(1 + max(path[n] for path in TABULAR.paths)) for n in range(len(TABULAR.paths[0]))]
    results = {
        Replay(TABULAR.name, supernet, name, losses, (target,)): [uniform]
        for supernet in supernets
        for name in RULES
        for losses in ("true", "blind", "shuffled")
        for target in range(len(targets_ms(TABULAR)))
    }
    figures = summarise(TABULAR, results, supernets)
    of_rule = figures["percentiles"][rule]
    assert of_rule["mean_over_targets"] == figures["percentiles"][f"{rule}_blind"]["mean_over_targets"]
    assert figures["percentiles"]["least_recorded_loss"]["confirmed"][0] > 70
    missed = {bar.name for bar in _bars(figures) if not bar.holds}
    assert "posterior_mean_over_targets" in missed


def test_a_training_of_a_few_chooses_among_those_that_are_most_probable_and_no_others(rule: str) -> None:
    del rule
    ruler, target_ms = Ruler.read(TABULAR), targets_ms(TABULAR)[1]
    by_truth = np.array([ruler.truth.test_percent(path) for path in TABULAR.paths])
    best = tried_percentiles(by_truth, target_ms, ruler)
    assert best[5] <= best[3] <= best[2] <= 100, "the best one is there, and is not always chosen"
    worst = tried_percentiles(-by_truth, target_ms, ruler)
    assert 0 < worst[5] < 50 < best[5], "of the worst ones, a training finds better ones than the very worst"
