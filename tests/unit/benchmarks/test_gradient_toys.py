"""The toys on which gradient estimators are judged: the exact gradient is exact, the draws are complete."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gradient_bias import BIAS_LIMIT, compare, deeper, make_toy, moments


def test_an_estimator_without_bias_is_told_from_one_with() -> None:
    seen = compare(make_toy(0, deeper(2), trained=False), draws=4)
    assert seen["reinforce_bias"] < BIAS_LIMIT
    assert seen["two_path_bias"] > 0.01
    assert seen["reinforce_noise_without_baseline"] > seen["reinforce_noise"] > 0


def test_draws_are_complete_and_the_exact_gradient_is_that_of_the_expected_cost() -> None:
    toy = make_toy(1, trained=True)
    paths, pairs = toy.paths(), toy.pairs()
    assert (len(paths), len(pairs)) == (27, 216)
    for draws in (paths, pairs):
        assert sum(share for _, share in draws) == pytest.approx(1.0, abs=1e-12)
    costs = torch.rand(27, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    exact, index = toy.exact(costs), 0
    for alpha in toy.architecture.alphas:
        for candidate in range(len(alpha)):
            sides = []
            for change in (1e-5, -1e-5):
                with torch.no_grad():
                    alpha[candidate] += change
                    shares = [share for _, share in toy.paths()]
                    alpha[candidate] -= change
                sides.append(sum(share * cost for share, cost in zip(shares, costs, strict=True)))
            assert float(exact[index]) == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-8)
            index += 1


def test_moments_are_those_of_the_distribution() -> None:
    seen = moments([torch.tensor([1.0, 0.0]).double(), torch.tensor([4.0, 0.0]).double()], [2 / 3, 1 / 3])
    assert seen.mean.tolist() == pytest.approx([2.0, 0.0])
    assert seen.variance == pytest.approx(2.0)
