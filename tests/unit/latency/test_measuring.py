"""Rounds of timings: order, noise, and going on after a break, on a device whose truth is known."""

from __future__ import annotations

import math
import random
from collections import Counter
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory_context import MemoryScratch, Told, memory_context
from support.simulated_device import SimulatedDevice

from android_bench.device import Overhead, RuntimeOptions
from nasflow.base.errors import BadMeasurementError, DeviceError
from pipeline.events import Message, Progress
from stages.conversion.flatbuffer import block_model, empty_model
from stages.measurement.config import MeasurementConfig
from stages.measurement.interval import interval_percent
from stages.measurement.rounds import Measured, measure_rounds
from stages.measurement.work import Work
from stages.space.block_spec import BlockSpec

BLOCKS = [
    BlockSpec(kind="mbconv", kernel=3, expansion=expansion, in_channels=8, out_channels=8, resolution=16)
    for expansion in (1, 2, 3, 4, 5, 6)
]
MODELS = {block.key: block_model(block) for block in BLOCKS}
CONFIG = MeasurementConfig(rounds=5, extra_rounds=4, interval_percent=6)
ANCHOR = ("anchor", block_model(BLOCKS[1].model_copy(update={"resolution": 32})))


def measure(
    device: SimulatedDevice,
    scratch: MemoryScratch | None = None,
    told: Told | None = None,
    config: MeasurementConfig = CONFIG,
    seed: int = 1,
    work: Work | None = None,
) -> Measured:
    context = memory_context("profile", scratch=scratch, told=told)
    return measure_rounds(context, device, work or Work(MODELS), config, RuntimeOptions(), seed)


def with_anchor(device: SimulatedDevice, **options: Any) -> Measured:
    return measure(device, work=Work(MODELS, ANCHOR), **options)


def rounds_of(device: SimulatedDevice, count: int = 5) -> list[tuple[str, ...]]:
    size = len(MODELS)
    return [tuple(device.order[size * number : size * (number + 1)]) for number in range(count)]


def test_without_noise_the_truth_is_found() -> None:
    device = SimulatedDevice()
    measured = measure(device)
    assert list(measured.by_name) == list(MODELS)
    for name, measurement in measured.by_name.items():
        assert measurement.median_ms == pytest.approx(device.true_ms(MODELS[name]))
        assert measurement.rounds == len(measurement.round_medians_ms) == 5


def test_every_round_holds_every_model_in_an_order_of_its_own() -> None:
    device = SimulatedDevice()
    measure(device)
    rounds = rounds_of(device)
    assert len(device.order) == 5 * len(MODELS)
    assert all(sorted(one) == sorted(MODELS) for one in rounds)
    assert len(set(rounds)) == 5


def test_every_round_has_processes_of_its_own() -> None:
    """The effect of its place in one process's memory would else be taken for the model's time."""
    device = SimulatedDevice()
    measure(device)
    assert device.renewed == 5


@pytest.mark.parametrize(
    ("process_ms", "renewed"), [(0.0, 5 * 4), (120.0, 5 * 4), (5000.0, 5)], ids=["phone", "local", "cuda"]
)
def test_where_times_in_units_of_the_anchors_are_wanted_each_of_its_timings_has_a_process(
    process_ms: float, renewed: int
) -> None:
    """Its place in one process's memory would be in all ratios alike."""
    device = SimulatedDevice()
    device.overhead = Overhead(timing_ms=0, list_ms=0, process_ms=process_ms)
    measure(device, work=Work(MODELS, ANCHOR, in_units=True))
    anchors = device.order.count("anchor") / 5
    assert anchors == 3, "first, after five others, and last"
    assert device.renewed == renewed


def test_the_seed_decides_the_order() -> None:
    orders = []
    for seed in (1, 1, 2):
        device = SimulatedDevice()
        measure(device, seed=seed)
        orders.append(device.order)
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("unplug_at", [0, 1, 7, 29])
def test_a_broken_run_goes_on_where_it_stopped(unplug_at: int) -> None:
    whole = SimulatedDevice(noise=0.003)
    expected = measure(whole)
    scratch = MemoryScratch()
    first = SimulatedDevice(noise=0.003, unplug_at=unplug_at)
    with pytest.raises(DeviceError, match="unplugged"):
        measure(first, scratch)
    second = SimulatedDevice(noise=0.003)
    resumed = measure(second, scratch)
    assert first.order + second.order == whole.order
    assert resumed.by_name.keys() == expected.by_name.keys()


def test_nothing_is_measured_twice_when_all_is_done() -> None:
    scratch = MemoryScratch()
    expected = measure(SimulatedDevice(noise=0.1), scratch)
    again = SimulatedDevice(noise=0.1, unplug_at=0)
    assert measure(again, scratch) == expected
    assert again.order == []


