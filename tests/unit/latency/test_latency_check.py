"""Does a model still hold? On devices that did and did not change since."""

from __future__ import annotations

import pytest
from support.latency_spaces import SPACE
from support.memory_context import memory_context
from support.simulated_device import SimulatedDevice

from android_bench.device import RuntimeOptions
from stages.documents import LatencyModel
from stages.latency.check import ModelCheck, check_model, pick_networks, verdict
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.measurement.config import MeasurementConfig
from stages.profile_ops import ProfileConfig, ProfileOps


@pytest.fixture(scope="module")
def model() -> LatencyModel:
    device = SimulatedDevice(noise=0.01)
    table = ProfileOps(ProfileConfig(rounds=5), SPACE, RuntimeOptions(), 0, device).run(
        memory_context("profile")
    )
    return FitLatency(LatencyConfig(rounds=5), SPACE, RuntimeOptions(), 0, device).run(
        memory_context("latency"), table=table
    )


def check(model: LatencyModel, device: SimulatedDevice, networks: int = 5) -> ModelCheck:
    config, context = MeasurementConfig(rounds=8), memory_context("latency")
    return check_model(model, SPACE, device, config, RuntimeOptions(), context, networks=networks)


@pytest.mark.parametrize("seed", range(5))
def test_on_an_unchanged_device_it_holds(model: LatencyModel, seed: int) -> None:
    outcome = check(model, SimulatedDevice(noise=0.01, seed=seed))
    assert outcome.outcome == "holds"
    assert len(outcome.networks) == 5
    assert outcome.change_percent == pytest.approx(0.0, abs=2)
    assert verdict(outcome).startswith("The latency model still holds: 5 networks take")


@pytest.mark.parametrize(("factor", "words"), [(1.15, "longer"), (0.85, "shorter"), (1.08, "longer")])
def test_a_device_that_an_update_made_slower_or_faster_is_found_out(
    model: LatencyModel, factor: float, words: str
) -> None:
    """The anchor changes with the networks, and must not hide it; nor does a model that was never exact."""
    vague = model.model_copy(update={"interval_percent": 15.0})
    outcome = check(vague, SimulatedDevice(noise=0.01, disturbance=lambda _: factor))
    assert outcome.outcome == "fails"
    assert outcome.change_percent == pytest.approx(100 * (factor - 1), abs=2)
    assert f"{words} than when it was measured" in verdict(outcome)


def test_a_fluctuation_meanwhile_is_no_change_of_the_device(model: LatencyModel) -> None:
    device = SimulatedDevice(noise=0.005, disturbance=lambda n: 1.3 if 12 <= n < 24 else 1.0)
    assert check(model, device).outcome == "holds"


def test_a_clock_too_coarse_for_the_networks_gives_no_verdict(model: LatencyModel) -> None:
    """Every round shows the same whole step; the truth may lie half a step beside it, then and now."""
    assert min(point.measurement.median_ms for point in model.held_out) > 0.02
    outcome = check(model, SimulatedDevice(noise=0.001, step_ms=0.02))
    assert outcome.outcome == "inconclusive"
    assert max(network.half_interval_percent for network in outcome.networks) > 2.5
    assert check(model, SimulatedDevice(noise=0.001, step_ms=0.0001)).outcome == "holds"


def test_a_noisy_device_gives_no_verdict(model: LatencyModel) -> None:
    outcome = check(model, SimulatedDevice(noise=0.15))
    assert outcome.outcome == "inconclusive"
    assert "varies too much for a conclusion" in verdict(outcome)


def test_the_networks_span_the_range(model: LatencyModel) -> None:
    points = pick_networks(model, 5)
    times = [point.predicted_ms for point in points]
    everything = [point.predicted_ms for point in model.held_out]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (min(everything), max(everything))
    assert len({point.choices for point in points}) == 5
    assert len(pick_networks(model, 1000)) == len(model.held_out)
    assert len(pick_networks(model, 1)) == 1
