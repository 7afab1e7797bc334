"""Blocks and their names. What each candidate of the shipped spaces computes: tests/unit/conversion."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from typing import Literal

import pytest
import torch
from support.multiply_accumulates import multiply_accumulates

from stages.conversion.flatbuffer import block_model
from stages.nn.blocks import SqueezeExcite, build_block, initialise
from stages.nn.network import Network
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.block_spec import BlockSpec
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.space.search_space import SearchSpace

SPACES = {name: load_space(SpaceConfig(name=name)) for name in shipped_spaces()}


@pytest.mark.parametrize("space", SPACES.values(), ids=lambda space: space.name)
def test_blocks_share_a_key_only_where_they_are_equal(space: SearchSpace) -> None:
    everywhere = [block for layer in space.layers() for block in layer.blocks if block]
    everywhere += space.fixed_blocks()
    assert len({block.key for block in everywhere}) == len(set(everywhere)) == len(space.distinct_blocks())


@pytest.mark.parametrize("kind", ["stem", "mbconv", "fused", "head", "classifier"])
def test_keys_tell_blocks_apart_that_differ_in_one_field(kind: str) -> None:
    fields = {"kind": kind, "in_channels": 8, "out_channels": 16, "resolution": 32}
    changes = [{"in_channels": 9}, {"out_channels": 9}, {"resolution": 9}]
    changes += {
        "stem": [{"kernel": 3}, {"stride": 2}],
        "mbconv": [
            *({"kernel": 3}, {"expansion": 2}, {"stride": 2}, {"kind": "fused"}),
            *({"squeeze_excite": True}, {"activation": "hswish"}, {"kind": "fused", "activation": "hswish"}),
            {"squeeze_excite": True, "activation": "hswish"},
        ],
        "fused": [
            *({"kernel": 3}, {"expansion": 2}, {"stride": 2}, {"kind": "mbconv"}),
            {"activation": "hswish"},
        ],
    }.get(kind, [])
    blocks = [BlockSpec.model_validate(fields | change) for change in [{}, *changes]]
    assert Counter(block.key for block in blocks).most_common(1)[0][1] == 1


def test_the_mobile_space_is_the_papers() -> None:
    space = SPACES["proxyless_mobile"]
    searched = [layer for layer in space.layers() if len(layer.blocks) > 1]
    assert len(searched) == 21
    assert space.size == 6**6 * 7**15
    assert len(space.distinct_blocks()) == 70
    assert Counter(len(layer.blocks) for layer in searched) == {6: 6, 7: 15}


def test_mobilenet_v2_has_the_published_size() -> None:
    net = mobilenet_v2(resolution=224, classes=1000)
    assert net.macs == 300_774_272
    assert net.parameters == 3_504_872
    with torch.device("meta"):
        network, x_NCHW = Network(net), torch.empty(1, 3, 224, 224)
    logits, macs = multiply_accumulates(network.eval(), x_NCHW)
    assert logits.shape == (1, 1000)
    assert (macs, sum(p.numel() for p in network.parameters())) == (net.macs, net.parameters)


@pytest.mark.parametrize("kind", ["mbconv", "fused"])
@pytest.mark.parametrize("expansion", [1, 2])
def test_a_block_adds_its_input_where_shapes_allow(kind: Literal["mbconv", "fused"], expansion: int) -> None:
    block = BlockSpec(kind=kind, kernel=3, expansion=expansion, in_channels=8, out_channels=8, resolution=8)
    torch.manual_seed(0)
    x_NCHW = torch.randn(2, 8, 8, 8)
    module = build_block(block).eval()
    added = module(x_NCHW) - x_NCHW
    assert torch.allclose(added, module.layers(x_NCHW), atol=1e-6)
    other = build_block(block.model_copy(update={"out_channels": 16})).eval()
    assert torch.equal(other(x_NCHW), other.layers(x_NCHW))


@pytest.mark.parametrize(
    ("kind", "expansion", "squeeze_excite", "hswish"),
    [
        *product(["mbconv"], [1, 4], [False, True], [False, True]),
        *product(["fused"], [1, 4], [False], [False, True]),
    ],
)
def test_arithmetic_numbers_and_gradients_of_every_combination(
    kind: Literal["mbconv", "fused"], expansion: int, squeeze_excite: bool, hswish: bool
) -> None:
    block = BlockSpec(
        kind=kind,
        kernel=5,
        expansion=expansion,
        squeeze_excite=squeeze_excite,
        activation="hswish" if hswish else "relu6",
        stride=2,
        in_channels=24,
        out_channels=40,
        resolution=9,
    )
    torch.manual_seed(0)
    module = build_block(block)
    initialise(module)
    x_NCHW = torch.randn(4, 24, 9, 9)
    out, macs = multiply_accumulates(module, x_NCHW)
    assert out.shape == (4, 40, 5, 5)
    assert (macs, sum(p.numel() for p in module.parameters())) == (block.macs, block.parameters)
    out.pow(2).sum().backward()
    gradients = [p.grad for p in module.parameters()]
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in gradients)
    assert all(bool(grad.abs().max() > 0) for grad in gradients if grad is not None)


def test_squeeze_excite_is_the_papers() -> None:
    """Mean, a quarter of the channels, ReLU, hard sigmoid: written out, place by place."""
    torch.manual_seed(0)
    module = SqueezeExcite(16, 4).double()
    x_NCHW = 3 * torch.randn(2, 16, 5, 5, dtype=torch.float64)
    down, up = module.squeeze.weight.flatten(1), module.excite.weight.flatten(1)
    for image, out in zip(x_NCHW, module(x_NCHW), strict=True):
        mean = image.flatten(1).sum(1) / 25
        hidden = (down @ mean + module.squeeze.bias).clamp(min=0)
        gate = ((up @ hidden + module.excite.bias + 3) / 6).clamp(0, 1)
        assert torch.allclose(out, gate[:, None, None] * image)


@pytest.mark.parametrize(
    ("channels", "squeezed"), [(8, 8), (16, 8), (64, 16), (72, 24), (120, 32), (960, 240)]
)
def test_squeezed_channels_are_a_quarter_rounded_to_eights(channels: int, squeezed: int) -> None:
    """As in MobileNetV3's released code (72: 18 would lose more than a tenth as 16)."""
    block = BlockSpec(kind="mbconv", squeeze_excite=True, in_channels=channels, out_channels=8, resolution=4)
    module = build_block(block)
    gate = next(part for part in module.modules() if isinstance(part, SqueezeExcite))
    assert (gate.squeeze.out_channels, block.squeezed_channels) == (squeezed, squeezed)