def test_extra_rounds_after_a_break_are_for_the_same_models() -> None:
    whole_device, whole = SimulatedDevice(noise=0.06), MemoryScratch()
    measure(whole_device, whole)
    assert len(whole_device.order) > 30 + 4
    broken = MemoryScratch(logs={"measurements": whole.logs["measurements"][:33]})
    rest = SimulatedDevice(noise=0.06)
    measure(rest, broken)
    keys = {(row["round"], row["name"]) for row in broken.rows("measurements")}
    assert len(keys) == len(broken.rows("measurements"))
    assert rest.order[0] == whole_device.order[33]


def test_a_spell_of_disturbance_does_not_reach_the_result() -> None:
    spell = range(6, 14)
    device = SimulatedDevice(disturbance=lambda number: 3.0 if number in spell else 1.0)
    measured = measure(device)
    for name, measurement in measured.by_name.items():
        assert measurement.median_ms == pytest.approx(device.true_ms(MODELS[name]))
    disturbed = [n for n, timing in enumerate(measured.timings) if timing.disturbed]
    assert disturbed == list(spell)


@pytest.mark.parametrize(
    ("swing", "warned", "advice"),
    [
        (0.2, False, "More rounds narrow them: profile.extra_rounds."),
        (0.8, True, "nasflow run --force profile"),
    ],
)
def test_only_unsure_models_get_extra_rounds(swing: float, warned: bool, advice: str) -> None:
    shaky = BLOCKS[2].key

    class Shaky(SimulatedDevice):
        def true_ms(self, model: bytes) -> float:
            chance = random.Random(len(self.order))
            return super().true_ms(model) * (
                chance.uniform(1 - swing, 1 + swing) if model == MODELS[shaky] else 1.0
            )

    device, told = Shaky(), Told()
    measured = measure(device, told=told)
    assert {name: m.rounds for name, m in measured.by_name.items() if m.rounds != 5} == {shaky: 9}
    assert Counter(device.order)[shaky] == 9
    (said,) = [e.text for e in told.events if isinstance(e, Message) and "1 of 6 latencies" in e.text]
    assert (said in told.warnings) == warned, "processes of an idle device differ, too"
    assert shaky in said
    assert advice in said


def test_extra_rounds_end_as_soon_as_they_suffice() -> None:
    device, told = SimulatedDevice(disturbance=lambda n: 1 + 0.3 * (n % 7 == 0) if n < 30 else 1.0), Told()
    config = MeasurementConfig(rounds=3, extra_rounds=50, interval_percent=1)
    measured = measure(device, told=told, config=config)
    assert all(m.rounds < 53 for m in measured.by_name.values())
    assert told.warnings == []


def test_an_error_far_below_a_clock_tick_is_no_reason_to_measure_on() -> None:
    device = SimulatedDevice(invoke_ms=0.0004, noise=0.05)
    context = memory_context("profile")
    work = Work({"empty": empty_model()})
    measured = measure_rounds(context, device, work, MeasurementConfig(), RuntimeOptions(), 0)
    assert measured.by_name["empty"].rounds == MeasurementConfig().rounds


@pytest.mark.parametrize("nonsense", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_answer_is_an_error_and_what_was_measured_stays(nonsense: float) -> None:
    scratch = MemoryScratch()
    with pytest.raises(BadMeasurementError, match="Simulated Phone") as caught:
        measure(SimulatedDevice(answers={7: nonsense}), scratch)
    assert caught.value.exit_code == 5
    kept = scratch.rows("measurements")
    assert len(kept) == 7
    rest = SimulatedDevice()
    measure(rest, scratch)
    assert len(rest.order) == 30 - 7
    assert scratch.rows("measurements")[:7] == kept


def test_a_device_that_leaves_out_a_model_is_found_out() -> None:
    with pytest.raises(DeviceError, match="left out 1 of 6 models"):
        measure(SimulatedDevice(leaves_out=3))


def test_an_unreadable_row_is_told_and_measured_again() -> None:
    scratch, told = MemoryScratch(), Told()
    measure(SimulatedDevice(), scratch)
    scratch.logs["measurements"][4] = '{"round": 0, "name": "x", "seconds": 1, "measurement": {}}'
    device = SimulatedDevice()
    measured = measure(device, scratch, told)
    assert len(device.order) == 1
    assert len(told.warnings) == 1
    assert measured.by_name.keys() == MODELS.keys()


def test_progress_grows_and_ends_at_its_total() -> None:
    told = Told()
    measure(SimulatedDevice(noise=0.1), told=told)
    steps = [event for event in told.events if isinstance(event, Progress)]
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].done == steps[-1].total > 30
    assert steps[-1].note.endswith(" us")


