"""A latency table, a model and a file of one precision: made of models in it, and told apart."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from ai_edge_litert import schema_py_generated as schema
from support.latency_spaces import SPACE
from support.memory_context import memory_context
from support.simulated_device import SimulatedDevice

from android_bench.device import BenchmarkRequest, LatencyMeasurement, ModelPrecision, RuntimeOptions
from pipeline.artifact import document_bytes
from stages.documents import LatencyModel, LatencyTable
from stages.latency.config import LatencyConfig
from stages.latency.exchange import differences
from stages.latency_model import FitLatency
from stages.profile_ops import EMPTY, ProfileConfig, ProfileOps
from stages.space.network_name import network_name


@dataclass
class Recording(SimulatedDevice):
    """Keeps the models that it was given."""

    models: dict[str, bytes] = field(default_factory=dict)

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        self.models[request.name] = request.model
        return super().benchmark(request)


@dataclass(frozen=True)
class Measured:
    table: LatencyTable
    model: LatencyModel
    blocks: Recording
    networks: Recording


def measured(precision: ModelPrecision) -> Measured:
    blocks, networks = Recording(), Recording()
    options = RuntimeOptions(precision=precision)
    table = ProfileOps(ProfileConfig(), SPACE, options, seed=3, device=blocks).run(memory_context("profile"))
    config = LatencyConfig(calibration_networks=5, held_out_networks=5)
    fit = FitLatency(config, SPACE, options, seed=3, device=networks)
    return Measured(table, fit.run(memory_context("latency"), table=table), blocks, networks)


@pytest.fixture(scope="module")
def in_int8() -> Measured:
    return measured("int8")


def types(model: bytes) -> tuple[int, set[int]]:
    """Of the input, and of all tensors with a shape."""
    graph = schema.ModelT.InitFromPackedBuf(model).subgraphs[0]
    return int(graph.tensors[graph.inputs[0]].type), {int(t.type) for t in graph.tensors if len(t.shape) == 4}


def test_blocks_are_measured_as_they_run_between_others_in_int8(in_int8: Measured) -> None:
    assert in_int8.table.precision == "int8"
    searched = {row.block.key for row in in_int8.table.rows if row.block.kind != "classifier"}
    assert searched < in_int8.blocks.models.keys()
    for key in searched:
        assert types(in_int8.blocks.models[key]) == (schema.TensorType.INT8, {schema.TensorType.INT8})
    assert types(in_int8.blocks.models[EMPTY])[0] == schema.TensorType.FLOAT32, "what an invocation costs"


def test_whole_networks_take_pixels_as_they_ship(in_int8: Measured) -> None:
    assert in_int8.model.precision == "int8"
    names = [network_name(point.choices) for point in in_int8.model.calibration]
    for name in (in_int8.model.reference.name, *names):
        source, between = types(in_int8.networks.models[name])
        assert source == schema.TensorType.UINT8
        assert between == {schema.TensorType.UINT8, schema.TensorType.INT8}


def test_tables_of_two_precisions_have_other_settings_and_are_told_apart(in_int8: Measured) -> None:
    options = RuntimeOptions(precision="int8")
    stage = ProfileOps(ProfileConfig(), SPACE, options, seed=3, device=Recording())
    plain = ProfileOps(ProfileConfig(), SPACE, RuntimeOptions(), seed=3, device=Recording())
    assert stage.settings() != plain.settings()
    assert "precision" not in plain.settings()["runtime"], "what was measured before keeps its fingerprint"
    device = in_int8.blocks.info()
    assert differences(in_int8.table, in_int8.model, device, options) == ()
    assert differences(in_int8.table, in_int8.model, device, RuntimeOptions()) == (
        "precision: int8 in the table, float32 here",
    )


def test_documents_survive_their_own_json(in_int8: Measured) -> None:
    for document in (in_int8.table, in_int8.model):
        again = type(document).model_validate_json(document_bytes(document))
        assert again == document
        assert again.runtime.precision == "int8"


def test_float16_is_measured_with_half_weights() -> None:
    table = ProfileOps(
        ProfileConfig(), SPACE, RuntimeOptions(precision="float16"), seed=3, device=(device := Recording())
    ).run(memory_context("profile"))
    assert table.precision == "float16"
    key = next(row.block.key for row in table.rows if row.block.kind == "stem")
    source, between = types(device.models[key])
    assert source == schema.TensorType.FLOAT32
    assert schema.TensorType.FLOAT16 in between


def test_options_say_their_precision() -> None:
    assert RuntimeOptions(precision="int8").describe() == "1 thread, int8"
    assert RuntimeOptions().describe() == "1 thread"
