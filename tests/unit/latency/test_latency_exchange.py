"""A latency model as a file: what is written comes back, and what is wrong with a file is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.latency_spaces import TINY
from support.memory_context import memory_context
from support.simulated_device import SIMULATED, SimulatedDevice

from android_bench.device import DeviceInfo, RuntimeOptions
from nasflow.base.errors import IntegrityError, MachineError, NasflowError, UsageError
from stages.conversion.flatbuffer import block_model
from stages.documents import LatencyModel, LatencyTable
from stages.latency.config import LatencyConfig
from stages.latency.exchange import LatencyFile, differences, export
from stages.latency.exchange import read_latency_file as read
from stages.latency.model import net_block_ms
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps

SPACE = TINY.model_copy(
    update={"candidates": (*TINY.candidates, TINY.candidates[0].model_copy(update={"kernel": 7}))}
)
ANCHOR = ProfileOps(ProfileConfig(anchor_width=0.35), SPACE, RuntimeOptions(), 0, SimulatedDevice()).anchor()
Change = Callable[[dict[str, Any]], None]


def measured() -> tuple[LatencyTable, LatencyModel]:
    device = SimulatedDevice(noise=0.01)
    quick = {"rounds": 3, "extra_rounds": 0, "anchor_width": 0.35}
    table = ProfileOps(ProfileConfig.model_validate(quick), SPACE, RuntimeOptions(), 0, device).run(
        memory_context("profile")
    )
    config = LatencyConfig(rounds=3, extra_rounds=0, calibration_networks=4, held_out_networks=4)
    model = FitLatency(config, SPACE, RuntimeOptions(), 0, device).run(memory_context("latency"), table=table)
    return table, model


TABLE, MODEL = measured()
CONTENT = export(SPACE, TABLE, MODEL, at=datetime(2026, 1, 2, tzinfo=UTC), nasflow_version="0.1")


def read_latency_file(path: Path, here: DeviceInfo = SIMULATED) -> LatencyFile:
    return read(path, SPACE, ANCHOR, here)


def changed(tmp_path: Path, change: Change) -> Path:
    content = json.loads(CONTENT)
    change(content)
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(content))
    return path


def test_what_is_exported_comes_back_without_the_serial(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_bytes(CONTENT)
    file = read_latency_file(path)
    assert TABLE.device.serial
    assert TABLE.device.serial.encode() not in CONTENT
    nameless = {"device": TABLE.device.model_copy(update={"serial": ""})}
    assert file.table == TABLE.model_copy(update=nameless)
    assert file.model == MODEL.model_copy(update={**nameless, "seconds": file.model.seconds})
    assert file.model.seconds == pytest.approx(MODEL.seconds)
    assert file.space == SPACE


def test_rows_of_several_copies_come_back_and_give_the_same_model(tmp_path: Path) -> None:
    device = SimulatedDevice(noise=0.003, step_ms=0.001)
    quick = {"rounds": 3, "extra_rounds": 0, "anchor_width": 0.35}
    table = ProfileOps(ProfileConfig.model_validate(quick), SPACE, RuntimeOptions(), 0, device).run(
        memory_context("profile")
    )
    config = LatencyConfig(rounds=3, extra_rounds=0, calibration_networks=4, held_out_networks=4)
    model = FitLatency(config, SPACE, RuntimeOptions(), 0, device).run(memory_context("latency"), table=table)
    assert max(row.copies for row in table.rows) > 10
    path = tmp_path / "latency.json"
    path.write_bytes(export(SPACE, table, model, at=datetime(2026, 1, 2, tzinfo=UTC), nasflow_version="0.1"))
    file = read_latency_file(path)
    assert file.table.rows == table.rows
    assert file.model.block_ms == model.block_ms
    content = json.loads(path.read_text())
    content["table"]["rows"][0]["copies"] = 0
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"table\.rows\.0\.copies: .*greater than or equal to 1"):
        read_latency_file(path)


def test_the_file_can_be_read_without_this_program() -> None:
    content = json.loads(CONTENT)
    row = content["table"]["rows"][1]
    assert row["block"]["kind"] == "mbconv"
    assert {"median_ms", "p5_ms", "p95_ms", "min_ms", "runs"} <= row["measurement"].keys()
    assert content["table"]["device"]["runtime"] == SIMULATED.runtime
    assert len(content["table"]["timings"]) == len(TABLE.timings)
    assert content["table"]["timings"][0]["measurement"]["conditions"]["at"]


def test_the_fit_is_made_again_and_not_believed(tmp_path: Path) -> None:
    def lie(content: dict[str, Any]) -> None:
        content["model"]["scale"] = 0.1
        content["model"]["held_out_error"]["mape_percent"] = 0.0
        content["model"]["block_ms"] = {}

    file = read_latency_file(changed(tmp_path, lie))
    assert file.model.scale == pytest.approx(MODEL.scale)
    assert file.model.held_out_error == MODEL.held_out_error
    assert file.model.block_ms == pytest.approx(MODEL.block_ms)


def test_a_file_of_before_the_softmax_is_one_of_logits(tmp_path: Path) -> None:
    def older(content: dict[str, Any]) -> None:
        for part in ("table", "model"):
            content[part].pop("output")
            content[part]["schema_version"] = 2

    file = read_latency_file(changed(tmp_path, older))
    assert (file.table.output, file.model.output) == ("logits", "logits")
    assert (file.table.schema_version, file.model.schema_version) == (3, 3)
    assert file.table.rows == TABLE.rows
    assert file.model.block_ms == MODEL.block_ms
    assert differences(file.table, file.model, SIMULATED, RuntimeOptions(), output="logits") == ()
    assert differences(file.table, file.model, SIMULATED, RuntimeOptions()) == (
        "output of networks: logits in the table, probabilities here",
    )


def rows(content: dict[str, Any]) -> list[Any]:
    found: list[Any] = content["table"]["rows"]
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: rows(c).pop(2), "has no row for block mbconv_"),
        (lambda c: rows(c).append(rows(c)[3]), "two rows for block mbconv_"),
        (lambda c: rows(c)[2]["measurement"].update(median_ms=-1.0), "greater than 0, and it is -1.0"),
        (lambda c: rows(c)[2]["measurement"].update(median_ms=0), "greater than 0, and it is 0"),
        (lambda c: rows(c)[2]["measurement"].update(median_ms=float("nan")), "NaN is not a latency"),
        (lambda c: rows(c)[2]["measurement"].update(median_ms=float("inf")), "Infinity is not a latency"),
        (lambda c: rows(c)[2]["measurement"].update(median_ms="fast"), "and it is 'fast'"),
        (lambda c: c.update(schema_version=2), "schema_version is 2; this nasflow reads 1"),
        (lambda c: c["table"].update(schema_version=4), "table.schema_version is 4; this nasflow reads 3"),
        (lambda c: c["table"].update(schema_version=1), "table.schema_version is 1; this nasflow reads 3"),
        (lambda c: c["table"].update(output="classes"), "table.output: "),
        (lambda c: c["model"].update(schema_version="99"), "model.schema_version is '99'"),
        (lambda c: rows(c)[2]["measurement"].update(round_medians_ms=[1.0, -1.0]), "above 0"),
        (lambda c: c["space"].update(resolution=32), "resolution is 32 there and 16 here."),
        (lambda c: c["space"].update(width_multiplier=0.5), "width_multiplier is 0.5 there and 1.0 here."),
        (lambda c: c["space"].update(name="other", skip=False), "name is 'other' there and 'tiny' here; "),
        (lambda c: c["space"].update(candidates=c["space"]["candidates"][:1]), "is unset there and"),
        (lambda c: c["table"]["anchor"].update(name="mobilenet_v2_1.0"), "measured beside mobilenet_v2_1.0"),
        (lambda c: c["model"].update(held_out=c["model"]["calibration"]), "networks that it was fitted to"),
        (lambda c: c.update(format="other"), "not a latency file"),
        (lambda c: c["table"].pop("anchor"), "table.anchor"),
        (lambda c: c["model"].update(calibration=[]), "0 networks under model.calibration"),
        (lambda c: c["model"]["held_out"][0].update(choices=[9, 9, 9]), "choice 9"),
        (lambda c: c.update(surprise=1), "surprise"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, change: Change, words: str) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(UsageError) as caught:
        read_latency_file(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_fit_that_is_nonsense_is_the_files_mistake_and_not_the_devices(tmp_path: Path) -> None:
    def backwards(content: dict[str, Any]) -> None:
        points = sorted(content["model"]["calibration"], key=lambda p: float(p["measurement"]["median_ms"]))
        for index, point in enumerate(points):
            point["measurement"]["median_ms"] = 10.0 - 3 * index

    with pytest.raises(UsageError, match="no model can be fitted"):
        read_latency_file(changed(tmp_path, backwards))


def test_a_space_that_would_fill_the_memory_is_refused_at_once(tmp_path: Path) -> None:
    def endless(content: dict[str, Any]) -> None:
        content["space"]["stages"][0]["layers"] = 10**9

    with pytest.raises(UsageError, match="layers"):
        read_latency_file(changed(tmp_path, endless))


def test_a_device_with_onnx_runtime_is_given_no_block_in_parts(tmp_path: Path) -> None:
    """What it measures are exported models, in which each block is one convolution after the other."""
    path = tmp_path / "latency.json"
    path.write_bytes(CONTENT)
    there = read_latency_file(path)
    assert set(there.model.implementations.values()) == {"split"}
    here = read_latency_file(path, SIMULATED.model_copy(update={"runtime": "onnxruntime 1.27.0"}))
    assert here.model.implementations == dict.fromkeys(there.model.implementations, "native")
    assert [row.block.key for row in here.table.rows] == [block.key for block in SPACE.distinct_blocks()]
    assert net_block_ms(here.table)[1] == here.model.implementations, "fitted again, it is so, too"


def test_a_file_of_7x7_blocks_needs_both_ways(tmp_path: Path) -> None:
    def without_split(content: dict[str, Any]) -> None:
        content["table"]["rows"] = [row for row in rows(content) if row["implementation"] == "native"]

    with pytest.raises(UsageError, match=r"no row for block mbconv_k7.*\(split\)"):
        read_latency_file(changed(tmp_path, without_split))


@pytest.mark.parametrize("length", [0, 1, 1000, -3])
def test_a_file_that_is_cut_off_is_said_to_be(tmp_path: Path, length: int) -> None:
    path = tmp_path / "latency.json"
    path.write_bytes(CONTENT[:length])
    with pytest.raises(IntegrityError, match="cut off") as caught:
        read_latency_file(path)
    assert caught.value.exit_code == 7


def test_a_file_that_is_not_there_is_a_fault_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        read_latency_file(tmp_path / "nowhere.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(data=st.data())
def test_no_file_is_a_bug(tmp_path: Path, data: st.DataObject) -> None:
    """Any value anywhere in the file: it is read, or refused as a user's mistake."""
    content = json.loads(CONTENT)
    index: Any = content
    depth = data.draw(st.integers(0, 5))
    while True:
        key = data.draw(st.sampled_from(sorted(index) if isinstance(index, dict) else range(len(index))))
        if depth == 0 or not isinstance(index[key], dict | list) or not index[key]:
            break
        index, depth = index[key], depth - 1
    index[key] = data.draw(json_values)
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(content))
    try:
        read_latency_file(path)
    except NasflowError as error:
        assert error.exit_code in (2, 5, 7)


