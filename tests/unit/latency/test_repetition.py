"""A clock coarser than the work: several copies of a block in one model, and honest intervals."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.latency_spaces import SPACE, TINY
from support.memory_context import MemoryScratch, Told, memory_context
from support.simulated_device import SimulatedDevice

from android_bench.device import RuntimeOptions
from nasflow.base.errors import DeviceError
from pipeline.artifact import document_bytes
from pipeline.events import Message
from stages.conversion.flatbuffer import block_model
from stages.documents import LatencyTable
from stages.latency.model import net_block_ms
from stages.measurement.config import MeasurementConfig
from stages.measurement.interval import interval_percent
from stages.measurement.repetition import (
    FOOTPRINT_BYTES,
    LARGEST,
    Repeatable,
    copies_needed,
    repeated_name,
    resolution_percent,
)
from stages.measurement.rounds import measure_rounds
from stages.measurement.work import Work
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space.block_spec import BlockSpec
from stages.space.search_space import SearchSpace

STEP_MS = 0.001
INVOKE_MS = 0.0013


def coarse(**fields: Any) -> SimulatedDevice:
    return SimulatedDevice(invoke_ms=INVOKE_MS, step_ms=STEP_MS, **fields)


def profile(
    device: SimulatedDevice,
    space: SearchSpace = SPACE,
    scratch: MemoryScratch | None = None,
    told: Told | None = None,
    **config: Any,
) -> LatencyTable:
    stage = ProfileOps(ProfileConfig.model_validate(config), space, RuntimeOptions(), 0, device)
    return stage.run(memory_context("profile", scratch=scratch, told=told))


def own_ms(device: SimulatedDevice, block: BlockSpec) -> float:
    return device.true_ms(block_model(block)) - device.invoke_ms


# --- how many copies ---------------------------------------------------------------------------------


def one(copy_bytes: int = 0) -> Repeatable:
    return Repeatable(lambda copies: bytes(copies), copy_bytes)


@given(st.floats(1e-5, 10), st.floats(0, 0.01), st.floats(0.1, 50), st.integers(0, 10**8))
def test_an_exact_clock_needs_no_copies(
    alone_ms: float, invoke_ms: float, percent: float, copy_bytes: int
) -> None:
    assert copies_needed(one(copy_bytes), alone_ms, invoke_ms, 0.0, percent) == 1


@given(st.floats(0.0, 1.0), st.floats(0.0, 0.004), st.floats(0.5, 20), st.integers(0, 4 * FOOTPRINT_BYTES))
def test_copies_make_the_step_small_or_stop_at_a_bound(
    true_own_ms: float, true_invoke_ms: float, percent: float, copy_bytes: int
) -> None:
    def counted(ms: float) -> float:
        return max(STEP_MS / 2, STEP_MS * round(ms / STEP_MS))

    alone, invoke = counted(true_own_ms + true_invoke_ms), counted(true_invoke_ms)
    copies = copies_needed(one(copy_bytes), alone, invoke, STEP_MS, percent)
    assert 1 <= copies <= LARGEST
    assert copies == 1 or copies * copy_bytes <= FOOTPRINT_BYTES
    if copies < LARGEST and (copies + 1) * copy_bytes <= FOOTPRINT_BYTES and true_own_ms > STEP_MS / 4:
        # Both readings half a step off are a quarter of the wanted width.
        assert STEP_MS / (copies * true_own_ms) <= percent / 400 * (1 + 1e-9)


def test_the_clocks_part_of_an_interval() -> None:
    assert resolution_percent(0.2, 0.0) == resolution_percent(0.2, 0.0, 0.1) == 0
    assert resolution_percent(0.02, STEP_MS) == pytest.approx(5.0)
    assert resolution_percent(0.102, STEP_MS, 0.002) == pytest.approx(math.sqrt(2))
    assert resolution_percent(0.001, STEP_MS, 0.001) == math.inf


@pytest.mark.parametrize("noise_steps", [0.0, 0.1, 0.3, 1.0, 3.0])
def test_with_the_step_in_it_the_interval_holds_the_truth_as_often_as_it_says(noise_steps: float) -> None:
    """Rounds that agree on a whole number say nothing about what lies between two."""
    chance = random.Random(0)
    hits, blind = 0, 0
    for _ in range(1000):
        true = chance.uniform(20, 60)
        medians = [float(round(chance.gauss(true, noise_steps))) for _ in range(8)]
        off, usual = abs(median(medians) - true), noise_steps / 40
        hits += off <= interval_percent(medians, usual, 1.0) / 200 * median(medians)
        blind += off <= interval_percent(medians, usual) / 200 * median(medians)
    assert hits / 1000 > 0.94
    if noise_steps <= 0.1:
        assert blind / 1000 < 0.5


# --- a table by a coarse clock -----------------------------------------------------------------------


def test_every_row_is_known_as_by_an_exact_clock() -> None:
    device = coarse(noise=0.003)
    table = profile(device)
    block_ms, _, invoke_ms = net_block_ms(table)
    assert invoke_ms == STEP_MS
    for row in table.rows:
        if row.resolved:
            assert block_ms[row.block.key] == pytest.approx(own_ms(device, row.block), rel=0.02)
        assert row.measurement.resolution_ms == STEP_MS
        # The row is of that many copies, and its raw timings bear their number.
        name = repeated_name(row.block.key, row.copies)
        rounds = [timing for timing in table.timings if timing.name == name and not timing.disturbed]
        assert row.measurement.rounds == len(rounds) >= 7
    assert max(row.copies for row in table.rows) > 50
    assert min(row.copies for row in table.rows) < 5
    assert sum(not row.resolved for row in table.rows) <= 2
    assert LatencyTable.model_validate_json(document_bytes(table)) == table


def test_with_single_copies_some_rows_would_be_far_off_and_say_so() -> None:
    class Single(ProfileOps):
        def _repeatable(self, block: BlockSpec, implementation: Any) -> Repeatable:
            return one(10**12)

    device, told = coarse(noise=0.003), Told()
    stage = Single(ProfileConfig(), SPACE, RuntimeOptions(), 0, device)
    table = stage.run(memory_context("profile", told=told))
    block_ms, *_ = net_block_ms(table)
    off = {row.block.key: abs(block_ms[row.block.key] / own_ms(device, row.block) - 1) for row in table.rows}
    assert max(off.values()) > 0.1
    assert all(not row.resolved for row in table.rows if off[row.block.key] > 0.02)
    (warning,) = [text for text in told.warnings if "clock" in text]
    assert "counts steps of 1 us" in warning
    assert "classifier_64-10_r4" in warning
    # That no round can mend: none is added for it.
    assert max(row.measurement.rounds for row in table.rows) == ProfileConfig().rounds


def test_an_exact_clock_changes_nothing_and_is_stored_as_ever() -> None:
    device, told = SimulatedDevice(), Told()
    table = profile(device, told=told)
    assert [timing.name for timing in table.timings] == device.order
    assert not any(" x" in name for name in device.order)
    assert not any("clock" in event.text for event in told.events if isinstance(event, Message))
    rows = json.loads(document_bytes(table))["rows"]
    assert all(row.keys() == {"block", "implementation", "measurement"} for row in rows)
    assert all("resolution_ms" not in row["measurement"] for row in rows)


def test_what_is_done_is_told_once_and_each_model_is_sent_under_its_number_of_copies() -> None:
    device, told = coarse(), Told()
    table = profile(device, told=told)
    said = [
        event.text for event in told.events if isinstance(event, Message) and "copies of each" in event.text
    ]
    assert len(said) == 1
    longer = [row for row in table.rows if row.copies > 1]
    assert f"too low for {len(longer)} of {1 + len(table.rows)} models" in said[0]
    timed = Counter(device.order)
    for row in longer:
        assert timed[row.block.key] == 1
        assert timed[f"{row.block.key} x{row.copies}"] == ProfileConfig().rounds


@pytest.mark.parametrize("unplug_at", [3, 15, 16, 40])
def test_a_killed_run_takes_as_many_copies_as_a_whole_one(unplug_at: int) -> None:
    whole = profile(coarse(), TINY)
    scratch = MemoryScratch()
    with pytest.raises(DeviceError):
        profile(coarse(unplug_at=unplug_at), TINY, scratch)
    resumed = profile(coarse(), TINY, scratch)
    assert [row.copies for row in resumed.rows] == [row.copies for row in whole.rows]
    assert [row.measurement.median_ms for row in resumed.rows] == [
        row.measurement.median_ms for row in whole.rows
    ]
    again = coarse(unplug_at=0)
    assert profile(again, TINY, scratch) == resumed
    assert again.order == []


def test_kept_timings_of_another_number_of_copies_are_left_out() -> None:
    scratch = MemoryScratch()
    expected = profile(coarse(), TINY, scratch)
    row = next(row for row in expected.rows if row.copies > 1)
    name = repeated_name(row.block.key, row.copies)
    lines = [line.replace(f'"{name}"', f'"{row.block.key} x2"') for line in scratch.logs["measurements"]]
    device = coarse()
    table = profile(device, TINY, MemoryScratch(logs={"measurements": lines}))
    assert set(device.order) - {table.anchor.name} == {name}
    assert [row.copies for row in table.rows] == [row.copies for row in expected.rows]


def test_the_faster_of_two_ways_is_found_by_their_time_for_each_copy() -> None:
    candidates = (TINY.candidates[0], TINY.candidates[0].model_copy(update={"kernel": 7}))
    device = coarse(noise=0.002)
    table = profile(device, TINY.model_copy(update={"candidates": candidates}))
    _, implementations, _ = net_block_ms(table)
    sevens = {row.block.key for row in table.rows if row.block.kernel == 7}
    assert implementations == dict.fromkeys(sevens, "split")
    assert any(row.copies > 1 for row in table.rows if row.implementation == "split")


# --- models that stay as they are --------------------------------------------------------------------


def timed(device: SimulatedDevice, models: Mapping[str, bytes], told: Told) -> Mapping[str, int]:
    config = MeasurementConfig(rounds=5, extra_rounds=20)
    context = memory_context("latency", told=told)
    measured = measure_rounds(context, device, Work(models), config, RuntimeOptions(), 0)
    assert set(measured.copies.values()) == {1}
    return {name: measurement.rounds for name, measurement in measured.by_name.items()}


def test_a_network_too_short_for_the_clock_is_told_by_name_and_not_timed_for_ever() -> None:
    block = SPACE.distinct_blocks()[0]
    models = {"short": block_model(block), "long": block_model(block, copies=60)}
    device, told = coarse(), Told()
    assert 0.002 < device.true_ms(models["short"]) < 0.02
    assert timed(device, models, told) == {"short": 5, "long": 5}
    (warning,) = told.warnings
    assert "cannot resolve 1 of 2 latencies" in warning
    assert "worst: short" in warning
    told = Told()
    assert timed(SimulatedDevice(), models, told) == {"short": 5, "long": 5}
    assert told.warnings == []


def test_a_reading_that_is_one_step_off_is_no_spell() -> None:
    """1 and 2 us of one model are the same; 1 and 8 are not."""
    odd = coarse(answers={7: 0.002, 12: 0.008})
    config = MeasurementConfig(rounds=20, extra_rounds=0)
    work = Work({"short": block_model(BlockSpec(kind="head", in_channels=8, out_channels=8, resolution=1))})
    measured = measure_rounds(memory_context("latency"), odd, work, config, RuntimeOptions(), 0)
    assert [index for index, timing in enumerate(measured.timings) if timing.disturbed] == [12]
