"""A trained PyTorch network, written directly as a `.tflite` file, computes the same in LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.latency_spaces import SPACE

from android_bench.local.device import LocalDevice
from stages.conversion.block_weights import weight_shapes
from stages.conversion.flatbuffer import network_model
from stages.conversion.folding import folded_weights
from stages.nn.network import Network
from stages.space import SpaceConfig, load_space
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.space.search_space import NetConfig

MOBILE_V3 = load_space(SpaceConfig(name="mobile_v3", resolution=32, width_multiplier=0.5))
NETS = {
    "mobilenet_v2": mobilenet_v2(resolution=32, classes=10, width=0.5),
    "of_the_space": SPACE.network((0, 0, 3, 1, 4, 2, 0)),
    "mobile_v3": MOBILE_V3.network((0, 2, 4, 3, 8, 6, 1, 5, 9, 7, 2, 8, 0, 9, 10)),
}


def trained(net: NetConfig) -> Network:
    """A network whose BN statistics are those of data, as after training."""
    torch.manual_seed(0)
    network = Network(net)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.1)
        for _ in range(20):
            network(torch.rand(16, 3, net.resolution, net.resolution) * 2 - 1)
    return network.eval()


@pytest.mark.parametrize("name", NETS)
def test_a_trained_network_computes_the_same_in_litert(name: str) -> None:
    network = trained(NETS[name])
    x_NHWC = np.random.default_rng(1).uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x_NHWC).permute(0, 3, 1, 2)).numpy()
    with LocalDevice() as device:
        logits = device.run_model(
            network_model(network.net, folded_weights(network), output="logits"), x_NHWC
        )
    assert np.std(expected) > 0.01
    assert np.abs(logits - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


def test_every_weight_of_the_file_comes_from_the_network() -> None:
    network = Network(NETS["of_the_space"])
    shapes = {name: weight.shape for name, weight in folded_weights(network).items()}
    assert shapes == weight_shapes(network.net.blocks)