# --- whose table it is ------------------------------------------------------------------------------


def test_the_same_device_and_settings_do_not_differ() -> None:
    other_unit = SIMULATED.model_copy(update={"serial": "ANOTHER"})
    assert differences(TABLE, MODEL, other_unit, RuntimeOptions()) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "Other Phone"}, "device: Simulated Phone in the table, Other Phone here"),
        ({"os_build": "update"}, "OS build: test in the table, update here"),
        ({"runtime": "simulation 2"}, "runtime: simulation 1 in the table, simulation 2 here"),
        ({"binary_sha256": "ab"}, "benchmark binary: none in the table, ab here"),
        ({"virtual": False}, "virtual device: true in the table, false here"),
    ],
)
def test_another_device_is_named(change: dict[str, Any], words: str) -> None:
    device = SIMULATED.model_copy(update=change)
    assert differences(TABLE, MODEL, device, RuntimeOptions()) == (words,)


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        (RuntimeOptions(threads=4), "threads: 1 in the table, 4 here"),
        (RuntimeOptions(cpu="big"), "cores: auto in the table, big here"),
        (RuntimeOptions(delegate="gpu"), "delegate: cpu in the table, gpu here"),
    ],
)
def test_other_settings_are_named(runtime: RuntimeOptions, words: str) -> None:
    assert differences(TABLE, MODEL, SIMULATED, runtime) == (words,)


