"""The two-path gradient against autograd, draw by draw, over every draw there is.

Independent of the code under test: probabilities of draws from the definition of sampling, gates as
``onehot + q - stop_gradient(q)``, so that autograd itself applies the softmax's derivative, and a forward
pass that mixes both paths explicitly. All in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product

import pytest
import torch
from torch import Tensor, nn

from stages.nn.architecture import Architecture, rescale_pairs, two_path_gradient
from stages.nn.mixed_op import MixedOp
from stages.nn.supernet import Supernet
from stages.search_space import Candidate, SearchSpace, StageSpec, StemSpec

Pairs = list[tuple[int, int]]

SPACE = SearchSpace(
    name="three_by_three",
    resolution=8,
    classes=4,
    stem=StemSpec(width=4, stride=2),
    stages=(
        StageSpec(width=4, layers=1, fixed=Candidate(kernel=3, expansion=1)),
        StageSpec(width=4, layers=2),
        StageSpec(width=8, layers=1, stride=2),
    ),
    head_width=8,
    candidates=(Candidate(kernel=3, expansion=1), Candidate(kernel=5, expansion=1)),
)
"""A fixed layer, two layers that may be skipped (three candidates each), one with two candidates."""
PRICE, TARGET_MS = 0.7, 0.4
BLOCK_MS = [[0.05], [0.1, 0.3, 0.0], [0.2, 0.25, 0.0], [0.05, 0.4]]


class Toy:
    """A supernet with random weights in float64, unequal probabilities, a batch of random images."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.supernet = Supernet(SPACE).double()
        for part in self.supernet.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.data.uniform_(0.5, 1.5)
                part.bias.data.normal_()
            elif isinstance(part, nn.Linear):
                part.weight.data.normal_()
        self.architecture = Architecture(BLOCK_MS, 0.1).double()
        for alpha in self.architecture.alphas:
            alpha.data.normal_()
        self.x_NCHW = torch.randn(6, 3, 8, 8, dtype=torch.float64)
        self.labels_N = torch.randint(4, (6,))

    def gradient(self, pairs: Pairs, *, price: float = PRICE) -> list[Tensor]:
        """What the code under test says."""
        two_path_gradient(
            self.supernet,
            self.architecture,
            self.x_NCHW,
            self.labels_N,
            pairs,
            price=price,
            target_ms=TARGET_MS,
        )
        gradients = [alpha.grad for alpha in self.architecture.alphas]
        return [gradient.clone() for gradient in gradients if gradient is not None]

    def expected_gradient(self, pairs: Pairs) -> list[Tensor]:
        """The same by autograd through explicit gates."""
        alphas = [alpha.detach().clone().requires_grad_() for alpha in self.architecture.alphas]
        gates = [mixing_gates(alpha, pair) for alpha, pair in zip(alphas, pairs, strict=True)]
        loss = nn.functional.cross_entropy(self.mixed(pairs, gates), self.labels_N)
        latency = torch.zeros((), dtype=torch.float64)
        for alpha, (active, other), row in zip(alphas, pairs, BLOCK_MS, strict=True):
            if active != other:
                which = [active, other]
                mass = alpha.detach().softmax(0)[which].sum()
                latency = latency + mass * (alpha[which].softmax(0) * alpha.new_tensor(row)[which]).sum()
        (loss + PRICE / TARGET_MS * latency).backward()
        return [torch.zeros_like(a) if a.grad is None else a.grad for a in alphas]

    def mixed(self, pairs: Pairs, gates: Sequence[Tensor]) -> Tensor:
        """Logits where every layer is the gate-weighted sum of its pair."""
        x_NCHW = self.supernet.stem(self.x_NCHW)
        for layer, (active, other), gate in zip(self.supernet.layers, pairs, gates, strict=True):
            assert isinstance(layer, MixedOp)
            if active == other:
                x_NCHW = layer(x_NCHW, active)
            else:
                x_NCHW = gate[0] * layer(x_NCHW, active) + gate[1] * layer(x_NCHW, other)
        logits: Tensor = self.supernet.classifier(self.supernet.head(x_NCHW))
        return logits


def mixing_gates(alpha: Tensor, pair: tuple[int, int]) -> Tensor:
    """(1, 0) in value, the pair's rescaled softmax in derivative."""
    q = alpha[list(pair)].softmax(0)
    return torch.tensor([1.0, 0.0], dtype=alpha.dtype) + q - q.detach()


def layer_draws(p: Tensor) -> Iterator[tuple[tuple[int, int], float]]:
    """Every (active, other) of one layer and how likely it is drawn."""
    if len(p) == 1:
        yield (0, 0), 1.0
    for a, b in permutations(range(len(p)), 2):
        together = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        yield (a, b), float(together * p[a] / (p[a] + p[b]))


def all_draws(architecture: Architecture) -> Iterator[tuple[Pairs, float]]:
    rows = [list(layer_draws(p)) for p in architecture.probabilities()]
    for draw in product(*rows):
        probability = 1.0
        for _, share in draw:
            probability *= share
        yield [pair for pair, _ in draw], probability


def test_the_gradient_is_autograds_in_every_draw_and_in_expectation() -> None:
    toy = Toy()
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
    assert all(float(row.abs().max()) > 1e-3 for row in seen[1:])
    assert float(seen[0].abs().max()) == 0.0


def test_the_latency_term_alone_lowers_the_expected_latency() -> None:
    toy = Toy()
    with_price = [torch.zeros_like(alpha) for alpha in toy.architecture.alphas]
    for pairs, probability in all_draws(toy.architecture):
        free, priced = toy.gradient(pairs, price=0.0), toy.gradient(pairs, price=1.0)
        for sums, without, row in zip(with_price, free, priced, strict=True):
            sums.data += probability * (row - without)
    before = toy.architecture.expected_ms()
    with torch.no_grad():
        for alpha, row in zip(toy.architecture.alphas, with_price, strict=True):
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
        price=PRICE,
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
    architecture = Architecture(BLOCK_MS, 0.1)
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
            assert torch.allclose(old[others], new[others], atol=1e-6)
            if pair[0] != pair[1]:
                assert not torch.equal(old[list(pair)], new[list(pair)])