def test_hswish_stands_where_relu6_stood_and_nowhere_else() -> None:
    fields = {"kernel": 3, "expansion": 2, "in_channels": 8, "out_channels": 8, "resolution": 8}
    for kind, count in (("mbconv", 2), ("fused", 1)):
        plain = build_block(BlockSpec.model_validate(fields | {"kind": kind}))
        other = build_block(BlockSpec.model_validate(fields | {"kind": kind, "activation": "hswish"}))
        names = [[type(part).__name__ for part in module.modules()] for module in (plain, other)]
        assert [name.replace("Hardswish", "ReLU6") for name in names[1]] == names[0]
        assert names[1].count("Hardswish") == count
        assert plain.state_dict().keys() == other.state_dict().keys()


@pytest.mark.parametrize("expansion", [1, 3])
@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("hswish", [False, True])
@pytest.mark.parametrize("resolution", [1, 8])
def test_activation_megabytes_count_what_each_operator_of_the_file_writes(
    expansion: int, squeeze_excite: bool, hswish: bool, resolution: int
) -> None:
    import ai_edge_litert.schema_py_generated as schema

    for kind in ("mbconv", "fused") if not squeeze_excite else ("mbconv",):
        block = BlockSpec.model_validate(
            {
                "kind": kind,
                "kernel": 3,
                "expansion": expansion,
                "squeeze_excite": squeeze_excite,
                "activation": "hswish" if hswish else "relu6",
                "in_channels": 24,
                "out_channels": 24,
                "resolution": resolution,
            }
        )
        graph = schema.Model.GetRootAs(block_model(block)).Subgraphs(0)
        written = [graph.Operators(i).Outputs(0) for i in range(graph.OperatorsLength())]
        values = sum(math.prod(graph.Tensors(tensor).ShapeAsNumpy()) for tensor in written)
        assert block.activation_megabytes == pytest.approx(4 * values / 1e6)
