"""What a network, or learned probabilities, are made of."""

from __future__ import annotations

import math

import pytest
from support.toy_search import SPACE

from stages.space.preferences import Shares, shares_of_network, shares_of_probabilities

# One fixed layer (k3 e1); then k3 e2, k5 e3 or skip; k3 e2 or k5 e3; k3 e2, k5 e3 or skip.
LAYERS = len(SPACE.layers())


def test_a_networks_shares_are_of_the_blocks_that_fill_layers() -> None:
    shares = shares_of_network(SPACE.network((0, 2, 1, 0)), LAYERS)
    assert shares.kernels == pytest.approx({3: 2 / 3, 5: 1 / 3})
    assert shares.expansions == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    assert (shares.depth, shares.layers, shares.fused) == (3, 4, 0)


def test_sure_probabilities_are_their_networks_shares() -> None:
    sure = [
        [0.0 if index == choice else -math.inf for index in range(len(layer.blocks))]
        for layer, choice in zip(SPACE.layers(), (0, 2, 1, 0), strict=True)
    ]
    by_probabilities = shares_of_probabilities(SPACE, sure)
    of_network = shares_of_network(SPACE.network((0, 2, 1, 0)), LAYERS)
    assert {k: v for k, v in by_probabilities.kernels.items() if v} == pytest.approx(of_network.kernels)
    assert by_probabilities.depth == pytest.approx(of_network.depth)


def test_by_probabilities_every_candidate_counts_as_much_as_it_is_probable() -> None:
    rows = [
        [0.0],
        *([[math.log(0.5), math.log(0.25), math.log(0.25)]]),
        [math.log(0.5)] * 2,
        [math.log(0.5), math.log(0.25), math.log(0.25)],
    ]
    shares = shares_of_probabilities(SPACE, rows)
    assert shares.depth == pytest.approx(1 + 0.75 + 1 + 0.75)
    assert shares.kernels[5] == pytest.approx(1.0 / 3.5)
    assert Shares.model_validate_json(shares.model_dump_json()) == shares
