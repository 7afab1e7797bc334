"""Skips at different places may give one network: it is a candidate once, and others get their turn."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from support.memory_context import MemoryStore, memory_context
from support.toy_search import DATA, latency_model, toy_device

from android_bench.device import RuntimeOptions
from stages.documents import PrunedNetworks, SearchResult
from stages.nas.config import PruneConfig
from stages.nas.solver import best_paths
from stages.nas.targets import TargetConfig
from stages.nn.network import save_weights
from stages.nn.supernet import Supernet
from stages.prune import Prune
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

SPACE = SearchSpace(
    name="skips",
    resolution=32,
    classes=10,
    stem=StemSpec(width=8, stride=2),
    stages=(
        StageSpec(width=8, layers=1, stride=2, fixed=Candidate(kernel=3, expansion=1)),
        StageSpec(width=8, layers=4),
    ),
    head_width=16,
    candidates=(Candidate(kernel=3, expansion=2), Candidate(kernel=5, expansion=2)),
)
"""Four layers that are alike, each k3, k5 or skip."""
LATENCY = latency_model(SPACE)
PATHS = list(product(*(range(len(layer.blocks)) for layer in SPACE.layers())))
# Skips are likely, and about as likely in every layer: the likeliest paths are often the same networks.
LOG_PROBABILITIES = ((0.0,), *((-2.0, -2.1, -0.4 - 0.001 * index) for index in range(4)))

Path = tuple[int, ...]


def blocks(path: Path) -> tuple[str, ...]:
    return tuple(block.key for block in SPACE.network(path).blocks)


def likelihood(path: Path) -> float:
    return sum(row[choice] for row, choice in zip(LOG_PROBABILITIES, path, strict=True))


def likeliest_networks(least_ms: float, most_ms: float) -> list[tuple[str, ...]]:
    """All different networks within the bounds, each ranked by its likeliest path."""
    within = [path for path in PATHS if least_ms <= LATENCY.predict_ms(SPACE.network(path)) <= most_ms]
    return list(dict.fromkeys(blocks(path) for path in sorted(within, key=likelihood, reverse=True)))


def pruned(target_ms: float, *, slower: float = 1.0) -> PrunedNetworks:
    torch.manual_seed(0)
    store = MemoryStore()
    searched = SearchResult(
        space=SPACE,
        target_ms=target_ms,
        log_probabilities=LOG_PROBABILITIES,
        estimator="window",
        expected_ms=target_ms,
        supernet=store.put_bytes(save_weights(Supernet(SPACE)), ".safetensors"),
        history=(),
        seconds=0.0,
    )
    return Prune(
        config=PruneConfig(candidates=5, recalibration_batches=1),
        target=TargetConfig(minimum_share=0.5),
        space=SPACE,
        data=DATA,
        runtime=RuntimeOptions(),
        seed=1,
        device=toy_device(slower, SPACE),
    ).run(memory_context("prune", store=store), search=searched, latency=LATENCY)


def test_the_space_has_networks_that_several_paths_give() -> None:
    assert len(PATHS) == 81
    assert len({blocks(path) for path in PATHS}) == 31


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_likeliest_different_networks_are_measured_and_the_likeliest_is_kept(share: float) -> None:
    fastest, slowest = LATENCY.feasible_ms
    target_ms = fastest + share * (slowest - fastest) + 1e-9
    outcome = pruned(target_ms)
    wanted = likeliest_networks(0.5 * target_ms, target_ms)[:5]
    first, behind = outcome.considered[: len(wanted)], outcome.considered[len(wanted) :]
    assert sorted(blocks(c.choices) for c in first) == sorted(wanted)
    assert len(wanted) == {0.3: 3, 0.6: 5}[share], "there are no more"
    assert blocks(outcome.found.choices) == wanted[0]
    # Behind them those under a target that is lower by the predictions' interval.
    assert all(c.predicted_ms <= target_ms / (1 + LATENCY.interval_percent / 100) for c in behind)


@pytest.mark.parametrize("slower", [1.0, 1.02])
def test_every_considered_network_is_a_different_one(slower: float) -> None:
    target_ms = sum(LATENCY.feasible_ms) / 2
    outcome = pruned(target_ms, slower=slower)
    networks = [blocks(c.choices) for c in outcome.considered]
    assert len(networks) == len(set(networks)) >= 5


@pytest.mark.parametrize("count", [1, 8])
def test_the_exact_solver_goes_on_until_there_are_enough_different_networks(count: int) -> None:
    costs_ms = [[0.1 * (block is not None) for block in layer.blocks] for layer in SPACE.layers()]
    found = best_paths(
        LOG_PROBABILITIES, costs_ms, at_least_ms=0.0, at_most_ms=9.0, count=count, identity=blocks
    )
    wanted = likeliest_networks(0.0, 9.0)[:count]
    assert len(found) == len(wanted) == count
    assert [round(likelihood(path), 6) for path in found] == sorted(
        (round(max(likelihood(p) for p in PATHS if blocks(p) == network), 6) for network in wanted),
        reverse=True,
    )


def test_it_gives_up_where_all_further_paths_are_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.nas.solver.MOST_ALIKE", 3)
    parts, solved = [[0.0, 1.0, 2.0]] * 4, []

    def identity(path: Path) -> int:
        solved.append(path)
        return 0

    assert best_paths(parts, parts, at_least_ms=0, at_most_ms=9, count=2, identity=identity) == [(2, 2, 2, 2)]
    assert len(solved) == 1 + 3
