"""The benchmark of short searches: which networks it looks at, and when its bars hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import _kept_lines, short_search
from benchmarks.short_search import RATES, networks, quick_start, summarise, work

ACCURACIES = [80.0, 82.0, 81.0, 85.0]


def _said(*values: list[float]) -> dict[Any, Any]:
    """What supernets of each rate, and the untrained one, say of four networks."""
    return {(rate, 0): {"estimated": of, "last": of} for rate, of in enumerate(values)}


def test_networks_may_be_picked_under_the_quick_starts_target_and_are_the_same_on_every_computer() -> None:
    space, costs, window = quick_start()
    paths = networks(8)
    assert len(set(paths)) == 8
    for path in paths:
        total_ms = costs["fixed_ms"] + sum(
            row[choice] for row, choice in zip(costs["costs_ms"], path, strict=True)
        )
        assert 0.9 <= total_ms / costs["target_ms"] <= 1.0
    assert [len(row) for row in window.costs_ms] == [len(layer.blocks) for layer in space.layers()]
    assert paths[:4] == networks(4)[:4]


def test_the_bars_want_the_default_to_order_better_than_the_earlier_rate_and_than_no_training() -> None:
    assert len(RATES) == 2
    right, wrong, none = [1.0, 3.0, 2.0, 4.0], [4.0, 2.0, 3.0, 1.0], [1.0, 2.0, 4.0, 3.0]
    outcome = summarise(ACCURACIES, _said(right, none, wrong), full=True)
    assert outcome.figures["rate_0.025_estimated"] == [pytest.approx(1.0)]
    assert outcome.figures["untrained_last"] == [pytest.approx(-1.0)]
    assert all(bar.holds for bar in outcome.bars)
    worse = summarise(ACCURACIES, _said(none, right, right), full=True)
    assert [bar.holds for bar in worse.bars] == [False, False]
    assert not summarise(ACCURACIES, _said(right, none, wrong), full=False).bars


def test_a_supernet_says_something_of_every_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept_lines, "user_cache_path", lambda _name: tmp_path)
    few = short_search.QUICK_DATA.model_copy(update={"train_images": 300})
    monkeypatch.setattr(short_search, "QUICK_DATA", few)
    said = work(("supernet", 1, 3, 0, 0))
    assert {name: len(of) for name, of in said.items()} == {"estimated": 3, "last": 3}
    assert all(value < 0 for value in said["last"]), "a loss with its sign changed"
    assert 0 < work(("network", 1, 3, 1)) < 100
