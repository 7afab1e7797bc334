"""Every target's network on one target, in the same rounds: a simulated device that knows what each costs."""

from __future__ import annotations

from functools import partial

import pytest
from support.latency_spaces import SPACE
from support.memory_context import MemoryScratch, memory_context
from support.simulated_device import SIMULATED, SimulatedDevice

from android_bench.device import RuntimeOptions
from stages.conversion.measured import measured_network
from stages.documents import CrossTable, HardwareNetwork, HardwareTarget, LatencyModel
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.verification.cross_table import measure_target


@pytest.fixture(scope="module")
def model() -> LatencyModel:
    device = SimulatedDevice(noise=0.005)
    table = ProfileOps(ProfileConfig(rounds=3), SPACE, RuntimeOptions(), 0, device).run(
        memory_context("profile")
    )
    return FitLatency(LatencyConfig(rounds=3), SPACE, RuntimeOptions(), 0, device).run(
        memory_context("latency"), table=table
    )


def target(name: str) -> HardwareTarget:
    return HardwareTarget(
        name=name, device=SIMULATED, runtime=RuntimeOptions(), target_ms=1.0, interval_percent=2.0
    )


def network(name: str, choices: tuple[int, ...]) -> HardwareNetwork:
    return HardwareNetwork(target=name, choices=choices, net=SPACE.network(choices), estimated_loss=0.5)


def write(network: HardwareNetwork) -> bytes:
    return measured_network(network.net, "float32")


def test_each_network_is_held_against_the_targets_own_and_equal_ones_are_timed_once(
    model: LatencyModel,
) -> None:
    layers = len(SPACE.layers())
    fast, slow = (0,) * layers, (0, *(3,) * (layers - 1))
    networks = [network("a", fast), network("b", slow), network("c", fast)]
    device = SimulatedDevice(noise=0.005)
    measure = partial(measure_target, rounds=8, min_ms=5.0, warmup_ms=1.0, seed=0)
    cells, seconds = measure(target("a"), networks, model, device, write, MemoryScratch())
    assert set(device.order) == {"a", "b"}, "c has the network of a"
    assert device.renewed == 8
    assert seconds >= 0
    by_name = {cell.network: cell for cell in cells}
    assert by_name["a"].ratio_to_own == by_name["c"].ratio_to_own == 1
    truth = device.true_ms(write(networks[1])) / device.true_ms(write(networks[0]))
    low, high = by_name["b"].ratio_to_own_interval_95
    assert by_name["b"].ratio_to_own == pytest.approx(truth, rel=0.02)
    assert 1 < low <= by_name["b"].ratio_to_own <= high
    for cell in cells:
        assert cell.measurement.median_ms == pytest.approx(cell.predicted_ms, rel=0.1)

    other, _ = measure(target("b"), networks, model, device, write, MemoryScratch())
    assert {cell.network: cell.ratio_to_own for cell in other}["b"] == 1
    table = CrossTable(
        space=SPACE.name,
        targets=(target("a"), target("b")),
        networks=tuple(networks),
        cells=(*cells, *other),
        seconds=1.0,
    )
    assert CrossTable.model_validate_json(table.model_dump_json()) == table
    assert table.cell("b", "a") == by_name["b"]
