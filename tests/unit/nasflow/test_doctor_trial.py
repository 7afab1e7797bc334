"""The trial of the doctor: what `profile` will time, asked for alike; times too short for a clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema
from support.scripted_device import ScriptedDevice

from android_bench.device import BenchmarkRequest, LatencyMeasurement
from nasflow.base.errors import BadMeasurementError
from nasflow.base.text import shown_ms
from nasflow.commands.bench import _outcome
from nasflow.config import PipelineConfig
from nasflow.doctor.bundle import requests
from nasflow.doctor.phone import _trial
from stages.conversion.flatbuffer import empty_model
from stages.documents import Precision
from stages.space import load_space


class Recording(ScriptedDevice):
    """Keeps what it was asked for; some models take less than its clock counts."""

    def __init__(self, *, fails_on: str = "") -> None:
        super().__init__({})
        self.fails_on = fails_on
        self.asked: list[BenchmarkRequest] = []

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        for index, request in enumerate(requests):
            self.asked.append(request)
            if self.fails_on and self.fails_on in request.name:
                raise BadMeasurementError(f"{request.name} was not measured.", hint="Measure a larger model.")
            yield index, latency(0.0005 if len(request.model) < 1000 else 2.0)


def latency(median_ms: float, *, resolution_ms: float = 0.001) -> LatencyMeasurement:
    return LatencyMeasurement(
        median_ms=median_ms,
        p5_ms=min(median_ms, 0.0005),
        p95_ms=median_ms,
        min_ms=min(median_ms, 0.0005),
        runs=10,
        rounds=1,
        round_medians_ms=(median_ms,),
        resolution_ms=resolution_ms,
    )


CONFIG = PipelineConfig.model_validate({"profile": {"warmup_ms": 7.0, "min_ms": 31.0, "min_runs": 6}})


def test_the_trial_times_the_empty_model_and_the_smallest_block_as_profile_will(tmp_path: Path) -> None:
    device = Recording()
    check = _trial(device, CONFIG, tmp_path)
    assert check.state == "ok"
    network, *short = device.asked
    assert network.min_ms == 1000
    assert [(r.warmup_ms, r.min_ms, r.min_runs) for r in short] == [(7.0, 31.0, 6)] * 2
    assert short[0].model == empty_model()
    smallest = min(block.macs for block in load_space(CONFIG.space, tmp_path).distinct_blocks())
    named = next(b for b in load_space(CONFIG.space, tmp_path).distinct_blocks() if b.key in short[1].name)
    assert named.macs == smallest
    assert "the empty model below 1 us" in check.found


def stored_as(model: bytes) -> str:
    """The precision of a model's kernels."""
    root = schema.ModelT.InitFromPackedBuf(model)
    (stored,) = {
        tensor.type
        for tensor in root.subgraphs[0].tensors
        if len(tensor.shape) > 1 and root.buffers[tensor.buffer].data is not None
    }
    names = {value: name.lower() for name, value in vars(schema.TensorType).items()}
    return names[stored]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_trial_and_bundle_send_models_of_the_precision_that_is_to_be_measured(
    tmp_path: Path, precision: Precision
) -> None:
    """What a phone's GPU or NPU takes, and how long it takes, depends on it."""
    config = PipelineConfig.model_validate({"runtime": {"precision": precision}})
    device = Recording()
    _trial(device, config, tmp_path)
    network, empty, block = device.asked
    assert empty.model == empty_model(), "as profile has it in every precision"
    for request in (network, block, *requests(config.runtime)):
        assert stored_as(request.model) == precision, request.name


def test_a_phone_that_cannot_time_the_empty_model_fails_in_the_doctor_already(tmp_path: Path) -> None:
    with pytest.raises(BadMeasurementError, match="the empty model was not measured"):
        _trial(Recording(fails_on="empty"), CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("value_ms", "resolution_ms", "words"),
    [
        (0.0005, 0.001, "below 1 us"),
        (0.00025, 0.0005, "below 0.5 us"),
        (0.001, 0.001, "0.001 ms"),
        (0.0005, 0.0, "0.0005 ms"),
        (12.34567, 0.001, "12.35 ms"),
    ],
)
def test_a_time_that_the_clock_counted_as_0_is_told_as_below_its_step(
    value_ms: float, resolution_ms: float, words: str
) -> None:
    assert shown_ms(value_ms, resolution_ms) == words


def test_the_table_of_bench_says_so_too() -> None:
    info = Recording().info()
    text = _outcome(info, CONFIG.runtime, {"tiny": latency(0.0005), "net": latency(1.5)}).text
    tiny, net = text.splitlines()[1:3]
    assert tiny.split("  ")[0] == "tiny" and tiny.count("below 1 us") == 2
    assert "1.5" in net and "below 1 us to 1.5" in net
