"""The networks of `verify`, and a run of it that goes on where it was unplugged."""

from __future__ import annotations

import pytest
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.scripted_device import ScriptedDevice
from support.verify_inputs import (
    NETWORKS,
    TIMINGS,
    TRUE_MS,
    Run,
    converted,
    latency_model,
    pruned,
    resumed,
    stage,
)

from nasflow.base.errors import DeviceError
from stages.documents import ConvertedNetworks, Verification


@pytest.fixture(scope="session")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="session")
def networks(store: MemoryStore) -> ConvertedNetworks:
    return converted(store, NETWORKS)


@pytest.fixture(scope="session")
def answered(store: MemoryStore, networks: ConvertedNetworks) -> MemoryScratch:
    """The scratch of a run that was unplugged in its third round: all answers, two whole rounds."""
    scratch = MemoryScratch()
    device = ScriptedDevice(TRUE_MS, unplug_at=2 * TIMINGS + 3)
    with pytest.raises(DeviceError, match="unplugged"):
        stage(device).run(
            memory_context("verify", store=store, scratch=scratch),
            converted=networks,
            latency=latency_model(),
            pruned=pruned(),
        )
    return scratch


@pytest.fixture
def run(store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch) -> Run:
    def go(device: ScriptedDevice, told: Told | None = None, **config: object) -> Verification:
        scratch = resumed(answered)
        if config.pop("afresh", False):
            del scratch.logs["rounds"]
        context = memory_context("verify", store=store, scratch=scratch, told=told)
        return stage(device, **config).run(
            context, converted=networks, latency=latency_model(), pruned=pruned()
        )

    return go
