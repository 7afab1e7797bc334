"""The supernet: its paths, what is cut out of it, and BN statistics of a path's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.toy_search import SPACE
from torch import Tensor, nn

from nasflow.base.errors import IntegrityError
from stages.nn.network import load_network, save_weights
from stages.nn.supernet import Supernet, recalibrate_bn
from stages.space.search_space import NetConfig

PATHS = [(0, 0, 0, 0), (0, 1, 1, 1), (0, 2, 0, 2), (0, 0, 1, 2), (0, 2, 1, 0)]


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    """Random weights, and BN statistics unlike the initial ones."""
    torch.manual_seed(3)
    supernet = Supernet(SPACE)
    for part in supernet.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.randn_like(part.bias.detach())
            part.running_var = torch.rand_like(part.bias.detach()) + 0.5
            part.weight.data.uniform_(0.5, 1.5)
        elif isinstance(part, nn.Linear):
            part.weight.data.normal_()
    return supernet.eval()


@pytest.mark.parametrize("path", PATHS)
def test_a_path_cut_out_computes_what_it_computed_in_the_supernet(
    supernet: Supernet, path: tuple[int, ...]
) -> None:
    network = supernet.extract(path).eval()
    with torch.no_grad():
        assert torch.equal(network(images()), supernet(images(), path))
    kept = [spec.blocks[choice] for spec, choice in zip(SPACE.layers(), path, strict=True)]
    assert len(network.blocks) == 3 + sum(block is not None for block in kept)
    assert sum(p.numel() for p in network.parameters()) == SPACE.network(path).parameters


def test_paths_compute_different_things(supernet: Supernet) -> None:
    with torch.no_grad():
        logits = [supernet(images(), path) for path in PATHS]
    assert not any(torch.allclose(a, b) for i, a in enumerate(logits) for b in logits[:i])


def test_what_is_cut_out_is_a_copy(supernet: Supernet) -> None:
    before = save_weights(supernet)
    network = supernet.extract(PATHS[0])
    for tensor in network.state_dict().values():
        tensor.zero_()
    assert save_weights(supernet) == before


def test_the_network_cut_out_is_the_one_asked_for_whatever_chance_says(supernet: Supernet) -> None:
    """Not a path drawn from the probabilities, and nothing of a network's random beginning is left in it."""
    stored = supernet.state_dict()
    for path in PATHS:
        exports = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            exports.append(supernet.extract(path))
        assert save_weights(exports[0]) == save_weights(exports[1])
        assert exports[0].net == SPACE.network(path)
        for block, index in zip(exports[0].blocks, exports[0].net.layers, strict=True):
            for name, tensor in block.state_dict().items():
                if index >= 0:
                    assert torch.equal(tensor, stored[f"layers.{index}.candidates.{path[index]}.{name}"])


def test_a_found_network_loads_in_two_lines(supernet: Supernet, tmp_path: Path) -> None:
    found = supernet.extract(PATHS[2]).eval()
    (tmp_path / "network.json").write_text(found.net.model_dump_json())
    (tmp_path / "network.safetensors").write_bytes(save_weights(found))

    net = NetConfig.model_validate_json((tmp_path / "network.json").read_bytes())
    model = load_network(net, (tmp_path / "network.safetensors").read_bytes())

    assert not model.training
    with torch.no_grad():
        assert torch.allclose(model(images()), found(images()), atol=1e-5)


def test_weights_of_another_network_are_refused(supernet: Supernet) -> None:
    weights = save_weights(supernet.extract(PATHS[0]))
    for path in PATHS[1:3]:
        with pytest.raises(IntegrityError, match="another network"):
            load_network(SPACE.network(path), weights)


@pytest.mark.parametrize("weights", [b"", b"no safetensors at all", bytes(100)])
def test_damaged_weights_are_refused(weights: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a complete safetensors file"):
        load_network(SPACE.network(PATHS[0]), weights)


def test_truncated_weights_are_refused(supernet: Supernet) -> None:
    weights = save_weights(supernet.extract(PATHS[0]))
    with pytest.raises(IntegrityError):
        load_network(SPACE.network(PATHS[0]), weights[:-1])


def test_recalibrated_statistics_are_the_plain_average_over_the_batches(supernet: Supernet) -> None:
    network = supernet.extract(PATHS[0])
    stem = network.blocks[0]
    assert isinstance(stem, nn.Sequential)
    batches = list(images(24).split(8))
    recalibrate_bn(network, iter(batches))
    with torch.no_grad():
        outputs = [stem[0](x_NCHW) for x_NCHW in batches]
    mean = torch.stack([out.mean((0, 2, 3)) for out in outputs]).mean(0)
    variance = torch.stack([out.transpose(0, 1).flatten(1).var(1) for out in outputs]).mean(0)
    assert torch.allclose(stem[1].running_mean, mean, atol=1e-6)
    assert torch.allclose(stem[1].running_var, variance, atol=1e-6)
    assert {part.momentum for part in network.modules() if isinstance(part, nn.BatchNorm2d)} == {0.1}


def test_recalibration_does_not_depend_on_earlier_statistics_and_keeps_the_mode(supernet: Supernet) -> None:
    states = []
    for shift in (0.0, 5.0):
        network = supernet.extract(PATHS[1]).train(shift == 0.0)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                part.running_mean += shift
        recalibrate_bn(network, iter(images(24).split(8)))
        assert network.training == (shift == 0.0)
        states.append(save_weights(network))
    assert states[0] == states[1]
