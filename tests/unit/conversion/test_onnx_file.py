"""A `.tflite` file as an ONNX model: it computes the same, and is made of what PyTorch's exporter writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from support.every_block import as_if_trained, every_kind_of_block
from support.operator_models import one_operator

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError, UsageError
from stages.conversion.export import export_onnx
from stages.conversion.flatbuffer import block_model, empty_model, network_model
from stages.conversion.folding import folded_weights
from stages.conversion.onnx_file import onnx_of
from stages.conversion.quantize import in_precision
from stages.nn.network import Network
from stages.space.block_spec import BlockSpec

MBCONV = BlockSpec(kind="mbconv", kernel=3, expansion=3, in_channels=8, out_channels=8, resolution=9)


def images(shape: Sequence[int]) -> NDArray[np.float32]:
    return np.random.default_rng(3).uniform(-1, 1, shape).astype(np.float32)


def answers(model: bytes, inputs_NHWC: NDArray[np.float32]) -> NDArray[np.float32]:
    """By ONNX's reference evaluator, in NHWC."""
    inputs = inputs_NHWC.transpose(0, 3, 1, 2) if inputs_NHWC.ndim == 4 else inputs_NHWC
    proto = onnx.load_from_string(model)
    onnx.checker.check_model(proto, full_check=True)
    outputs = np.asarray(ReferenceEvaluator(proto).run(None, {proto.graph.input[0].name: inputs})[0])
    return outputs.transpose(0, 2, 3, 1) if outputs.ndim == 4 else outputs


def test_every_kind_of_block_computes_the_same() -> None:
    net = every_kind_of_block()
    torch.manual_seed(0)
    model = network_model(net, folded_weights(as_if_trained(Network(net))))
    inputs = images((1, net.resolution, net.resolution, net.input_channels))
    with LocalDevice() as here:
        expected = here.run_model(model, inputs)
    np.testing.assert_allclose(answers(onnx_of(model), inputs), expected, atol=1e-5)


@pytest.mark.parametrize("bias", [[], [-1]], ids=["two inputs", "none named"])
def test_layers_without_a_bias_and_operator_codes_of_before_2020_are_read(bias: list[int]) -> None:
    """As one of zeros; LiteRT itself wants a bias that is there."""

    def packed(content: Any) -> bytes:
        builder = flatbuffers.Builder(0)
        builder.Finish(content.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    content = schema.ModelT.InitFromPackedBuf(block_model(MBCONV))
    graph = content.subgraphs[0]
    layers = [operator for operator in graph.operators if len(operator.inputs) == 3]
    for layer in layers:
        buffer = content.buffers[graph.tensors[layer.inputs[2]].buffer]
        buffer.data = np.zeros_like(buffer.data)
    inputs = images((1, 9, 9, 8))
    with LocalDevice() as here:
        expected = here.run_model(packed(content), inputs)
    for layer in layers:
        layer.inputs = [*layer.inputs[:2], *bias]
    for code in content.operatorCodes:
        code.builtinCode = 0
    assert len(layers) == 3
    np.testing.assert_allclose(answers(onnx_of(packed(content)), inputs), expected, atol=1e-5)


@settings(max_examples=12)
@given(
    kernel=st.sampled_from([3, 5, 7, 9]),
    stride=st.sampled_from([1, 2]),
    resolution=st.integers(1, 12),
    expansion=st.sampled_from([1, 2]),
    squeeze_excite=st.booleans(),
    split=st.booleans(),
)
def test_padding_and_parts_are_tensorflows_at_every_size(
    kernel: int, stride: int, resolution: int, expansion: int, squeeze_excite: bool, split: bool
) -> None:
    block = BlockSpec(
        kind="mbconv",
        kernel=kernel,
        stride=stride,
        resolution=resolution,
        expansion=expansion,
        squeeze_excite=squeeze_excite,
        in_channels=4,
        out_channels=4,
    )
    way = "split" if split and "split" in block.implementations else "native"
    model = block_model(block, way)
    inputs = images((1, resolution, resolution, 4))
    with LocalDevice() as here:
        expected = here.run_model(model, inputs)
    np.testing.assert_allclose(answers(onnx_of(model), inputs), expected, atol=1e-4)


def test_it_is_made_of_what_pytorch_exports() -> None:
    """Convolutions, sums and dense layers: as many of each, of the same kernels, strides and groups."""
    net = every_kind_of_block()
    module = as_if_trained(Network(net))
    exported = onnx.load_from_string(export_onnx(module, (1, 3, net.resolution, net.resolution)))
    written = onnx.load_from_string(onnx_of(network_model(net, output="logits")))
    assert convolutions(exported) == convolutions(written)
    kinds = [Counter(node.op_type for node in model.graph.node) for model in (exported, written)]
    assert kinds[0]["Gemm"] == kinds[1]["Gemm"] == 1


def convolutions(model: onnx.ModelProto) -> Counter[tuple[object, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found: Counter[tuple[object, ...]] = Counter()
    for node in model.graph.node:
        if node.op_type == "Conv":
            named = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            found[shapes[node.input[1]], tuple(named["strides"]), named.get("group", 1)] += 1
    return found


def test_the_empty_model_is_one_clip() -> None:
    model = onnx.load_from_string(onnx_of(empty_model()))
    assert [node.op_type for node in model.graph.node] == ["Clip"]


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_other_precisions_are_refused_by_name(precision: str) -> None:
    model = in_precision(block_model(MBCONV), precision, io="int8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not translated into ONNX"):
        onnx_of(model, "the block")


def test_an_operator_that_is_not_known_is_named() -> None:
    with pytest.raises(UsageError, match="the model holds the operator FLOOR, which is not translated"):
        image = ((1, 4, 4, 2), schema.TensorType.FLOAT32)
        onnx_of(one_operator(schema.BuiltinOperator.FLOOR, [image], image))


@pytest.mark.parametrize("content", [b"", b"no model", block_model(MBCONV)[:500]])
def test_a_damaged_file_is_refused(content: bytes) -> None:
    with pytest.raises(ConversionError):
        onnx_of(content)


@pytest.mark.parametrize("split", [False, True])
def test_a_file_with_float16_weights_becomes_float16_throughout_where_that_is_asked_for(split: bool) -> None:
    block = MBCONV.model_copy(update={"kernel": 7, "squeeze_excite": True})
    file = in_precision(block_model(block, "split" if split else "native"), "float16")
    inputs = images((1, 9, 9, 8))
    model = onnx.load_from_string(onnx_of(file, half=True))
    onnx.checker.check_model(model, full_check=True)
    assert {constant.data_type for constant in model.graph.initializer} <= {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT64,
    }
    given, answered = model.graph.input[0], model.graph.output[0]
    assert given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert answered.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    with LocalDevice() as here:
        expected = here.run_model(file, inputs)
    found = answers(model.SerializeToString(), inputs.astype(np.float16))
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=5e-2)


def test_a_float32_file_stays_float32_where_float16_is_asked_for() -> None:
    assert onnx_of(block_model(MBCONV), half=True) == onnx_of(block_model(MBCONV))
