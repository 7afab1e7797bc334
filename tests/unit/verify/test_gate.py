"""A gate's verdict, from blocks whose truth is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from android_bench.device import BenchmarkRequest, Conditions, LatencyMeasurement
from nasflow.base.errors import DeviceLostError
from pipeline.store.scratch import FleetingScratch
from stages.documents.gate import Block, BlockTiming, GatePlan
from stages.verification.gate import (
    block_deviation,
    exhausted,
    looks_of,
    verdict_of,
    with_drops,
)
from stages.verification.gate_blocks import GateBlocks
from stages.verification.sequential import long_run_deviation, planned_looks, ratio_interval, smallest_shown

AT = datetime(2026, 1, 1, tzinfo=UTC)


def block(
    candidate_ms: float, baseline_ms: float, anchor_ms: float = 1.0, conditions: Conditions | None = None
) -> Block:
    """Two timings of each."""
    times = {"anchor": anchor_ms, "candidate": candidate_ms, "baseline": baseline_ms}
    return Block(
        timings=tuple(
            BlockTiming.model_validate({"model": name, "median_ms": ms, "conditions": conditions})
            for name, ms in times.items()
            for _ in range(2)
        ),
        seconds=0.5,
    )


def blocks(ratio: float, count: int = 30, *, seed: int = 0, deviation: float = 0.01) -> list[Block]:
    """A baseline of 3 ms, and a candidate of that ratio."""
    random = np.random.default_rng(seed)
    return [block(3 * ratio * math.exp(deviation * random.normal()), 3.0) for _ in range(count)]


def test_a_difference_that_the_clock_hides_is_no_pass() -> None:
    """A phone's tool counts whole microseconds: models of 19.6 and 20.4 us both take 20 in every block."""
    alike = block(0.020, 0.020)
    coarse = alike.model_copy(
        update={"timings": tuple(t.model_copy(update={"resolution_ms": 0.001}) for t in alike.timings)}
    )
    assert verdict_of(GatePlan(max_ratio=1.02), [alike] * 30) == "pass"
    assert verdict_of(GatePlan(max_ratio=1.02), [coarse] * 30) == "inconclusive"
    assert verdict_of(GatePlan(max_ratio=1.06), [coarse] * 30) == "pass"
    assert verdict_of(GatePlan(max_ratio=0.94), [coarse] * 30) == "fail"
    assert verdict_of(GatePlan(max_ms=0.0203), [coarse] * 30) == "inconclusive"
    (look,) = looks_of(GatePlan(max_ratio=1.06), [coarse] * 30)
    assert look.ratio_interval is not None
    assert look.ratio_interval[0] < 19.6 / 20.4 < 20.4 / 19.6 < look.ratio_interval[1]


def test_a_clear_answer_comes_at_the_first_look() -> None:
    plan = GatePlan(max_ratio=0.8)
    for ratio, verdict in ((0.6, "pass"), (1.0, "fail")):
        (look,) = looks_of(plan, blocks(ratio))
        assert (look.blocks, look.verdict) == (plan.min_blocks, verdict)
        assert look.ratio_interval[0] < ratio < look.ratio_interval[1]


def test_a_ratio_at_the_limit_is_inconclusive_after_the_last_look_and_never_before() -> None:
    plan, measured = GatePlan(max_ratio=1.0), blocks(1.0, seed=1)
    assert verdict_of(plan, measured[: plan.max_blocks - 1]) is None
    looks = looks_of(plan, measured)
    assert [look.verdict for look in looks] == [None] * (len(looks) - 1) + ["inconclusive"]
    assert looks[-1].blocks == plan.max_blocks


def test_before_the_first_look_nothing_is_decided() -> None:
    plan = GatePlan(max_ratio=0.8)
    assert looks_of(plan, blocks(0.5, plan.min_blocks - 1)) == ()
    assert verdict_of(plan, blocks(0.5, plan.min_blocks - 1)) is None