def test_progress_counts_what_an_earlier_run_has_done() -> None:
    scratch, told = MemoryScratch(), Told()
    with pytest.raises(DeviceError):
        measure(SimulatedDevice(unplug_at=7), scratch)
    measure(SimulatedDevice(), scratch, told)
    first = next(event for event in told.events if isinstance(event, Progress))
    assert (first.done, first.total) == (8, 30)


def test_time_of_earlier_runs_counts() -> None:
    scratch = MemoryScratch()
    first = measure(SimulatedDevice(), scratch)
    assert first.seconds > 0
    assert measure(SimulatedDevice(), scratch).seconds == first.seconds


@given(st.lists(st.floats(1e-4, 1e4), min_size=3, max_size=20), st.floats(1e-3, 1e3))
def test_the_intervals_width_does_not_depend_on_the_unit(medians: list[float], factor: float) -> None:
    wide = interval_percent([factor * m for m in medians])
    assert wide == pytest.approx(interval_percent(medians), rel=1e-6, abs=1e-6)


def test_one_round_is_never_sure() -> None:
    assert interval_percent([1.0]) == math.inf


@pytest.mark.parametrize("rounds", [8, 25])
def test_the_interval_holds_the_truth_as_often_as_it_says(rounds: int) -> None:
    chance = random.Random(0)
    hits = 0
    for _ in range(2000):
        medians = [chance.gauss(1, 0.02) for _ in range(rounds)]
        half = interval_percent(medians) / 200
        middle = median(medians)
        hits += abs(middle - 1) <= half * middle
    assert 0.90 < hits / 2000 < 0.98


@pytest.mark.parametrize(("deviation", "rounds"), [(0.01, 8), (0.02, 8), (0.03, 8), (0.02, 3)])
def test_it_still_does_where_rounds_are_added_until_it_is_narrow(deviation: float, rounds: int) -> None:
    """Stopping at the first moment at which few rounds happen to agree would be believing in luck."""
    chance = random.Random(1)
    hits, alone = 0, 0
    for _ in range(1000):
        medians = [chance.gauss(1, deviation) for _ in range(66)]
        for usual in (deviation, None):
            count = rounds
            while count < 66 and interval_percent(medians[:count], usual) > 2:
                count += 1
            off = abs(median(medians[:count]) - 1)
            within = off <= interval_percent(medians[:count], usual) / 200
            hits, alone = (hits + within, alone) if usual else (hits, alone + within)
    assert hits / 1000 > 0.92
    assert alone < hits


def test_the_estimate_grows_with_the_work() -> None:
    light, heavy = CONFIG.estimate_seconds([1_000] * 10), CONFIG.estimate_seconds([10**9] * 10)
    assert light == pytest.approx(5 * ((10 + 3) * 0.027 + 0.12))
    assert CONFIG.estimate_seconds([1_000] * 10, 10**9) > light
    assert heavy > 8 * light


# --- the anchor -------------------------------------------------------------------------------------


def test_the_anchor_is_timed_between_the_others() -> None:
    device = SimulatedDevice()
    measured = with_anchor(device, config=CONFIG.model_copy(update={"anchor_every": 2}))
    assert "".join("a" if name == "anchor" else "." for name in device.order[:10]) == "a..a..a..a"
    assert measured.by_name["anchor"].median_ms == pytest.approx(device.true_ms(ANCHOR[1]))
    assert [timing.name for timing in measured.timings] == device.order


def test_without_a_distance_the_anchor_is_timed_as_any_other() -> None:
    device = SimulatedDevice()
    measured = with_anchor(device, config=CONFIG.model_copy(update={"anchor_every": 0}))
    assert Counter(device.order)["anchor"] == 5
    assert {timing.slowdown for timing in measured.timings} == {1.0}


@pytest.mark.parametrize("seed", range(3))
def test_a_throttled_device_gives_the_latencies_of_a_cool_one(seed: int) -> None:
    config = MeasurementConfig(rounds=15, extra_rounds=0, anchor_every=3)
    models = 15 * len(MODELS)

    def throttled(number: int) -> float:
        return 1.0 if number < 0.4 * models else 1.25

    cool = SimulatedDevice()
    anchored, plain = (
        measure(SimulatedDevice(noise=0.01, disturbance=throttled, seed=seed), config=config, work=work)
        for work in (Work(MODELS, ANCHOR), Work(MODELS))
    )
    errors = {
        which: max(abs(m.by_name[name].median_ms / cool.true_ms(MODELS[name]) - 1) for name in MODELS)
        for which, m in (("anchored", anchored), ("plain", plain))
    }
    assert errors["anchored"] < 0.03
    assert errors["plain"] > 0.08
    slowdowns = [timing.slowdown for timing in anchored.timings if not timing.disturbed]
    assert all(min(abs(s - 1.0), abs(s - 1.25)) < 0.04 for s in slowdowns)


