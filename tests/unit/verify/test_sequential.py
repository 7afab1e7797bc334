"""Intervals that may be looked at several times: against series whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.verification.sequential import planned_looks, ratio_interval, smallest_shown

Series = Callable[[np.random.Generator, int], np.ndarray]


def independent(random: np.random.Generator, blocks: int) -> np.ndarray:
    """Normal noise."""
    return random.normal(size=blocks)


def autocorrelated(random: np.random.Generator, blocks: int) -> np.ndarray:
    """An AR(1) process of correlation 0.3."""
    noise = random.normal(size=blocks)
    values = np.empty(blocks)
    values[0] = noise[0]
    for index in range(1, blocks):
        values[index] = 0.3 * values[index - 1] + math.sqrt(1 - 0.3**2) * noise[index]
    return values


def disturbed(random: np.random.Generator, blocks: int) -> np.ndarray:
    """Normal noise, one block in ten far out on one of both sides."""
    far = random.choice([-8.0, 0.0, 8.0], size=blocks, p=[0.05, 0.9, 0.05])
    return random.normal(size=blocks) + far


@given(first=st.integers(3, 200), more=st.integers(0, 800))
def test_the_errors_of_all_looks_add_up_to_5_percent(first: int, more: int) -> None:
    looks = planned_looks(first, first + more)
    counts = [look.blocks for look in looks]
    assert (counts[0], counts[-1]) == (first, first + more)
    assert counts == sorted(set(counts))
    assert sum(look.error for look in looks) == pytest.approx(0.05)
    assert all(look.error > 0 for look in looks)


@pytest.mark.parametrize(("first", "most"), [(2, 30), (10, 9), (0, 0)])
def test_a_gate_of_too_few_blocks_cannot_be_planned(first: int, most: int) -> None:
    with pytest.raises(ValueError, match="cannot be planned"):
        planned_looks(first, most)


@pytest.mark.parametrize(("series", "least"), [(independent, 94), (autocorrelated, 92.5), (disturbed, 94)])
def test_all_intervals_of_a_gate_hold_the_truth_together(series: Series, least: float) -> None:
    random, gates, held = np.random.default_rng(3), 1500, 0
    looks = planned_looks(10, 30)
    for _ in range(gates):
        logs = 0.02 * series(random, 30) + math.log(0.8)
        held += all(ratio_interval(logs[: look.blocks], look.error).holds(0.8) for look in looks)
    assert 100 * held / gates >= least


def test_without_their_plan_the_looks_would_be_wrong_more_often() -> None:
    """The negative control: a 95 % interval at every look."""
    random, gates, held = np.random.default_rng(3), 1500, 0
    for _ in range(gates):
        logs = 0.02 * random.normal(size=30)
        held += all(ratio_interval(logs[: look.blocks], 0.05).holds(1.0) for look in planned_looks(10, 30))
    assert 100 * held / gates < 92


@given(
    logs=st.lists(st.floats(-1, 1), min_size=6, max_size=60),
    shift=st.floats(-2, 2),
)
def test_an_interval_follows_the_ratio_and_its_inverse(logs: list[float], shift: float) -> None:
    own = ratio_interval(logs, 0.02)
    assert own.low <= own.value <= own.high
    moved = ratio_interval([value + shift for value in logs], 0.02)
    inverse = ratio_interval([-value for value in logs], 0.02)
    for end in ("value", "low", "high"):
        assert getattr(moved, end) == pytest.approx(math.exp(shift) * getattr(own, end), rel=1e-6)
        assert getattr(inverse.inverse(), end) == pytest.approx(getattr(own, end), rel=1e-6)


def test_less_error_takes_a_wider_interval() -> None:
    logs = 0.02 * np.random.default_rng(0).normal(size=20)
    narrow, wide = (ratio_interval(logs, error) for error in (0.05, 0.01))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_one_block_far_out_hardly_moves_the_ratio() -> None:
    logs = 0.01 * np.random.default_rng(0).normal(size=20)
    far = logs.copy()
    far[7] = 2.0
    assert ratio_interval(far, 0.05).value == pytest.approx(ratio_interval(logs, 0.05).value, abs=0.01)


@pytest.mark.parametrize("logs", [[0.0], [0.0] * 9 + [math.nan], [0.0] * 9 + [math.inf]])
def test_what_gives_no_interval_is_refused(logs: list[float]) -> None:
    with pytest.raises(ValueError, match="do not give an interval"):
        ratio_interval(logs, 0.05)


def test_what_is_called_shown_is_shown_about_as_often_as_said() -> None:
    deviation, blocks, error = 0.02, 30, 0.05
    change = smallest_shown(deviation, blocks, error)
    random, gates = np.random.default_rng(5), 1000
    shown = sum(
        ratio_interval(math.log1p(change) + deviation * random.normal(size=blocks), error).low > 1
        for _ in range(gates)
    )
    assert 0.74 < shown / gates < 0.9
