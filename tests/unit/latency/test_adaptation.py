"""An old phone's latency model on a new one, by a few networks: pure, on truths that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.latency_spaces import SPACE, TINY
from support.memory_context import memory_context
from support.simulated_device import SIMULATED, SimulatedDevice

from android_bench.device import LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import BadMeasurementError, UsageError
from stages.documents import LatencyModel, ReferenceLatency
from stages.latency.adaptation import TakenThere, adapt, old_times, own_error, plan
from stages.latency.calibration import Choices, draw_networks
from stages.latency.config import LatencyConfig
from stages.latency.informative import block_times, choose_networks, counts_of
from stages.latency.likeness import Spread, likeness_of
from stages.latency.ratios import Known, infer_ratios
from stages.latency.table_check import block_kinds
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps

BLOCKS = SPACE.distinct_blocks()
KINDS = block_kinds(BLOCKS)
LIKENESS = likeness_of(BLOCKS)
FEW_SPREADS = (Spread(0.0, 0.0, 0.01), Spread(0.2, 0.05, 0.05), Spread(0.4, 0.2, 0.25))
SOMEWHERE = TakenThere(
    SIMULATED,
    RuntimeOptions(),
    ReferenceLatency(
        name="mobilenet_v2_1.0",
        net=SPACE.network(SPACE.middle_path()),
        measurement=LatencyMeasurement(
            median_ms=1, p5_ms=1, p95_ms=1, min_ms=1, runs=1, rounds=1, round_medians_ms=(1,)
        ),
    ),
    (),
    seconds=12.5,
    shift_percent=0.0,
)


@pytest.fixture(scope="module")
def old() -> LatencyModel:
    device = SimulatedDevice(noise=0.005)
    table = ProfileOps(ProfileConfig(rounds=4), SPACE, RuntimeOptions(), 0, device).run(
        memory_context("profile")
    )
    return FitLatency(LatencyConfig(rounds=4), SPACE, RuntimeOptions(), 0, device).run(
        memory_context("latency"), table=table
    )


def by_kind(**ratios: float) -> NDArray[np.float64]:
    return np.array([ratios.get(KINDS[block.key], 1.0) for block in BLOCKS] + [1.0])


def measured(
    networks: Sequence[Choices], there: NDArray[np.float64]
) -> list[tuple[Choices, LatencyMeasurement]]:
    return [
        (
            choices,
            LatencyMeasurement(
                median_ms=ms, p5_ms=ms, p95_ms=ms, min_ms=ms, runs=9, rounds=3, round_medians_ms=(ms,) * 3
            ),
        )
        for choices, ms in zip(networks, counts_of(SPACE, networks) @ there, strict=True)
    ]


def judged(old: LatencyModel) -> list[Choices]:
    return draw_networks(SPACE, block_times(SPACE, old_times(old, SPACE)), 100, 5)


def adapted_to(old: LatencyModel, ratios: NDArray[np.float64]) -> LatencyModel:
    there = old_times(old, SPACE) * ratios
    chosen = plan(old, SPACE, 10, 10, 0)
    return adapt(old, SPACE, measured(chosen.learned, there), measured(chosen.held_out, there), SOMEWHERE)


def test_kinds_that_differ_are_found_by_ten_networks(old: LatencyModel) -> None:
    ratios = by_kind(depthwise=1.4, dense=0.8)
    model = adapted_to(old, ratios)
    truth = counts_of(SPACE, judged(old)) @ (old_times(old, SPACE) * ratios)
    predicted = [model.predict_ms(SPACE.network(choices)) for choices in judged(old)]
    before = [old.predict_ms(SPACE.network(choices)) for choices in judged(old)]
    assert np.mean(np.abs(predicted / truth - 1) <= 0.05) >= 0.9
    assert np.mean(np.abs(predicted / truth - 1)) < 0.3 * np.mean(np.abs(before / truth - 1))
    assert model.held_out_error.share_within_5_percent >= 0.9
    assert model.adaptation is not None
    assert model.adaptation.unadapted_error.mape_percent > 2 * model.held_out_error.mape_percent
    found = {kind.kind: kind for kind in model.adaptation.kinds}
    assert {kind.blocks for kind in found.values()} == {list(KINDS.values()).count(name) for name in found}
    assert found["dense"].ratio < found["memory"].ratio


@pytest.mark.parametrize("factor", [0.05, 1.0, 12.0])
def test_a_device_of_another_speed_needs_no_more_than_its_scale(old: LatencyModel, factor: float) -> None:
    model = adapted_to(old, np.full(len(BLOCKS) + 1, factor))
    for choices in judged(old)[::10]:
        network = SPACE.network(choices)
        assert model.predict_ms(network) == pytest.approx(factor * old.predict_ms(network), rel=1e-3)
    assert model.feasible_ms == pytest.approx([factor * ms for ms in old.feasible_ms], rel=1e-2)
    assert model.adaptation is not None
    for kind in model.adaptation.kinds:
        assert kind.ratio_interval_95[0] <= factor <= kind.ratio_interval_95[1]


def test_its_interval_covers_blocks_that_differ_each_for_itself(old: LatencyModel) -> None:
    within = []
    for seed in range(3):
        chance = np.random.default_rng(seed)
        ratios = np.append(np.exp(chance.normal(0, 0.12, len(BLOCKS))), 1.0)
        model = adapted_to(old, ratios)
        truth = counts_of(SPACE, judged(old)) @ (old_times(old, SPACE) * ratios)
        predicted = np.array([model.predict_ms(SPACE.network(choices)) for choices in judged(old)])
        within.append(np.mean(np.abs(truth / predicted - 1) <= model.interval_percent / 100))
    assert np.mean(within) >= 0.9


def test_the_document_is_whole_and_says_where_it_came_from(old: LatencyModel) -> None:
    model = adapted_to(old, by_kind(depthwise=1.2))
    assert LatencyModel.model_validate_json(model.model_dump_json()) == model
    assert model.adaptation is not None
    assert model.adaptation.device.serial == ""
    assert model.scale == 1
    assert model.seconds == 12.5
    assert len(model.calibration) == len(model.held_out) == 10
    assert "adaptation" not in old.model_dump(), "what was stored before is written as it was"


def test_its_interval_knows_that_sittings_differ(old: LatencyModel) -> None:
    """As that of a model that is fitted in full."""
    there = old_times(old, SPACE) * by_kind(depthwise=1.4)
    chosen = plan(old, SPACE, 10, 10, 0)
    one, other = (
        adapt(
            old,
            SPACE,
            measured(chosen.learned, there),
            measured(chosen.held_out, there),
            replace(SOMEWHERE, shift_percent=shift_percent),
        )
        for shift_percent in (0.0, 3.0)
    )
    assert other.shift_percent == 3.0
    assert other.interval_percent == pytest.approx(math.hypot(one.interval_percent, 1.96 * 3))
    assert other.block_ms == one.block_ms


def test_held_out_networks_take_no_part_in_it(old: LatencyModel) -> None:
    there = old_times(old, SPACE) * by_kind(depthwise=1.4)
    chosen = plan(old, SPACE, 10, 10, 0)
    learned = measured(chosen.learned, there)
    one = adapt(old, SPACE, learned, measured(chosen.held_out, there), SOMEWHERE)
    other = adapt(old, SPACE, learned, measured(chosen.held_out, 2 * there), SOMEWHERE)
    assert one.block_ms == other.block_ms
    assert one.interval_percent == other.interval_percent
    assert other.held_out_error.mape_percent == pytest.approx(50, abs=2)


def test_the_plan_is_the_same_each_time_and_its_parts_share_no_network(old: LatencyModel) -> None:
    chosen = plan(old, SPACE, 10, 10, 3)
    assert chosen == plan(old, SPACE, 10, 10, 3)
    names = [
        tuple(block.key for block in SPACE.network(choices).blocks)
        for choices in (*chosen.learned, *chosen.held_out)
    ]
    assert len(set(names)) == 20


def left(old: LatencyModel, networks: Sequence[Choices]) -> float:
    """Mean deviation of predictions after these networks, whatever they show."""
    times = old_times(old, SPACE)
    counts = counts_of(SPACE, networks)
    known = Known(times, counts, counts @ times, np.full(len(networks), 0.01))
    ratios = infer_ratios(known, LIKENESS, (Spread(0.2, 0.1, 0.1),))
    return float(ratios.deviation(counts_of(SPACE, judged(old))).mean())


def test_chosen_networks_tell_more_than_random_ones(old: LatencyModel) -> None:
    times = old_times(old, SPACE)
    chosen = choose_networks(SPACE, times, LIKENESS, 10, noise=0.01, seed=0)
    chance = np.random.default_rng(0)
    sizes = [len(layer.blocks) for layer in SPACE.layers()]
    random = [
        left(old, [tuple(int(chance.integers(size)) for size in sizes) for _ in range(10)]) for _ in range(10)
    ]
    assert left(old, chosen) < 0.9 * min(random)
    assert left(old, chosen) < 0.9 * left(old, draw_networks(SPACE, block_times(SPACE, times), 10, 0))


def test_of_a_space_with_few_networks_each_is_measured_once() -> None:
    blocks = TINY.distinct_blocks()
    times = np.array([0.01 * (1 + index) for index in range(len(blocks))] + [0.001])
    chosen = choose_networks(TINY, times, likeness_of(blocks), 9, noise=0.01, seed=0)
    names = {tuple(block.key for block in TINY.network(choices).blocks) for choices in chosen}
    assert len(names) == 9
    with pytest.raises(UsageError, match="different networks"):
        choose_networks(TINY, times, likeness_of(blocks), 1000, noise=0.01, seed=0)


def test_more_networks_than_the_space_has_are_refused(old: LatencyModel) -> None:
    with pytest.raises(UsageError, match="offers"):
        plan(old, SPACE, SPACE.different_networks, 10, 0)


def test_an_old_model_without_a_block_of_the_space_is_refused(old: LatencyModel) -> None:
    fewer = dict(old.block_ms)
    fewer.pop(BLOCKS[3].key)
    with pytest.raises(UsageError, match=BLOCKS[3].key):
        old_times(old.model_copy(update={"block_ms": fewer}), SPACE)


@pytest.mark.parametrize("ms", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_latency_is_refused(old: LatencyModel, ms: float) -> None:
    times = old_times(old, SPACE)
    counts = counts_of(SPACE, plan(old, SPACE, 3, 3, 0).learned)
    with pytest.raises(BadMeasurementError, match="no latency"):
        infer_ratios(Known(times, counts, np.array([1.0, ms, 1.0]), np.full(3, 0.01)), LIKENESS)


def test_the_old_models_own_error_is_never_taken_for_none(old: LatencyModel) -> None:
    exact = [point.model_copy(update={"predicted_ms": point.measurement.median_ms}) for point in old.held_out]
    assert own_error(old.model_copy(update={"held_out": tuple(exact)})) == 0.005


logs = st.floats(-1.5, 1.5)


@settings(max_examples=12)
@given(common=logs, kinds=st.tuples(logs, logs, logs), seed=st.integers(0, 1000))
@example(common=1.5, kinds=(1.5, -1.5, 0.0), seed=0)
@example(common=-1.5, kinds=(-1.5, 1.5, 1.5), seed=1)
def test_whatever_the_device_ratios_are_finite_and_explain_what_was_measured(
    common: float, kinds: tuple[float, float, float], seed: int
) -> None:
    """Also far beyond what the prior expects: no block takes a time of 0 or less."""
    chance = np.random.default_rng(seed)
    times = np.append(np.exp(chance.normal(-3, 1, len(BLOCKS))), 0.004)
    names = dict(zip(("depthwise", "dense", "memory"), kinds, strict=True))
    there = times * np.exp([common + names[KINDS[block.key]] for block in BLOCKS] + [common])
    networks = draw_networks(SPACE, block_times(SPACE, times), 10, seed)
    counts = counts_of(SPACE, networks)
    ratios = infer_ratios(Known(times, counts, counts @ there, np.full(10, 0.01)), LIKENESS, FEW_SPREADS)
    assert np.isfinite(ratios.log_ratios).all()
    assert (ratios.new_ms > 0).all()
    assert ratios.predict_ms(counts) == pytest.approx(counts @ there, rel=0.05)
    assert np.isfinite(ratios.deviation(counts)).all()


@settings(max_examples=8)
@given(order=st.permutations(range(10)), unit=st.sampled_from([1e-3, 1.0, 1e3]))
def test_neither_the_order_of_networks_nor_the_unit_of_time_matters(order: list[int], unit: float) -> None:
    chance = np.random.default_rng(1)
    times = np.append(np.exp(chance.normal(-3, 1, len(BLOCKS))), 0.004)
    there = times * np.append(np.exp(chance.normal(0, 0.2, len(BLOCKS))), 1.0)
    counts = counts_of(SPACE, draw_networks(SPACE, block_times(SPACE, times), 10, 2))
    noise = np.linspace(0.005, 0.02, 10)
    one = infer_ratios(Known(times, counts, counts @ there, noise), LIKENESS, FEW_SPREADS)
    other = infer_ratios(
        Known(unit * times, counts[order], unit * (counts @ there)[order], noise[order]),
        LIKENESS,
        FEW_SPREADS,
    )
    assert other.log_ratios == pytest.approx(one.log_ratios, abs=1e-6)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_a_further_network_never_makes_predictions_less_certain(seed: int) -> None:
    chance = np.random.default_rng(seed)
    times = np.append(np.exp(chance.normal(-3, 1, len(BLOCKS))), 0.004)
    counts = counts_of(SPACE, draw_networks(SPACE, block_times(SPACE, times), 11, seed))
    aims = counts_of(SPACE, draw_networks(SPACE, block_times(SPACE, times), 20, seed + 1))

    def deviation(number: int) -> NDArray[np.float64]:
        seen = counts[:number]
        known = Known(times, seen, seen @ times, np.full(number, 0.01))
        return infer_ratios(known, LIKENESS, (Spread(0.2, 0.1, 0.1),)).deviation(aims)

    assert (deviation(11) <= deviation(10) * (1 + 1e-6)).all()
