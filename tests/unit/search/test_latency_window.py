"""Draws from a latency window: which paths come up, how often, and that no other one ever does."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare
from support.planted_values import costs, every_path
from support.toy_search import SPACE, latency_model

from nasflow.base.errors import InfeasibleTargetError
from stages.nas.latency_window import LatencyWindow
from stages.nas.solver import path_ms
from stages.nas.targets import latency_targets, latency_window

Array = NDArray[np.float64]
Rows = list[Array]
Path = tuple[int, ...]

SIZES = (3, 2, 3, 2)
DRAWS = 4000
ROUNDING = 1e-12  # relative: sums in another order


def some_logits(seed: int, sizes: tuple[int, ...] = SIZES, scale: float = 1.0) -> Rows:
    random = np.random.default_rng(seed)
    return [scale * random.normal(size=size) for size in sizes]


def middle_window(seed: int, low: float = 0.3, high: float = 0.7) -> LatencyWindow:
    """From one quantile of all paths' latencies to another."""
    costs_ms = costs(seed, SIZES)
    spent = [path_ms(costs_ms, path) for path in every_path(SIZES).tolist()]
    return LatencyWindow(costs_ms, float(np.quantile(spent, low)), float(np.quantile(spent, high)))


def conditioned(window: LatencyWindow, logits: Rows) -> dict[Path, float]:
    """Each path of the window with its probability, by trying all."""
    weights = {}
    for path in map(tuple, every_path([len(row) for row in logits]).tolist()):
        if window.least_ms <= path_ms([row.tolist() for row in window.costs_ms], path) <= window.most_ms:
            weights[path] = float(np.exp(sum(row[choice] for row, choice in zip(logits, path, strict=True))))
    total = sum(weights.values())
    return {path: weight / total for path, weight in weights.items()}


def paths_of(drawn_NL: NDArray[np.int64]) -> list[Path]:
    return [tuple(path) for path in drawn_NL.tolist()]


# --- how often -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_first_path_is_drawn_from_the_product_conditioned_on_the_window(seed: int) -> None:
    window, logits, random = middle_window(seed), some_logits(seed), np.random.default_rng(seed)
    expected = conditioned(window, logits)
    assert 10 <= len(expected) < 36, "the window is neither nearly empty nor everything"
    seen = Counter(paths_of(window.draw(logits, 1, random))[0] for _ in range(DRAWS))
    assert seen.keys() <= expected.keys()
    counts = [seen[path] for path in expected]
    assert chisquare(counts, [DRAWS * p for p in expected.values()]).pvalue > 0.001
    uniform = [DRAWS / len(expected)] * len(expected)
    assert chisquare(counts, uniform).pvalue < 1e-6, "the logits are not seen to matter"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
def test_the_expected_latency_is_that_of_the_paths_that_are_drawn(seed: int, scale: float) -> None:
    window, logits = middle_window(seed), some_logits(seed, scale=scale)
    costs_ms = [row.tolist() for row in window.costs_ms]
    wanted = sum(p * path_ms(costs_ms, path) for path, p in conditioned(window, logits).items())
    assert window.expected_ms(logits) == pytest.approx(wanted, abs=0.2 * (window.most_ms - window.least_ms))
    assert window.least_ms <= window.expected_ms(logits) <= window.most_ms
    assert window.expected_ms(logits) == window.expected_ms(logits)


def test_further_paths_are_drawn_without_replacement() -> None:
    window, logits, random = middle_window(5, 0.4, 0.6), some_logits(5), np.random.default_rng(5)
    one = conditioned(window, logits)
    assert len(one) < 10
    expected = {(a, b): one[a] * one[b] / (1 - one[a]) for a, b in permutations(one, 2)}
    seen: Counter[tuple[Path, ...]] = Counter(
        tuple(paths_of(window.draw(logits, 2, random))) for _ in range(2 * DRAWS)
    )
    assert seen.keys() <= expected.keys()
    often = [pair for pair, p in expected.items() if 2 * DRAWS * p >= 5]
    counts = [*(seen[pair] for pair in often), 2 * DRAWS - sum(seen[pair] for pair in often)]
    wanted = [*(expected[pair] for pair in often), 1 - sum(expected[pair] for pair in often)]
    assert chisquare(counts, [2 * DRAWS * p for p in wanted]).pvalue > 0.001


