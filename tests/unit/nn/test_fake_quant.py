"""A network in the steps of int8: what it computes, that it learns, and that it becomes a network again."""

from __future__ import annotations

import pytest
import torch
from support.every_block import as_if_trained, every_kind_of_block
from torch import nn

from stages.nn.fake_quant import ActivationSteps, FakeQuantized, KernelSteps
from stages.nn.network import Network


@pytest.fixture(scope="module")
def network() -> Network:
    return as_if_trained(Network(every_kind_of_block()))


def images(network: Network, count: int = 4) -> torch.Tensor:
    net = network.net
    generator = torch.Generator().manual_seed(0)
    shape = (count, net.input_channels, net.resolution, net.resolution)
    return torch.rand(shape, generator=generator) * 2 - 1


def test_without_learning_it_becomes_the_same_network_again(network: Network) -> None:
    again = FakeQuantized(network).plain()
    x_NCHW = images(network)
    with torch.inference_mode():
        expected, seen = network(x_NCHW), again(x_NCHW)
    assert torch.allclose(seen, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_it_computes_what_the_network_does_but_for_the_steps(network: Network) -> None:
    x_NCHW = images(network)
    rounded = FakeQuantized(network).train()
    with torch.no_grad():
        rounded(x_NCHW)  # extremes are seen
        rounded.eval()
        seen, expected = rounded(x_NCHW), network(x_NCHW)
    difference = (seen - expected).abs().max() / expected.abs().max()
    assert 0 < difference < 0.5


def test_kernels_have_255_steps_of_their_own_for_each_channel() -> None:
    weight = torch.tensor([[1.0, 0.5, -0.004], [100.0, 50.0, -0.4]])
    rounded = KernelSteps()(weight)
    assert rounded[0].tolist() == pytest.approx([1.0, 64 / 127, -1 / 127])
    assert rounded[1].tolist() == pytest.approx([100.0, 64 * 100 / 127, -100 / 127])


def test_activations_have_256_steps_between_the_extremes_that_were_seen() -> None:
    steps = ActivationSteps()
    steps(torch.tensor([0.0, 2.55]))
    steps.eval()
    assert steps(torch.tensor([0.014, 1.0, 9.0, -1.0])).tolist() == pytest.approx([0.01, 1.0, 2.55, 0.0])


def test_gradients_pass_the_steps(network: Network) -> None:
    rounded = FakeQuantized(network).train()
    rounded(images(network)).square().mean().backward()
    learning = dict(rounded.named_parameters())
    assert len(learning) > 20
    assert all(p.grad is not None for p in learning.values())
    assert sum(float(p.grad.abs().sum()) > 0 for p in learning.values() if p.grad is not None) > 0.9 * len(
        learning
    )


def test_the_network_that_was_given_stays_as_it_is(network: Network) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    FakeQuantized(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
