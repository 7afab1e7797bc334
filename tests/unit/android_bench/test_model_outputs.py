"""What a model answers, by this computer and by the classic tool on the simulated phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.operator_models import one_operator

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import DEFAULT_OPTIONS
from android_bench.lazy import LazyDevice
from android_bench.local.device import LocalDevice
from android_bench.outputs import Outputs, OutputTensor, WritesOutputs
from android_bench.runner.identity import RunnerTool
from android_bench.runner.outputs import check_outputs_run, outputs_command, writes_outputs
from android_bench.transport import Completed
from android_bench.virtual_phone.benchmark_flags import parse_flags
from android_bench.virtual_phone.benchmark_inputs import Layer, layers_of
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from android_bench.virtual_phone.tool_ends import ToolAborted, ToolFailed
from nasflow.base.errors import BadMeasurementError, DeviceError
from stages.conversion.flatbuffer import network_model
from stages.space.mobilenet_v2 import mobilenet_v2

ADD, INT32, FLOAT32 = schema.BuiltinOperator.ADD, schema.TensorType.INT32, schema.TensorType.FLOAT32
SUM = one_operator(ADD, [([1, 3], INT32), ([1, 3], INT32)], ([1, 3], INT32), schema.AddOptionsT())
NETWORK = network_model(mobilenet_v2(resolution=32, classes=10, width=0.35))
SUMMANDS = (np.array([[1, 2, 3]], np.int32), np.array([[40, 50, 60]], np.int32))


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


def device(phone: VirtualPhone, key: Path) -> AndroidDevice:
    def no_runner(_abis: object) -> object:
        raise AssertionError("a virtual phone brings its own tool")

    return AndroidDevice(
        DirectTransport(phone.address, key=key),
        runner=no_runner,  # type: ignore[arg-type]
    )


def images(count: int = 3) -> list[tuple[np.ndarray, ...]]:
    random = np.random.default_rng(5)
    return [(random.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32),) for _ in range(count)]


# --- this computer -----------------------------------------------------------------------------------


def test_several_inputs_of_another_type_are_computed() -> None:
    with LocalDevice() as here:
        found = here.outputs(SUM, [SUMMANDS, (SUMMANDS[1], SUMMANDS[1])])
        assert found.tensors == (OutputTensor((1, 3), "int32"),)
        assert found.numbers()[0].tolist() == [[41, 52, 63], [80, 100, 120]]
        assert here.output_bytes(SUM, [SUMMANDS], DEFAULT_OPTIONS) == [found.values[0]]


def test_litert_s_own_kernels_and_xnnpack_answer_alike_but_not_in_every_bit() -> None:
    with LocalDevice() as here:
        fast, plain = (here.outputs(NETWORK, images(), plain=plain) for plain in (False, True))
    assert fast.tensors == plain.tensors
    assert not fast.quantized
    np.testing.assert_allclose(fast.numbers()[0], plain.numbers()[0], rtol=1e-3, atol=1e-4)
    assert fast.values != plain.values, "else the delegate is in both"


def test_outputs_of_a_quantized_model_are_the_numbers_that_they_stand_for() -> None:
    found = Outputs((OutputTensor((1, 2), "int8", 0.5, -10),), True, (bytes([0, 256 - 20]),))
    assert found.numbers()[0].tolist() == [[5.0, -5.0]]


def test_inputs_that_do_not_fit_are_an_error_of_the_device() -> None:
    with LocalDevice() as here:
        with pytest.raises(DeviceError, match="has 2 inputs, and 1 are given"):
            here.outputs(SUM, [SUMMANDS[:1]])
        with pytest.raises(DeviceError, match="cannot run"):
            here.outputs(SUM, [(SUMMANDS[0], SUMMANDS[1][:, :2])])


# --- the phone ---------------------------------------------------------------------------------------


@pytest.mark.needs("bubblewrap")
def test_the_classic_tool_writes_the_answers_of_this_computer(phone: VirtualPhone, tmp_path: Path) -> None:
    one = device(phone, tmp_path / "key")
    try:
        found = LazyDevice(lambda: one, one.overhead).output_bytes(NETWORK, images(), DEFAULT_OPTIONS)
        sums = one.output_bytes(SUM, [SUMMANDS], DEFAULT_OPTIONS)
    finally:
        one.close()
    assert isinstance(one, WritesOutputs)
    assert sums == [np.array([[41, 52, 63]], np.int32).tobytes()]
    with LocalDevice() as here:
        assert found == here.output_bytes(NETWORK, images(), DEFAULT_OPTIONS)
    left = phone.storage("/data/local/tmp/nasflow")
    assert not [path for path in left.iterdir() if path.suffix in (".in", ".out", ".tflite")]


@pytest.mark.needs("bubblewrap")
def test_a_tool_that_is_killed_while_it_answers_is_an_error(phone: VirtualPhone, tmp_path: Path) -> None:
    one = device(phone, tmp_path / "key")
    phone.faults.set(FaultPlan(tool_signal=11))
    try:
        with pytest.raises(DeviceError, match="SIGSEGV"):
            one.output_bytes(NETWORK, images(1), DEFAULT_OPTIONS)
    finally:
        phone.faults.clear()
        one.close()


@pytest.mark.needs("bubblewrap")
def test_litert_s_tool_has_no_way_to_write_answers(tmp_path: Path) -> None:
    with running_phone(description=PhoneDescription(tool="litert")) as phone:
        one = device(phone, tmp_path / "key")
        try:
            assert one.output_bytes(NETWORK, images(1), DEFAULT_OPTIONS) is None
        finally:
            one.close()


# --- the command line --------------------------------------------------------------------------------

CLASSIC = RunnerTool(
    "classic",
    frozenset({"input_layer", "input_layer_shape", "input_layer_value_files", "output_filepath"}),
)


def test_inputs_are_called_by_their_index_and_never_by_a_name_of_the_model() -> None:
    words = outputs_command(
        CLASSIC,
        DEFAULT_OPTIONS,
        binary="/tool",
        model="/m.tflite",
        example=SUMMANDS,
        files=["/a.in", "/b.in"],
        output="/c.out",
        mask=0x100,
    )
    assert words[:3] == ("taskset", "100", "/tool")
    assert {
        "--input_layer=0,1",
        "--input_layer_shape=1,3:1,3",
        "--input_layer_value_files=0:/a.in,1:/b.in",
        "--output_filepath=/c.out",
        "--num_runs=1",
    } <= set(words)
    layers = layers_of(parse_flags(words[3:], "classic"))
    assert layers == (Layer("0", (1, 3), "/a.in"), Layer("1", (1, 3), "/b.in"))


def test_a_single_value_cannot_be_described_to_the_tool() -> None:
    assert writes_outputs(CLASSIC, SUMMANDS)
    assert not writes_outputs(CLASSIC, (np.float32(1),))
    assert not writes_outputs(RunnerTool("litert", frozenset({"graph"})), SUMMANDS)


def test_a_tool_that_ignores_a_flag_has_answered_nothing() -> None:
    recorded = Path(__file__).parents[2] / "fixtures" / "benchmark_model" / "mnv2_t1.out"
    text = recorded.read_bytes() + b"WARN: Unconsumed cmdline flags: --output_filepath=/x\n"
    done = Completed(text, b"", 0)
    with pytest.raises(BadMeasurementError, match="ignored the flags"):
        check_outputs_run(CLASSIC, done, DEFAULT_OPTIONS, "the model")


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["--input_layer=a,b", "--input_layer_shape=1,2"], ToolFailed, "must match the number"),
        (["--input_layer=a", "--input_layer_shape=1,x"], ToolAborted, "Incorrect size string"),
        (
            ["--input_layer=a", "--input_layer_shape=1", "--input_layer_value_files=b:/x"],
            ToolAborted,
            "Cannot find the corresponding input_layer name",
        ),
        (
            ["--input_layer=a", "--input_layer_shape=1", "--input_layer_value_files=a"],
            ToolFailed,
            "doesn't contain any delimiter",
        ),
    ],
)
def test_the_virtual_tool_refuses_what_the_classic_one_refuses(
    words: list[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        layers_of(parse_flags(words, "classic"))
