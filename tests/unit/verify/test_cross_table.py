"""Every target's network on one device, in the same rounds: a simulated device that knows what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import fmean

import pytest
from support.latency_spaces import SPACE
from support.memory_context import MemoryScratch, memory_context
from support.simulated_device import SIMULATED, SimulatedDevice

from android_bench.device import Conditions, DeviceInfo, RuntimeOptions
from nasflow.base.errors import DeviceError
from stages.conversion.measured import measured_network
from stages.documents import CrossCell, CrossTable, HardwareNetwork, HardwareTarget, LatencyModel
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space.search_space import NetConfig
from stages.verification.cross_table import Setting, measure_settings

LAYERS = len(SPACE.layers())
FAST, SLOW = (0,) * LAYERS, (0, *(3,) * (LAYERS - 1))
ONE, TWO = RuntimeOptions(), RuntimeOptions(threads=2)
SHARE_OF_TWO = 0.6
measure = partial(measure_settings, rounds=8, min_ms=5.0, warmup_ms=1.0, seed=0)


def two_threads_are_faster(options: RuntimeOptions) -> float:
    return SHARE_OF_TWO if options.threads == 2 else 1.0


def model_of(device: SimulatedDevice, options: RuntimeOptions = ONE) -> LatencyModel:
    """As ``nasflow latency`` measures it."""
    table = ProfileOps(ProfileConfig(rounds=3), SPACE, options, 0, device).run(memory_context("profile"))
    return FitLatency(LatencyConfig(rounds=3), SPACE, options, 0, device).run(
        memory_context("latency"), table=table
    )


@pytest.fixture(scope="module")
def model() -> LatencyModel:
    return model_of(SimulatedDevice(noise=0.005))


def once(_digest: str) -> MemoryScratch:
    """Nothing is kept."""
    return MemoryScratch()


def setting(name: str, model: LatencyModel, options: RuntimeOptions = ONE) -> Setting:
    target = HardwareTarget(name=name, device=SIMULATED, runtime=options, target_ms=1.0, interval_percent=2.0)
    return Setting(target, model, write)


def network(name: str, choices: tuple[int, ...]) -> HardwareNetwork:
    return HardwareNetwork(target=name, choices=choices, net=SPACE.network(choices), estimated_loss=0.5)


def write(net: NetConfig) -> bytes:
    return measured_network(net, "float32")


def test_each_network_is_held_against_the_targets_own_and_equal_ones_are_timed_once(
    model: LatencyModel,
) -> None:
    networks = [network("a", FAST), network("b", SLOW), network("c", FAST)]
    device = SimulatedDevice(noise=0.005)
    cells, counted = measure([setting("a", model)], networks, device, once)
    assert len(set(device.order)) == 3, "c has the network of a; and the anchor"
    assert device.renewed == len(counted) == 8
    assert counted.rounds.seconds >= 0
    by_name = {cell.network: cell for cell in cells}
    assert by_name["a"].ratio_to_own == by_name["c"].ratio_to_own == 1
    truth = device.true_ms(write(networks[1].net)) / device.true_ms(write(networks[0].net))
    low, high = by_name["b"].ratio_to_own_interval_95
    assert by_name["b"].ratio_to_own == pytest.approx(truth, rel=0.02)
    assert 1 < low <= by_name["b"].ratio_to_own <= high
    for cell in cells:
        assert cell.measurement.median_ms == pytest.approx(cell.predicted_ms, rel=0.1)

    other, _ = measure([setting("b", model)], networks, device, once)
    assert {cell.network: cell.ratio_to_own for cell in other}["b"] == 1
    table = CrossTable(
        space=SPACE.name,
        targets=(setting("a", model).target, setting("b", model).target),
        networks=tuple(networks),
        cells=(*cells, *other),
        seconds=1.0,
    )
    assert CrossTable.model_validate_json(table.model_dump_json()) == table
    assert table.cell("b", "a") == by_name["b"]
    assert not table.trained


def other_every_round(number: int) -> float:
    """A device that runs at another speed in each round of six timings."""
    return (1.0, 1.3, 0.9, 2.0, 1.1)[number // 6 % 5]


def test_settings_of_a_device_keep_their_ratio_however_its_speed_changes(model: LatencyModel) -> None:
    networks = [network("one", FAST), network("two", SLOW)]
    device = SimulatedDevice(noise=0.005, disturbance=other_every_round, setting=two_threads_are_faster)
    settings = [setting("one", model, ONE), setting("two", model, TWO)]
    cells, _ = measure(settings, networks, device, once, rounds=10)
    by_name = {(cell.network, cell.target): cell for cell in cells}
    for one in networks:
        ratio = level(by_name[one.target, "two"]) / level(by_name[one.target, "one"])
        assert ratio == pytest.approx(SHARE_OF_TWO, rel=0.03)
    truth = device.true_ms(write(networks[1].net)) / device.true_ms(write(networks[0].net))
    assert by_name["two", "one"].ratio_to_own == pytest.approx(truth, rel=0.02)
    assert by_name["one", "two"].ratio_to_own == pytest.approx(1 / truth, rel=0.02)


@dataclass
class Throttled(SimulatedDevice):
    """Two rounds of four timings in which it says so, and takes three times as long for one of the models."""

    hot: tuple[int, ...] = (2, 5)
    name: str = "network_1_setting_0"
    serial: str = "A"

    def conditions(self) -> Conditions:
        hot = (len(self.order) - 1) // 4 in self.hot
        return super().conditions().model_copy(update={"throttled_by": ("heat",) if hot else ()})

    def true_ms(self, model: bytes) -> float:
        hot = (len(self.order) - 1) // 4 in self.hot
        return super().true_ms(model) * (3.0 if hot and self.order[-1] == self.name else 1.0)

    def info(self) -> DeviceInfo:
        return SIMULATED.model_copy(update={"serial": self.serial})


def test_a_round_in_which_the_device_was_throttled_is_measured_again(model: LatencyModel) -> None:
    networks = [network("a", FAST), network("b", SLOW)]
    device = Throttled(noise=0.002)
    cells, counted = measure([setting("a", model)], networks, device, once)
    assert (len(counted.rounds), len(counted), counted.enough) == (10, 8, True)
    (slow,) = (cell for cell in cells if cell.network == "b")
    assert slow.measurement.rounds == 8
    assert slow.measurement.round_medians_ms == pytest.approx([slow.measurement.median_ms] * 8, rel=0.02), (
        "none of the two rounds is among them"
    )


def test_a_device_that_is_throttled_on_and_on_is_shown_as_it_is(model: LatencyModel) -> None:
    networks = [network("a", FAST), network("b", SLOW)]
    device = Throttled(hot=tuple(range(99)))
    _, counted = measure([setting("a", model)], networks, device, once, rounds=3)
    assert (len(counted.rounds), len(counted), counted.enough) == (9, 9, False)


def test_an_interrupted_comparison_goes_on_with_the_same_device(model: LatencyModel) -> None:
    networks = [network("a", FAST), network("b", SLOW)]
    scratches: dict[str, MemoryScratch] = {}

    def kept(digest: str) -> MemoryScratch:
        return scratches.setdefault(digest, MemoryScratch())

    with pytest.raises(DeviceError, match="unplugged"):
        measure([setting("a", model)], networks, Throttled(hot=(), unplug_at=4 * 5 + 1), kept)
    device = Throttled(hot=())
    told: list[tuple[int, int]] = []
    measure([setting("a", model)], networks, device, kept, tell=lambda *done: told.append(done))
    assert len(device.order) == 4 * 3, "three of eight rounds were left"
    assert told == [(6, 8), (7, 8), (8, 8)]
    other = Throttled(hot=(), serial="B")
    measure([setting("a", model)], networks, other, kept)
    assert len(other.order) == 4 * 8, "another phone of that kind has rounds of its own"


def level(cell: CrossCell) -> float:
    """Mean over the rounds: the speeds that the device had, each as often."""
    return fmean(cell.measurement.round_medians_ms)


def slow_half_of_the_time(number: int) -> float:
    return 1.0 if number // 40 % 2 == 0 else 1.5


def test_latency_models_of_two_settings_keep_their_ratio_though_the_device_drifts(
    model: LatencyModel,
) -> None:
    """Each setting is measured in its own sitting, and brought to the device's usual speed by its anchor."""
    device = SimulatedDevice(
        noise=0.005, setting=two_threads_are_faster, seed=1, disturbance=slow_half_of_the_time
    )
    two = model_of(device, TWO)
    for net in map(SPACE.network, (FAST, SLOW)):
        assert two.predict_ms(net) / model.predict_ms(net) == pytest.approx(SHARE_OF_TWO, rel=0.03)


def test_a_sitting_that_was_slow_throughout_moves_a_settings_level_and_none_of_its_ratios(
    model: LatencyModel,
) -> None:
    """What no anchor can show: so times of different sittings are not compared, and settings of one device
    are timed in the same rounds."""
    slow = model_of(SimulatedDevice(noise=0.005, seed=2, disturbance=lambda _: 1.4))
    fast_ms, slow_ms = (
        [one.predict_ms(SPACE.network(path)) for path in (FAST, SLOW)] for one in (model, slow)
    )
    assert slow_ms[0] / fast_ms[0] == pytest.approx(1.4, rel=0.03)
    assert slow_ms[1] / slow_ms[0] == pytest.approx(fast_ms[1] / fast_ms[0], rel=0.03)
