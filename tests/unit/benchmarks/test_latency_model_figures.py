"""What the latency model's benchmark says of a table and a model."""

from __future__ import annotations

import pytest
from support.latency_spaces import TINY
from support.memory_context import memory_context
from support.simulated_device import SimulatedDevice

from android_bench.device import RuntimeOptions
from benchmarks.latency_model import as_shipped, summarise
from stages.documents import LatencyModel, LatencyTable, TableCheck
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps

SPACE = TINY.model_copy(
    update={"candidates": (*TINY.candidates, TINY.candidates[0].model_copy(update={"kernel": 7}))}
)


@pytest.fixture(scope="module")
def measured() -> tuple[LatencyTable, LatencyModel]:
    device = SimulatedDevice(noise=0.02)
    profile = ProfileConfig(rounds=3, extra_rounds=0, anchor_width=0.35)
    table = ProfileOps(profile, SPACE, RuntimeOptions(), 0, device).run(memory_context("profile"))
    config = LatencyConfig(rounds=3, extra_rounds=0, calibration_networks=6, held_out_networks=20)
    stage = FitLatency(config, SPACE, RuntimeOptions(), 0, device)
    return table, stage.run(memory_context("latency"), table=table)


def test_the_interval_that_is_judged_is_the_one_that_is_shipped(
    measured: tuple[LatencyTable, LatencyModel],
) -> None:
    table, model = measured
    figures = summarise(SPACE, table, model)
    assert figures["interval_percent"] == model.interval_percent
    errors = [point.measurement.median_ms / point.predicted_ms - 1 for point in model.held_out]
    assert figures["within_interval"] == sum(abs(e) <= model.interval_percent / 100 for e in errors)


@pytest.mark.parametrize(
    "between",
    [{"shift_percent": 5.0}, {"table_check": TableCheck(disagreement_percent=20.0)}],
    ids=["anchor", "blocks"],
)
def test_what_differs_between_sittings_widens_the_interval_that_is_judged(
    measured: tuple[LatencyTable, LatencyModel], between: dict[str, object]
) -> None:
    table, model = measured
    one_sitting = model.model_copy(update={"shift_percent": 0.0, "table_check": None})
    alone = summarise(SPACE, table, one_sitting)
    widened = summarise(SPACE, table, one_sitting.model_copy(update=between))
    assert widened["interval_percent"] ** 2 == pytest.approx(
        alone["interval_percent"] ** 2 + (1.96 * 5.0) ** 2
    )
    assert widened["within_interval"] == 20


def test_calibration_networks_count_with_as_many_rounds_as_a_users(
    measured: tuple[LatencyTable, LatencyModel],
) -> None:
    """The truth is measured until it is known; a user's model is fitted to what the usual rounds give."""
    table, model = measured
    usual = LatencyConfig()
    rounds = usual.rounds + usual.extra_rounds
    longer = tuple(
        point.model_copy(
            update={
                "measurement": point.measurement.model_copy(
                    update={
                        "median_ms": 99.0,
                        "round_medians_ms": (point.measurement.median_ms,) * rounds + (99.0,) * 2 * rounds,
                    }
                )
            }
        )
        for point in model.calibration
    )
    shipped = as_shipped(SPACE, table, model.model_copy(update={"calibration": longer}))
    assert shipped.scale == pytest.approx(model.scale)
