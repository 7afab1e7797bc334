"""The two-path gradient against autograd, draw by draw, over every draw there is."""

from __future__ import annotations

import pytest
import torch
from support.gradient_toy import MULTIPLIER, SPACES, TARGET_MS, THREE_BY_THREE, Toy, all_draws
from torch import nn

from stages.nas.architecture import Architecture
from stages.nas.estimators.two_path import rescale_pairs, two_path_gradient


@pytest.mark.parametrize("space", SPACES)
def test_the_gradient_is_autograds_in_every_draw_and_in_expectation(space: str) -> None:
    toy = Toy(SPACES[space])
    seen = [torch.zeros_like(alpha) for alpha in toy.architecture.alphas]
    expected = [torch.zeros_like(alpha) for alpha in toy.architecture.alphas]
    total = 0.0
    for pairs, probability in all_draws(toy.architecture):
        total += probability
        here, there = toy.gradient(pairs), toy.expected_gradient(pairs)
        for row, other in zip(here, there, strict=True):
            assert torch.allclose(row, other, rtol=1e-9, atol=1e-12)
        for sums, rows in ((seen, here), (expected, there)):
            for accumulated, row in zip(sums, rows, strict=True):
                accumulated.data += probability * row
    assert total == pytest.approx(1.0, abs=1e-12)
    for row, other in zip(seen, expected, strict=True):
        assert torch.allclose(row, other, rtol=1e-6, atol=1e-9)
    for row in seen:
        assert (float(row.abs().max()) > 1e-3) == (len(row) > 1)


def test_the_latency_term_alone_lowers_the_expected_latency() -> None:
    toy = Toy()
    with_multiplier = [torch.zeros_like(alpha) for alpha in toy.architecture.alphas]
    for pairs, probability in all_draws(toy.architecture):
        free, weighted = toy.gradient(pairs, multiplier=0.0), toy.gradient(pairs, multiplier=1.0)
        for sums, without, row in zip(with_multiplier, free, weighted, strict=True):
            sums.data += probability * (row - without)
    before = toy.architecture.expected_ms()
    with torch.no_grad():
        for alpha, row in zip(toy.architecture.alphas, with_multiplier, strict=True):
            alpha -= 0.01 * row
    assert toy.architecture.expected_ms() < before


@pytest.mark.parametrize("pair", [(0, 2), (2, 0), (0, 1)], ids=["other is skip", "active is skip", "no skip"])
def test_gates_have_their_true_gradients(pair: tuple[int, int]) -> None:
    toy = Toy()
    pairs = [(0, 0), pair, (1, 2), (1, 0)]
    gates = [
        torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True) if active != other else None
        for active, other in pairs
    ]
    logits = toy.supernet.forward_pairs(toy.x_NCHW, pairs, gates)
    loss = nn.functional.cross_entropy(logits, toy.labels_N)
    seen = torch.autograd.grad(loss, [gate for gate in gates if gate is not None])

    def loss_at(layer: int, gate: int, change: float) -> float:
        values = [torch.tensor([1.0, 0.0], dtype=torch.float64) for _ in pairs]
        values[layer][gate] += change
        with torch.no_grad():
            return float(nn.functional.cross_entropy(toy.mixed(pairs, values), toy.labels_N))

    for number, layer in enumerate((1, 2, 3)):
        for gate in (0, 1):
            slope = (loss_at(layer, gate, 1e-5) - loss_at(layer, gate, -1e-5)) / 2e-5
            assert float(seen[number][gate]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("skip_is_active", [True, False])
def test_a_sampled_skip_keeps_its_layers_update_and_that_of_all_others(skip_is_active: bool) -> None:
    toy = Toy(THREE_BY_THREE)
    skip, block = 2, 0
    pair = (skip, block) if skip_is_active else (block, skip)
    for layer in range(3):
        pairs = [(0, 1), (0, 1), (0, 1)]
        pairs[layer] = pair
        for row, (active, other) in zip(toy.gradient(pairs, multiplier=0.0), pairs, strict=True):
            assert float(row[active].abs()) > 1e-4
            assert float(row[active]) == pytest.approx(-float(row[other]))
    every_skip = toy.gradient([pair] * 3, multiplier=0.0)
    assert all(float(row[skip].abs()) > 1e-4 for row in every_skip)


def test_the_value_is_the_active_paths() -> None:
    toy = Toy()
    pairs = [(0, 0), (2, 0), (1, 2), (1, 0)]
    gates = [None if a == b else torch.tensor([1.0, 0.0], dtype=torch.float64) for a, b in pairs]
    with torch.no_grad():
        paired = toy.supernet.forward_pairs(toy.x_NCHW, pairs, gates)
        single = toy.supernet(toy.x_NCHW, [active for active, _ in pairs])
    assert torch.equal(paired, single)


def test_an_architecture_step_leaves_weights_and_bn_statistics_alone() -> None:
    toy = Toy()
    before = {name: tensor.clone() for name, tensor in toy.supernet.state_dict().items()}
    step = two_path_gradient(
        toy.supernet,
        toy.architecture,
        toy.x_NCHW,
        toy.labels_N,
        [(0, 0), (0, 2), (1, 2), (1, 0)],
        multiplier=MULTIPLIER,
        target_ms=TARGET_MS,
    )
    assert step.images == 6
    assert 0 <= step.correct <= 6
    after = toy.supernet.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(p.grad is None and p.requires_grad for p in toy.supernet.parameters())
    toy.supernet(toy.x_NCHW, [0, 0, 0, 0])
    assert not torch.equal(before["stem.1.running_mean"], toy.supernet.state_dict()["stem.1.running_mean"])


def test_a_failed_architecture_step_leaves_the_supernet_able_to_learn() -> None:
    toy = Toy()
    with pytest.raises(RuntimeError), toy.supernet.architecture_step():
        raise RuntimeError
    assert all(p.requires_grad for p in toy.supernet.parameters())
    assert all(m.track_running_stats for m in toy.supernet.modules() if isinstance(m, nn.BatchNorm2d))


def test_paths_that_were_not_sampled_keep_their_probabilities() -> None:
    toy = Toy()
    architecture = Architecture(toy.block_ms, 0.1)
    for alpha, start in zip(architecture.alphas, toy.architecture.alphas, strict=True):
        alpha.data.copy_(start.data)
    optimizer = torch.optim.Adam(architecture.parameters(), lr=0.1, betas=(0.0, 0.999))
    toy.architecture = architecture
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        pairs = architecture.sample_pairs(generator)
        before = [alpha.detach().clone() for alpha in architecture.alphas]
        earlier = architecture.probabilities()
        toy.gradient(pairs)
        optimizer.step()
        rescale_pairs(architecture, before, pairs)
        for old, new, pair in zip(earlier, architecture.probabilities(), pairs, strict=True):
            others = [i for i in range(len(old)) if i not in pair]
            assert torch.allclose(old[others], new[others], rtol=0, atol=1e-6)
            if pair[0] != pair[1]:
                assert not torch.equal(old[list(pair)], new[list(pair)])
