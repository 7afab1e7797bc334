"""The latency model against a device whose truth is known, with negative controls."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from support.latency_spaces import SPACE, TINY
from support.memory_context import MemoryScratch, Told, memory_context
from support.simulated_device import SimulatedDevice

from android_bench.device import LatencyMeasurement, RuntimeOptions
from android_bench.local.device import LocalDevice
from nasflow.base.errors import BadMeasurementError, DeviceError, UsageError
from pipeline.artifact import document_bytes
from pipeline.events import Message
from stages.conversion.flatbuffer import network_model
from stages.conversion.ways import split_indices
from stages.documents import LatencyModel, LatencyTable, PredictionPoint, TableRow
from stages.latency.config import LatencyConfig
from stages.latency.model import NetworkTimings, check_told_apart, fit_model, net_block_ms
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space.mobilenet_v2 import fit_strides
from stages.space.network_name import network_name
from stages.space.search_space import Candidate, SearchSpace, StageSpec


def profile(device: SimulatedDevice, space: SearchSpace = SPACE) -> LatencyTable:
    stage = ProfileOps(ProfileConfig(), space, RuntimeOptions(), 0, device)
    return stage.run(memory_context("profile"))


def stage(device: SimulatedDevice, space: SearchSpace = SPACE, **config: Any) -> FitLatency:
    return FitLatency(LatencyConfig.model_validate(config), space, RuntimeOptions(), 0, device)


def fit(device: SimulatedDevice, table: LatencyTable | None = None, **config: Any) -> LatencyModel:
    return stage(device, **config).run(memory_context("latency"), table=table or profile(device))


def test_an_additive_truth_is_found_exactly() -> None:
    device = SimulatedDevice(network_factor=1.1, network_overhead_ms=0.02)
    model = fit(device)
    assert model.scale == pytest.approx(1.1, rel=1e-6)
    assert model.overhead_ms == pytest.approx(0.02 + device.invoke_ms, abs=1e-6)
    assert model.invoke_ms == pytest.approx(device.invoke_ms, abs=1e-6)
    assert model.held_out_error.mape_percent < 1e-4
    assert model.held_out_error.spearman == 1.0


def test_the_invocation_of_each_block_is_not_counted_again() -> None:
    """With the blocks' raw latencies the invocations of 12 blocks would enter a network's time."""
    device = SimulatedDevice(invoke_ms=0.05)
    model = fit(device)
    assert model.scale == pytest.approx(1.0, rel=1e-6)
    assert model.overhead_ms == pytest.approx(0.05, abs=1e-6)


def test_with_noise_the_model_stays_within_the_noise() -> None:
    device = SimulatedDevice(network_factor=1.08, noise=0.03)
    model = fit(device)
    assert model.held_out_error.mape_percent < 3
    assert model.held_out_error.share_within_10_percent == 1.0
    assert model.held_out_error.spearman > 0.98


def test_drift_and_spells_during_measurement_do_little_harm() -> None:
    def disturbance(number: int) -> float:
        return (1 + 0.0002 * number) * (2.0 if number % 97 < 9 else 1.0)

    device = SimulatedDevice(noise=0.01, disturbance=disturbance)
    assert fit(device).held_out_error.mape_percent < 3


def test_a_device_that_throttles_amid_the_work_gives_the_model_of_a_cool_one() -> None:
    """Table and networks come from series at different speeds; the anchor brings them together."""
    cool = fit(SimulatedDevice(noise=0.01))
    hot = SimulatedDevice(noise=0.01, disturbance=lambda number: 1.0 if number < 150 else 1.25)
    model = fit(hot)
    assert len(hot.order) > 500
    for point in model.held_out:
        net = SPACE.network(point.choices)
        assert model.predict_ms(net) == pytest.approx(cool.predict_ms(net), rel=0.03)


def test_the_reference_is_as_fast_as_the_networks_that_it_is_compared_with() -> None:
    """Blocks on a hot device, networks on a cool one: a relative target must not be a quarter too loose."""
    table = profile(SimulatedDevice(noise=0.005, disturbance=lambda _: 1.25))
    cool = SimulatedDevice(noise=0.005)
    model = fit(cool, table)
    net = SPACE.network(model.held_out[0].choices)
    assert model.predict_ms(net) == pytest.approx(cool.true_ms(network_model(net)), rel=0.02)
    true_ms = cool.true_ms(network_model(model.reference.net))
    assert model.reference.measurement.median_ms == pytest.approx(true_ms, rel=0.02)


def test_a_foreign_table_does_not_say_how_fast_this_device_is() -> None:
    theirs = profile(SimulatedDevice(disturbance=lambda _: 0.5)).model_copy(update={"foreign": ("device",)})
    here = SimulatedDevice()
    model = fit(here, theirs)
    net = SPACE.network(model.held_out[0].choices)
    assert model.predict_ms(net) == pytest.approx(here.true_ms(network_model(net)), rel=0.02)
    assert model.foreign == ("device",)


def test_k7_blocks_are_predicted_as_they_will_be_computed() -> None:
    candidates = (*SPACE.candidates[:2], Candidate(kernel=7, expansion=3))
    space, device = SPACE.model_copy(update={"candidates": candidates}), SimulatedDevice()
    table = profile(device, space)
    model = stage(device, space).run(memory_context("latency"), table=table)
    assert set(model.implementations.values()) == {"split"}
    net = space.network([0 if len(layer.blocks) == 1 else 2 for layer in space.layers()])
    assert sum(block.kernel == 7 for block in net.blocks) > 3
    true_ms = device.true_ms(network_model(net, implementations=model.implementations))
    assert model.predict_ms(net) == pytest.approx(true_ms, rel=1e-3)
    assert device.true_ms(network_model(net)) > 1.5 * true_ms
    indices = split_indices(net, model.implementations)
    assert len(indices) == sum(block.kernel == 7 for block in net.blocks)


def test_a_7x7_block_that_was_not_measured_is_not_guessed() -> None:
    space = SPACE.model_copy(update={"candidates": (Candidate(kernel=7, expansion=3),)})
    net = space.network([0] * len(space.layers()))
    with pytest.raises(UsageError, match=r"block mbconv_k7.* native or split"):
        split_indices(net, {})


def test_a_block_that_is_not_in_the_table_is_an_error_that_names_it() -> None:
    model = fit(SimulatedDevice())
    stranger = TINY.network([0] * len(TINY.layers()))
    with pytest.raises(UsageError, match=f"block {stranger.blocks[0].key} is not in the latency table"):
        model.predict_ms(stranger)


def test_a_prediction_has_an_interval() -> None:
    models = [fit(SimulatedDevice(noise=0.02, seed=seed)) for seed in range(4)]
    model = models[0]
    prediction = model.predict(SPACE.network(model.held_out[0].choices))
    assert prediction.low_ms < prediction.ms < prediction.high_ms
    assert prediction.high_ms / prediction.ms - 1 == pytest.approx(model.interval_percent / 100)
    assert 0.2 < model.interval_percent < 10
    assert median(model.held_out_error.share_within_interval for model in models) >= 0.9


@pytest.mark.parametrize("seed", range(8))
def test_a_permuted_table_is_found_out_by_the_held_out_networks(seed: int) -> None:
    device = SimulatedDevice(noise=0.01)
    table = profile(device)
    shuffled = [row.measurement for row in table.rows]
    random.Random(seed).shuffle(shuffled)
    rows = tuple(
        TableRow(block=row.block, measurement=measurement)
        for row, measurement in zip(table.rows, shuffled, strict=True)
    )
    try:
        error = fit(device, table.model_copy(update={"rows": rows})).held_out_error
    except BadMeasurementError as refused:
        assert "not slower" in refused.message
    else:
        # Weights and activations, which the residual term knows of, still tell a little.
        assert error.mape_percent > 5
        assert error.spearman < 0.95


def test_held_out_networks_take_no_part_in_the_fit() -> None:
    device = SimulatedDevice(noise=0.01)
    table = profile(device)
    honest = fit(SimulatedDevice(noise=0.01), table)
    held_out = {network_name(point.choices) for point in honest.held_out}

    class Spoiled(SimulatedDevice):
        def benchmark(self, request):  # type: ignore[no-untyped-def]
            answer = super().benchmark(request)
            factor = 1.5 if request.name in held_out else 1.0
            return answer.model_copy(
                update={"median_ms": answer.median_ms * factor, "round_medians_ms": (answer.median_ms,)}
            )

    spoiled = fit(Spoiled(noise=0.01), table)
    assert (spoiled.scale, spoiled.overhead_ms) == pytest.approx((honest.scale, honest.overhead_ms))
    assert spoiled.held_out_error.mape_percent == pytest.approx(33.3, abs=2)
    assert spoiled.interval_percent > 30, "but what they show widens the interval"


def test_a_network_is_held_against_the_interval_that_the_others_give() -> None:
    class Odd(SimulatedDevice):
        def benchmark(self, request):  # type: ignore[no-untyped-def]
            answer = super().benchmark(request)
            return answer.divided(1 / 1.2) if request.name == odd else answer

    honest = fit(SimulatedDevice())
    odd = network_name(honest.held_out[0].choices)
    model = fit(Odd())
    networks = len(model.held_out)
    assert 20 > model.interval_percent > honest.interval_percent
    assert model.held_out_error.share_within_interval == pytest.approx(1 - 1 / networks)


def test_calibration_and_held_out_networks_are_apart_and_cover_the_range() -> None:
    model = fit(SimulatedDevice(), calibration_networks=6, held_out_networks=15)
    assert (len(model.calibration), len(model.held_out)) == (6, 15)
    fitted, assessment = ({p.choices for p in part} for part in (model.calibration, model.held_out))
    assert len(fitted | assessment) == 21
    fastest, slowest = model.feasible_ms
    for part in (model.calibration, model.held_out):
        times = [point.predicted_ms for point in part]
        assert max(times) - min(times) > 0.6 * (slowest - fastest)


def test_points_are_what_the_model_predicts() -> None:
    model = fit(SimulatedDevice(noise=0.02))
    for point in (*model.calibration, *model.held_out):
        assert point.predicted_ms == pytest.approx(model.predict_ms(SPACE.network(point.choices)))


def test_the_feasible_range_is_that_of_all_networks() -> None:
    device = SimulatedDevice(noise=0.02)
    small = stage(device, TINY, calibration_networks=3, held_out_networks=3)
    model = small.run(memory_context("latency"), table=profile(device, TINY))
    layers = [range(len(layer.blocks)) for layer in TINY.layers()]
    times = [model.predict_ms(TINY.network(choices)) for choices in itertools.product(*layers)]
    assert model.feasible_ms == pytest.approx((min(times), max(times)))


def test_the_reference_is_mobilenet_v2_with_the_spaces_strides() -> None:
    device = SimulatedDevice()
    half = ProfileOps(ProfileConfig(anchor_width=0.5), SPACE, RuntimeOptions(), 0, device)
    model = fit(device, half.run(memory_context("profile")))
    assert model.reference.name == "mobilenet_v2_0.5"
    assert model.reference.net.strides[0] == SPACE.stride_plan[0]
    assert sorted(model.reference.net.strides) == sorted(
        [*fit_strides(SPACE.stride_plan), *[1] * (len(model.reference.net.strides) - 8)]
    )
    true_ms = device.true_ms(network_model(model.reference.net))
    assert model.reference.measurement.median_ms == pytest.approx(true_ms)


def test_networks_and_anchor_are_measured_side_by_side() -> None:
    device, table = SimulatedDevice(), profile(SimulatedDevice())
    fit(device, table, calibration_networks=3, held_out_networks=3)
    size = len(device.order) // 8
    rounds = [device.order[size * number : size * (number + 1)] for number in range(8)]
    assert all(set(one) == set(rounds[0]) for one in rounds)
    assert all(one.count("mobilenet_v2_1.0") == 1 + math.ceil((size - 4) / 6) for one in rounds)
    # Some of the table's blocks are among them: they show whether the table still holds.
    blocks = {name.removeprefix("block ") for name in rounds[0] if name.startswith("block ")}
    assert blocks <= {row.block.key for row in table.rows}
    assert len(blocks) >= 6
    assert sum(name.startswith("network") for name in rounds[0]) == 6


def test_a_killed_run_goes_on_and_ends_the_same() -> None:
    table, scratch = profile(SimulatedDevice()), MemoryScratch()
    whole = SimulatedDevice()
    expected = fit(whole, table)
    first, second = SimulatedDevice(unplug_at=100), SimulatedDevice()
    with pytest.raises(DeviceError):
        stage(first).run(memory_context("latency", scratch=scratch), table=table)
    resumed = stage(second).run(memory_context("latency", scratch=scratch), table=table)
    networks = [
        [name for name in order if name.startswith("network")]
        for order in (first.order + second.order, whole.order)
    ]
    assert networks[0] == networks[1]
    # The anchor was timed once more, where the second run began.
    same = {name: getattr(expected, name) for name in ("seconds", "timings", "reference")}
    assert resumed.model_copy(update=same) == expected
    assert resumed.reference.measurement.median_ms == expected.reference.measurement.median_ms
    assert resumed.seconds >= table.seconds


def test_nonsense_gives_no_model() -> None:
    table = profile(SimulatedDevice())
    with pytest.raises(BadMeasurementError):
        fit(SimulatedDevice(answers={50: float("nan")}), table)


def test_a_device_that_always_says_the_same_gives_no_model() -> None:
    class Stuck(SimulatedDevice):
        def true_ms(self, model: bytes) -> float:
            return 1.0

    with pytest.raises(BadMeasurementError):
        fit(Stuck(), profile(SimulatedDevice()))


WITHOUT_SKIP = TINY.model_copy(update={"skip": False})


def all_alike(table: LatencyTable, own_ms: float, step_ms: float = 0.0) -> LatencyTable:
    """The table with the same time for every block, and an invocation of 0.002 ms."""

    def measurement(ms: float) -> LatencyMeasurement:
        return LatencyMeasurement(
            median_ms=ms,
            p5_ms=ms,
            p95_ms=ms,
            min_ms=ms,
            runs=9,
            rounds=1,
            round_medians_ms=(ms,),
            resolution_ms=step_ms,
        )

    rows = tuple(row.model_copy(update={"measurement": measurement(0.002 + own_ms)}) for row in table.rows)
    return table.model_copy(update={"rows": rows, "invoke": measurement(0.002)})


@pytest.mark.parametrize("own_ms", [0.0, -0.001, 0.004])
def test_a_table_that_tells_no_candidates_apart_is_refused_before_anything_is_measured(own_ms: float) -> None:
    table = all_alike(profile(SimulatedDevice(), WITHOUT_SKIP), own_ms)
    device = SimulatedDevice()
    config = {"calibration_networks": 3, "held_out_networks": 3}
    with pytest.raises(
        BadMeasurementError, match="does not distinguish the candidates of any layer of space tiny"
    ):
        stage(device, WITHOUT_SKIP, **config).run(memory_context("latency"), table=table)
    assert device.order == []


def test_rows_within_a_step_of_the_clock_are_not_told_apart() -> None:
    table = all_alike(profile(SimulatedDevice(), WITHOUT_SKIP), 0.004, step_ms=0.001)
    # One candidate of the last layer is slower by one and a half steps, of 1 or of 4 copies.
    key = next(block.key for block in reversed(WITHOUT_SKIP.distinct_blocks()) if block.searchable)
    block_ms, _, invoke_ms = net_block_ms(table)
    assert list(block_ms.values()) == pytest.approx([0.004] * len(block_ms))
    for copies, apart in ((1, False), (4, True)):
        rows = tuple(
            row.model_copy(
                update={
                    "copies": copies,
                    "measurement": row.measurement.model_copy(
                        update={"median_ms": invoke_ms + copies * (0.0055 if row.block.key == key else 0.004)}
                    ),
                }
            )
            for row in table.rows
        )
        changed = table.model_copy(update={"rows": rows})
        if apart:
            check_told_apart(WITHOUT_SKIP, changed)
        else:
            with pytest.raises(BadMeasurementError, match=r"they take 3 to 6\.5 us"):
                check_told_apart(WITHOUT_SKIP, changed)


def test_a_layer_without_measurable_time_gives_a_model() -> None:
    """Fused 1x1 convolutions at one pixel take less than the clock counts, whatever they are."""
    space = SPACE.model_copy(
        update={
            "stages": (
                *SPACE.stages,
                StageSpec(width=8, layers=1, stride=2, fixed=Candidate(kind="fused", kernel=1, expansion=1)),
            )
        }
    )
    device = SimulatedDevice()
    table = profile(device, space)
    last = [block.key for block in space.layers()[-1].blocks if block is not None]
    rows = tuple(
        row.model_copy(update={"measurement": table.invoke}) if row.block.key in last else row
        for row in table.rows
    )
    model = stage(device, space).run(memory_context("latency"), table=table.model_copy(update={"rows": rows}))
    assert {model.block_ms[key] for key in last} == {0.0}
    assert model.held_out_error.mape_percent < 1


def test_a_table_of_another_space_is_refused() -> None:
    device = SimulatedDevice()
    with pytest.raises(UsageError, match=r"blocks of space latency_test are not in .*nasflow profile"):
        fit(device, profile(device, TINY))


def test_the_document_reads_back() -> None:
    model = fit(SimulatedDevice(noise=0.01))
    assert LatencyModel.model_validate_json(document_bytes(model)) == model


def test_the_fingerprint_follows_seed_space_and_table() -> None:
    one = stage(SimulatedDevice())
    prints = {
        one.fingerprint({"table": "a"}),
        one.fingerprint({"table": "b"}),
        replace(one, seed=1).fingerprint({"table": "a"}),
        stage(SimulatedDevice(), rounds=11).fingerprint({"table": "a"}),
        stage(SimulatedDevice(), TINY).fingerprint({"table": "a"}),
    }
    assert len(prints) == 5


def test_this_computer_gives_a_model() -> None:
    quick = {"rounds": 3, "extra_rounds": 0, "warmup_ms": 0.2, "min_ms": 0.5, "min_runs": 3}
    told = Told()
    with LocalDevice() as device:
        table = ProfileOps(ProfileConfig.model_validate(quick), TINY, RuntimeOptions(), 0, device).run(
            memory_context("profile", told=told)
        )
        config = LatencyConfig.model_validate({**quick, "calibration_networks": 4, "held_out_networks": 4})
        model = FitLatency(config, TINY, RuntimeOptions(), 0, device).run(
            memory_context("latency", told=told), table=table
        )
    assert 0.3 < model.scale < 3
    assert model.feasible_ms[0] < model.feasible_ms[1]
    assert model.reference.measurement.median_ms > model.feasible_ms[1]


def test_a_line_by_which_some_network_takes_no_time_is_no_model() -> None:
    """All that was measured takes some time, but the fastest network was not among it."""
    device = SimulatedDevice()
    table = profile(device)
    model = fit(device, table)
    less_ms = 1.2 * model.feasible_ms[0]

    def faster(points: Iterable[PredictionPoint]) -> list[tuple[tuple[int, ...], LatencyMeasurement]]:
        return [
            (point.choices, point.measurement.model_copy(update={"median_ms": median_ms}))
            for point in points
            if (median_ms := point.measurement.median_ms - less_ms) > 0
        ]

    with pytest.raises(BadMeasurementError, match=r"the fastest network of space \w+ would take -0\.\d+ ms"):
        fit_model(
            SPACE,
            table,
            faster(model.calibration),
            faster(model.held_out),
            NetworkTimings(model.device, model.runtime, model.reference, model.timings, 0.0),
        )


@pytest.mark.parametrize(("held_out", "told"), [(10, True), (11, False)])
def test_it_is_told_where_held_out_networks_are_too_few_to_see_one_side(held_out: int, told: bool) -> None:
    device, heard = SimulatedDevice(), Told()
    few = stage(device, rounds=3, extra_rounds=0, calibration_networks=4, held_out_networks=held_out)
    table = ProfileOps(
        ProfileConfig(rounds=3, extra_rounds=0, anchor_width=0.35), SPACE, RuntimeOptions(), 0, device
    ).run(memory_context("profile"))
    few.run(memory_context("latency", told=heard), table=table)
    said = [event.text for event in heard.events if isinstance(event, Message)]
    assert any("10 held-out networks are too few" in text and "takes 11" in text for text in said) == told