def test_both_limits_must_be_kept_and_one_that_is_broken_fails() -> None:
    measured = blocks(0.6)
    assert verdict_of(GatePlan(max_ratio=0.8, max_ms=2.0), measured) == "pass"
    assert verdict_of(GatePlan(max_ratio=0.8, max_ms=1.5), measured) == "fail"
    assert verdict_of(GatePlan(max_ratio=0.5, max_ms=2.0), measured) == "fail"
    assert verdict_of(GatePlan(max_ms=2.0), measured) == "pass"


def test_without_a_limit_nothing_can_pass() -> None:
    assert verdict_of(GatePlan(), blocks(0.5)) == "inconclusive"


@pytest.mark.parametrize(
    ("against", "reason"),
    [
        ({"conditions": Conditions(at=AT, thermal_status=2)}, "throttled"),
        ({"conditions": Conditions(at=AT, awake=False)}, "asleep"),
        ({"anchor_ms": 1.3}, "disturbed"),
    ],
)
def test_a_block_that_saw_trouble_does_not_count_on_either_side(against: Any, reason: str) -> None:
    good, bad = blocks(0.6, 20), block(30.0, 3.0, **against)
    marked = with_drops(GatePlan(), [*good[:3], bad, *good[3:]])
    assert [one.dropped for one in marked] == [None] * 3 + [reason] + [None] * 17
    plan = GatePlan(max_ratio=0.8)
    assert looks_of(plan, [*good[:3], bad, *good[3:]]) == looks_of(plan, good)


def test_a_device_that_was_slow_from_the_beginning_is_noticed_when_it_recovers() -> None:
    slow = [block(3.0, 3.0, anchor_ms=1.3) for _ in range(9)]
    fast = blocks(0.6, 12)
    assert all(one.dropped is None for one in with_drops(GatePlan(), slow))
    marked = with_drops(GatePlan(), [*slow, *fast])
    assert [one.dropped for one in marked] == ["disturbed"] * 9 + [None] * 12
    assert verdict_of(GatePlan(max_ratio=0.8), [*slow, *fast]) == "pass"


def test_a_phone_that_is_measured_in_a_warm_state_counts_in_it_and_not_above_it() -> None:
    warm, hot = (Conditions(at=AT, thermal_status=status) for status in (1, 2))
    measured = [block(1.8, 3.0, conditions=warm) for _ in range(12)]
    measured[4] = block(9.0, 3.0, conditions=hot)
    plan = GatePlan(max_ratio=0.8, max_thermal_status=1)
    assert [one.dropped for one in with_drops(plan, measured)] == [None] * 4 + ["throttled"] + [None] * 7
    assert verdict_of(plan, measured) == "pass"
    assert {one.dropped for one in with_drops(GatePlan(), measured)} == {"throttled"}


def test_a_status_that_rises_within_a_block_is_dropped_although_both_are_allowed() -> None:
    cool, warm = (Conditions(at=AT, thermal_status=status) for status in (0, 1))
    one = block(1.8, 3.0, conditions=cool)
    later = [timing.model_copy(update={"conditions": warm}) for timing in one.timings[3:]]
    rising = one.model_copy(update={"timings": (*one.timings[:3], *later)})
    (marked,) = with_drops(GatePlan(max_thermal_status=3), [rising])
    assert marked.dropped == "throttled"


@pytest.mark.parametrize("fast", [1, 3, 9, 12, 29])
def test_a_device_that_is_fast_at_first_is_judged_by_the_speed_that_it_keeps(fast: int) -> None:
    measured = [block(1.5, 3.0, anchor_ms=1.0 if n < fast else 1.2) for n in range(90)]
    plan = GatePlan(max_ratio=0.8)
    assert sum(one.dropped is None for one in with_drops(plan, measured)) == 90
    (look,) = looks_of(plan, measured)
    assert look.verdict == "pass"


