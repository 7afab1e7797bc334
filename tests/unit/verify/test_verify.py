"""Rounds and verdict of `verify`, on a device whose latencies are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.scripted_device import ScriptedDevice
from support.verify_inputs import (
    ANCHOR,
    ROLES,
    TIMINGS,
    TRUE_MS,
    Run,
    converted,
    latency_model,
    pruned,
    resumed,
    stage,
)

from android_bench.device import BenchmarkRequest, Conditions, LatencyMeasurement
from nasflow.base.errors import DeviceError, UsageError
from stages.documents import ConvertedNetworks
from stages.verification.estimate import Estimate
from stages.verification.prediction import verdict


class SlowAtFirst(ScriptedDevice):
    """Takes a third more in its first three rounds."""

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        slow = len(self.order) < 3 * TIMINGS
        return super().benchmark(request).divided(0.75 if slow else 1.0)


@dataclass
class Hot(ScriptedDevice):
    """A phone that tells a thermal status beside every timing."""

    status: int = 2

    def conditions(self) -> Conditions:
        return super().conditions().model_copy(update={"thermal_status": self.status})


def test_an_unplugged_run_goes_on_after_its_last_whole_round(run: Run, answered: MemoryScratch) -> None:
    assert len(answered.rows("rounds")) == 2
    device = ScriptedDevice(TRUE_MS)
    result = run(device, precision_percent=50)
    assert len(device.order) == 2 * TIMINGS, "two of the four rounds were already there"
    assert result.rounds == 4
    assert all(len(n.measurement.round_medians_ms) == 4 for n in result.networks)


def test_known_latencies_are_found_again(run: Run) -> None:
    result = run(ScriptedDevice(TRUE_MS), rounds=12, afresh=True)
    for network in result.networks:
        assert network.measurement.median_ms == pytest.approx(TRUE_MS[network.name], rel=0.02)
    medians = {network.name: network.measurement.median_ms for network in result.networks}
    assert result.ratio == pytest.approx(medians["found"] / medians[result.reference], rel=0.01)
    assert result.equal_accuracy_speedup == pytest.approx(1 / result.ratio)
    low, high = result.equal_accuracy_speedup_interval_95
    assert low < TRUE_MS[result.reference] / TRUE_MS["found"] < high
    assert ROLES[result.reference] == "baseline"
    assert result.reference in result.reference_reason


def test_every_network_is_timed_once_a_round_in_ever_another_order(run: Run) -> None:
    device = ScriptedDevice(TRUE_MS)
    run(device, rounds=10, precision_percent=50, afresh=True)
    rounds = [tuple(device.order[i : i + TIMINGS]) for i in range(0, len(device.order), TIMINGS)]
    assert all(sorted(one) == sorted([*TRUE_MS, ANCHOR]) for one in rounds)
    assert all(one[0] == one[-1] == ANCHOR for one in rounds)
    assert len(set(rounds)) > 5
    assert device.renewed == 10, "fresh processes for every round"


def test_rounds_are_the_same_for_the_same_seed(run: Run) -> None:
    first, second = ScriptedDevice(TRUE_MS), ScriptedDevice(TRUE_MS)
    one, two = run(first, afresh=True), run(second, afresh=True)
    assert first.order == second.order
    assert one.model_copy(update={"seconds": 0.0}) == two.model_copy(update={"seconds": 0.0})


def test_a_noisy_device_is_measured_longer_and_then_named(run: Run) -> None:
    told = Told()
    result = run(ScriptedDevice(TRUE_MS, noise=0.3), told, afresh=True)
    assert result.rounds == 12
    assert len(told.warnings) == 1
    assert "after 12 rounds" in told.warnings[0]


def test_a_clear_gate_is_decided_at_the_first_look_however_wide_the_interval_is(run: Run) -> None:
    told = Told()
    device = ScriptedDevice({**TRUE_MS, "found": 0.05}, noise=0.05)
    result = run(device, told, afresh=True, precision_percent=0.001, max_ratio=2.0, rounds=6)
    assert (result.rounds, result.ratio_interval_95[1] < 2.0) == (6, True)
    assert result.interval_error == pytest.approx(0.05 * (6 / 12) ** 2)
    assert not [text for text in told.warnings if "is known to" in text]


def test_looks_share_the_error_of_the_interval(run: Run) -> None:
    first = run(ScriptedDevice(TRUE_MS, noise=0.001), afresh=True)
    last = run(ScriptedDevice(TRUE_MS, noise=0.05), afresh=True, precision_percent=0.01)
    assert (first.rounds, last.rounds) == (4, 12)
    assert first.interval_error < last.interval_error < 0.05


def test_rounds_in_which_the_device_was_slow_do_not_count_and_are_measured_again(run: Run) -> None:
    device = SlowAtFirst(TRUE_MS, noise=0.001)
    result = run(device, afresh=True, rounds=6, precision_percent=50)
    assert (result.rounds, result.rounds_dropped) == (6, 3)
    for network in result.networks:
        assert max(network.measurement.round_medians_ms) < 1.1 * TRUE_MS[network.name]


def test_a_device_that_throttles_throughout_decides_no_gate_and_is_warned_of(run: Run) -> None:
    told = Told()
    result = run(Hot(TRUE_MS, noise=0.001), told, afresh=True, rounds=4, max_ratio=5.0)
    assert result.ratio_interval_95[1] < 5.0
    assert (result.verdict, result.disturbed) == ("inconclusive", True)
    assert (result.rounds, result.rounds_dropped) == (12, 12)
    (warning,) = [text for text in told.warnings if "throttled" in text]
    assert "12 of 12 rounds" in warning
    ungated = run(Hot(TRUE_MS, noise=0.001), told := Told(), afresh=True, rounds=4)
    assert ungated.verdict == "ungated"
    assert [text for text in told.warnings if "nothing is decided" in text]


def test_a_phone_that_may_be_measured_warm_passes_its_gate_warm(
    store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch
) -> None:
    scratch = resumed(answered)
    del scratch.logs["rounds"]
    warm = replace(stage(Hot(TRUE_MS, noise=0.001, status=1), max_ratio=5.0), max_thermal_status=1)
    context = memory_context("verify", store=store, scratch=scratch)
    result = warm.run(context, converted=networks, latency=latency_model(), pruned=pruned())
    assert (result.verdict, result.rounds, result.rounds_dropped) == ("pass", 4, 0)


def test_a_quiet_device_is_not_measured_longer(run: Run) -> None:
    told = Told()
    assert run(ScriptedDevice(TRUE_MS, noise=0.001), told, afresh=True).rounds == 4
    assert not told.warnings


def test_a_found_network_that_takes_another_time_than_promised_is_warned_of_and_passes_no_gate(
    run: Run,
) -> None:
    told = Told()
    device = ScriptedDevice({**TRUE_MS, "found": 0.27}, noise=0.001)
    slow = run(device, told, afresh=True, max_ratio=5.0)
    (warning,) = [text for text in told.warnings if "as predicted" in text]
    assert "slower than the predicted 0.2 ms" in warning
    assert "above its target of 0.21 ms" in warning
    assert "The latency model that it was chosen by can be measured again" in warning
    assert slow.found_latency is not None
    assert slow.found_latency.ms == pytest.approx(0.27, rel=0.03)
    assert (slow.verdict, slow.found_latency.target) == ("fail", "missed")
    assert slow.anchor is not None
    assert slow.anchor.measurement.rounds == slow.rounds

    told = Told()
    assert run(ScriptedDevice(TRUE_MS), told, afresh=True, max_ratio=5.0).verdict == "pass"
    assert not told.warnings


def test_on_a_disturbed_device_the_comparison_is_to_be_repeated_before_the_latency_model(run: Run) -> None:
    told = Told()
    device = ScriptedDevice({**TRUE_MS, "found": 0.6}, noise=0.05)
    run(device, told, afresh=True, precision_percent=0.01)
    (warning,) = [text for text in told.warnings if "as predicted" in text]
    assert warning.index("--force verify") < warning.index("--force latency")


def test_a_device_that_leaves_a_network_out_is_an_error(run: Run) -> None:
    with pytest.raises(DeviceError, match="left out 1 of 6 models, random"):
        run(ScriptedDevice(TRUE_MS, leaves_out="random"), afresh=True)


@pytest.mark.parametrize(
    ("low", "high", "max_ratio", "expected"),
    [
        (0.4, 0.5, None, "ungated"),
        (0.4, 0.5, 0.55, "pass"),
        (0.4, 0.5, 0.35, "fail"),
        (0.4, 0.5, 0.45, "inconclusive"),
        (0.4, 0.5, 0.5, "inconclusive"),
        (0.4, 0.5, 0.4, "inconclusive"),
    ],
)
def test_only_an_interval_wholly_on_one_side_decides(
    low: float, high: float, max_ratio: float | None, expected: str
) -> None:
    assert verdict(Estimate(0.45, low, high), max_ratio) == expected


def test_two_found_networks_or_equal_names_are_refused(store: MemoryStore) -> None:
    one = converted(store, ["found", "mobilenet_v2_w1.0"]).networks
    for networks in ((*one, one[0]), one[1:]):
        with pytest.raises(UsageError, match="one found network"):
            stage(ScriptedDevice(TRUE_MS)).run(
                memory_context("verify", store=store),
                converted=ConvertedNetworks(networks=networks),
                latency=latency_model(),
                pruned=pruned(),
            )


def test_device_runtime_and_images_enter_the_fingerprint_but_the_serial_does_not() -> None:
    device = ScriptedDevice(TRUE_MS)
    environment = stage(device).environment()
    assert environment["device_model"] == "Scripted Phone"
    assert {"dataset_sha256", "accuracy_runtime"} <= set(environment)
    assert "SECRET-SERIAL" not in environment.values()
    assert "device" not in stage(device).settings()
    assert stage(device).fingerprint({}) != stage(device, max_ratio=0.5).fingerprint({})
    assert stage(device).estimate_seconds() > 0