# --- what is computed is computed again -------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [
        None,
        {"change_percent": {"dense": -99.0, "memory": 100.0}, "corrected": True, "disagreement_percent": 0},
        {"change_percent": {"dense": 1e307}, "corrected": True, "disagreement_percent": 1e200},
    ],
)
def test_what_a_file_says_of_drift_and_table_is_not_believed(tmp_path: Path, check: object) -> None:
    """Both correct block times or widen the interval, and the timings that they come of are in the file."""

    def lie(content: dict[str, Any]) -> None:
        content["model"].update(table_check=check, shift_percent=1e6)
        for timing in content["model"]["timings"]:
            timing.update(slowdown=0.5, disturbed=False)

    assert MODEL.table_check is not None
    model = read_latency_file(changed(tmp_path, lie)).model
    assert model.table_check == MODEL.table_check
    assert model.shift_percent == MODEL.shift_percent
    assert model.block_ms == MODEL.block_ms
    assert model.interval_percent == MODEL.interval_percent


@pytest.mark.parametrize("anchor_every", [0, 5])
def test_a_table_that_is_corrected_comes_back_corrected(tmp_path: Path, anchor_every: int) -> None:
    """Other programs beside the networks slow kinds of blocks differently: that is in the timings alone."""
    slower = SimulatedDevice(noise=0.002)
    plain_ms = slower.true_ms
    kernels = {block_model(row.block, row.implementation): row.block.kind for row in TABLE.rows}

    def true_ms(model: bytes) -> float:
        return plain_ms(model) * (1.5 if kernels.get(model) == "mbconv" else 1.0)

    slower.true_ms = true_ms  # type: ignore[method-assign]
    config = LatencyConfig(
        rounds=4, extra_rounds=0, calibration_networks=4, held_out_networks=4, anchor_every=anchor_every
    )
    stage = FitLatency(config, SPACE, RuntimeOptions(), 0, slower)
    model = stage.run(memory_context("latency"), table=TABLE)
    assert model.table_check is not None
    assert model.table_check.corrected
    path = tmp_path / "latency.json"
    path.write_bytes(export(SPACE, TABLE, model, at=datetime(2026, 1, 2, tzinfo=UTC), nasflow_version="0.1"))
    file = read_latency_file(path)
    assert file.model.table_check == model.table_check
    assert file.model.shift_percent == model.shift_percent
    assert file.model.block_ms == model.block_ms