def test_a_computer_that_is_never_as_fast_twice_is_judged_all_the_same() -> None:
    """Each block is the fastest one by then, and all before it seem slow: nothing else says so of them."""
    plan = GatePlan(max_ratio=0.8)
    speeds = [1.2**-n for n in range(3 * plan.min_blocks)]
    measured = [block(1.5 * slow, 3.0 * slow, anchor_ms=slow) for slow in speeds]
    assert verdict_of(plan, measured[:-1]) is None
    assert verdict_of(plan, measured) == "pass"
    counted = [one for one in with_drops(plan, measured) if one.dropped is None]
    assert len(counted) == plan.min_blocks
    hot = Conditions(at=AT, thermal_status=2)
    throttled = [block(1.5 * slow, 3.0 * slow, slow, hot) for slow in speeds]
    assert verdict_of(plan, throttled) is None, "what a device says of itself is believed"


def test_a_single_anchor_that_was_timed_too_short_makes_no_other_block_slow() -> None:
    measured = blocks(0.6, 12)
    measured[5] = block(1.8, 3.0, anchor_ms=0.5)
    assert all(one.dropped is None for one in with_drops(GatePlan(), measured))


def speeds(random: np.random.Generator, kind: str, count: int) -> list[float]:
    """How many times as long everything takes in each block of a device."""
    switch = int(random.integers(1, count))
    if kind == "turbo":
        return [1.0 if n < switch else 1.25 for n in range(count)]
    if kind == "slow at first":
        return [1.25 if n < switch else 1.0 for n in range(count)]
    return random.choice([1.0, 1.25], size=count, p=[0.7, 0.3]).tolist()


@pytest.mark.parametrize("kind", ["turbo", "slow at first", "throttles at random"])
def test_at_the_limit_a_gate_is_wrong_as_seldom_as_it_says_whatever_the_device_does(kind: str) -> None:
    """What counts depends on anchors alone: 400 gates whose true ratio is the limit."""
    random, found = np.random.default_rng(4), Counter[str | None]()
    plan = GatePlan(max_ratio=1.0, max_blocks=14)
    for _ in range(400):
        noise = np.exp(random.normal(0, 0.02, (42, 3)))
        measured = []
        for speed, (ours, theirs, anchor) in zip(speeds(random, kind, 42), noise, strict=True):
            times = {"candidate": 3 * speed * ours, "baseline": 3 * speed * theirs, "anchor": speed * anchor}
            timings = (
                BlockTiming.model_validate({"model": name, "median_ms": ms}) for name, ms in times.items()
            )
            measured.append(Block(timings=tuple(timings), seconds=0.5))
        found[verdict_of(plan, measured)] += 1
    assert found["inconclusive"] >= 370
    assert found["pass"] <= 13  # 3.3 %
    assert found["fail"] <= 13


def test_conditions_that_are_not_known_are_held_against_nobody() -> None:
    unknown = Conditions(at=AT)
    assert with_drops(GatePlan(), [block(3.0, 3.0, conditions=unknown)] * 7)[0].dropped is None


def test_a_device_that_throttles_on_and_on_ends_inconclusive() -> None:
    plan = GatePlan(max_ratio=0.8, min_blocks=6, max_blocks=6)
    hot = [block(1.0, 3.0, conditions=Conditions(at=AT, thermal_status=3)) for _ in range(18)]
    assert verdict_of(plan, hot[:17]) is None
    assert exhausted(plan, hot)
    assert verdict_of(plan, hot) == "inconclusive"


def test_the_noise_of_a_device_is_that_of_its_blocks() -> None:
    assert block_deviation(blocks(1.0, 1000, deviation=0.02)) == pytest.approx(0.02, rel=0.1)


