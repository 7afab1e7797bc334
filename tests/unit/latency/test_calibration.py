"""Drawing networks evenly over the latencies of a space."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.latency_spaces import SPACE, TINY

from nasflow.base.errors import UsageError
from stages.latency.calibration import FEWEST, check_enough, draw_networks, range_ms, split_networks
from stages.space.search_space import SearchSpace, StageSpec


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
    indices = [(ms - fastest) / (slowest - fastest) for ms in sums]
    assert indices[0] < 0.1
    assert indices[-1] > 0.9
    assert max(later - earlier for earlier, later in itertools.pairwise(indices)) < 0.1


def test_the_seed_decides_which_networks_are_drawn() -> None:
    draws = [draw_networks(SPACE, block_ms(SPACE), 10, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_space_with_too_few_networks_says_what_to_lower() -> None:
    distinct = {tuple(b.key for b in TINY.network(c).blocks) for c in itertools.product(*_layers(TINY))}
    assert len(draw_networks(TINY, block_ms(TINY), len(distinct), 0)) == len(distinct)
    with pytest.raises(UsageError, match=f"offers {len(distinct)} different .*held_out_networks"):
        draw_networks(TINY, block_ms(TINY), len(distinct) + 1, 0)


@pytest.mark.parametrize(
    ("layers", "offered", "hint"),
    [
        (1, 1, "It needs 6 at least, 3 to fit it and 3 to evaluate it: give the space's layers more"),
        (3, 3, "It needs 6 at least"),
        (6, 6, "Set latency.calibration_networks=3 and latency.held_out_networks=3, or give"),
        (20, 20, "Set latency.calibration_networks=6 and latency.held_out_networks=14, or give"),
    ],
)
def test_the_advice_for_a_space_with_few_networks_can_be_followed(
    layers: int, offered: int, hint: str
) -> None:
    only = TINY.candidates[0]
    stages = (StageSpec(width=8, layers=1, stride=2, fixed=only), StageSpec(width=8, layers=layers - 1 or 1))
    update = {"stages": stages if layers > 1 else stages[:1], "candidates": (only,)}
    space = SearchSpace.model_validate(TINY.model_copy(update=update).model_dump())
    assert space.different_networks == offered
    with pytest.raises(UsageError) as caught:
        check_enough(space, space.different_networks, 30)
    assert hint in caught.value.hint
    if offered >= 2 * FEWEST:
        words = caught.value.hint.replace(",", "").split()
        numbers = [int(word.partition("=")[2]) for word in words if "=" in word]
        assert min(numbers) >= FEWEST
        check_enough(space, space.different_networks, sum(numbers))


def _layers(space: SearchSpace) -> list[range]:
    return [range(len(layer.blocks)) for layer in space.layers()]


@given(st.data(), st.sampled_from([TINY, SPACE]), st.integers(0, 5))
@settings(max_examples=30)
def test_blocks_without_measurable_time_are_drawn_like_all_others(
    data: st.DataObject, space: SearchSpace, seed: int
) -> None:
    """A last stage at one pixel may take less than the clock counts: whole layers are then 0."""
    blocks = space.distinct_blocks()
    instant = data.draw(st.sets(st.sampled_from([block.key for block in blocks])))
    times = {key: 0.0 if key in instant else ms for key, ms in block_ms(space).items()}
    count = 8
    networks = draw_networks(space, times, count, seed)
    assert len({tuple(block.key for block in space.network(c).blocks) for c in networks}) == count
    sums = [sum(times[block.key] for block in space.network(c).blocks) for c in networks]
    assert sums == sorted(sums)


def test_a_layer_that_takes_no_time_is_drawn_uniformly() -> None:
    layer = SPACE.layers()[-1]
    instant = {block.key for block in layer.blocks if block is not None}
    times = {key: 0.0 if key in instant else ms for key, ms in block_ms(SPACE).items()}
    networks = draw_networks(SPACE, times, 400, seed=0)
    counts = Counter(choices[-1] for choices in networks)
    assert len(counts) == len(layer.blocks)
    assert min(counts.values()) > 0.6 * 400 / len(layer.blocks)


@given(st.integers(3, 40), st.integers(3, 40), st.integers(0, 5))
def test_the_split_is_complete_and_both_parts_cover_the_range(
    calibration: int, held_out: int, seed: int
) -> None:
    networks = [(index,) for index in range(calibration + held_out)]
    fitted, assessment = split_networks(networks, calibration, seed)
    assert (len(fitted), len(assessment)) == (calibration, held_out)
    assert sorted(fitted + assessment) == networks
    size = len(networks) / calibration
    assert all(index // size == run or abs(index - run * size) <= size for run, (index,) in enumerate(fitted))


@pytest.mark.parametrize("space", [TINY, SMALLER], ids=["tiny", "with_skips"])
def test_the_range_is_that_of_all_networks(space: SearchSpace) -> None:
    sums = [sum_ms(space, choices) for choices in itertools.product(*_layers(space))]
    assert range_ms(space, block_ms(space)) == pytest.approx((min(sums), max(sums)))