def times_100(content: dict[str, Any]) -> None:
    for index, point in enumerate(content["model"]["calibration"]):
        point["measurement"]["median_ms"] *= 1 + 99 * (index % 2)


def extreme(content: dict[str, Any]) -> None:
    for timing in content["model"]["timings"]:
        if timing["name"].startswith("block "):
            measurement = timing["measurement"]
            measurement.update(dict.fromkeys(["median_ms", "p5_ms", "p95_ms", "min_ms"], 1e308))
            measurement["round_medians_ms"] = [1e308]
    for row in rows(content):
        row["measurement"].update(dict.fromkeys(["median_ms", "p5_ms", "p95_ms", "min_ms"], 1e-308))


def huge(content: dict[str, Any]) -> None:
    rows(content)[2]["measurement"]["median_ms"] = "HUGE"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["model"].update(table_check={"change_percent": {"dense": -300.0}, "corrected": True}),
            "greater than -100, and it is -300.0",
        ),
        (times_100, "no model can be fitted to its measurements"),
        (extreme, "no model can be fitted to its measurements"),
    ],
)
def test_numbers_that_no_device_gives_are_refused(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_latency_file(changed(tmp_path, change))


def test_an_interval_that_says_nothing_is_refused(tmp_path: Path) -> None:
    def scattered(content: dict[str, Any]) -> None:
        for index, point in enumerate(content["model"]["held_out"]):
            point["measurement"]["median_ms"] *= (1, 40)[index % 2]

    with pytest.raises(UsageError, match=r"interval would be ±\S+ %, and more than ±1000 % says nothing"):
        read_latency_file(changed(tmp_path, scattered))


def test_a_number_too_large_to_be_one_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, huge)
    path.write_text(path.read_text().replace('"HUGE"', "1e999"))
    with pytest.raises(UsageError, match="'1e999' is not a latency"):
        read_latency_file(path)
