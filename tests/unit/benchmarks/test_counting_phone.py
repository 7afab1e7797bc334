"""The described phone whose clock counts whole microseconds, and the benchmark that rests on it."""

from __future__ import annotations

from statistics import median

import pytest
from support.latency_spaces import SPACE
from support.memory_context import memory_context

from android_bench.device import BenchmarkRequest, RuntimeOptions
from benchmarks._counting_phone import STEP_MS, CountingPhone
from benchmarks.clock_resolution import SingleCopies
from stages.conversion.flatbuffer import block_model, empty_model
from stages.latency.model import net_block_ms
from stages.profile_ops import ProfileConfig, ProfileOps

MODELS = {block.key: block_model(block) for block in SPACE.distinct_blocks()} | {"empty": empty_model()}


@pytest.mark.parametrize("seed", range(3))
def test_two_phones_of_a_seed_differ_in_their_clocks_alone(seed: int) -> None:
    exact, counting = CountingPhone(seed, counts=False), CountingPhone(seed, counts=True)
    for name, model in MODELS.items():
        request = BenchmarkRequest(name=name, model=model, warmup_ms=1, min_ms=10)
        for _ in range(2):
            true, counted = exact.benchmark(request), counting.benchmark(request)
            assert true.runs == counted.runs
            assert (true.resolution_ms, counted.resolution_ms) == (0.0, STEP_MS)
            for statistic in ("median_ms", "min_ms", "p5_ms"):
                assert abs(getattr(true, statistic) - getattr(counted, statistic)) <= 1.2 * STEP_MS
            steps = counted.median_ms / STEP_MS  # a time that was counted as 0 stands as half a step
            assert steps == pytest.approx(max(0.5, round(steps)), abs=1e-4)
        assert true.median_ms == pytest.approx(exact.true_ms(model), rel=0.05)


def test_most_medians_are_the_truth_to_the_nearest_microsecond() -> None:
    phone, off = CountingPhone(5, counts=True), []
    for number in range(60):
        name, model = list(MODELS.items())[number % len(MODELS)]
        answer = phone.benchmark(BenchmarkRequest(name=name, model=model, min_ms=5))
        off.append(abs(answer.median_ms - CountingPhone(5, counts=False).true_ms(model)))
    assert median(off) < 0.5 * STEP_MS


def test_copies_mend_what_the_clock_does_to_a_table() -> None:
    phone, config = CountingPhone(0, counts=False), ProfileConfig(min_ms=5)
    truth = {block.key: phone.own_ms(MODELS[block.key]) for block in SPACE.distinct_blocks()}
    off = {}
    for profiling in (ProfileOps, SingleCopies):
        stage = profiling(config, SPACE, RuntimeOptions(), 0, CountingPhone(0, counts=True))
        block_ms, *_ = net_block_ms(stage.run(memory_context("profile")))
        off[profiling] = [abs(block_ms[key] / own_ms - 1) for key, own_ms in truth.items()]
    assert median(off[ProfileOps]) < 0.006 < median(off[SingleCopies])
    assert sum(error > 0.02 for error in off[ProfileOps]) <= 1
    assert sum(error > 0.02 for error in off[SingleCopies]) > 5
