"""Drawing networks, fitting the line, judging it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.latency_spaces import SPACE, TINY

from nasflow.errors import BadMeasurement, UsageError
from stages.calibration import draw_networks, fit_line, held_out_error, range_ms, split_networks
from stages.search_space import SearchSpace


def block_ms(space: SearchSpace) -> dict[str, float]:
    return {block.key: 0.001 + block.macs / 3e7 for block in space.distinct_blocks()}


def sum_ms(space: SearchSpace, choices: tuple[int, ...]) -> float:
    return sum(block_ms(space)[block.key] for block in space.network(choices).blocks)


SMALLER = SPACE.model_copy(update={"stages": SPACE.stages[:3]})


@pytest.mark.parametrize("space", [SMALLER, SPACE], ids=["enumerated", "drawn"])
def test_drawn_networks_cover_the_range_evenly(space: SearchSpace) -> None:
    assert (space.size <= 4096) == (space is SMALLER)
    networks = draw_networks(space, block_ms(space), 30, seed=0)
    sums = [sum_ms(space, choices) for choices in networks]
    fastest, slowest = range_ms(space, block_ms(space))
    assert len({tuple(b.key for b in space.network(c).blocks) for c in networks}) == 30
    assert sums == sorted(sums)
    # Uniform choices would leave the outer thirds of the range nearly empty.
    places = [(ms - fastest) / (slowest - fastest) for ms in sums]
    assert places[0] < 0.1
    assert places[-1] > 0.9
    assert max(later - earlier for earlier, later in itertools.pairwise(places)) < 0.1


def test_the_seed_decides_which_networks_are_drawn() -> None:
    draws = [draw_networks(SPACE, block_ms(SPACE), 10, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_space_with_too_few_networks_says_what_to_lower() -> None:
    distinct = {tuple(b.key for b in TINY.network(c).blocks) for c in itertools.product(*_layers(TINY))}
    assert len(draw_networks(TINY, block_ms(TINY), len(distinct), 0)) == len(distinct)
    with pytest.raises(UsageError, match=f"offers {len(distinct)} different .*held_out_networks"):
        draw_networks(TINY, block_ms(TINY), len(distinct) + 1, 0)


def _layers(space: SearchSpace) -> list[range]:
    return [range(len(layer.blocks)) for layer in space.layers()]


@given(st.integers(3, 40), st.integers(3, 40), st.integers(0, 5))
def test_the_split_is_complete_and_both_parts_cover_the_range(
    calibration: int, held_out: int, seed: int
) -> None:
    networks = [(place,) for place in range(calibration + held_out)]
    fitted, judged = split_networks(networks, calibration, seed)
    assert (len(fitted), len(judged)) == (calibration, held_out)
    assert sorted(fitted + judged) == networks
    size = len(networks) / calibration
    assert all(place // size == run or abs(place - run * size) <= size for run, (place,) in enumerate(fitted))


def test_a_line_is_found_again() -> None:
    sums = [0.05, 0.1, 0.2, 0.4]
    assert fit_line(sums, [1.07 * s + 0.003 for s in sums]) == pytest.approx((1.07, 0.003))


def test_a_negative_overhead_that_noise_explains_becomes_zero() -> None:
    chance, sums = random.Random(5), [0.05 * place for place in range(2, 12)]
    measured = [1.05 * s * chance.gauss(1, 0.02) for s in sums]
    design = np.stack([sums, np.ones(10)], axis=1) / np.array(measured)[:, None]
    assert np.linalg.lstsq(design, np.ones(10))[0][1] < 0
    scale, overhead_ms = fit_line(sums, measured)
    assert overhead_ms == 0
    assert scale == pytest.approx(1.05, rel=0.02)


def test_a_negative_overhead_beyond_doubt_stays() -> None:
    chance, sums = random.Random(5), [0.05 * place for place in range(2, 12)]
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
    with pytest.raises(BadMeasurement, match="not slower"):
        fit_line([0.1, 0.2, 0.3, 0.4], [0.5, 0.35, 0.2, 0.05])


def test_the_held_out_error_is_computed_as_named() -> None:
    error = held_out_error([1.04, 2.16, 3.0, 4.8], [1.0, 2.0, 3.0, 4.0])
    assert error.networks == 4
    assert error.share_within_5_percent == 0.5
    assert error.share_within_10_percent == 0.75
    assert error.mape_percent == pytest.approx((4 + 8 + 0 + 20) / 4)
    assert error.spearman == 1.0
    assert held_out_error([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).spearman == -1.0


@pytest.mark.parametrize("constant", ["predicted", "measured"])
def test_ranks_of_equal_numbers_are_not_made_up(constant: str) -> None:
    rising, flat = [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]
    with pytest.raises(BadMeasurement):
        held_out_error(*((flat, rising) if constant == "predicted" else (rising, flat)))


@pytest.mark.parametrize("space", [TINY, SMALLER], ids=["tiny", "with_skips"])
def test_the_range_is_that_of_all_networks(space: SearchSpace) -> None:
    sums = [sum_ms(space, choices) for choices in itertools.product(*_layers(space))]
    assert range_ms(space, block_ms(space)) == pytest.approx((min(sums), max(sums)))