def test_what_a_gate_can_show_is_shown_four_times_out_of_five_where_blocks_disturb_each_other() -> None:
    """Blocks of a correlation of 0.3, whose long-run deviation is 1.36 times that between them."""
    random, blocks_each, sigma = np.random.default_rng(1), 30, 0.02

    def series(mean: float) -> list[float]:
        values = [random.normal(0, sigma)]
        for _ in range(blocks_each - 1):
            values.append(0.3 * values[-1] + random.normal(0, sigma * math.sqrt(1 - 0.3**2)))
        return [mean + value for value in values]

    error = planned_looks(10, 30)[-1].error
    deviation = float(np.sqrt(np.mean([long_run_deviation(series(0)) ** 2 for _ in range(400)])))
    shown = math.log1p(smallest_shown(deviation, blocks_each, error))
    fails = sum(ratio_interval(series(shown), error).low > 1 for _ in range(400))
    assert 0.72 <= fails / 400 <= 0.9


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_ratio": 0},
        {"max_ratio": -1},
        {"max_ratio": math.nan},
        {"max_ratio": math.inf},
        {"max_ms": 0},
        {"min_blocks": 5},
        {"min_blocks": 20, "max_blocks": 10},
    ],
)
def test_a_plan_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        GatePlan.model_validate(wrong)


def test_a_block_without_one_of_its_models_is_refused() -> None:
    timing = BlockTiming(model="candidate", median_ms=1.0)
    with pytest.raises(ValidationError, match="times the candidate, the anchor, and the baseline"):
        Block(timings=(timing,) * 6, seconds=1.0)


# --- the measurement ---------------------------------------------------------------------------------


class CountingDevice:
    """Each model takes 1 ms more than the one before; lost after so many timings."""

    def __init__(self, lost_after: int = 10_000) -> None:
        self.names: list[str] = []
        self.renewed = 0
        self.lost_after = lost_after

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        """One after the other."""
        for index, request in enumerate(requests):
            if len(self.names) == self.lost_after:
                raise DeviceLostError("the phone is gone.", hint="Plug it in.")
            self.names.append(request.name)
            ms = float(len(self.names))
            yield (
                index,
                LatencyMeasurement(
                    median_ms=ms, p5_ms=ms, p95_ms=ms, min_ms=ms, runs=3, rounds=1, round_medians_ms=(ms,)
                ),
            )

    def renew(self) -> None:
        """Counted."""
        self.renewed += 1


def requests() -> dict[Any, BenchmarkRequest]:
    """Three models."""
    names = ("candidate", "baseline", "anchor")
    return {name: BenchmarkRequest(name=name, model=name.encode()) for name in names}


def test_a_block_times_the_models_in_turn_between_two_anchors() -> None:
    device: Any = CountingDevice()
    measured = GateBlocks(FleetingScratch(), device, requests(), seed=3)
    one = measured.measure()
    assert device.names[0] == device.names[-1] == "anchor"
    assert sorted(device.names[1:-1]) == ["baseline", "baseline", "candidate", "candidate"]
    assert one.median_ms("anchor") == pytest.approx((1 + 6) / 2)
    assert device.renewed == 1


def test_every_order_of_a_block_comes_about_equally_often() -> None:
    device: Any = CountingDevice()
    measured = GateBlocks(FleetingScratch(), device, requests(), seed=0)
    orders = [tuple(timing.model for timing in measured.measure().timings) for _ in range(600)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert min(counts) > 60


def test_a_gate_goes_on_where_its_phone_went_away() -> None:
    scratch = FleetingScratch()
    lost: Any = CountingDevice(lost_after=15)
    first = GateBlocks(scratch, lost, requests(), seed=0)
    first.measure()
    first.measure()
    with pytest.raises(DeviceLostError):
        first.measure()
    back: Any = CountingDevice()
    again = GateBlocks(scratch, back, requests(), seed=0)
    assert again.blocks == first.blocks
    again.measure()
    assert back.names == lost.names[12:15] + back.names[3:], "the block that was cut off is measured anew"
    assert len(back.names) == 6