def test_a_series_that_is_throttled_throughout_is_set_right_by_an_earlier_one() -> None:
    cool = SimulatedDevice()
    device = SimulatedDevice(noise=0.005, disturbance=lambda _: 1.25)
    work = Work(MODELS, ANCHOR, reference_ms=cool.true_ms(ANCHOR[1]))
    for name, measurement in measure(device, work=work).by_name.items():
        if name in MODELS:
            assert measurement.median_ms == pytest.approx(cool.true_ms(MODELS[name]), rel=0.02)


def test_what_fell_into_a_spell_is_timed_again() -> None:
    spell = range(20, 26)
    device = SimulatedDevice(disturbance=lambda number: 1.6 if number in spell else 1.0)
    measured = with_anchor(device)
    hit = {timing.name for timing in measured.timings if timing.disturbed} - {"anchor"}
    assert hit
    for name in MODELS:
        whole = [t for t in measured.timings if t.name == name and not t.disturbed]
        assert len(whole) >= 5
        assert measured.by_name[name].median_ms == pytest.approx(device.true_ms(MODELS[name]))
    assert Counter(device.order)[next(iter(hit))] == 6


def test_a_broken_run_with_an_anchor_judges_as_a_whole_one() -> None:
    scratch = MemoryScratch()
    with pytest.raises(DeviceError):
        with_anchor(SimulatedDevice(unplug_at=17), scratch=scratch)
    second = SimulatedDevice()
    resumed = with_anchor(second, scratch=scratch)
    whole = with_anchor(SimulatedDevice())
    assert second.order[0] == "anchor"
    assert resumed.by_name.keys() == whole.by_name.keys()
    models = Counter(timing.name for timing in resumed.timings if timing.name != "anchor")
    assert set(models.values()) == {5}


# --- rivals -----------------------------------------------------------------------------------------


def test_a_rival_that_is_far_behind_drops_out_and_a_close_one_stays() -> None:
    slow, fast, close = BLOCKS[5].key, BLOCKS[0].key, BLOCKS[1].key
    device = SimulatedDevice()
    times = {name: device.true_ms(MODELS[name]) for name in (slow, fast, close)}
    assert 1.5 * times[fast] < times[slow] < 4 * times[fast]
    work = Work(MODELS, rivals=[[slow, fast]])
    measured = measure(device, work=work)
    assert measured.by_name[slow].rounds == 3
    assert measured.by_name[fast].rounds == 5
    hopeless = {**MODELS, "hopeless": block_model(BLOCKS[0].model_copy(update={"resolution": 64}))}
    outcome = measure(SimulatedDevice(), work=Work(hopeless, rivals=[["hopeless", fast]]))
    assert outcome.by_name["hopeless"].rounds == 1
    again = SimulatedDevice()
    alike = {**MODELS, "twin": MODELS[fast]}
    both = measure(again, work=Work(alike, rivals=[["twin", fast]]))
    assert both.by_name["twin"].rounds == both.by_name[fast].rounds == 5


def test_a_spell_in_the_first_round_does_not_drop_the_better_rival() -> None:
    better, worse = BLOCKS[0].key, BLOCKS[1].key
    first: dict[str, int] = {}

    class Spell(SimulatedDevice):
        def true_ms(self, model: bytes) -> float:
            ms = super().true_ms(model)
            if model == MODELS[better] and first.setdefault(better, len(self.order)) == len(self.order):
                return 3 * ms
            return ms

    measured = measure(Spell(), work=Work(MODELS, rivals=[[better, worse]]))
    assert measured.by_name[better].rounds >= 5
    assert measured.by_name[better].median_ms < measured.by_name[worse].median_ms


def test_the_estimate_counts_what_starting_takes_and_what_scatter_adds() -> None:
    quick = CONFIG.estimate_seconds([1_000] * 10, overhead=Overhead(timing_ms=0, list_ms=0))
    slow = CONFIG.estimate_seconds([1_000] * 10, overhead=Overhead(timing_ms=100, list_ms=1000))
    timings = 10 + (1 + 10 // CONFIG.anchor_every if CONFIG.anchor_every else 0)
    assert slow - quick == pytest.approx(CONFIG.rounds * (1.0 + 0.1 * timings))
    starting = Overhead(timing_ms=0, list_ms=0, process_ms=200)
    alone = CONFIG.estimate_seconds([1_000] * 10, overhead=starting)
    assert alone - quick == pytest.approx(CONFIG.rounds * 0.2)
    units = CONFIG.estimate_seconds([1_000] * 10, overhead=starting, in_units=True)
    assert units - alone == pytest.approx(CONFIG.rounds * 0.2 * (timings - 10))
    assert CONFIG.most_seconds(slow) == pytest.approx(slow * (1 + CONFIG.extra_rounds / CONFIG.rounds))
