"""``nasflow bench``: which files it times, and what it says of others."""

from __future__ import annotations

from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema
from support.operator_models import one_operator

from benchmarks._damaged_models import packed, small_network, unpacked
from nasflow.base.errors import ConversionError, UsageError
from nasflow.cli.request import Outcome, Selection
from nasflow.commands.bench import BenchOptions, bench

FLOAT, INT32, BOOL, STRING = (
    schema.TensorType.FLOAT32,
    schema.TensorType.INT32,
    schema.TensorType.BOOL,
    schema.TensorType.STRING,
)


def timed(folder: Path, content: bytes, name: str = "given.tflite") -> Outcome:
    path = folder / name
    path.write_bytes(content)
    return bench(Selection(), BenchOptions((path,), rounds=1, min_ms=1.0), as_json=True)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04" + bytes(50), "it is a zip archive"),
        (b"not a model", "it starts with b'not a mo'"),
    ],
)
def test_a_file_of_another_format_is_a_mistake_of_the_command(
    content: bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        timed(tmp_path, content)
    assert "given.tflite is not a .tflite model" in caught.value.message
    assert caught.value.hint


def ends_the_process() -> bytes:
    """A model that LiteRT takes and then reads memory for that is not its own."""
    tree = unpacked(small_network())
    graph = tree.subgraphs[0]
    graph.operators[6].inputs = list(graph.operators[6].inputs)[:1]
    graph.operators[3].inputs = list(graph.operators[3].inputs)[:2]
    return packed(tree)


@pytest.mark.parametrize(
    "content", [small_network()[:3_000], ends_the_process()], ids=["cut", "refused by LiteRT"]
)
def test_a_damaged_model_is_a_failed_conversion_and_the_file_is_named(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"given\.tflite .* is not a usable \.tflite model") as caught:
        timed(tmp_path, content)
    assert caught.value.exit_code == 6


def test_a_model_with_metadata_behind_it_and_one_with_nan_are_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = unpacked(small_network())
    held = tree.buffers[tree.subgraphs[0].tensors[5].buffer]
    held.data = [0, 0, 0xC0, 0x7F, *held.data[4:]]  # a NaN
    outcome = timed(tmp_path, packed(tree) + b"PK\x05\x06" + bytes(18))
    assert outcome.document["models"][0]["median_ms"] > 0
    told = capsys.readouterr().err
    assert "constants with NaN or infinite values, read by CONV_2D blocks.1.expand" in told


def several_inputs() -> bytes:
    return one_operator(
        schema.BuiltinOperator.SELECT,
        [((4, 5), BOOL), ((4, 5), FLOAT), ((4, 5), FLOAT)],
        ((4, 5), FLOAT),
        schema.SelectOptionsT(),
    )


def indices() -> bytes:
    return one_operator(
        schema.BuiltinOperator.GATHER,
        [((100, 8), FLOAT), ((1_000,), INT32)],
        ((1_000, 8), FLOAT),
        schema.GatherOptionsT(),
    )


@pytest.mark.parametrize("content", [several_inputs(), indices()], ids=["truth values", "indices"])
def test_models_with_several_inputs_are_timed_with_values_that_their_types_mean(
    content: bytes, tmp_path: Path
) -> None:
    assert timed(tmp_path, content).document["models"][0]["runs"] >= 1


def test_inputs_that_cannot_be_made_up_are_named(tmp_path: Path) -> None:
    options = schema.ShapeOptionsT()
    options.outType = INT32
    content = one_operator(schema.BuiltinOperator.SHAPE, [((2,), STRING)], ((1,), INT32), options)
    with pytest.raises(ConversionError, match=r"given\.tflite .* input tensor0 has type bytes; only numbers"):
        timed(tmp_path, content)


@pytest.mark.parametrize("content", [small_network()[:3_000], b"PK\x03\x04" + bytes(99)], ids=["cut", "zip"])
def test_a_phone_is_not_looked_for_before_the_files_are_sound(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "given.tflite"
    path.write_bytes(content)
    with pytest.raises(ConversionError if content[:2] != b"PK" else UsageError, match=r"given\.tflite"):
        bench(Selection(device="android:127.0.0.1:1"), BenchOptions((path,)), as_json=True)
