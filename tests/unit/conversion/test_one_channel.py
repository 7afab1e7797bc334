"""A depthwise convolution of a single channel looks like a full one to ONNX: its block says what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.every_block import as_if_trained

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError
from stages.conversion.chain import convert_module
from stages.conversion.converter import TensorflowConverter
from stages.conversion.export import depthwise_weights, export_onnx
from stages.conversion.flatbuffer import network_model
from stages.conversion.folding import folded_weights
from stages.conversion.onnx_graph import read_graph
from stages.conversion.operators import changed_operators, read_operators
from stages.conversion.rewrite import mark_depthwise
from stages.conversion.ways import split_indices
from stages.nn.network import Network
from stages.space.search_space import Candidate, NetConfig, SearchSpace, StageSpec, StemSpec


def net_of_one_hidden_channel(stride: int, **extras: object) -> NetConfig:
    """The first block's hidden layer has one channel; the 7x7 behind it is to be computed in parts."""
    first = Candidate.model_validate({"kernel": 3, "expansion": 1, **extras})
    space = SearchSpace(
        name="thin",
        resolution=16,
        classes=10,
        stem=StemSpec(width=1, stride=1),
        stages=(
            StageSpec(width=16, layers=1, fixed=first),
            StageSpec(width=16, layers=1, stride=stride, fixed=Candidate(kernel=7, expansion=6)),
            StageSpec(width=16, layers=1),
        ),
        head_width=16,
        candidates=(Candidate(kernel=3, expansion=2), Candidate(kernel=5, expansion=2)),
    )
    return space.network([0, 0, 1])


@pytest.mark.parametrize("extras", [{}, {"squeeze_excite": True, "activation": "hswish"}])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_right_convolution_is_split(
    stride: int, extras: dict[str, object], converter: TensorflowConverter, here: LocalDevice
) -> None:
    net = net_of_one_hidden_channel(stride, **extras)
    ways = {block.key: "split" for block in net.blocks if block.kernel == 7}
    module = as_if_trained(Network(net))
    images_NHWC = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)

    converted = convert_module(module, converter, resolution=16, split=split_indices(net, ways))
    written = network_model(net, folded_weights(module), implementations=ways, output="logits")

    assert changed_operators(read_operators(written), read_operators(converted)) is None
    with torch.inference_mode():
        expected = module(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)).numpy()
    for model in (converted, written):
        seen = here.run_model(model, images_NHWC)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_weights_of_depthwise_convolutions_are_those_of_the_blocks_that_have_one() -> None:
    net = net_of_one_hidden_channel(1)
    assert depthwise_weights(Network(net)) == (
        "blocks.1.layers.0.0.weight",
        "blocks.2.layers.1.0.weight",
        "blocks.3.layers.1.0.weight",
    )


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ("blocks.7.layers.0.0.weight", "no convolution has the weight blocks.7.layers.0.0.weight"),
        ("blocks.0.0.weight", r"it is depthwise, and its weight has shape \(1, 3, 3, 3\)"),
    ],
)
def test_a_name_that_is_not_a_depthwise_convolutions_is_refused(weight: str, words: str) -> None:
    graph = read_graph(export_onnx(Network(net_of_one_hidden_channel(1)), (1, 3, 16, 16)))
    with pytest.raises(ConversionError, match=words):
        mark_depthwise(graph, [weight])
