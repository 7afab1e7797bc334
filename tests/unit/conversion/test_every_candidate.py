"""Every candidate at every place of every shipped space: one test for all that is said of it."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from support.multiply_accumulates import multiply_accumulates
from support.toy_search import latency_model

from android_bench.device import RuntimeOptions
from android_bench.local.device import LocalDevice
from stages.conversion.block_weights import weight_shapes
from stages.conversion.chain import convert_module
from stages.conversion.converter import TensorflowConverter
from stages.conversion.flatbuffer import network_model
from stages.conversion.folding import folded_weights
from stages.nn.network import Network
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig, SearchSpace

SPACES = {name: load_space(SpaceConfig(name=name)) for name in shipped_spaces()}
BLOCKS = [(name, block) for name, space in SPACES.items() for block in space.distinct_blocks()]
ROUNDING = 2e-5


@lru_cache(maxsize=1)
def _prices(name: str) -> dict[str, float]:
    """What a latency model of the space says of each block, by the block's key."""
    space = SPACES[name]
    model = latency_model(space)
    blocks = [block for layer in space.layers() for block in layer.blocks if block is not None]
    return {block.key: model.block_latency_ms(block) for block in (*blocks, *space.fixed_blocks())}


def alone(block: BlockSpec) -> Network:
    """The block as a network of its own, as if trained; a real network ends with a classifier."""
    net = NetConfig.model_construct(
        resolution=block.resolution,
        input_channels=block.in_channels,
        classes=block.out_channels,
        blocks=(block,),
        layers=(),
    )
    network = Network(net)
    generator = torch.Generator().manual_seed(1)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.3, 2.0, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
        elif isinstance(part, torch.nn.Linear):
            part.weight.data.normal_(0, part.in_features**-0.5, generator=generator)
    return network.eval()


def run(model: bytes, x_NHWC: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """The output, and in how many pieces the delegate runs the model."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x_NHWC)
    interpreter.invoke()
    names = [operator["op_name"] for operator in interpreter._get_ops_details()]
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), names.count("DELEGATE")


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[f"{name}-{block.key}" for name, block in BLOCKS])
def test_a_block_is_what_its_description_says_in_pytorch_and_in_litert(name: str, block: BlockSpec) -> None:
    network = alone(block)
    side, channels = block.resolution, block.in_channels
    x_NHWC = np.random.default_rng(7).uniform(-1, 1, (1, side, side, channels)).astype(np.float32)

    with torch.inference_mode():
        out, macs = multiply_accumulates(network, torch.from_numpy(x_NHWC).permute(0, 3, 1, 2))

    after = block.out_resolution
    indices = () if block.kind == "classifier" else (after, after)
    assert out.shape == (1, block.out_channels, *indices)
    assert sum(p.numel() for p in network.parameters()) == block.parameters
    assert macs == block.macs
    assert _prices(name)[block.key] > 0

    weights = folded_weights(network)
    assert {key: w.shape for key, w in weights.items()} == weight_shapes([block])
    expected = (out.permute(0, 2, 3, 1) if indices else out).numpy()
    for implementation in block.implementations:
        model = network_model(
            network.net, weights, implementations={block.key: implementation}, output="logits"
        )
        written, pieces = run(model, x_NHWC)
        assert written.shape == expected.shape
        assert np.abs(written - expected).max() <= ROUNDING * max(1.0, np.abs(expected).max())
        assert pieces == 1


@pytest.mark.parametrize("space", SPACES.values(), ids=lambda space: space.name)
def test_the_candidates_of_all_places_are_those_blocks(space: SearchSpace) -> None:
    by_key = {block.key: block for block in space.distinct_blocks()}
    assert len(by_key) == len(space.distinct_blocks())
    layers = space.layers()
    channels, resolution = space.fixed_blocks()[0].out_channels, space.fixed_blocks()[0].out_resolution
    for layer in layers:
        present = [block for block in layer.blocks if block is not None]
        assert present
        for block in present:
            assert by_key[block.key] == block
            assert (block.in_channels, block.resolution) == (channels, resolution)
            assert (block.out_channels, block.out_resolution) == (
                present[0].out_channels,
                present[0].out_resolution,
            )
        assert (None in layer.blocks) == (len(present) > 1 and present[0].residual)
        channels, resolution = present[0].out_channels, present[0].out_resolution
    assert prod(len(layer.blocks) for layer in layers) == space.size


@pytest.mark.parametrize("space", SPACES.values(), ids=lambda space: space.name)
def test_every_one_of_them_is_profiled_in_each_of_its_ways(space: SearchSpace, here: LocalDevice) -> None:
    stage = ProfileOps(config=ProfileConfig(), space=space, runtime=RuntimeOptions(), seed=0, device=here)
    planned = {(block.key, way) for block, way in stage._variants()}
    assert planned == {(b.key, way) for b in space.distinct_blocks() for way in b.implementations}


@pytest.mark.parametrize("name", SPACES)
def test_by_way_of_tensorflow_networks_of_them_compute_the_same(
    name: str, converter: TensorflowConverter, here: LocalDevice
) -> None:
    """A path that takes another candidate in each layer, at a small size: two routes that share no code."""
    space = load_space(SpaceConfig(name=name, resolution=32, width_multiplier=0.5))
    path = [index % len(layer.blocks) for index, layer in enumerate(space.layers())]
    torch.manual_seed(0)
    network = Network(space.network(path)).eval()
    torch.nn.init.normal_(network.get_parameter(f"blocks.{len(network.blocks) - 1}.dense.weight"))
    images_NHWC = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)

    converted = convert_module(network, converter, resolution=32)

    with torch.inference_mode():
        expected = network(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)).numpy()
    assert np.std(expected) > 0.01
    written = network_model(network.net, folded_weights(network), output="logits")
    for model in (converted, written):
        seen = here.run_model(model, images_NHWC)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
