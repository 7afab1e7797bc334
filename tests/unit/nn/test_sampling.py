"""How paths and pairs of paths are drawn."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from scipy.stats import chisquare

from stages.nas.architecture import Architecture

DRAWS = 4000
ALPHAS = torch.tensor([0.3, -0.9, 1.1, 0.0])


def uneven() -> Architecture:
    """Four candidates of unequal probability, a fixed layer, and a layer nearly decided."""
    architecture = Architecture([[0.0] * 4, [0.0], [0.0, 0.0]], 0.0)
    architecture.alphas[0].data.copy_(ALPHAS)
    architecture.alphas[2].data.copy_(torch.tensor([20.0, -20.0]))
    return architecture


def test_paths_are_drawn_by_their_probabilities() -> None:
    architecture, generator = uneven(), torch.Generator().manual_seed(1)
    paths = [architecture.sample_path(generator) for _ in range(DRAWS)]
    seen = Counter(path[0] for path in paths)
    expected = [float(p) * DRAWS for p in architecture.probabilities()[0]]
    assert chisquare([seen[i] for i in range(4)], expected).pvalue > 0.001
    assert {path[1] for path in paths} == {path[2] for path in paths} == {0}


def test_pairs_are_two_different_candidates_the_active_one_by_its_share_of_the_two() -> None:
    architecture, generator = uneven(), torch.Generator().manual_seed(2)
    pairs = [architecture.sample_pairs(generator) for _ in range(DRAWS)]
    seen = Counter(pair[0] for pair in pairs)
    p = architecture.probabilities()[0].tolist()
    orders = list(permutations(range(4), 2))
    expected = []
    for a, b in orders:
        together = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        expected.append(together * p[a] / (p[a] + p[b]) * DRAWS)
    assert math.isclose(sum(expected), DRAWS)
    assert chisquare([seen[order] for order in orders], expected).pvalue > 0.001
    assert {pair[1] for pair in pairs} == {(0, 0)}
    assert {pair[2] for pair in pairs} == {(0, 1)}


def test_a_wrong_distribution_would_be_noticed() -> None:
    architecture, generator = uneven(), torch.Generator().manual_seed(2)
    seen = Counter(architecture.sample_pairs(generator)[0][0] for _ in range(DRAWS))
    as_if_alone = [float(p) * DRAWS for p in architecture.probabilities()[0]]
    assert chisquare([seen[i] for i in range(4)], as_if_alone).pvalue < 1e-6


def test_draws_repeat_with_the_generators_seed() -> None:
    architecture = uneven()
    drawn = [
        [architecture.sample_pairs(torch.Generator().manual_seed(seed)) for _ in range(2)]
        for seed in range(9)
    ]
    assert all(first == second for first, second in drawn)
    assert len({tuple(first) for first, _ in drawn}) > 1


def test_expectation_and_entropy_are_those_of_the_probabilities() -> None:
    architecture = Architecture([[1.0, 2.0, 0.0], [5.0]], 10.0)
    assert architecture.expected_ms() == pytest.approx(10 + 1 + 5)
    assert architecture.entropy() == pytest.approx(1.0)
    architecture.alphas[0].data.copy_(torch.tensor([math.log(8), math.log(1), math.log(1)]))
    assert architecture.expected_ms() == pytest.approx(10 + 0.8 * 1 + 0.1 * 2 + 5)
    p = (0.8, 0.1, 0.1)
    assert architecture.entropy() == pytest.approx(-sum(q * math.log(q) for q in p) / math.log(3))
    assert Architecture([[1.0], [2.0]], 0.0).entropy() == 0.0
