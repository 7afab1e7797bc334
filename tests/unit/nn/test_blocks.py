"""Blocks and their names. What each candidate of the shipped spaces computes: tests/unit/conversion."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
import torch
from support.multiply_accumulates import multiply_accumulates

from stages.mobilenet_v2 import mobilenet_v2
from stages.nn.blocks import build_block
from stages.nn.network import Network
from stages.search_space import BlockSpec, SearchSpace
from stages.spaces import SpaceConfig, load_space, shipped_spaces

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
        "mbconv": [{"kernel": 3}, {"expansion": 2}, {"stride": 2}, {"kind": "fused"}],
        "fused": [{"kernel": 3}, {"expansion": 2}, {"stride": 2}, {"kind": "mbconv"}],
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
