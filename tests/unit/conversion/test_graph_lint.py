"""What a graph should not hold, in real models that LiteRT opens."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.altered_models import with_half_weights, with_operator_behind
from support.every_block import every_kind_of_block

from nasflow.base.errors import ConversionError
from stages.conversion.flatbuffer import block_model, network_model
from stages.conversion.inspection import inspect_model
from stages.conversion.lint import GraphDelegate, GraphPrecision, check_graph, lint_graph
from stages.conversion.model_file import packed
from stages.conversion.operators import read_operators
from stages.documents.conversion import GraphLint
from stages.space.block_spec import BlockSpec

BLOCK = BlockSpec(kind="mbconv", kernel=3, expansion=2, in_channels=8, out_channels=8, resolution=8)
MODEL = block_model(BLOCK)  # expand, depthwise, project, add
EXPAND, DEPTHWISE, PROJECT, ADD = range(4)
CHANNELS = np.arange(1, 9, dtype=np.float32)


def lint(model: bytes, precision: GraphPrecision = "float32", delegate: GraphDelegate = "cpu") -> GraphLint:
    return lint_graph(model, inspect_model(model), precision=precision, delegate=delegate)


def codes(found: GraphLint) -> list[tuple[str, str]]:
    return [(finding.code, finding.operator) for finding in found.findings]


@pytest.mark.parametrize("way", ["native", "split"])
@pytest.mark.parametrize("delegate", ["cpu", "gpu"])
def test_a_network_of_every_kind_of_block_breaks_no_rule(delegate: GraphDelegate, way: str) -> None:
    net = every_kind_of_block()
    ways = {block.key: way for block in net.blocks if way in block.implementations}
    model = network_model(net, implementations=ways)  # type: ignore[arg-type]
    found = lint(model, delegate=delegate)
    assert codes(found) == []
    assert (found.precision, found.delegate, found.delegate_partitions) == ("float32", delegate, 1)
    assert sum(found.operator_counts.values()) == len(read_operators(model))
    assert found.operator_counts["SOFTMAX"] == 1
    check_graph(found, name="every")


def test_an_operator_that_xnnpack_leaves_out_is_named_and_may_be_allowed() -> None:
    model = with_operator_behind(MODEL, EXPAND, "LOG_SOFTMAX")
    found = lint(model)
    assert codes(found) == [("several_pieces", ""), ("not_delegated", "LOG_SOFTMAX")]
    words = r"odd \(float32, cpu\) .* runs it in 2 pieces instead of one; operators outside of them: 1 LOG_"
    with pytest.raises(ConversionError, match=words) as caught:
        check_graph(found, name="odd")
    assert caught.value.exit_code == 6
    assert "convert.require_one_partition" in caught.value.hint
    check_graph(found, name="odd", one_partition=False)


def test_a_gpu_leaves_out_what_its_table_does_not_hold() -> None:
    model = with_operator_behind(MODEL, EXPAND, "LOG_SOFTMAX")
    found = lint(model, delegate="gpu")
    assert codes(found) == [("several_pieces", ""), ("not_delegated", "LOG_SOFTMAX")]
    assert found.findings[1].tensor == "LOG_SOFTMAX.added"
    assert found.delegate_partitions == 2


@pytest.mark.parametrize(
    ("operator", "constant"),
    [
        ("PAD", np.zeros((4, 2), np.int32)),
        ("TRANSPOSE", np.arange(4, dtype=np.int32)),
        ("RESHAPE", np.array([1, 8, 8, 8], np.int32)),
    ],
)
def test_what_only_moves_data_is_refused_whatever_is_allowed(operator: str, constant: np.ndarray) -> None:
    found = lint(with_operator_behind(MODEL, PROJECT, operator, constant))
    assert codes(found) == [("moves_data", operator)]
    with pytest.raises(ConversionError, match=f"operators that only move data: 1 {operator}"):
        check_graph(found, name="odd", one_partition=False)


@pytest.mark.parametrize("operator", ["RELU", "RELU6"])
@pytest.mark.parametrize("place", [EXPAND, DEPTHWISE, PROJECT, ADD])
def test_an_activation_that_the_operator_before_it_could_have_taken_in_is_found(
    place: int, operator: str
) -> None:
    found = lint(with_operator_behind(MODEL, place, operator, unfused=True))
    assert codes(found) == [("activation_alone", operator)]
    with pytest.raises(ConversionError, match="that the operator before them could have taken in: 1 RELU"):
        check_graph(found, name="odd")


def test_an_activation_stands_alone_where_nothing_could_have_taken_it_in() -> None:
    """Behind a fused one, behind what computes none, and where somebody reads the values before it."""
    gate = BLOCK.model_copy(update={"activation": "hswish"})
    several = with_operator_behind(MODEL, PROJECT, "RELU6", beside=True)
    assert read_operators(several)[PROJECT + 1].operator.name == "RELU6"
    for model in (
        with_operator_behind(MODEL, EXPAND, "RELU6"),
        with_operator_behind(block_model(gate), 1, "RELU6"),
        several,
    ):
        assert codes(lint(model)) == []


@pytest.mark.parametrize("operator", ["ADD", "MUL"])
def test_a_constant_that_weights_could_have_taken_in_is_found(operator: str) -> None:
    found = lint(with_operator_behind(MODEL, PROJECT, operator, CHANNELS))
    assert codes(found) == [("constant_alone", operator)]
    with pytest.raises(ConversionError, match=f"the weights before them could have taken in: 1 {operator}"):
        check_graph(found, name="odd")
    assert codes(lint(with_operator_behind(MODEL, ADD, operator, CHANNELS))) == [], (
        "an addition has no weights"
    )
    assert (
        codes(lint(with_operator_behind(MODEL, DEPTHWISE, operator, np.arange(16, dtype=np.float32)))) == []
    ), "a ReLU6 stands between"


def test_weights_in_float16_are_widened_at_the_edge_and_only_in_that_precision() -> None:
    model = with_half_weights(MODEL)
    half, single = lint(model, "float16"), lint(model)
    assert (codes(half), half.delegate_partitions) == ([], 1)
    assert codes(single) == [("changes_type", "DEQUANTIZE")] * 6
    assert codes(lint(model, "float16", "gpu")) == []
    with pytest.raises(ConversionError, match="only change numbers' type, amid the graph: 6 DEQUANTIZE"):
        check_graph(single, name="odd")


def chain_of_type_changes(changes: list[str]) -> bytes:
    """A model that changes the type of an image's numbers again and again."""
    kinds = {"QUANTIZE": schema.TensorType.INT8, "DEQUANTIZE": schema.TensorType.FLOAT32}
    types = [schema.TensorType.FLOAT32, *(kinds[change] for change in changes)]
    scale = schema.QuantizationParametersT(scale=[0.1], zeroPoint=[0])
    graph = schema.SubGraphT(
        tensors=[
            schema.TensorT(
                shape=[1, 4, 4, 3],
                type=kind,
                name=f"t{index}",
                quantization=scale if kind == schema.TensorType.INT8 else None,
            )
            for index, kind in enumerate(types)
        ],
        inputs=[0],
        outputs=[len(changes)],
        operators=[
            schema.OperatorT(opcodeIndex=change == "DEQUANTIZE", inputs=[index], outputs=[index + 1])
            for index, change in enumerate(changes)
        ],
    )
    codes = [
        schema.OperatorCodeT(deprecatedBuiltinCode=number, builtinCode=number, version=2)
        for number in (schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE)
    ]
    return packed(
        schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=[schema.BufferT()])
    )


def test_in_int8_numbers_change_their_type_at_the_input_and_the_output_alone() -> None:
    assert codes(lint(chain_of_type_changes(["QUANTIZE", "DEQUANTIZE"]), "int8")) == []
    amid = lint(chain_of_type_changes(["QUANTIZE", "DEQUANTIZE", "QUANTIZE", "DEQUANTIZE"]), "int8")
    assert codes(amid) == [("changes_type", "DEQUANTIZE"), ("changes_type", "QUANTIZE")]
    assert [finding.tensor for finding in amid.findings] == ["t2", "t3"]


def test_an_operator_that_computes_in_float32_in_an_int8_graph_is_found() -> None:
    found = lint(MODEL, "int8")
    assert {code for code, _ in codes(found)} == {"other_type"}
    assert len(found.findings) == 4
