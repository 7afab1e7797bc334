"""Fitting networks' latencies to their blocks', and judging the fit."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest

from nasflow.base.errors import BadMeasurementError
from stages.latency.fit import (
    FEWEST_FOR_A_SIDE,
    LatencyFit,
    Traits,
    fit_latency,
    fit_line,
    held_out_error,
    one_sided,
)


def test_a_line_is_found_again() -> None:
    sums = [0.05, 0.1, 0.2, 0.4]
    assert fit_line(sums, [1.07 * s + 0.003 for s in sums]) == pytest.approx((1.07, 0.003))


def test_a_negative_overhead_that_noise_explains_becomes_zero() -> None:
    chance, sums = random.Random(5), [0.05 * index for index in range(2, 12)]
    measured = [1.05 * s * chance.gauss(1, 0.02) for s in sums]
    design = np.stack([sums, np.ones(10)], axis=1) / np.array(measured)[:, None]
    assert np.linalg.lstsq(design, np.ones(10))[0][1] < 0
    scale, overhead_ms = fit_line(sums, measured)
    assert overhead_ms == 0
    assert scale == pytest.approx(1.05, rel=0.02)


def test_a_negative_overhead_beyond_doubt_stays() -> None:
    chance, sums = random.Random(5), [0.05 * index for index in range(2, 12)]
    measured = [(1.05 * s - 0.03) * chance.gauss(1, 0.002) for s in sums]
    scale, overhead_ms = fit_line(sums, measured)
    assert overhead_ms == pytest.approx(-0.03, rel=0.05)
    assert scale == pytest.approx(1.05, rel=0.01)


def test_errors_count_relative_to_the_network() -> None:
    """One per cent of a slow network must not outweigh ten of a fast one."""
    sums, measured = [0.1, 0.2, 0.3, 0.4, 49.0, 50.0], [0.11, 0.21, 0.31, 0.41, 45.0, 55.0]
    scale, overhead_ms = fit_line(sums, measured)
    slope, intercept = np.polyfit(sums, measured, 1)
    assert scale * 0.1 + overhead_ms == pytest.approx(0.11, rel=0.02)
    assert slope * 0.1 + intercept != pytest.approx(0.11, rel=0.1)


def test_networks_that_get_faster_with_slower_blocks_are_nonsense() -> None:
    with pytest.raises(BadMeasurementError, match="not slower"):
        fit_line([0.1, 0.2, 0.3, 0.4], [0.5, 0.35, 0.2, 0.05])


def test_the_held_out_error_is_computed_as_named() -> None:
    error = held_out_error([1.04, 2.16, 3.0, 4.8], [1.0, 2.0, 3.0, 4.0], 8.0)
    assert error.networks == 4
    assert error.share_within_5_percent == 0.5
    assert error.share_within_10_percent == 0.75
    assert error.mape_percent == pytest.approx((4 + 8 + 0 + 20) / 4)
    assert error.share_within_interval == 0.75
    of_each = held_out_error([1.04, 2.16, 3.0, 4.8], [1.0, 2.0, 3.0, 4.0], [3.0, 8.0, 8.0, 20.0])
    assert of_each.share_within_interval == 0.75
    assert error.spearman == 1.0
    assert held_out_error([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], 5.0).spearman == -1.0


@pytest.mark.parametrize("constant", ["predicted", "measured"])
def test_ranks_of_equal_numbers_are_not_made_up(constant: str) -> None:
    rising, flat = [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]
    with pytest.raises(BadMeasurementError):
        held_out_error(*((flat, rising) if constant == "predicted" else (rising, flat)), 5.0)


# --- the residual term ------------------------------------------------------------------------------


def networks(count: int, seed: int) -> list[Traits]:
    chance = random.Random(seed)
    return [
        Traits(10 + 40 * index / count + chance.uniform(0, 2), chance.uniform(5, 20), chance.uniform(10, 40))
        for index in range(count)
    ]


def truth(traits: Traits, per_weight: float, chance: random.Random, noise: float) -> float:
    ms = 1.05 * traits.sum_ms + 0.2 + per_weight * traits.weight_megabytes
    return ms * chance.gauss(1, noise)


def test_weights_that_cost_time_in_a_network_are_found() -> None:
    chance = random.Random(3)
    seen, fresh = networks(20, 0), networks(50, 1)
    times = [truth(t, 0.25, chance, 0.005) for t in seen]
    fit = fit_latency(seen, times)
    assert fit.ms_per_weight_megabyte == pytest.approx(0.25, rel=0.25)
    scale, overhead_ms = fit_line([t.sum_ms for t in seen], times)
    later = [truth(t, 0.25, chance, 0.0) for t in fresh]
    errors = [abs(fit.predict_ms(t) / ms - 1) for t, ms in zip(fresh, later, strict=True)]
    line = [abs((scale * t.sum_ms + overhead_ms) / ms - 1) for t, ms in zip(fresh, later, strict=True)]
    assert np.mean(errors) < 0.5 * np.mean(line)


@pytest.mark.parametrize("seed", range(10))
def test_a_residual_term_that_explains_only_noise_is_left_out(seed: int) -> None:
    """Negative control: two more coefficients always fit better; on networks left out they must not."""
    chance = random.Random(100 + seed)
    seen, fresh = networks(10, seed), networks(50, 1000 + seed)
    fit = fit_latency(seen, [truth(t, 0.0, chance, 0.02) for t in seen])
    errors = [abs(fit.predict_ms(t) / truth(t, 0.0, chance, 0.0) - 1) for t in fresh]
    assert np.mean(errors) < 0.03


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_the_intervals_of_many_fits_hold_95_percent_of_other_networks(noise: float) -> None:
    alone, with_others, narrower = [], [], []
    for seed in range(80):
        chance = random.Random(seed)
        seen, fresh = networks(10, seed), networks(120, 500 + seed)
        fit = fit_latency(seen, [truth(t, 0.0, chance, noise) for t in seen])
        off = [truth(traits, 0.0, chance, noise) / fit.predict_ms(traits) - 1 for traits in fresh]
        sizes, width = np.abs(off[20:]), fit.interval_percent(off[:20]) / 100
        alone.append(float(np.mean(sizes <= fit.interval_percent() / 100)))
        with_others.append(float(np.mean(sizes <= width)))
        narrower.append(float(np.mean(sizes <= 0.6 * width)))
    assert 0.93 <= np.mean(alone) <= 0.97
    assert 0.93 <= np.mean(with_others) <= 0.97
    assert min(with_others) >= 0.8
    assert np.mean(narrower) < 0.85  # the control: it is not so wide that it says nothing


def test_an_interval_without_chance_is_students() -> None:
    """Three networks off by 1, 1 and -2 % of a line with one coefficient, and one more by 3 %."""
    fit = LatencyFit(1.0, 0.0, squares=6e-4, networks=3, coefficients=1)
    assert fit.interval_percent() == pytest.approx(100 * 4.302653 * (4 / 3 * 6e-4 / 2) ** 0.5, rel=1e-6)
    assert fit.interval_percent([0.03]) == pytest.approx(
        100 * 3.182446 * (4 / 3 * (6e-4 + 9e-4 * 3 / 4) / 3) ** 0.5, rel=1e-6
    )


def test_what_measuring_alone_scatters_is_no_part_of_a_latency() -> None:
    """Of 28 degrees of freedom 28 * 0.64**2 are left for a variance of which 36 % were noise."""
    fit = LatencyFit(1.0, 0.0, squares=28 * 0.02**2, networks=30, coefficients=2)
    whole = fit.interval_percent()
    assert fit.interval_percent(noise=0.012) == pytest.approx(whole * 0.8 * 2.189 / 2.0484, rel=1e-3)
    assert fit.interval_percent(noise=0.5) == pytest.approx(whole), "what is hardly known is not narrower"


def test_intervals_hold_95_percent_of_latencies_where_most_of_the_errors_is_noise_of_measuring() -> None:
    held, narrower = [], []
    for seed in range(300):
        random = np.random.default_rng(seed)
        own, noise = 0.015, 0.012
        errors = random.normal(0, math.hypot(own, noise), 28)
        fit = LatencyFit(1.0, 0.0, squares=float(errors @ errors), networks=30, coefficients=2)
        share = max(1 - noise**2 * 28 / fit.squares, 0.25)
        latencies = np.abs(random.normal(0, own * (1 + 2 / 30) ** 0.5, 200))
        held.append(float(np.mean(latencies <= fit.interval_percent(noise=noise) / 100)))
        of_all_freedom = fit.interval_percent() * share**0.5
        narrower.append(float(np.mean(latencies <= of_all_freedom / 100)))
    assert 0.94 <= np.mean(held) <= 0.97
    assert np.mean(np.array(held) < 0.8) < np.mean(np.array(narrower) < 0.8) / 2, "few hold far less"


def test_the_interval_does_not_hang_on_the_network_at_the_edge_of_the_range() -> None:
    """Times of a real run, and sums worked back from its errors: the fastest network is far from the rest."""
    sums = [0.0755, 0.1486, 0.2033, 0.2218, 0.2764, 0.3675, 0.4042, 0.4400, 0.4953, 0.5867]
    times = [0.0829, 0.1545, 0.2168, 0.2377, 0.2977, 0.4042, 0.4402, 0.4821, 0.5480, 0.6587]
    fit = fit_latency([Traits(s) for s in sums], times)
    left_out = fit_line(sums[1:], times[1:])
    assert abs(times[0] / (left_out[0] * sums[0] + left_out[1]) - 1) > 0.05
    worst = max(abs(ms / fit.predict_ms(Traits(s)) - 1) for s, ms in zip(sums, times, strict=True))
    assert 100 * worst < fit.interval_percent() < 2.5 * 100 * worst


def test_networks_on_one_side_are_told_and_those_about_the_prediction_are_not() -> None:
    predicted = [float(ms) for ms in range(1, 21)]
    chance = random.Random(0)
    assert one_sided(predicted, [ms * (1.03 + chance.gauss(0, 0.01)) for ms in predicted]) == pytest.approx(
        3.0, abs=0.7
    )
    assert one_sided(predicted, [ms * (0.94 + chance.gauss(0, 0.01)) for ms in predicted]) == pytest.approx(
        -6.0, abs=0.7
    )
    assert one_sided(predicted, [ms * (1 + chance.gauss(0, 0.03)) for ms in predicted]) is None
    assert (
        one_sided(predicted, [ms * 1.002 for ms in predicted]) is None
    )  # one side, and too little to matter
    assert one_sided(predicted, predicted) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_residual_term_never_makes_a_block_cost_less_than_nothing(seed: int) -> None:
    """Weights that seem to save time are noise: in a network they are not in the cache, alone they are."""
    chance = random.Random(seed)
    seen = networks(12, seed)
    fit = fit_latency(seen, [truth(t, -0.2, chance, 0.01) for t in seen])
    assert fit.ms_per_weight_megabyte >= 0
    assert fit.ms_per_activation_megabyte >= 0


@pytest.mark.parametrize("count", [3, 4, 6])
def test_few_networks_give_a_line_and_a_wide_interval(count: int) -> None:
    chance = random.Random(count)
    seen = networks(count, 0)
    fit = fit_latency(seen, [truth(t, 0.3, chance, 0.01) for t in seen])
    assert (fit.ms_per_weight_megabyte, fit.ms_per_activation_megabyte) == (0, 0)
    assert fit.interval_percent() > 2


# --- clocks so coarse that a network's blocks count for nothing --------------------------------------


def coarse_table(chance: random.Random, most: int) -> tuple[list[Traits], list[float]]:
    """Sums of a few steps of a clock, often none, and networks that take about as long."""
    sums = sorted(chance.choice([0.0, 0.001, 0.002, 0.003]) for _ in range(chance.randint(3, most)))
    times = [max(0.0005, round(s * chance.uniform(0.8, 1.6) + chance.uniform(0, 0.001), 3)) for s in sums]
    return [Traits(s, chance.choice([0, 0.01, 1]), chance.choice([0, 0.01, 1])) for s in sums], times


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("most", [6, 10])
def test_a_coarse_table_is_fitted_or_refused_with_the_reason(most: int) -> None:
    chance, fitted, refused = random.Random(most), 0, 0
    for _ in range({6: 600, 10: 30}[most]):
        traits, times = coarse_table(chance, most)
        try:
            fit = fit_latency(traits, times)
            held_out_error([fit.predict_ms(t) for t in traits], times, fit.interval_percent())
            fitted += 1
        except BadMeasurementError as refusal:
            assert re.search("would take|are not slower|all take", refusal.message)
            assert refusal.hint
            refused += 1
    assert fitted and refused


def test_a_network_left_out_that_would_take_no_time_is_refused() -> None:
    with pytest.raises(BadMeasurementError, match=r"by the 3 other .* takes 0\.0005 ms would take 0 ms"):
        fit_latency([Traits(ms) for ms in (0.0, 1.0, 2.0, 3.0)], [0.0005, 0.95, 2.1, 3.0])


@pytest.mark.filterwarnings("error")
def test_a_held_out_prediction_of_no_time_is_refused() -> None:
    with pytest.raises(BadMeasurementError, match=r"takes 0\.0005 ms would take 0 ms"):
        held_out_error([0.0, 1.0, 2.0], [0.0005, 1.0, 2.0], 5.0)


@pytest.mark.filterwarnings("error")
def test_blocks_that_all_take_nothing_fit_no_line() -> None:
    with pytest.raises(BadMeasurementError, match="not slower"):
        fit_line([0.0, 0.0, 0.0], [0.001, 0.002, 0.003])


@pytest.mark.parametrize("count", range(3, 21))
def test_one_side_is_found_from_as_many_networks_on_as_is_said(count: int) -> None:
    predicted = [float(ms) for ms in range(1, count + 1)]
    found = one_sided(predicted, [1.05 * ms for ms in predicted])
    assert (found is not None) == (count >= FEWEST_FOR_A_SIDE)