def test_a_window_of_everything_leaves_layers_independent() -> None:
    logits, random = some_logits(6), np.random.default_rng(6)
    window = LatencyWindow(costs(6, SIZES), 0.0, 1e6)
    drawn_NL = np.concatenate([window.draw(logits, 1, random) for _ in range(DRAWS)])
    for layer, row in enumerate(logits):
        counts = np.bincount(drawn_NL[:, layer], minlength=len(row))
        p = np.exp(row) / np.exp(row).sum()
        assert chisquare(counts, DRAWS * p).pvalue > 0.001


def test_between_updates_draws_are_those_of_a_window_that_remembers_nothing() -> None:
    """The messages are kept while logits stay as they are: other logits must not meet old messages."""
    kept, random, again = middle_window(7), np.random.default_rng(7), np.random.default_rng(7)
    for seed in (0, 0, 1, 0):
        here = kept.draw(some_logits(seed), 3, random)
        there = middle_window(7).draw(some_logits(seed), 3, again)
        assert (here == there).all()


# --- which -----------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    seed=st.integers(0, 2**20),
    scale=st.sampled_from([0.0, 1.0, 12.0]),
    zeros=st.sampled_from([0.0, 0.3]),
    position=st.floats(0, 1),
    width=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    count=st.integers(1, 6),
)
@settings(max_examples=150)
def test_all_drawn_paths_are_different_ones_of_the_window(
    sizes: list[int], seed: int, scale: float, zeros: float, position: float, width: float, count: int
) -> None:
    random = np.random.default_rng(seed)
    costs_ms = [np.where(random.random(size) < zeros, 0.0, random.random(size)).tolist() for size in sizes]
    spent = [path_ms(costs_ms, path) for path in every_path(sizes).tolist()]
    least_ms = float(np.quantile(spent, position, method="nearest"))
    most_ms = least_ms + width * (max(spent) - least_ms)
    # Of a window, the tolerance is that of targets.bounds_ms.
    window = LatencyWindow(costs_ms, least_ms - 1e-9, most_ms + 1e-9)
    drawn_NL = window.draw(some_logits(seed, tuple(sizes), scale), count, random)
    drawn = paths_of(drawn_NL)
    assert drawn_NL.dtype == np.int64
    assert 1 <= len(drawn) == len(set(drawn)) <= count
    assert window.holds(drawn_NL).all()
    for path in drawn:
        assert all(0 <= choice < size for choice, size in zip(path, sizes, strict=True))
        ms = path_ms(costs_ms, path)
        assert least_ms - 1e-9 - ROUNDING <= ms <= most_ms + 1e-9 + ROUNDING
    assert not window.empty


def test_all_of_a_small_window_are_drawn_where_so_many_are_asked_for() -> None:
    window, random = middle_window(8, 0.45, 0.55), np.random.default_rng(8)
    inside = conditioned(window, some_logits(8))
    assert 2 <= len(inside) <= 6
    for _ in range(20):
        assert set(paths_of(window.draw(some_logits(8), 9, random))) == inside.keys()


def test_a_window_of_one_path_gives_it_whatever_the_logits_say() -> None:
    costs_ms = costs(9, SIZES)
    for path in ((0, 0, 0, 0), (2, 1, 2, 1), (1, 0, 2, 0)):
        ms = path_ms(costs_ms, path)
        window = LatencyWindow(costs_ms, ms - 1e-9, ms + 1e-9)
        for scale in (0.0, 1.0, 30.0):
            drawn = window.draw(some_logits(9, scale=scale), 4, np.random.default_rng(9))
            assert paths_of(drawn) == [path]
        assert window.most_probable(some_logits(9)) == [path]


