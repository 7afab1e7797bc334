"""What test images can show: held against the intervals that are reported, by simulation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.verification.power import (
    accuracy_margin,
    assumed_discordance,
    points,
    smallest_difference,
    what_can_be_shown,
)
from stages.verification.statistics import paired_difference, wilson_interval


def share_shown(images: int, discordance: float, difference: float, trials: int = 1000) -> float:
    """How often the reported interval of a true difference (0..1) leaves out 0."""
    random = np.random.default_rng(images)
    outcomes = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    shown = 0
    for only_a, only_b, _ in random.multinomial(images, outcomes, trials):
        a, b = np.zeros(images, bool), np.zeros(images, bool)
        a[:only_a], b[only_a : only_a + only_b] = True, True
        shown += not paired_difference(a, b).holds(0)
    return shown / trials


@pytest.mark.parametrize(
    ("images", "discordance"), [(20, 0.3), (120, 0.2), (500, 0.06), (2_000, 0.1), (10_000, 0.055)]
)
def test_a_difference_of_that_size_is_shown_in_half_of_the_tests_and_half_of_it_rarely(
    images: int, discordance: float
) -> None:
    smallest = smallest_difference(images, discordance=discordance) / 100
    assert 0.45 < share_shown(images, discordance, smallest) < 0.58
    assert share_shown(images, discordance, smallest / 2) < 0.2
    assert share_shown(images, discordance, 0.0) < 0.07


def test_with_more_power_the_difference_is_shown_in_four_of_five_tests() -> None:
    difference = smallest_difference(300, discordance=0.2, power=0.8) / 100
    assert 0.75 < share_shown(300, 0.2, difference) < 0.87


def test_where_few_images_differ_all_of_them_must_differ_one_way() -> None:
    smallest = smallest_difference(10, discordance=0.2) / 100
    assert smallest > 0.2, "two of ten images cannot show anything"
    a, b = np.zeros(10, bool), np.zeros(10, bool)
    for count in range(11):
        a[:count] = True
        assert paired_difference(a, b).holds(0) == (count / 10 < smallest)


def test_120_images_cannot_show_less_than_8_points() -> None:
    shown = what_can_be_shown(120)
    assert shown.sentence() == (
        "120 test images: differences under 8 points cannot be shown (they are more often missed than found, "
        "if "
        "only one of two networks is right on 20 % of the images); one network's accuracy is known to ±9 "
        "points "
        "or better."
    )


@given(st.integers(1, 10**7), st.floats(0, 1))
def test_more_images_show_smaller_differences(images: int, discordance: float) -> None:
    fewer = smallest_difference(images, discordance=discordance)
    more = smallest_difference(images + max(1, images // 10), discordance=discordance)
    assert 0 < more <= fewer + 1e-9 <= 100 + 1e-9


@given(st.integers(1, 10**6), st.floats(0, 0.9))
def test_networks_that_differ_in_more_images_need_a_larger_difference(
    images: int, discordance: float
) -> None:
    less = smallest_difference(images, discordance=discordance)
    assert less <= smallest_difference(images, discordance=discordance + 0.1) + 1e-9


@pytest.mark.parametrize(("correct", "images"), [(60, 120), (10, 12), (9_184, 10_000), (1, 1)])
def test_the_margin_of_an_accuracy_is_half_of_wilsons_interval(correct: int, images: int) -> None:
    interval = wilson_interval(correct, images)
    margin = accuracy_margin(images, correct / images)
    assert margin == pytest.approx(50 * (interval.high - interval.low))
    assert margin <= accuracy_margin(images) + 1e-9


def test_the_discordance_is_assumed_to_be_half_of_that_of_independent_errors() -> None:
    assert assumed_discordance(0.7) == pytest.approx((0.7 * 0.3 + 0.3 * 0.7) / 2)
    assert smallest_difference(500, accuracy=0.7) == smallest_difference(500, discordance=0.21)


@pytest.mark.parametrize(
    ("value", "text"), [(8.2, "8 points"), (0.877, "0.9 points"), (1.04, "1 point"), (1.96, "2 points")]
)
def test_points_are_as_precise_as_the_statement(value: float, text: str) -> None:
    assert points(value) == text


@pytest.mark.parametrize("options", [{"discordance": 1.2}, {"accuracy": -0.1}, {"power": 2.0}])
def test_impossible_assumptions_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        smallest_difference(100, **options)


def test_nothing_can_be_said_of_no_images() -> None:
    with pytest.raises(ValueError, match="show nothing"):
        smallest_difference(0)
    with pytest.raises(ValueError, match="show nothing"):
        accuracy_margin(0)


def test_it_is_said_without_loading_numpy() -> None:
    code = (
        "import sys, stages.verification.power as p; p.what_can_be_shown(120); "
        "sys.exit('numpy' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
