"""Networks chosen under a target, on a device whose truth is known: right tables pass, wrong ones do not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from support.simulated_device import SimulatedDevice
from support.toy_search import latency_model, measured

from benchmarks import _permuted_tables
from benchmarks._permuted_tables import permuted_models
from benchmarks.latency_target import (
    FULL,
    Depth,
    Evaluated,
    bars,
    evaluate,
    investigate,
    model_times,
    spread_targets_ms,
)
from nasflow.base.errors import BadMeasurementError
from pipeline.events import Event
from pipeline.store.store import Store
from stages.data.config import DataConfig
from stages.documents import LatencyTable, ReferenceLatency
from stages.nas.config import PruneConfig, SearchConfig
from stages.space.network_name import network_name
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

SPACE = SearchSpace(
    name="targets",
    resolution=32,
    classes=10,
    stem=StemSpec(width=8, stride=2),
    stages=(StageSpec(width=8, layers=2, stride=2), StageSpec(width=16, layers=3, stride=2)),
    head_width=32,
    candidates=tuple(Candidate(kernel=k, expansion=e) for k in (3, 5) for e in (2, 4)),
)
DEPTH = Depth(
    targets=6,
    permutations=2,
    data=DataConfig(train_images=300, architecture_images=100),
    search=SearchConfig(warmup_epochs=0, epochs=1, batch_size=50, architecture_batch_size=50),
    prune=PruneConfig(candidates=2, recalibration_batches=1),
)


def untold(_: Event) -> None:
    """Nobody waits."""


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    device = SimulatedDevice(network_factor=1.1, network_overhead_ms=0.002, noise=0.005)
    store = Store(tmp_path_factory.mktemp("store"), untold)
    return investigate(DEPTH, SPACE, device, store, untold)


def test_networks_chosen_by_a_right_table_keep_their_targets(figures: dict[str, Any]) -> None:
    chosen = Evaluated(**figures["chosen_by_prediction"])
    assert chosen.networks == DEPTH.targets
    assert chosen.passes
    assert chosen.off_percent < 1.0


def test_networks_chosen_by_a_permuted_table_do_not(figures: dict[str, Any]) -> None:
    permuted = figures["permuted_tables"]
    assert len(permuted["each"]) == DEPTH.permutations
    assert permuted["passing"] == 0
    assert permuted["least_off_percent"] > 3.0


def test_what_is_judged_is_what_the_stage_ranks_first(figures: dict[str, Any]) -> None:
    assert figures["ranked_as_by_the_stage"] == figures["ranked_by_the_stage"] == DEPTH.targets


def test_what_is_shipped_was_in_time_when_it_was_picked(figures: dict[str, Any]) -> None:
    assert figures["shipped_first"]["above_target"] == 0
    assert figures["shipped"]["networks"] == figures["shipped_first"]["networks"] > 0


def test_targets_are_evenly_spread_ratios_up_to_the_slowest_network() -> None:
    latency = latency_model()
    targets_ms = [latency.feasible_ms[0], *spread_targets_ms(latency, 4)]
    ratios = [after / before for before, after in pairwise(targets_ms)]
    assert ratios == pytest.approx([ratios[0]] * 4)
    assert targets_ms[-1] == pytest.approx(latency.feasible_ms[1])


def test_a_network_is_judged_by_its_prediction_and_by_its_target() -> None:
    space, latency = SPACE, latency_model(SPACE)
    fast, slow = (0,) * 5, (3,) * 5
    fast_ms, slow_ms = (latency.predict_ms(space.network(path)) for path in (fast, slow))
    choices = [(1.01 * fast_ms, fast), (1.25 * slow_ms, slow)]
    found = evaluate(space, latency, choices, {fast: 1.02 * fast_ms, slow: 0.96 * slow_ms})
    assert (found.networks, found.above_target) == (2, 1)
    assert found.off_percent == pytest.approx(3.0)
    assert found.worst_off_percent == pytest.approx(4.0)
    assert found.signed_percent == pytest.approx(-1.0)
    assert found.worst_over_target == pytest.approx(1.02 / 1.01)


@pytest.mark.parametrize(
    ("off_percent", "worst_over_target", "passes"),
    [(3.0, 1.1, True), (3.01, 1.0, False), (0.1, 1.101, False)],
)
def test_either_bar_alone_can_fail(off_percent: float, worst_over_target: float, passes: bool) -> None:
    found = Evaluated(20, off_percent, 9.0, 0.0, worst_over_target, 0)
    assert found.passes is passes


def test_times_are_held_against_the_anchor_of_their_own_measurement() -> None:
    latency = latency_model()
    by_name = {network_name((0, 1)): measured(0.3), latency.reference.name: measured(0.4)}
    assert latency.reference.measurement.median_ms == 0.2
    assert model_times(by_name, latency, [(0, 1)]) == {(0, 1): pytest.approx(0.15)}


def test_a_permuted_table_that_passes_fails_the_benchmark(figures: dict[str, Any]) -> None:
    good = Evaluated(FULL.targets, 1.0, 2.0, 0.0, 1.0, 0)
    permuted = {"each": [vars(good)] * FULL.permutations, "passing": 0}
    whole = {**figures, "chosen_by_prediction": vars(good), "permuted_tables": permuted}
    assert all(bar.holds for bar in bars(whole))
    for change in (
        {"permuted_tables": {**permuted, "passing": 1}},
        {"permuted_tables": {**permuted, "each": []}},
        {"chosen_by_prediction": {**vars(good), "off_percent": 3.1}},
        {"chosen_by_prediction": {**vars(good), "worst_over_target": 1.11}},
        {"chosen_by_prediction": {**vars(good), "networks": FULL.targets - 1}},
        {"ranked_as_by_the_stage": figures["ranked_by_the_stage"] - 1},
    ):
        assert sum(not bar.holds for bar in bars({**whole, **change})) == 1


def test_without_any_model_of_a_permuted_table_the_control_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_permuted_tables, "MOST_PERMUTATIONS", 0)
    latency = latency_model()
    table = LatencyTable(
        device=latency.device,
        runtime=latency.runtime,
        rows=(),
        anchor=ReferenceLatency(name="anchor", net=latency.reference.net, measurement=measured(0.2)),
        timings=(),
        seconds=0.0,
    )
    with pytest.raises(BadMeasurementError, match="of 0 permuted tables 0 gave a latency model, not 1"):
        permuted_models(SPACE, table, latency, 1, 0)
