"""Drift in a series of timings, on series whose speed is known."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.measurement.drift import find_drift


def series(
    count: int,
    speed: list[float],
    *,
    noise: float = 0.0,
    every: int = 5,
    seed: int = 0,
    models: int = 20,
) -> tuple[list[str], list[float]]:
    """Timings of models that take 1, 2, 3 ... ms; each ``every``-th is of the anchor, which takes 7 ms."""
    chance = random.Random(seed)
    names, medians = [], []
    for number in range(count):
        model = chance.randrange(models)
        name = "anchor" if number % (every + 1) == 0 else f"m{model}"
        true_ms = 7.0 if name == "anchor" else 1.0 + model
        names.append(name)
        medians.append(true_ms * speed[number] * chance.lognormvariate(0, noise))
    return names, medians


def test_a_step_of_the_clock_is_no_spell() -> None:
    names = ["short"] * 12 + ["long"] * 12
    medians = [1.0, 1.0, 2.0, 1.0, 0.5, 1.0, 1.0, 2.0, 1.0, 1.0, 6.0, 1.0, *[100.0] * 11, 130.0]
    exact, coarse = find_drift(names, medians, ""), find_drift(names, medians, "", steps_ms=[1.0] * 24)
    assert [index for index, hit in enumerate(coarse.disturbed) if hit] == [10, 23]
    assert {2, 4, 7, 10, 23} <= {index for index, hit in enumerate(exact.disturbed) if hit}


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=30))
def test_an_exact_clock_has_no_steps(medians: list[float]) -> None:
    names = ["anchor" if index % 3 == 0 else "m" for index in range(len(medians))]
    told = find_drift(names, medians, "anchor", steps_ms=[0.0] * len(medians))
    assert told == find_drift(names, medians, "anchor")


def ar1(count: int, deviation: float, correlation: float, seed: int) -> list[float]:
    chance, state, logs = random.Random(f"ar1 {seed}"), 0.0, []
    state = chance.gauss(0, deviation)
    for _ in range(count):
        logs.append(state)
        state = correlation * state + chance.gauss(0, deviation * math.sqrt(1 - correlation**2))
    return [math.exp(log) for log in logs]


def off(names: list[str], medians: list[float], factors: tuple[float, ...]) -> float:
    """Typical error of a timing when ``factors`` are taken out."""
    true_ms = [7.0 if name == "anchor" else 1.0 + int(name[1:]) for name in names]
    errors = [m / f / t - 1 for m, f, t in zip(medians, factors, true_ms, strict=True)]
    return float(np.sqrt(np.mean(np.square(errors))))


def test_a_steady_device_is_left_alone() -> None:
    names, medians = series(300, [1.0] * 300)
    drift = find_drift(names, medians, "anchor")
    assert drift.factors == pytest.approx([1.0] * 300)
    assert not any(drift.disturbed)
    assert drift.levels == ((1.0, 1.0),)
    assert drift.reference_ms == pytest.approx(7.0)


@pytest.mark.parametrize("at", [60, 150, 260])
@pytest.mark.parametrize("step", [1.25, 1 / 1.25])
def test_a_step_is_found_where_it_is_and_the_fast_level_is_the_reference(at: int, step: float) -> None:
    names, medians = series(400, [1.0] * at + [step] * (400 - at), noise=0.01)
    drift = find_drift(names, medians, "anchor")
    fast = min(1.0, step)
    truth = [(1.0 if n < at else step) / fast for n in range(400)]
    assert sorted(level for level, _ in drift.levels) == pytest.approx([1.0, 1.25], rel=0.02)
    assert drift.levels[0][1] == pytest.approx(at / 400, abs=0.03)
    for factor, true, disturbed in zip(drift.factors, truth, drift.disturbed, strict=True):
        assert disturbed or factor == pytest.approx(true, rel=0.03)
    assert sum(drift.disturbed) < 10


@pytest.mark.parametrize("levels", [(1.0, 1.25, 1.12), (1.0, 1.25, 1.0), (1.25, 1.0, 1.25)])
def test_two_steps_are_found(levels: tuple[float, ...]) -> None:
    names, medians = series(450, [level for level in levels for _ in range(150)], noise=0.005)
    found = [level for level, _ in find_drift(names, medians, "anchor").levels]
    assert found == pytest.approx([level / min(levels) for level in levels], rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_a_fluctuation_that_lasts_is_taken_out(seed: int) -> None:
    speed = ar1(600, 0.05, 0.97, seed)
    names, medians = series(600, speed, noise=0.005, seed=seed)
    drift = find_drift(names, medians, "anchor")
    assert off(names, medians, drift.factors) < 0.6 * off(names, medians, (1.0,) * 600)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_the_single_timing_is_not_taken_for_drift(seed: int) -> None:
    """Negative control: correcting by a noisy anchor would add its noise to every timing."""
    names, medians = series(600, [1.0] * 600, noise=0.03, seed=seed)
    drift = find_drift(names, medians, "anchor")
    plain = off(names, medians, (1.0,) * 600)
    assert off(names, medians, drift.factors) < 1.08 * plain
    assert [level for level, _ in drift.levels] == [1.0]


@pytest.mark.parametrize("seed", range(10))
def test_a_lively_device_that_does_not_throttle_has_one_level(seed: int) -> None:
    speed = ar1(900, 0.05, 0.8, seed)
    names, medians = series(900, speed, seed=seed)
    drift = find_drift(names, medians, "anchor")
    assert len(drift.levels) == 1
    assert drift.reference_ms == pytest.approx(7.0, rel=0.03)


def test_a_spell_is_disturbed_and_hardly_anything_else() -> None:
    speed = [1.5 if 100 <= n < 115 else 1.0 for n in range(400)]
    names, medians = series(400, speed, noise=0.01)
    drift = find_drift(names, medians, "anchor")
    hit = [n for n, disturbed in enumerate(drift.disturbed) if disturbed]
    assert set(hit) >= set(range(100, 115))
    assert len(hit) <= 20
    assert [level for level, _ in drift.levels] == [1.0]


def test_an_earlier_series_sets_the_reference() -> None:
    names, medians = series(200, [1.25] * 200, noise=0.005)
    drift = find_drift(names, medians, "anchor", reference_ms=7.0)
    assert drift.factors == pytest.approx([1.25] * 200, rel=0.02)
    assert drift.reference_ms == pytest.approx(7.0)


def test_a_device_that_has_cooled_down_gives_a_new_reference() -> None:
    names, medians = series(200, [1.0] * 200, noise=0.005)
    drift = find_drift(names, medians, "anchor", reference_ms=7.0 * 1.25)
    assert drift.reference_ms == pytest.approx(7.0, rel=0.01)
    assert drift.factors == pytest.approx([1.0] * 200, rel=0.02)


def test_without_an_anchor_only_spells_are_seen() -> None:
    names, medians = series(200, [1.0] * 190 + [2.0] * 10, noise=0.005)
    models = [(n, m) for n, m in zip(names, medians, strict=True) if n != "anchor"]
    drift = find_drift([n for n, _ in models], [m for _, m in models], "anchor")
    assert set(drift.factors) == {1.0}
    assert sum(drift.disturbed) > 3
    assert drift.reference_ms is None


@given(
    st.lists(st.tuples(st.sampled_from(["anchor", "a", "b"]), st.floats(1e-6, 1e6)), min_size=1, max_size=60),
    st.one_of(st.none(), st.floats(1e-6, 1e6)),
)
def test_any_series_of_times_has_finite_positive_factors(
    timings: list[tuple[str, float]], reference_ms: float | None
) -> None:
    drift = find_drift([n for n, _ in timings], [ms for _, ms in timings], "anchor", reference_ms)
    assert len(drift.factors) == len(drift.disturbed) == len(timings)
    assert all(math.isfinite(f) and f > 0 for f in drift.factors)
