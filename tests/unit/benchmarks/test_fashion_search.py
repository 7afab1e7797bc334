"""The benchmark of the quick start's space: what is compared, and by which difference."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.fashion_search import CONFIGURED, RANDOM_NETWORKS, SEARCHES, SHORT, Searched, summarise
from benchmarks.fashion_search import configuration as configured

IMAGES = 2000


def _searched(seed: int, found_share: float, *, randoms: int, random_share: float = 0.6) -> Searched:
    """A found network that is right on that share of the images, and random ones."""
    random = np.random.default_rng(seed)
    shares = {"found": found_share} | {f"random_{n}": random_share for n in range(randoms)}
    pruned: Any = SimpleNamespace(
        found=SimpleNamespace(choices=(0, 1), predicted_ms=0.1),
        randoms=[SimpleNamespace(name=name) for name in shares if name != "found"],
    )
    return Searched(cast(Any, pruned), {name: random.random(IMAGES) < s for name, s in shares.items()})


def _runs(found: float, short: float) -> dict[str, list[Searched]]:
    return {
        CONFIGURED: [_searched(seed, found, randoms=RANDOM_NETWORKS) for seed in range(5)],
        SHORT: [_searched(10 + seed, short, randoms=RANDOM_NETWORKS, random_share=0.55) for seed in range(5)],
    }


def test_each_search_is_held_against_random_networks_of_its_own_finds() -> None:
    figures = summarise(_runs(0.7, 0.45), full=True).figures
    for name, planted in ((CONFIGURED, 10.0), (SHORT, -10.0)):
        value, low, high = figures[f"{name}_minus_random_points"]
        assert low < planted < high
        assert value == pytest.approx(planted, abs=3.0)


def test_a_search_that_finds_nothing_better_does_not_keep_the_bar() -> None:
    (bar,) = summarise(_runs(0.55, 0.6), full=True).bars
    assert not bar.holds
    (bar,) = summarise(_runs(0.65, 0.6), full=True).bars
    assert bar.holds


def test_without_full_there_is_no_bar() -> None:
    assert not summarise(_runs(0.7, 0.5), full=False).bars


def test_searches_differ_by_their_length_alone() -> None:
    one, other = (configured(0, name, full=True) for name in (CONFIGURED, SHORT))
    assert other.search == one.search.model_copy(update={"epochs": 1})
    assert one.prune == other.prune
    assert one.prune.random_networks == RANDOM_NETWORKS
    assert other.training == one.training.model_copy(update={"epochs": 1})
    assert set(SEARCHES) == {CONFIGURED, SHORT}
