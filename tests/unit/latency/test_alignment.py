"""Models that are slowed otherwise than the anchor: found from themselves, on series whose truth is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.measurement.alignment import FEWEST_MODELS, WINDOW, align
from stages.measurement.drift import Drift, find_drift

Slowing = Callable[[int, str], float]
MODELS = {f"m{number}": 1.0 + 0.3 * number for number in range(30)}
LATE = tuple(MODELS)[10:]
"""Models that are timed in the extra rounds, too, as uncertain ones are."""
KINDS = {name: ("dense", "memory")[number % 2] for number, name in enumerate(MODELS)}


def series(
    slowing: Slowing, *, seed: int, extra: int = 0, noise: float = 0.02
) -> tuple[list[str], list[float]]:
    """Eight rounds of all models in random order and ``extra`` of some; the anchor, never slowed, between.

    ``slowing(round, name)`` is the logarithm of what slows a model.
    """
    chance = random.Random(seed)
    names, medians = [], []

    def time(name: str, true_ms: float, slower: float, scatter: float) -> None:
        names.append(name)
        medians.append(true_ms * math.exp(chance.gauss(0, scatter) + slower))

    for number in range(8 + extra):
        todo = list(MODELS if number < 8 else LATE)
        chance.shuffle(todo)
        for index, name in enumerate(todo):
            if index % 5 == 0:
                time("anchor", 7.0, 0.0, 0.01)
            time(name, MODELS[name], slowing(number, name), noise)
        time("anchor", 7.0, 0.0, 0.01)
    return names, medians


def errors_percent(names: list[str], medians: list[float], factors: tuple[float, ...]) -> Mapping[str, float]:
    """How far each model's median is off, beside the first ten models, in percent."""
    corrected = np.log(medians) - np.log(factors)
    at = {name: [index for index, other in enumerate(names) if other == name] for name in MODELS}
    off = {name: float(np.median(corrected[at[name]])) - math.log(MODELS[name]) for name in MODELS}
    usual = float(np.median([off[name] for name in MODELS if name not in LATE]))
    return {name: 100 * (value - usual) for name, value in off.items()}


def mean(errors: Mapping[str, float]) -> float:
    return sum(errors[name] for name in LATE) / len(LATE)


def nothing(_round: int, _name: str) -> float:
    return 0.0


def another_sitting(number: int, _name: str) -> float:
    return 0.06 if number >= 8 else 0.0


def without_it(names: list[str], medians: list[float]) -> tuple[float, ...]:
    """The anchor's correction alone: a series whose models are all too rare to be aligned."""
    rare = [name if name == "anchor" else f"{name} {index}" for index, name in enumerate(names)]
    return find_drift(rare, medians, "anchor").factors


def test_where_the_anchor_speaks_for_the_models_hardly_anything_is_changed() -> None:
    alarms = 0
    for seed in range(40):
        names, medians = series(nothing, seed=seed, extra=10)
        found = align(names, np.log(medians), "anchor", np.ones(len(names), bool), KINDS)
        alarms += found.percent > 0
        # Where chance looks like a shift, it changes models by less than their own noise does.
        assert abs(mean(errors_percent(names, medians, tuple(np.exp(found.shifts))))) < 1.6
    assert alarms <= 4


def test_what_differs_between_sittings_is_told_and_what_cancels_within_one_is_not() -> None:
    """Two shifts of equal size: one lasts for half of the series, one comes and goes all the time."""
    models = [name for number in range(12) for name in MODELS]  # no anchor between: it speaks for none
    chance, halves, spells = random.Random(0), [], []
    for number in range(len(models)):
        noise = chance.gauss(0, 0.005)
        halves.append(noise + (0.06 if 2 * number >= len(models) else 0.0))
        spells.append(noise + (0.06 if number // WINDOW % 2 else 0.0))
    lasting, passing = (
        align(models, np.array(shift), "anchor", np.ones(len(models), bool)) for shift in (halves, spells)
    )
    assert lasting.percent == pytest.approx(3.0, abs=0.7)
    assert 0 < passing.percent < 0.6 * lasting.percent
    assert passing.shifts.std() == pytest.approx(0.03, abs=0.007), "it is taken out all the same"


@pytest.mark.parametrize("seed", range(5))
def test_a_later_sitting_that_slows_models_but_not_the_anchor_is_taken_out(seed: int) -> None:
    names, medians = series(another_sitting, seed=seed, extra=30)
    drift = find_drift(names, medians, "anchor")
    assert drift.shift_percent > 1.5
    assert abs(mean(errors_percent(names, medians, drift.factors))) < 0.9
    # The control: the anchor alone leaves the models of the extra rounds off to one side.
    assert mean(errors_percent(names, medians, without_it(names, medians))) > 4.0


def test_kinds_of_models_that_are_slowed_apart_are_corrected_apart() -> None:
    names, medians = series(
        lambda number, name: 0.08 if number >= 8 and KINDS[name] == "memory" else 0.0, seed=1, extra=8
    )

    def gap(drift: Drift) -> float:
        errors = errors_percent(names, medians, drift.factors)
        memory = [errors[name] for name in LATE if KINDS[name] == "memory"]
        dense = [errors[name] for name in LATE if KINDS[name] == "dense"]
        return sum(memory) / len(memory) - sum(dense) / len(dense)

    apart = find_drift(names, medians, "anchor", kinds=KINDS)
    assert apart.kinds_percent > 1.0
    assert abs(gap(apart)) < 1.2
    assert gap(find_drift(names, medians, "anchor")) > 2.5  # the control: all taken for one kind


def test_too_few_models_say_nothing() -> None:
    few = FEWEST_MODELS - 1
    logs = np.concatenate([np.zeros(few * WINDOW), np.full(few * WINDOW, 0.2)])
    names = [f"m{index % few}" for index in range(len(logs))]
    assert not align(names, logs, "anchor", np.ones(len(logs), bool)).shifts.any()


def test_the_anchor_is_never_shifted() -> None:
    names, medians = series(another_sitting, seed=0, extra=30)
    found = align(names, np.log(medians), "anchor", np.ones(len(names), bool))
    anchors = np.array(names) == "anchor"
    assert found.shifts[~anchors].any()
    assert not found.shifts[anchors].any()


@given(
    st.lists(
        st.tuples(st.sampled_from(["anchor", *"abcdefgh"]), st.floats(-20, 20), st.booleans()), max_size=120
    )
)
def test_any_series_is_aligned_by_finite_shifts(rows: list[tuple[str, float, bool]]) -> None:
    names, logs = [name for name, _, _ in rows], np.array([log for _, log, _ in rows], float)
    found = align(names, logs, "anchor", np.array([counts for _, _, counts in rows], bool), {"a": "k"})
    assert found.shifts.shape == logs.shape
    assert np.isfinite(found.shifts).all()
    assert math.isfinite(found.percent)
