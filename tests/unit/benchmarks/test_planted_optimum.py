"""The planted instance is what its benchmark says, and its methods keep the target."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.planted_optimum import CANDIDATES, LAYERS, Planted, greedy
from stages.nas.solver import path_ms
from stages.space.equal_latency import TOLERANCE


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted.draw(3)


def test_interactions_make_up_a_fifth_of_the_variance(planted: Planted) -> None:
    paths = np.random.default_rng(0).integers(CANDIDATES, size=(60_000, LAYERS))
    values = planted.values.value(paths)
    main = planted.values.layer_C[paths + np.arange(LAYERS) * CANDIDATES].sum(axis=1)
    assert np.var(values - main) / np.var(values) == pytest.approx(0.2, abs=0.01)
    assert np.std(values) == pytest.approx(planted.deviation, rel=0.02)


def test_no_random_network_under_the_target_is_better_than_the_optimum(planted: Planted) -> None:
    random = np.random.default_rng(1)
    paths = random.integers(CANDIDATES, size=(20_000, LAYERS))
    spent = np.array(planted.costs_ms)[np.arange(LAYERS), paths].sum(axis=1)
    for target_ms in planted.targets_ms()[3:6]:
        best = planted.optimum(target_ms, random)
        assert best > planted.values.value(paths[spent <= target_ms]).max()


def test_the_mean_of_a_latency_is_that_of_uniformly_drawn_networks(planted: Planted) -> None:
    random = np.random.default_rng(2)
    paths = random.integers(CANDIDATES, size=(200_000, LAYERS))
    spent = np.array(planted.costs_ms)[np.arange(LAYERS), paths].sum(axis=1)
    target_ms = float(np.median(spent)) * 0.9
    near = planted.values.value(paths[np.abs(spent / target_ms - 1) <= TOLERANCE])
    mean, ratio = planted.mean_of_latency(target_ms, random)
    assert mean == pytest.approx(near.mean(), abs=0.35)
    assert ratio == pytest.approx(1, abs=0.01)


def test_greedy_keeps_the_target(planted: Planted) -> None:
    for target_ms in planted.targets_ms():
        assert path_ms(planted.costs_ms, greedy(planted.values, planted.costs_ms, target_ms)) <= target_ms
