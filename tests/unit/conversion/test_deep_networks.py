"""Hundreds of layers amplify what float32 rounds off: that is no fault of the conversion, a wrong weight is.

A model that is written directly stands for the converted one: it is as right, and made in no time.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError
from stages.conversion.block_weights import random_weights
from stages.conversion.config import ConvertConfig
from stages.conversion.flatbuffer import network_model
from stages.conversion.folding import load_folded
from stages.conversion.parity import Tolerance, check_parity, compare, in_double, keeps
from stages.conversion.trial import Difference, difference_from_torch, steady
from stages.data.grey import GreyImages
from stages.nn.blocks import SameConv2d
from stages.nn.network import Network
from stages.space.search_space import Candidate, NetConfig, SearchSpace, StageSpec, StemSpec

Weights = dict[str, NDArray[np.float32]]
LIMIT = ConvertConfig().max_relative_diff


def deep(layers: int, resolution: int = 16) -> NetConfig:
    """A legal network that amplifies rounding: narrow, no skip, ReLU6."""
    only = Candidate(kernel=3, expansion=2)
    space = SearchSpace(
        name="deep",
        resolution=resolution,
        classes=10,
        stem=StemSpec(width=8, stride=2),
        stages=(
            StageSpec(width=8, layers=1, stride=2, fixed=only),
            *(StageSpec(width=8, layers=50) for _ in range(layers // 50)),
        ),
        head_width=16,
        candidates=(only,),
        skip=False,
    )
    return space.network([0] * len(space.layers()))


def torch_network(net: NetConfig, weights: Weights) -> Network:
    module = Network(net)
    load_folded(module, weights)
    return module.eval()


def two_filters_exchanged(weights: Weights, index: int) -> Weights:
    name = f"blocks.{index}.project.weight"
    swapped = weights[name].copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    return {**weights, name: swapped}


def of_trial(net: NetConfig, weights: Weights, model: bytes, here: LocalDevice) -> Difference:
    return difference_from_torch(torch_network(net, weights), model, (net.resolution, 3), here)


@pytest.mark.parametrize("layers", [100, 200])
def test_a_deep_network_that_is_converted_rightly_passes_and_a_wrong_one_does_not(
    layers: int, here: LocalDevice
) -> None:
    net = deep(layers)
    weights = steady(random_weights(net.blocks, seed=0))
    assert of_trial(net, weights, network_model(net, weights, output="logits"), here).kept(LIMIT)
    for index in (3, layers // 2):
        exchanged = network_model(net, two_filters_exchanged(weights, index), output="logits")
        wrong = of_trial(net, weights, exchanged, here)
        assert not wrong.kept(LIMIT)
        assert "float32 itself rounds off in this network" in wrong.describe(LIMIT)


def test_padding_on_the_wrong_side_in_one_of_many_layers_is_caught(here: LocalDevice) -> None:
    net = deep(150)
    weights = steady(random_weights(net.blocks, seed=0))
    module = torch_network(net, weights)
    uneven = [m for m in module.modules() if isinstance(m, SameConv2d) and m.uneven is not None]
    model = network_model(net, weights, output="logits")
    assert difference_from_torch(module, model, (16, 3), here).kept(LIMIT)
    uneven[-1].uneven = uneven[-1].uneven[::-1]
    assert not difference_from_torch(module, model, (16, 3), here).kept(LIMIT)


def test_trained_weights_that_amplify_rounding_are_held_to_what_float32_can_tell(
    here: LocalDevice, validation_images: GreyImages
) -> None:
    """With as much variance in its projections, the same network differs by more than the limit."""
    net = deep(150, 32)
    weights = random_weights(net.blocks, seed=0)
    module = torch_network(net, weights)
    right = network_model(net, weights, output="logits")
    images_NHWC = validation_images.batch_NHWC(np.arange(16))
    x_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
    with torch.inference_mode():
        single_NK, exact_NK = module(x_NCHW).numpy(), in_double(module)(x_NCHW.double()).numpy()
    tolerance = Tolerance(1e-6, 99.9, 60.0)

    seen = compare(single_NK, here.run_model(right, images_NHWC), name="deep", exact_NK=exact_NK)

    assert seen.max_relative_diff > 1e-6
    assert keeps(seen, tolerance)
    wrong = network_model(net, two_filters_exchanged(weights, 75), output="logits")
    other = compare(single_NK, here.run_model(wrong, images_NHWC), name="deep", exact_NK=exact_NK)
    with pytest.raises(ConversionError, match="4 times what PyTorch's own answers in float32 and in float64"):
        check_parity(other, np.arange(16), tolerance, name="deep")


def test_classes_that_float32_cannot_tell_apart_count_as_the_same_and_others_do_not() -> None:
    exact = np.array([[1.0, 1.01, 0.0], [3.0, 0.0, 1.0]])
    single = (exact + [[0.005, -0.002, 0.0]] * 2).astype(np.float32)
    other = single.copy()
    other[0, 0] += 0.01
    blind = compare(single, other, name="found")
    assert blind.top1_agreement_percent == 50
    seen = compare(single, other, name="found", exact_NK=exact)
    assert seen.rounding == pytest.approx(0.005, rel=1e-3)
    tolerance = Tolerance(1e-3, 99.9, 60.0)
    assert not keeps(blind, tolerance)
    assert keeps(seen, tolerance)
    other[1] = other[1, ::-1]
    assert not keeps(compare(single, other, name="found", exact_NK=exact), tolerance)
