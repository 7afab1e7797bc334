"""ONNX models of ours as PyTorch modules: they answer as LiteRT does, in batches of any size."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.every_block import as_if_trained, every_kind_of_block

from android_bench.local.device import LocalDevice
from android_bench.local.serving import ModelError
from android_bench.local.torch_graph import torch_model
from stages.conversion.flatbuffer import block_model, empty_model, network_model
from stages.conversion.folding import folded_weights
from stages.conversion.onnx_file import onnx_of
from stages.conversion.quantize import in_precision
from stages.nn.network import Network
from stages.space.block_spec import BlockSpec

MBCONV = BlockSpec(kind="mbconv", kernel=3, expansion=3, in_channels=8, out_channels=8, resolution=9)


def trained_network() -> bytes:
    net = every_kind_of_block()
    torch.manual_seed(0)
    return network_model(net, folded_weights(as_if_trained(Network(net))))


@pytest.mark.parametrize(
    ("precision", "kind", "near"), [("float32", torch.float32, 1e-5), ("float16", torch.float16, 5e-3)]
)
def test_every_kind_of_block_computes_the_same(precision: str, kind: torch.dtype, near: float) -> None:
    net, model = every_kind_of_block(), in_precision(trained_network(), precision)  # type: ignore[arg-type]
    images = np.random.default_rng(3).uniform(-1, 1, (3, net.resolution, net.resolution, net.input_channels))
    with LocalDevice() as here:
        expected = here.run_model(model, images)
    built = torch_model(onnx_of(model, half=True))
    assert (built.kind, built.shape) == (kind, (net.input_channels, net.resolution, net.resolution))
    with torch.inference_mode():
        found = built.module(torch.from_numpy(images.transpose(0, 3, 1, 2)).to(kind))
    assert found.dtype == kind
    np.testing.assert_allclose(found.float().numpy(), expected, atol=near)


@settings(max_examples=12)
@given(
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    resolution=st.integers(1, 12),
    squeeze_excite=st.booleans(),
    split=st.booleans(),
)
def test_padding_and_parts_are_tensorflows_at_every_size(
    kernel: int, stride: int, resolution: int, squeeze_excite: bool, split: bool
) -> None:
    block = BlockSpec(
        kind="mbconv",
        kernel=kernel,
        stride=stride,
        resolution=resolution,
        expansion=2,
        squeeze_excite=squeeze_excite,
        in_channels=4,
        out_channels=4,
    )
    way = "split" if split and "split" in block.implementations else "native"
    model = block_model(block, way)
    image = np.random.default_rng(3).uniform(-1, 1, (1, resolution, resolution, 4)).astype(np.float32)
    with LocalDevice() as here:
        expected = here.run_model(model, image)
    with torch.inference_mode():
        found = torch_model(onnx_of(model)).module(torch.from_numpy(image.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(found.numpy().transpose(0, 2, 3, 1), expected, atol=1e-4)


def test_each_image_of_a_batch_is_computed_as_it_is_alone() -> None:
    built = torch_model(onnx_of(trained_network()))
    images = torch.rand((5, *built.shape), generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        together = built.module(images)
        alone = torch.cat([built.module(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_empty_model_has_one_operator() -> None:
    built = torch_model(onnx_of(empty_model()))
    assert [node.op for node in built.module.graph.nodes] == ["placeholder", "call_function", "output"]


def test_convolutions_have_their_channels_last() -> None:
    built = torch_model(onnx_of(block_model(MBCONV)))
    kernels = [one for one in built.module.buffers() if one.dim() == 4]
    assert kernels
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels)


def small(operator: str, inputs: int = 1) -> bytes:
    sources = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [1, 4]) for i in range(inputs)]
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    node = helper.make_node(operator, [source.name for source in sources], ["y"])
    return onnx.ModelProto(graph=helper.make_graph([node], "g", sources, [target])).SerializeToString()


def test_an_operator_that_is_not_known_is_named() -> None:
    with pytest.raises(ModelError, match="the operator Tanh is not known"):
        torch_model(small("Tanh"))


def test_several_inputs_are_refused() -> None:
    with pytest.raises(ModelError, match="2 inputs and 1 outputs"):
        torch_model(small("Add", inputs=2))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match="this is no ONNX model"):
        torch_model(b"this is no model")