@pytest.mark.parametrize(
    ("least_ms", "most_ms"),
    [(0.0, 0.1), (50.0, 60.0), (3.0, 2.0), (-5.0, -4.0), (-9.0, 0.0)],
    ids=["below all", "above all", "turned round", "below nothing", "nothing"],
)
def test_an_empty_window_is_refused(least_ms: float, most_ms: float) -> None:
    window = LatencyWindow(costs(1, SIZES), least_ms, most_ms)
    assert window.empty
    with pytest.raises(InfeasibleTargetError):
        window.draw(some_logits(1), 2, np.random.default_rng(1))
    with pytest.raises(InfeasibleTargetError):
        window.most_probable(some_logits(1))


def test_candidates_that_cost_nothing_have_a_window_too() -> None:
    window = LatencyWindow([[0.0, 0.0], [0.0, 0.0]], 0.0, 0.0)
    drawn = window.draw(some_logits(0, (2, 2)), 4, np.random.default_rng(0))
    assert sorted(paths_of(drawn)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


# --- just outside ----------------------------------------------------------------------------------

HALVES = [[0.5, 0.1 * number] for number in range(1, 5)]
"""Four layers; all first candidates together take 2 ms."""


@pytest.mark.parametrize("outside", [0.1, 1e-2, 2e-3, 5e-4])
def test_a_very_probable_path_just_outside_does_not_hide_the_others(outside: float) -> None:
    """It has all but e-24 of the probability, and lies within half a coarse bin of the edge."""
    window = LatencyWindow(HALVES, 0.0, 2.0 * (1 - outside))
    logits = [np.array([6.0, 0.0])] * 4
    drawn = window.draw(logits, 4, np.random.default_rng(2))
    assert len(drawn) == 4
    assert (drawn != 0).any(axis=1).all()


def test_where_it_lies_nearer_than_the_finest_bin_the_most_probable_path_inside_comes_up() -> None:
    window = LatencyWindow(HALVES, 0.0, 2.0 * (1 - 1e-7))
    logits = [np.array([20.0, 0.1 * number]) for number in range(4)]
    drawn = window.draw(logits, 4, np.random.default_rng(3))
    assert window.holds(drawn).all()
    assert paths_of(drawn)[0] in conditioned(window, logits)


def test_a_probable_path_just_outside_changes_nothing_in_how_often_others_come_up() -> None:
    window = LatencyWindow(HALVES, 0.0, 2.0 * (1 - 1e-4))
    logits, random = [np.array([1.0, 0.0])] * 4, np.random.default_rng(4)
    expected = conditioned(window, logits)
    assert len(expected) == 15
    seen = Counter(paths_of(window.draw(logits, 1, random))[0] for _ in range(DRAWS))
    counts = [seen[path] for path in expected]
    assert sum(counts) == DRAWS
    assert chisquare(counts, [DRAWS * p for p in expected.values()]).pvalue > 0.001


# --- at a target's edge ----------------------------------------------------------------------------

LATENCY = latency_model()
ALL = [tuple(path) for path in every_path([len(layer.blocks) for layer in SPACE.layers()]).tolist()]


@pytest.mark.parametrize("path", ALL, ids=lambda path: "".join(map(str, path)))
def test_a_network_exactly_at_its_target_is_drawn(path: Path) -> None:
    """Its blocks are summed in another order there, and what all networks take is taken off."""
    ms = LATENCY.predict_ms(SPACE.network(path))
    at_most = latency_window(SPACE, LATENCY, ms, 1 - 1e-6)
    assert path in paths_of(
        at_most.draw([0.0 * row for row in at_most.costs_ms], 9, np.random.default_rng(0))
    )
    at_least = latency_window(SPACE, LATENCY, ms / 0.8, 0.8)
    assert at_least.holds(np.array([path])).all()


def test_a_target_between_two_networks_is_left_out_unless_it_is_the_first() -> None:
    times = sorted(LATENCY.predict_ms(SPACE.network(path)) for path in ALL)
    gap_ms = times[0] * 1.01
    assert times[0] < gap_ms < times[1]
    found = latency_targets(SPACE, LATENCY, [times[4], gap_ms, times[9]], 0.999)
    assert [target.target_ms for target in found] == [times[4], times[9]]
    (first,) = latency_targets(SPACE, LATENCY, [gap_ms], 0.999)
    assert first.window.empty
