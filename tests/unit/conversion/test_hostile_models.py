"""Files of any origin: the processes and readers that open them end with an answer or one clear error."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from benchmarks._damaged_models import damaged_models, packed, small_network, unpacked
from nasflow.base.errors import ConversionError
from stages.conversion.constants import NotFinite, not_finite_constants
from stages.conversion.file_check import check_file
from stages.conversion.flatbuffer import block_model
from stages.conversion.inspection_worker import operator_counts
from stages.conversion.inspector import ModelInspector
from stages.conversion.operators import read_operators
from stages.space.block_spec import BlockSpec

FILES = 100
NEVER_USABLE = {"cut", "foreign", "cycle", "shuffled", "tensor index", "outside buffer", "quantization"}
ALWAYS_USABLE = {"zip behind", "overlong", "not finite"}


@pytest.fixture(scope="module")
def model() -> bytes:
    return small_network()


@pytest.fixture
def inspector() -> Iterator[ModelInspector]:
    with ModelInspector() as running:
        yield running


def changed(model: bytes, change: Callable[[Any], None]) -> bytes:
    """The model after a change of its first graph in object form."""
    tree = unpacked(model)
    change(tree.subgraphs[0])
    return packed(tree)


def test_a_hundred_damaged_files_end_with_an_answer_or_one_clear_error(
    model: bytes, inspector: ModelInspector
) -> None:
    usable: Counter[str] = Counter()
    for number, (kind, content) in enumerate(damaged_models(model, FILES, seed=3)):
        name = f"file{number}.tflite"
        try:
            inspector.inspect(content, name=name, depth="invoke")
            usable[kind] += 1
        except ConversionError as error:
            assert error.message.startswith(f"{name} ({len(content)} bytes) is not a usable .tflite model: ")
            assert error.message.isprintable()
            assert error.hint
            assert error.exit_code == 6
    assert usable.keys().isdisjoint(NEVER_USABLE)
    assert {kind: usable[kind] for kind in ALWAYS_USABLE} == dict.fromkeys(ALWAYS_USABLE, 4)
    assert inspector.inspect(model, name="sound").delegate_partitions == 1


def test_our_own_readers_take_a_damaged_file_or_refuse_it(model: bytes) -> None:
    read = 0
    for _, content in damaged_models(model, FILES, seed=4):
        for reader in (read_operators, not_finite_constants, operator_counts):
            try:
                reader(content)
                read += 1
            except ConversionError:
                continue
    assert read > FILES / 2  # they do not refuse everything


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"TFL3", "it holds nothing but b'TFL3'"),
        (b"PK\x03\x04" + bytes(100), "it is a zip archive (an .aar or .apk, or a Keras model)"),
        (b"\x1c\0\0\0TFL2" + bytes(100), r"it starts with b'\x1c\x00\x00\x00TFL2'"),
        (b"\x1c\0\0\0TFL3" + bytes(100), "the layout of a table Model has 0 bytes"),
    ],
)
def test_another_format_is_named(content: bytes, said: str, inspector: ModelInspector) -> None:
    with pytest.raises(ConversionError) as caught:
        inspector.inspect(content, name="found.tflite")
    assert said in caught.value.message


def with_input(index: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        graph.operators[2].inputs = [index, *list(graph.operators[2].inputs)[1:]]

    return change


def with_shape(*shape: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        graph.tensors[graph.inputs[0]].shape = list(shape)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_input(10_000), r"operator 2 \(DEPTHWISE_CONV_2D\): an input is tensor 10000, and there are 23"),
        (with_input(-2), r"an input is tensor -2"),
        (with_input(14), r"operator 2 \(DEPTHWISE_CONV_2D\) reads tensor 14, which operator 5 writes"),
        (with_shape(1, 46_341, 46_341, 3), r"tensor 0 \(input\) .* 1x46341x46341x3, which takes 25.8 GB"),
        (with_shape(1, -1, 16, 3), r"tensor 0 \(input\) has the shape 1x-1x16x3"),
    ],
)
def test_what_leads_nowhere_is_named_without_litert(
    change: Callable[[Any], None], said: str, model: bytes, inspector: ModelInspector
) -> None:
    with pytest.raises(ConversionError, match=said):
        inspector.inspect(changed(model, change), depth="read")


def test_a_graph_that_is_listed_again_and_again_is_refused_and_not_read_so_often(model: bytes) -> None:
    builder = flatbuffers.Builder()
    graph = unpacked(model).subgraphs[0].Pack(builder)
    schema.ModelStartSubgraphsVector(builder, 20_000)
    for _ in range(20_000):
        builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")

    with pytest.raises(ConversionError, match="share their bytes again and again"):
        check_file(bytes(builder.Output()))


def test_a_file_that_needs_too_much_memory_or_time_is_refused_and_the_next_one_is_read(model: bytes) -> None:
    wide = BlockSpec(
        kind="mbconv", kernel=7, expansion=6, stride=1, in_channels=96, out_channels=96, resolution=224
    )
    with ModelInspector(cpu_seconds=0) as inspector:
        for content, said in (
            (changed(model, with_shape(1, 18_000, 18_000, 3)), "XNNPack|memory"),
            (block_model(wide, copies=8), "SIGXCPU .it used more processor time than it may"),
        ):
            with pytest.raises(ConversionError, match=said):
                inspector.inspect(content, depth="invoke")
            assert inspector.inspect(model).delegate_partitions == 1


WORKER = """
import sys
from android_bench.local.frames import LENGTHS, read_frame, write_frame
read_frame(sys.stdin.buffer)
out = sys.stdout.buffer
good = {"operator_counts": {}, "inputs": [], "outputs": [], "not_finite": []}
ANSWER
out.flush()
sys.stdin.buffer.read()
"""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("out.write(LENGTHS.pack(2**31, 0))", "2147483648 bytes, where 4000000 are the most"),
        ("out.write(LENGTHS.pack(2, 2**60) + b'{}')", "1152921504606846976 bytes, where 0 are the most"),
        ("out.write(LENGTHS.pack(4, 0) + b'\\xff\\xfe{{')", "which is not JSON"),
        ("out.write(LENGTHS.pack(2, 0) + b'[]')", "which is not a JSON object"),
        ("out.write(LENGTHS.pack(200_000, 0) + b'[' * 200_000)", "which is not JSON"),
        ("write_frame(out, {})", "impossible answer"),
        ("write_frame(out, {'model': {**good, 'operator_counts': {'ADD': -1}}})", "impossible answer"),
        ("write_frame(out, {'model': {**good, 'inputs': 'x' * 1000}})", "impossible answer"),
        ("write_frame(out, {'model': {**good, 'more': 1}})", "impossible answer"),
        ("write_frame(out, {'error': '\\x1b[31mred' * 1000})", "usable .tflite model: redred"),
        ("sys.exit(3)", "ended with status 3"),
        ("pass", "did not answer within"),
    ],
)
def test_what_the_process_answers_is_not_trusted(
    answer: str, said: str, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "overtaken_worker.py").write_text(WORKER.replace("ANSWER", answer))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    timeout_s = 1.0 if answer == "pass" else 60.0
    with ModelInspector(worker="overtaken_worker", timeout_s=timeout_s) as inspector:
        with pytest.raises(ConversionError, match=r"is not a usable \.tflite model") as caught:
            inspector.inspect(model, name="found.tflite")
        assert said in caught.value.message
        assert len(caught.value.message) < 1_000
        assert caught.value.message.isprintable()


def with_constant(model: bytes, tensor: str, values: list[float], dtype: str) -> bytes:
    tree = unpacked(model)
    graph = tree.subgraphs[0]
    (found,) = [one for one in graph.tensors if one.name.decode() == tensor]
    buffer = tree.buffers[found.buffer]
    array = np.array(buffer.data, np.uint8).view(np.float32).astype(dtype)
    array.flat[: len(values)] = values
    buffer.data = np.frombuffer(array.tobytes(), np.uint8)
    found.type = {"float32": 0, "float16": 1, "float64": 10}[dtype]
    return packed(tree)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_constants_that_are_no_numbers_are_named_with_the_layer_that_reads_them(
    dtype: str, model: bytes
) -> None:
    damaged = with_constant(model, "blocks.1.expand.weight", [np.nan, np.inf, 1.0, -np.inf], dtype)
    assert not_finite_constants(damaged) == (
        NotFinite("blocks.1.expand.weight", "CONV_2D blocks.1.expand", count=3, total=8 * 16),
    )
    assert not_finite_constants(model) == ()


def test_what_the_inspector_reads_it_tells(model: bytes, inspector: ModelInspector) -> None:
    seen = inspector.inspect(
        with_constant(model, "blocks.1.expand.weight", [np.nan], "float32"), depth="read"
    )
    assert [one.describe() for one in (*seen.inputs, *seen.outputs)] == ["float32 1x16x16x3", "float32 1x4"]
    assert (seen.delegate_partitions, seen.undelegated) == (None, None)
    assert [(one.layer, one.count) for one in seen.not_finite] == [("CONV_2D blocks.1.expand", 1)]
