"""One search for several devices: each has its limit, its probabilities and its network."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from support.memory_context import MemoryStore, memory_context
from support.toy_search import DATA, SPACE, latency_model

from nasflow.base.errors import UsageError
from stages.documents import LatencyModel, PathEvaluations, SearchResult
from stages.nas.across_hardware import Hardware, estimated_losses, hardware_networks, search_for
from stages.nas.config import SearchConfig
from stages.nas.targets import TargetConfig
from stages.search import Search, SharedSearch

HERE = latency_model()
TARGET = TargetConfig(ms=0.0945, minimum_share=0.8)
PATHS = list(product(*(range(len(layer.blocks)) for layer in SPACE.layers())))


def other_kind_of_device() -> LatencyModel:
    """5x5 kernels take half of their time there, 3x3 ones twice theirs: the same targets in milliseconds."""
    factors = {
        block.key: 0.5 if block.kernel == 5 else 2.0 for block in SPACE.distinct_blocks() if block.searchable
    }
    block_ms = {key: ms * factors.get(key, 1.0) for key, ms in HERE.block_ms.items()}
    return HERE.model_copy(update={"block_ms": block_ms})


THERE = other_kind_of_device()


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def searched(store: MemoryStore) -> SearchResult:
    """A search that found the more expensive network the better, whatever the device."""
    worth = {path: 0.1 * SPACE.network(path).macs / 1e6 for path in PATHS}
    kept = PathEvaluations(
        step=tuple(number // 4 for number in range(4 * len(PATHS))),
        choices=tuple(PATHS[number % len(PATHS)] for number in range(4 * len(PATHS))),
        value=tuple(worth[PATHS[number % len(PATHS)]] for number in range(4 * len(PATHS))),
        noise=(1.0,) * (4 * len(PATHS)),
    )
    torch.manual_seed(0)
    rows = tuple(tuple(-1.0 for _ in layer.blocks) for layer in SPACE.layers())
    return SearchResult(
        space=SPACE,
        target_ms=0.0945,
        log_probabilities=rows,
        estimator="posterior",
        evaluations=store.put_bytes(kept.model_dump_json().encode(), ".json"),
        expected_ms=0.08,
        supernet=store.put_bytes(b"weights", ".safetensors"),
        history=(),
        seconds=0.0,
    )


def test_another_devices_probabilities_are_learned_though_its_target_is_the_same_in_milliseconds(
    store: MemoryStore, searched: SearchResult
) -> None:
    context = memory_context("search", store=store)
    found = search_for(searched, "here", THERE, TARGET, 0, context)
    assert found.target_ms == searched.target_ms
    assert found.log_probabilities != searched.log_probabilities
    assert found.searched_on == "here"
    assert found.supernet == searched.supernet
    assert found.expected_ms == pytest.approx(0.0945, rel=0.3)
    assert SearchResult.model_validate_json(found.model_dump_json()) == found


def test_each_device_gets_the_network_that_its_own_latencies_allow(
    store: MemoryStore, searched: SearchResult
) -> None:
    context = memory_context("search", store=store)
    searches = {
        name: search_for(searched, "here", model, TARGET, 0, context)
        for name, model in (("here", HERE), ("there", THERE))
    }
    hardware = [Hardware("here", HERE), Hardware("there", THERE)]
    targets, networks = hardware_networks(searches, hardware, TARGET, 0, context)
    assert [target.target_ms for target in targets] == [0.0945, 0.0945]
    here, there = networks
    assert here.choices != there.choices
    assert here.learned is not None
    assert there.learned is not None
    assert there.learned.kernels[5] > here.learned.kernels[5]
    assert THERE.predict_ms(there.net) <= 0.0945
    assert there.shares.kernels[5] > here.shares.kernels.get(5, 0.0)

    picked = {"there": here.choices}
    _, (_, taken) = hardware_networks(searches, hardware, TARGET, 0, context, picked)
    assert taken.choices == here.choices, "what is picked already is kept"


def test_a_network_is_picked_for_the_latency_that_pick_ms_says(
    store: MemoryStore, searched: SearchResult
) -> None:
    """As ``prune`` picks it, whatever was searched for."""
    context = memory_context("search", store=store)
    target = TARGET.model_copy(update={"pick_ms": 0.085})
    searches = {"here": search_for(searched, "here", HERE, target, 0, context)}
    (limit,), (found,) = hardware_networks(searches, [Hardware("here", HERE)], target, 0, context)
    assert limit.target_ms == 0.085
    assert 0.8 * 0.085 <= HERE.predict_ms(found.net) <= 0.085


def test_an_estimated_loss_is_without_the_difficulty_of_the_images_that_it_was_seen_on(
    store: MemoryStore, searched: SearchResult
) -> None:
    """Losses fall during a search, and some images are harder than others: neither is the network's."""
    random = np.random.default_rng(3)
    parts = [random.normal(0, 0.02, len(layer.blocks)) for layer in SPACE.layers()]
    truth = {
        path: 1.0 + sum(float(part[choice]) for part, choice in zip(parts, path, strict=True))
        for path in PATHS
    }
    steps = 60
    fallen_S = np.linspace(0.8, 0.0, steps) + random.normal(0, 0.066, steps)
    step_N = np.repeat(np.arange(steps), 4)
    paths = [PATHS[index] for index in random.integers(len(PATHS), size=len(step_N))]
    loss_N = [truth[path] for path in paths] + fallen_S[step_N] + random.normal(0, 0.025, len(step_N))
    kept = PathEvaluations(
        step=tuple(step_N.tolist()),
        choices=tuple(paths),
        value=tuple((-loss_N).tolist()),
        noise=(1.0,) * len(paths),
    )
    blob = store.put_bytes(kept.model_dump_json().encode(), ".json")
    search = searched.model_copy(update={"evaluations": blob})
    networks = {str(path): path for path in PATHS}
    found = estimated_losses(search, networks, memory_context("search", store=store))
    correlation = np.corrcoef([found[name] for name in networks], [truth[path] for path in networks.values()])
    assert correlation[0, 1] > 0.9


def test_a_search_that_kept_no_evaluations_is_refused(store: MemoryStore, searched: SearchResult) -> None:
    without = searched.model_copy(update={"evaluations": None, "estimator": "reinforce"})
    with pytest.raises(UsageError, match="by reinforce keeps no evaluations"):
        search_for(without, "here", THERE, TARGET, 0, memory_context("search", store=store))


def shared(search: SearchResult) -> SharedSearch:
    return SharedSearch(
        config=SearchConfig(),
        target=TARGET,
        space=SPACE,
        data=DATA,
        seed=0,
        shared=search,
        searched_on="here",
    )


def test_the_stage_takes_the_search_over_and_is_stale_where_that_changes(
    store: MemoryStore, searched: SearchResult
) -> None:
    stage = shared(searched)
    found = stage.run(memory_context("search", store=store), latency=THERE)
    assert found == search_for(searched, "here", THERE, TARGET, 0, memory_context("search", store=store))
    digests = {"latency": "0" * 64}
    again = shared(searched.model_copy(update={"seconds": 1.0}))
    own = Search(config=SearchConfig(), target=TARGET, space=SPACE, data=DATA, seed=0)
    prints = {one.fingerprint(digests) for one in (stage, again, own)}
    assert len(prints) == 3
    assert shared(searched).fingerprint(digests) == stage.fingerprint(digests)
