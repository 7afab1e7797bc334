"""Intervals against known truths, by hand, by simulation and with negative controls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from nasflow.base.errors import UsageError
from stages.verification.estimate import Estimate
from stages.verification.sequential import ratio_interval
from stages.verification.statistics import (
    Contender,
    difference_from_mean,
    equal_accuracy_speedup,
    latency_ratio,
    paired_difference,
    wilson_interval,
)

Bits = NDArray[np.bool_]


def answers(random: np.random.Generator, accuracy: float, images: int = 10_000) -> Bits:
    return random.random(images) < accuracy


# --- accuracy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (9123, 10_000), (1, 3)])
def test_the_accuracy_interval_is_wilsons(correct: int, total: int) -> None:
    ours = wilson_interval(correct, total)
    theirs = stats.binomtest(correct, total).proportion_ci(method="wilson")
    assert ours.interval == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.holds(correct / total)


@pytest.mark.parametrize(("correct", "total"), [(11, 10), (-1, 10), (0, 0)])
def test_an_impossible_count_is_refused(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match="not an accuracy"):
        wilson_interval(correct, total)


# --- difference of accuracies ------------------------------------------------------------------------


def test_a_difference_is_that_of_the_two_accuracies() -> None:
    a = np.array([True, True, False, True])
    b = np.array([True, False, False, False])
    assert paired_difference(a, b).value == 0.5
    assert paired_difference(b, a).value == -0.5


def test_identical_answers_differ_by_nothing_but_not_with_certainty() -> None:
    same = answers(np.random.default_rng(0), 0.9, 200)
    difference = paired_difference(same, same)
    assert difference.value == 0
    assert -0.03 < difference.low < 0 < difference.high < 0.03


def test_a_difference_for_one_set_of_weights_covers_the_truth_in_95_percent() -> None:
    random = np.random.default_rng(1)
    shared, only_a, only_b, trials = 0.85, 0.04, 0.02, 2000
    covered = 0
    for _ in range(trials):
        u = random.random(500)
        a = u < shared + only_a
        b = (u < shared) | (u > 1 - only_b)
        covered += paired_difference(a, b).holds(only_a - only_b)
    assert 0.935 < covered / trials < 0.97


@pytest.mark.parametrize("seed_spread", [0.0, 0.02])
def test_a_difference_over_seeds_covers_the_truth_in_about_95_percent(seed_spread: float) -> None:
    random = np.random.default_rng(2)
    seeds, images, trials = 3, 400, 600
    covered = 0
    for _ in range(trials):
        # Truth: both recipes have the same accuracy; images differ in difficulty, for each network a
        # little differently, and every training lands a little above or below its mean.
        hard = random.uniform(0.6, 1.0, images)
        taste = random.choice([-0.1, 0.1], (2, images))
        luck = random.normal(0, seed_spread, (2, seeds, 1))
        chance = np.clip(hard + taste[:, None, :] + luck, 0, 1)
        a, b = random.random((2, seeds, images)) < chance
        covered += paired_difference(a, b).holds(0.0)
    assert 0.94 < covered / trials < 0.99


def test_the_luck_of_the_seeds_widens_the_interval() -> None:
    random = np.random.default_rng(3)
    steady = answers(random, 0.9, 3000).reshape(3, 1000)
    lucky = np.stack([answers(random, accuracy, 1000) for accuracy in (0.84, 0.90, 0.96)])
    other = answers(random, 0.9, 3000).reshape(3, 1000)
    calm, wild = paired_difference(steady, other), paired_difference(lucky, other)
    assert wild.high - wild.low > 2 * (calm.high - calm.low)


def test_one_seed_in_a_row_is_the_same_as_no_row() -> None:
    random = np.random.default_rng(4)
    a, b = answers(random, 0.9), answers(random, 0.89)
    assert paired_difference(a[None], b[None]) == paired_difference(a, b)


def test_a_permuted_pairing_loses_power() -> None:
    random = np.random.default_rng(5)
    hard = random.random(4000)
    a, b = hard < 0.90, hard < 0.893
    paired = paired_difference(a, b)
    permuted = paired_difference(a, random.permutation(b))
    assert paired.value == pytest.approx(permuted.value)
    assert paired.low > 0, "on the same images the difference is significant"
    assert permuted.holds(0), "with the pairing lost it is not"


def test_answers_to_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(np.ones(10, bool), np.ones(9, bool))


# --- difference from the mean of several networks ----------------------------------------------------


def test_the_mean_of_one_network_is_that_network() -> None:
    random = np.random.default_rng(6)
    a, b = answers(random, 0.9, 900).reshape(3, 300), answers(random, 0.8, 900).reshape(3, 300)
    assert difference_from_mean(a, b[:, None]) == paired_difference(a, b)
    assert difference_from_mean(a[0], b[:1]) == paired_difference(a[0], b[0])
    assert difference_from_mean(a[:1], b[None]) == difference_from_mean(a[0], b)


def test_the_difference_is_that_from_the_mean_accuracy() -> None:
    random = np.random.default_rng(7)
    a, others = answers(random, 0.9, 600).reshape(2, 300), answers(random, 0.8, 2400).reshape(2, 4, 300)
    assert difference_from_mean(a, others).value == pytest.approx(a.mean() - others.mean())
    assert difference_from_mean(a[0], others[0]).value == pytest.approx(a[0].mean() - others[0].mean())


def test_answers_of_other_seeds_or_images_are_refused() -> None:
    for a, others in (((9,), (2, 10)), ((3, 10), (2, 4, 10)), ((10,), (10,)), ((3, 10), (3, 10))):
        with pytest.raises(ValueError, match="cannot be paired"):
            difference_from_mean(np.ones(a, bool), np.ones(others, bool))


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.1])
def test_the_mean_of_all_networks_is_covered_in_about_95_percent(spread: float) -> None:
    random = np.random.default_rng(8)
    networks, images, trials, covered = 5, 400, 500, 0
    for _ in range(trials):
        # Truth: one network that is 0.05 better than the mean of all others, of which a few are drawn.
        hard = random.uniform(0.45, 0.6, images)
        luck = random.normal(0, spread, (networks, 1))
        a, others = random.random(images) < hard + 0.05, random.random((networks, images)) < hard + luck
        covered += difference_from_mean(a, others).holds(0.05)
    assert 0.93 < covered / trials < 0.98


@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_the_mean_over_seeds_with_draws_of_their_own_is_covered_in_about_95_percent(spread: float) -> None:
    random = np.random.default_rng(9)
    seeds, networks, images, trials, covered = 3, 5, 400, 500, 0
    for _ in range(trials):
        hard = random.uniform(0.6, 0.95, images)
        luck = random.normal(0, spread, (seeds, networks, 1))
        own = random.normal(0, 0.01, (seeds, 1))
        a = random.random((seeds, images)) < hard + 0.05 + own
        others = random.random((seeds, networks, images)) < hard + luck
        covered += difference_from_mean(a, others).holds(0.05)
    assert 0.93 < covered / trials < 0.995


def test_the_spread_between_networks_widens_the_interval() -> None:
    random = np.random.default_rng(10)
    a = answers(random, 0.9, 1000)
    alike = answers(random, 0.8, 5000).reshape(5, 1000)
    unlike = np.stack([answers(random, accuracy, 1000) for accuracy in (0.7, 0.75, 0.8, 0.85, 0.9)])
    calm, wild = difference_from_mean(a, alike), difference_from_mean(a, unlike)
    assert wild.high - wild.low > 2 * (calm.high - calm.low)


# --- ratio of latencies ------------------------------------------------------------------------------


def noisy_rounds(random: np.random.Generator, true_ms: float, shared: NDArray[np.float64]) -> list[float]:
    return list(true_ms * shared * np.exp(random.normal(0, 0.02, len(shared))))


@pytest.mark.parametrize("rounds", [3, 5, 6, 12, 25])
def test_networks_of_equal_latency_have_a_ratio_that_holds_1_in_about_95_percent(rounds: int) -> None:
    random = np.random.default_rng(rounds)
    trials = 1000
    held = 0
    for _ in range(trials):
        shared = np.exp(random.normal(0, 0.1, rounds))  # the device's mood strikes both
        ratio = latency_ratio(noisy_rounds(random, 0.3, shared), noisy_rounds(random, 0.3, shared))
        held += ratio.holds(1.0)
    assert 0.93 < held / trials < 0.985


def test_the_ratio_interval_covers_a_true_ratio_of_a_half() -> None:
    random = np.random.default_rng(7)
    held = 0
    for _ in range(1000):
        shared = np.exp(random.normal(0, 0.1, 12))
        held += latency_ratio(noisy_rounds(random, 0.2, shared), noisy_rounds(random, 0.4, shared)).holds(0.5)
    assert 0.93 < held / 1000 < 0.985


def test_rounds_paired_wrongly_lose_power() -> None:
    random = np.random.default_rng(8)
    shared = np.exp(random.normal(0, 0.2, 20))
    a, b = noisy_rounds(random, 0.30, shared), noisy_rounds(random, 0.33, shared)
    right, wrong = latency_ratio(a, b), latency_ratio(a, list(random.permutation(b)))
    assert right.high < 1
    assert wrong.holds(1.0)
    assert wrong.high - wrong.low > 3 * (right.high - right.low)


def test_one_disturbed_round_hardly_moves_the_interval() -> None:
    random = np.random.default_rng(9)
    a, b = noisy_rounds(random, 0.2, np.ones(12)), noisy_rounds(random, 0.4, np.ones(12))
    calm = latency_ratio(a, b)
    disturbed = latency_ratio([a[0] * 2, *a[1:]], b)
    assert disturbed.value == pytest.approx(calm.value, rel=0.01)
    assert disturbed.high == pytest.approx(calm.high, rel=0.03), "a mean would move by 6 %"


@pytest.mark.parametrize("error", [0.05, 0.003])
def test_the_interval_is_the_one_that_a_gate_decides_by(error: float) -> None:
    logs = np.random.default_rng(10).normal(0, 0.05, 20)
    ratio = latency_ratio(list(np.exp(logs)), [1.0] * 20, error)
    theirs = ratio_interval(list(logs), error)
    assert (ratio.value, *ratio.interval) == pytest.approx((theirs.value, *theirs.interval))


def test_the_interval_of_few_rounds_is_students() -> None:
    logs = np.array([0.01, -0.02, 0.03, 0.015])
    ratio = latency_ratio(list(np.exp(logs)), [1.0] * 4)
    theirs = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx((theirs.low, theirs.high))


def test_the_ratio_is_that_of_the_middle_rounds_and_lies_in_its_interval() -> None:
    a, b = [2.0] * 10, [1.0] * 8 + [9.0, 0.01]
    ratio = latency_ratio(a, b)
    assert ratio.value == pytest.approx(2.0)
    assert ratio.holds(ratio.value)


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0]), ([], [])]
)
def test_rounds_that_give_no_ratio_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rounds|above 0"):
        latency_ratio(a, b)


def test_a_speedup_is_the_ratio_turned_over() -> None:
    assert Estimate(0.5, 0.4, 0.8).inverse() == Estimate(2.0, 1.25, 2.5)


# --- the rule ----------------------------------------------------------------------------------------


def contender(name: str, correct: Bits, ms: float) -> Contender:
    random = np.random.default_rng(len(name))
    return Contender(name, correct, noisy_rounds(random, ms, np.ones(10)))


@pytest.fixture
def ladder() -> list[Contender]:
    """MobileNetV2s of 88, 90, 92 and 94 % on the same images, the better the slower."""
    hard = np.random.default_rng(11).random(10_000)
    return [
        contender(f"width {ms}", hard < accuracy, ms)
        for accuracy, ms in ((0.88, 0.1), (0.90, 0.2), (0.92, 0.4), (0.94, 0.8))
    ]


def found_with(accuracy: float, ms: float) -> Contender:
    return contender("found", np.random.default_rng(11).random(10_000) < accuracy, ms)


def test_the_reference_is_the_fastest_that_is_not_significantly_less_accurate(
    ladder: list[Contender],
) -> None:
    outcome = equal_accuracy_speedup(found_with(0.919, 0.1), ladder)
    assert outcome.reference == "width 0.4"
    assert not outcome.found_beats_all
    assert outcome.speedup.value == pytest.approx(4, rel=0.05)
    assert outcome.speedup.low > 3.5
    assert outcome.ratio.value == pytest.approx(1 / outcome.speedup.value)
    assert "width 0.4 is the fastest MobileNetV2 that is not significantly less accurate" in outcome.reason


def test_a_hair_less_accurate_still_counts_as_equal(ladder: list[Contender]) -> None:
    assert equal_accuracy_speedup(found_with(0.9001, 0.1), ladder).reference == "width 0.2"


def test_a_significantly_more_accurate_baseline_may_be_the_reference(ladder: list[Contender]) -> None:
    outcome = equal_accuracy_speedup(found_with(0.93, 0.1), ladder)
    assert outcome.reference == "width 0.8"
    assert outcome.difference.low > 0


def test_a_found_network_that_beats_them_all_meets_the_fastest_of_the_best(
    ladder: list[Contender],
) -> None:
    hard = np.random.default_rng(11).random(10_000)
    nearly_best = contender("nearly the best", hard < 0.9399, 0.5)
    outcome = equal_accuracy_speedup(found_with(0.97, 0.1), [*ladder, nearly_best])
    assert outcome.found_beats_all
    assert outcome.reference == "nearly the best"
    assert outcome.difference.high < 0
    assert outcome.reason.startswith("Every MobileNetV2 is significantly less accurate")


def test_a_slower_found_network_is_said_to_be_slower(ladder: list[Contender]) -> None:
    outcome = equal_accuracy_speedup(found_with(0.90, 0.4), ladder)
    assert outcome.reference == "width 0.2"
    assert outcome.speedup.high < 1


def test_networks_of_several_seeds_are_compared_over_all_of_them() -> None:
    random = np.random.default_rng(12)

    def trained(accuracies: tuple[float, ...]) -> Bits:
        hard = np.random.default_rng(13).random(5000)
        return np.stack([hard + random.normal(0, 0.02, 5000) < accuracy for accuracy in accuracies])

    found = contender("found", trained((0.90, 0.92, 0.94)), 0.1)
    # Worse by 1.5 points on average, but so uncertain a mean does not say so: it stays a rival.
    steady = contender("steady", trained((0.905, 0.905, 0.905)), 0.2)
    poor = contender("poor", trained((0.80, 0.81, 0.82)), 0.05)
    outcome = equal_accuracy_speedup(found, [steady, poor])
    assert outcome.reference == "steady"
    assert found.accuracy == pytest.approx(0.92, abs=0.005)


def test_without_a_baseline_there_is_no_comparison() -> None:
    with pytest.raises(UsageError, match=r"baseline\.widths"):
        equal_accuracy_speedup(found_with(0.9, 0.1), [])
