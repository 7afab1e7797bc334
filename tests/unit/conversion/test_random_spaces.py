"""Random legal spaces through all of conversion that is quick: what holds must hold for every one of them."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
import torch

from android_bench.local.device import LocalDevice
from benchmarks._random_spaces import DEEPEST, largest_macs, random_space
from stages.conversion.block_weights import random_weights
from stages.conversion.covering import block_kinds, covering_networks
from stages.conversion.export import depthwise_weights
from stages.conversion.flatbuffer import network_model
from stages.conversion.folding import folded_weights, load_folded
from stages.conversion.operators import read_operators
from stages.nn.network import Network
from stages.space.block_spec import Implementation
from stages.space.search_space import NetConfig, SearchSpace

SEEDS = range(20)


@cache
def space_of(seed: int) -> SearchSpace:
    return random_space(seed, trainable=seed % 2 == 0, most_macs=2_000_000)


def ways_of(space: SearchSpace, seed: int) -> dict[str, Implementation]:
    chance = random.Random(seed)
    blocks = space.distinct_blocks()
    return {b.key: chance.choice(b.implementations) for b in blocks if len(b.implementations) > 1}


def a_network(space: SearchSpace, seed: int) -> NetConfig:
    chance = random.Random(seed)
    return space.network([chance.randrange(len(layer.blocks)) for layer in space.layers()])


def test_the_spaces_are_of_every_shape() -> None:
    spaces = [random_space(seed, trainable=seed % 2 == 0, most_macs=2_000_000) for seed in range(200)]
    depths = {len(space.layers()) for space in spaces}
    assert min(depths) == 1
    assert 45 < max(depths) <= DEEPEST
    candidates = [candidate for space in spaces for candidate in space.candidates]
    assert {candidate.kernel for candidate in candidates} == {1, 3, 5, 7, 9, 11}
    assert {candidate.kind for candidate in candidates} == {"mbconv", "fused"}
    assert any(candidate.squeeze_excite and candidate.activation == "hswish" for candidate in candidates)
    blocks = [block for space in spaces for block in space.distinct_blocks()]
    assert any(block.hidden_channels == 1 and block.kind == "mbconv" for block in blocks)
    assert any(block.out_channels % 2 and block.out_channels > 1 for block in blocks)
    assert any(block.out_resolution == 1 and block.searchable for block in blocks)
    others = spaces[1::2]
    assert {8, 96} & {space.resolution for space in others}
    assert min(space.classes for space in others) < 10
    assert max(space.classes for space in others) > 500


def test_the_same_number_gives_the_same_space() -> None:
    assert space_of(3) == random_space(3, trainable=False, most_macs=2_000_000) != space_of(5)
    assert largest_macs(space_of(3)) <= 20_000_000


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_written_directly_computes_what_pytorch_computes(seed: int, here: LocalDevice) -> None:
    space = space_of(seed)
    net, ways = a_network(space, seed), ways_of(space, seed)
    weights = random_weights(net.blocks, seed=seed)
    module = Network(net)
    load_folded(module, weights)
    module.eval()
    back = folded_weights(module)
    assert back.keys() == weights.keys()
    for name, weight in weights.items():
        np.testing.assert_allclose(back[name], weight, rtol=1e-6, atol=1e-6)
    generator = np.random.default_rng(seed)
    x_NHWC = generator.uniform(-1, 1, (2, net.resolution, net.resolution, net.input_channels))
    x_NHWC = x_NHWC.astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x_NHWC).permute(0, 3, 1, 2)).numpy()

    model = network_model(net, weights, implementations=ways, output="logits")

    seen = here.run_model(model, x_NHWC)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    whole = [block for block in net.blocks if block.kind == "mbconv"]
    depthwise = [p for p in read_operators(model) if p.operator.name == "DEPTHWISE_CONV_2D"]
    assert len(depthwise) == len(whole) + 3 * sum(ways.get(block.key) == "split" for block in whole)
    assert len(depthwise_weights(module)) == len(whole)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_of_block_is_in_one_of_few_networks(seed: int) -> None:
    space = space_of(seed)
    ways = ways_of(space, seed)
    networks = covering_networks(space, ways)
    held = set()
    for choices, _ in networks:
        for block in space.network(choices).blocks:
            held |= block_kinds(block, ways.get(block.key, "native"))
    for block in space.distinct_blocks():
        assert block_kinds(block, ways.get(block.key, "native")) <= held
    assert len(networks) <= 1 + max(len(layer.blocks) for layer in space.layers())
