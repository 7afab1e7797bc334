"""The latency table of a space."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from support.latency_spaces import SPACE
from support.memory_context import MemoryScratch, memory_context
from support.simulated_device import SimulatedDevice

from android_bench.device import BenchmarkRequest, LatencyMeasurement, RuntimeOptions
from android_bench.local.device import LocalDevice
from nasflow.base.errors import BadMeasurementError, DeviceError
from pipeline.artifact import document_bytes
from stages.conversion.flatbuffer import block_model, network_model
from stages.conversion.inspection_worker import operator_counts
from stages.documents import LatencyTable
from stages.latency.config import LatencyConfig
from stages.latency.model import net_block_ms
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps, variant_name
from stages.space import SpaceConfig, load_space
from stages.space.block_spec import ModelOutput
from stages.space.search_space import Candidate


def stage(device: SimulatedDevice, **config: Any) -> ProfileOps:
    return ProfileOps(
        ProfileConfig.model_validate(config), SPACE, RuntimeOptions(threads=2), seed=3, device=device
    )


def test_the_table_has_a_row_for_every_distinct_block() -> None:
    device = SimulatedDevice(noise=0.002)
    table = stage(device).run(memory_context("profile"))
    assert [row.block for row in table.rows] == list(SPACE.distinct_blocks())
    for row in table.rows:
        true_ms = device.true_ms(block_model(row.block))
        assert row.measurement.median_ms == pytest.approx(true_ms, rel=0.01)
    assert table.invoke is not None
    assert table.invoke.median_ms == pytest.approx(device.invoke_ms, rel=0.02)
    assert table.device == device.info()
    assert table.runtime.threads == 2
    assert table.anchor.name == "mobilenet_v2_1.0"
    assert table.anchor.measurement.median_ms == pytest.approx(
        device.true_ms(network_model(table.anchor.net)), rel=0.01
    )
    assert [timing.name for timing in table.timings] == device.order
    assert LatencyTable.model_validate_json(document_bytes(table)) == table


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_the_classifier_and_whole_networks_are_measured_as_they_will_answer(output: ModelOutput) -> None:
    """The table and the model that is fitted to it say what that was."""
    sent: dict[str, bytes] = {}
    device = SimulatedDevice()
    benchmark = device.benchmark

    def seen(request: BenchmarkRequest) -> LatencyMeasurement:
        sent[request.name] = request.model
        return benchmark(request)

    device.benchmark = seen  # type: ignore[method-assign]
    table = replace(stage(device, rounds=3), model_output=output).run(memory_context("profile"))
    config = LatencyConfig(rounds=3, extra_rounds=0, calibration_networks=4, held_out_networks=4)
    model = FitLatency(config, SPACE, RuntimeOptions(), 0, device).run(memory_context("latency"), table=table)

    assert (table.output, model.output) == (output, output)
    classifier = SPACE.fixed_blocks()[-1]
    assert sent[classifier.key] == block_model(classifier, seed=3, output=output)
    assert sent[table.anchor.name] == network_model(table.anchor.net, output=output)
    whole = [name for name, model in sent.items() if "FULLY_CONNECTED" in operator_counts(model)]
    assert len(whole) >= 10
    assert {("SOFTMAX" in operator_counts(sent[name])) for name in whole} == {output == "probabilities"}


def test_a_killed_run_goes_on() -> None:
    scratch = MemoryScratch()
    first, second = SimulatedDevice(unplug_at=40), SimulatedDevice()
    with pytest.raises(DeviceError):
        stage(first).run(memory_context("profile", scratch=scratch))
    stage(second).run(memory_context("profile", scratch=scratch))
    assert len(first.order) == 40
    blocks = [name for name in (*first.order, *second.order) if name != "mobilenet_v2_1.0"]
    assert len(blocks) == ProfileConfig().rounds * (1 + len(SPACE.distinct_blocks()))


def test_a_7x7_block_is_measured_in_both_ways_and_the_slow_one_only_once() -> None:
    device = SimulatedDevice()
    space = SPACE.model_copy(update={"candidates": (*SPACE.candidates, Candidate(kernel=7, expansion=6))})
    table = replace(stage(device), space=space).run(memory_context("profile"))
    sevens = [block for block in space.distinct_blocks() if block.kernel == 7]
    assert sevens
    for block in sevens:
        rows = {row.implementation: row for row in table.rows if row.block == block}
        assert set(rows) == {"native", "split"}
        for way, row in rows.items():
            assert row.measurement.median_ms == pytest.approx(device.true_ms(block_model(block, way)))
        assert rows["native"].measurement.rounds == 1
        assert rows["split"].measurement.rounds == ProfileConfig().rounds
    block_ms, implementations, invoke_ms = net_block_ms(table)
    assert implementations == {block.key: "split" for block in sevens}
    for block in sevens:
        assert block_ms[block.key] + invoke_ms == pytest.approx(device.true_ms(block_model(block, "split")))


def test_nonsense_gives_no_table() -> None:
    with pytest.raises(BadMeasurementError):
        stage(SimulatedDevice(answers={25: 0.0})).run(memory_context("profile"))


def test_the_fingerprint_follows_what_decides_the_table_and_not_the_serial() -> None:
    device = SimulatedDevice()
    one = stage(device)
    assert "SECRET-SERIAL" not in one.environment().values()
    assert one.fingerprint({}) == stage(SimulatedDevice()).fingerprint({})
    others = [
        stage(device, rounds=11),
        replace(one, seed=4),
        replace(one, runtime=RuntimeOptions(threads=1)),
        replace(one, space=SPACE.model_copy(update={"head_width": 72})),
    ]
    assert len({one.fingerprint({}), *(other.fingerprint({}) for other in others)}) == 5


def test_the_quick_starts_space_takes_less_than_half_a_minute() -> None:
    space = load_space(SpaceConfig())
    profile = ProfileOps(ProfileConfig(), space, RuntimeOptions(), 0, SimulatedDevice())
    assert 5 < profile.estimate_seconds() < 30


def test_this_computer_measures_a_table() -> None:
    config = ProfileConfig(rounds=3, extra_rounds=0, warmup_ms=0.2, min_ms=0.5, min_runs=3)
    with LocalDevice() as device:
        profile = ProfileOps(config, SPACE, RuntimeOptions(), 0, device)
        table = profile.run(memory_context("profile"))
    assert len(table.rows) == len(SPACE.distinct_blocks())
    assert table.device.kind == "local"
    timed = Counter(timing.name for timing in table.timings)
    assert all(timed[variant_name(row.block, row.implementation)] == 3 for row in table.rows)
