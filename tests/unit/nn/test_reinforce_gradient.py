"""REINFORCE against the gradient of the expected reward, which autograd takes over every path there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product

import pytest
import torch
from support.gradient_toy import MIXED, MULTIPLIER, SPACES, TARGET_MS, THREE_BY_THREE, Toy, all_paths
from torch import Tensor, nn

from stages.nas.estimators.base import SeenImages
from stages.nas.estimators.reinforce import RewardBaseline, reinforce_gradient


def settled(reward: float) -> RewardBaseline:
    """A baseline that has seen this reward."""
    baseline = RewardBaseline(0.9)
    baseline.update(reward)
    return baseline


def estimate(
    toy: Toy, paths: Sequence[Sequence[int]], baseline: RewardBaseline, *, multiplier: float = MULTIPLIER
) -> SeenImages:
    return reinforce_gradient(
        toy.supernet,
        toy.architecture,
        toy.x_NCHW,
        toy.labels_N,
        paths,
        baseline=baseline,
        multiplier=multiplier,
        target_ms=TARGET_MS,
    )


def gradient(toy: Toy) -> Tensor:
    return torch.cat([alpha.grad for alpha in toy.architecture.alphas if alpha.grad is not None]).clone()


def exact_gradient(toy: Toy) -> Tensor:
    """Of the cost (minus the reward) that a network drawn from the probabilities has on average."""
    alphas = [alpha.detach().clone().requires_grad_() for alpha in toy.architecture.alphas]
    rows = [alpha.softmax(0) for alpha in alphas]
    expected = torch.zeros((), dtype=torch.float64)
    for path in product(*(range(len(row)) for row in rows)):
        with torch.no_grad():
            logits = toy.mixed([(choice, choice) for choice in path], [torch.zeros(2)] * len(path))
            loss = nn.functional.cross_entropy(logits, toy.labels_N)
        ms = sum(row[choice] for row, choice in zip(toy.block_ms, path, strict=True))
        share = torch.stack([p[choice] for p, choice in zip(rows, path, strict=True)]).prod()
        expected = expected + share * (loss + MULTIPLIER / TARGET_MS * ms)
    expected.backward()
    return torch.cat([alpha.grad for alpha in alphas if alpha.grad is not None])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("usual", [0.0, -1.7], ids=["no baseline", "a baseline"])
def test_over_all_paths_it_is_the_gradient_of_the_expected_reward(space: str, usual: float) -> None:
    toy = Toy(SPACES[space])
    paths = list(all_paths(toy.architecture))
    assert len(paths) == SPACES[space].size
    assert sum(share for _, share in paths) == pytest.approx(1.0, abs=1e-12)
    seen = torch.zeros(sum(len(alpha) for alpha in toy.architecture.alphas), dtype=torch.float64)
    for path, share in paths:
        estimate(toy, [path], settled(usual))
        seen += share * gradient(toy)
    assert torch.allclose(seen, exact_gradient(toy), rtol=1e-9, atol=1e-12)
    assert float(seen.abs().max()) > 1e-2


def test_the_first_step_without_a_baseline_is_right_on_average_too() -> None:
    toy = Toy(MIXED)
    seen = torch.zeros(sum(len(alpha) for alpha in toy.architecture.alphas), dtype=torch.float64)
    for (first, p), (second, q) in product(list(all_paths(toy.architecture)), repeat=2):
        estimate(toy, [first, second], RewardBaseline(0.9))
        seen += p * q * gradient(toy)
    assert torch.allclose(seen, exact_gradient(toy), rtol=1e-9, atol=1e-12)


def test_a_single_first_draw_says_nothing_about_accuracy() -> None:
    toy = Toy(THREE_BY_THREE)
    estimate(toy, [[0, 1, 2]], RewardBaseline(0.9), multiplier=0.0)
    assert float(gradient(toy).abs().max()) == 0.0


def test_several_draws_count_as_their_mean() -> None:
    toy, paths = Toy(THREE_BY_THREE), [[0, 1, 2], [2, 2, 2], [1, 0, 0]]
    parts, losses, right = [], [], 0
    for path in paths:
        seen = estimate(toy, [path], settled(-1.0))
        parts.append(gradient(toy))
        losses.append(seen.loss)
        right += seen.correct
    together = estimate(toy, paths, settled(-1.0))
    assert torch.allclose(gradient(toy), torch.stack(parts).mean(0), rtol=1e-9, atol=1e-12)
    assert together.loss == pytest.approx(sum(losses) / 3)
    assert (together.correct, together.images) == (right, 3 * len(toy.labels_N))


def test_a_baseline_lowers_the_variance() -> None:
    toy = Toy(THREE_BY_THREE)
    paths = list(all_paths(toy.architecture))
    reward = -sum(share * estimate(toy, [path], settled(0.0)).loss for path, share in paths)

    def variance(usual: float) -> float:
        rows, shares = [], torch.tensor([share for _, share in paths], dtype=torch.float64)
        for path, _ in paths:
            estimate(toy, [path], settled(usual), multiplier=0.0)
            rows.append(gradient(toy))
        stacked = torch.stack(rows)
        return float(shares @ (stacked - shares @ stacked).square().sum(1))

    assert variance(reward) < 0.5 * variance(0.0)


def test_it_leaves_weights_and_bn_statistics_alone_and_its_baseline_to_the_caller() -> None:
    toy, baseline = Toy(), settled(-1.0)
    before = {name: tensor.clone() for name, tensor in toy.supernet.state_dict().items()}
    estimate(toy, [[0, 2, 1, 0], [0, 0, 2, 1]], baseline)
    after = toy.supernet.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(p.grad is None and p.requires_grad for p in toy.supernet.parameters())
    assert baseline.value == pytest.approx(-1.0)


# --- the baseline ----------------------------------------------------------------------------------


def test_the_baseline_is_the_weighted_mean_of_all_rewards_the_first_in_full() -> None:
    baseline, rewards = RewardBaseline(0.8), [-2.0, -1.0, -4.0, 0.5]
    assert baseline.value is None
    for count in range(1, len(rewards) + 1):
        baseline.update(rewards[count - 1])
        weights = [0.8**age for age in range(count)]
        mean = sum(w * r for w, r in zip(weights, reversed(rewards[:count]), strict=True)) / sum(weights)
        assert baseline.value == pytest.approx(mean)


def test_the_baseline_smooths() -> None:
    """An average that gave the latest reward a weight of 0.99 would follow it and smooth nothing."""
    baseline = RewardBaseline(0.95)
    for _ in range(200):
        baseline.update(-1.0)
    baseline.update(-11.0)
    assert baseline.value == pytest.approx(-1.5, abs=0.01)
    noisy = torch.randn(2000, generator=torch.Generator().manual_seed(0)).tolist()
    course = []
    for reward in noisy:
        baseline.update(reward)
        course.append(baseline.value or 0.0)
    # The standard deviation of such an average of independent numbers is sqrt((1 - d) / (1 + d)) of theirs.
    assert float(torch.tensor(course[200:]).std()) == pytest.approx((0.05 / 1.95) ** 0.5, rel=0.2)


def test_restored_from_json_it_goes_on_identically() -> None:
    for seen in (0, 1, 7):
        first, second = RewardBaseline(0.9), RewardBaseline(0.9)
        for number in range(seen):
            first.update(-0.1 * number)
        second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
        for baseline in (first, second):
            baseline.update(-0.3)
        assert (first.value, first.state()) == (second.value, second.state())
