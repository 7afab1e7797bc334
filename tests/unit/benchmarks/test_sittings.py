"""The conditions under which the latency model's benchmark measures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.latency_spaces import SPACE
from support.memory_context import Told, memory_context
from support.simulated_device import SimulatedDevice

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from benchmarks._sittings import (
    CONDITIONS,
    Condition,
    Stop,
    StoppedDevice,
    beside_busy_process,
    least_timings,
    measure_in_sittings,
)
from pipeline.artifact import Document
from pipeline.runner import Pipeline
from pipeline.store.store import Store
from stages.conversion.flatbuffer import empty_model
from stages.documents import LatencyModel
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space.network_name import network_name

PROFILE = ProfileConfig(rounds=4, extra_rounds=2, anchor_width=0.35)
LATENCY = LatencyConfig(rounds=4, extra_rounds=2, calibration_networks=4, held_out_networks=4)
LEAST = {
    "profile": least_timings(PROFILE, len(SPACE.distinct_blocks())),
    "latency": least_timings(LATENCY, 8),
}


def test_a_stopped_device_gives_what_was_measured_and_then_goes_away() -> None:
    request = BenchmarkRequest(name="empty", model=empty_model(), warmup_ms=0.1, min_ms=0.1)
    given = []
    device = StoppedDevice(SimulatedDevice(), 3)
    with pytest.raises(Stop):
        for index, measured in device.benchmark_many([request] * 5):
            given.append((index, measured.median_ms > 0))
    assert given == [(0, True), (1, True), (2, True)]


def test_the_busy_process_runs_while_it_is_wanted_and_no_longer() -> None:
    before = set(children())
    with beside_busy_process(True):
        (busy,) = set(children()) - before
        assert Path(f"/proc/{busy}").exists()
    assert busy not in children()
    with beside_busy_process(False):
        assert set(children()) == before


def children() -> list[int]:
    """Processes that this one has started and that still run."""
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return [int(word) for word in own.read_text(encoding="ascii").split()]


def test_every_sitting_has_a_condition() -> None:
    assert all(len(found.busy) == len(found.stops) + 1 for found in CONDITIONS.values())
    assert {"quiet", "busy", "resumed", "resumed_busy"} == CONDITIONS.keys()


def test_as_many_timings_as_are_said_to_be_the_least_are_taken() -> None:
    device = SimulatedDevice()
    config = PROFILE.model_copy(update={"extra_rounds": 0})
    stage = ProfileOps(config, SPACE, RuntimeOptions(), 0, device)
    stage.run(memory_context("profile"))
    models = len(SPACE.distinct_blocks()) + 1  # and the empty one
    assert len(device.order) == least_timings(config, models)


@dataclass
class Sittings:
    """Both stages on a simulated device, a new one for each sitting."""

    folder: Path
    devices: list[SimulatedDevice] = field(default_factory=list)

    def device(self) -> SimulatedDevice:
        self.devices.append(SimulatedDevice(noise=0.01, seed=len(self.devices)))
        return self.devices[-1]

    def run(self, devices: Mapping[str, Device]) -> dict[str, Document]:
        told = Told()
        stages = [
            ProfileOps(PROFILE, SPACE, RuntimeOptions(), 0, devices["profile"]),
            FitLatency(LATENCY, SPACE, RuntimeOptions(), 0, devices["latency"]),
        ]
        return Pipeline(stages, Store(self.folder, told), told).run()


@pytest.mark.parametrize("name", ["resumed", "resumed_busy"])
def test_a_resumed_run_is_stopped_amid_the_table_and_amid_the_networks(tmp_path: Path, name: str) -> None:
    sittings = Sittings(tmp_path)
    condition = Condition((False, False, False), CONDITIONS[name].stops)
    documents = measure_in_sittings(condition, LEAST, sittings.device, sittings.run)
    model = documents["latency"]
    assert isinstance(model, LatencyModel)
    networks = {network_name(point.choices) for point in (*model.calibration, *model.held_out)}
    blocks = {block.key for block in SPACE.distinct_blocks()}
    first, second, third = (Counter(device.order) for device in sittings.devices)
    assert not networks & first.keys()
    for sitting in (first, second):
        assert all(sitting[block] >= 1 for block in blocks)
    for sitting in (second, third):
        assert all(sitting[network] >= 1 for network in networks)
    assert not blocks & {name for name in third if not name.startswith("block ")}


def test_a_sitting_that_ends_before_its_stop_is_no_resumed_run(tmp_path: Path) -> None:
    sittings = Sittings(tmp_path)
    condition = Condition((False, False), (("latency", 50.0),))
    with pytest.raises(RuntimeError, match="stage latency was to be stopped after"):
        measure_in_sittings(condition, LEAST, sittings.device, sittings.run)
