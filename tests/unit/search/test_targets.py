"""Which targets a space can keep: exactly those for which pruning will find a network."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_context import MemoryScratch, MemoryStore, memory_context
from support.toy_search import DATA, SPACE, latency_model, toy_device

from android_bench.device import RuntimeOptions
from nasflow.base.errors import InfeasibleTargetError
from stages.documents import LatencyModel
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.solver import best_paths, path_ms
from stages.nas.targets import TargetConfig, bounds_ms, check_met, check_pick, path_costs_ms
from stages.prune import Prune
from stages.search import Search
from stages.space.block_spec import BlockSpec

PATHS = list(product(*(range(len(layer.blocks)) for layer in SPACE.layers())))


def times_ms(latency: LatencyModel) -> list[float]:
    return sorted({latency.predict_ms(SPACE.network(path)) for path in PATHS})


LATENCY = latency_model()
TIMES_MS = times_ms(LATENCY)


def invented(seed: int) -> LatencyModel:
    """A device on which every block takes a random time."""
    chance = random.Random(seed)
    known: dict[str, float] = {}

    def cost(block: BlockSpec) -> float:
        return known.setdefault(block.key, chance.uniform(0.003, 0.05))

    return latency_model(cost=cost)


def search(target: TargetConfig) -> Search:
    return Search(config=SearchConfig(), target=target, space=SPACE, data=DATA, seed=1)


def prune(target: TargetConfig) -> Prune:
    return Prune(
        config=PruneConfig(),
        target=target,
        space=SPACE,
        data=DATA,
        runtime=RuntimeOptions(),
        seed=1,
        device=toy_device(),
    )


def test_costs_of_a_path_and_what_all_share_are_the_prediction() -> None:
    rows, fixed_ms = path_costs_ms(SPACE, LATENCY)
    for path in PATHS:
        assert path_ms(rows, path) + fixed_ms == pytest.approx(LATENCY.predict_ms(SPACE.network(path)))


@given(seed=st.integers(0, 50), index=st.floats(0, 1.5), share=st.floats(0, 0.999))
@settings(max_examples=60)
def test_a_target_is_refused_just_where_no_network_uses_enough_of_it(
    seed: int, index: float, share: float
) -> None:
    latency = invented(seed)
    times = times_ms(latency)
    target_ms = times[0] + index * (times[-1] - times[0])
    least_ms, most_ms = bounds_ms(target_ms, share, latency)
    if any(least_ms <= ms <= most_ms for ms in times):
        check_met(SPACE, latency, target_ms, share)
        return
    below, above = next((a, b) for a, b in pairwise(times) if a < target_ms < b)
    with pytest.raises(InfeasibleTargetError) as caught:
        check_met(SPACE, latency, target_ms, share)
    assert f"the next ones take {below:.4g} and {above:.4g} ms" in caught.value.message


def test_a_target_in_a_gap_is_refused_before_anything_is_trained() -> None:
    below_ms, above_ms = max(pairwise(TIMES_MS), key=lambda pair: pair[1] / pair[0])
    target_ms = 0.999 * above_ms
    share = (below_ms / target_ms + 1) / 2
    store, scratch = MemoryStore(), MemoryScratch()
    stage = search(TargetConfig(ms=target_ms, minimum_share=share))
    with pytest.raises(InfeasibleTargetError, match="no network of space toy takes between") as caught:
        stage.run(memory_context("search", store=store, scratch=scratch), latency=LATENCY)
    assert f"the next ones take {below_ms:.4g} and {above_ms:.4g} ms" in caught.value.message
    assert "target.minimum_share" in caught.value.hint
    assert not store.content
    assert not scratch.entries


@pytest.mark.parametrize("changed", [{"minimum_share": 0.5}, {"front": 3}, {"further": (0.07,)}])
def test_what_networks_are_drawn_from_makes_another_search_and_another_pick(
    changed: Mapping[str, Any],
) -> None:
    before, after = TargetConfig(ms=0.08), TargetConfig.model_validate({"ms": 0.08, **changed})
    assert search(before).settings() != search(after).settings()
    assert search(before).fingerprint({"latency": "0"}) != search(after).fingerprint({"latency": "0"})
    assert prune(before).settings() != prune(after).settings()


def test_what_pruning_alone_is_told_makes_no_other_search() -> None:
    before, after = TargetConfig(ms=0.08), TargetConfig(ms=0.08, pick_ms=0.09)
    assert search(before).settings() == search(after).settings()
    assert search(before).fingerprint({"latency": "0"}) == search(after).fingerprint({"latency": "0"})
    assert prune(before).settings() != prune(after).settings()
    assert prune(before).fingerprint({}) != prune(after).fingerprint({})


@pytest.mark.parametrize("changed", [{"ms": 0.081}, {"ratio": 0.4}])
def test_another_target_to_search_for_is_the_searchs_alone(changed: Mapping[str, float]) -> None:
    """Prune has it from what the search leaves."""
    before, after = TargetConfig(), TargetConfig.model_validate(changed)
    assert search(before).settings() != search(after).settings()
    assert prune(before).settings() == prune(after).settings()


def test_the_default_ratio_written_out_is_the_same_search() -> None:
    assert search(TargetConfig()).settings() == search(TargetConfig(ratio=0.5)).settings()


@pytest.mark.parametrize("share", [0.0, 0.9, 0.999999])
@pytest.mark.parametrize("end", [min, max], ids=["fastest", "slowest"])
def test_a_target_of_exactly_one_networks_time_is_met_by_it_however_the_sums_round(
    end: Callable[[Iterable[float]], float], share: float
) -> None:
    for seed in range(80):
        latency = invented(seed)
        rows, fixed_ms = path_costs_ms(SPACE, latency)
        target_ms = latency.feasible_ms[end is max]
        check_met(SPACE, latency, target_ms, share)
        least_ms, most_ms = bounds_ms(target_ms, share, latency)
        values = [[-ms if end is min else ms for ms in row] for row in rows]
        (path,) = best_paths(
            values, rows, at_least_ms=least_ms - fixed_ms, at_most_ms=most_ms - fixed_ms, count=1
        )
        assert latency.predict_ms(SPACE.network(path)) == pytest.approx(target_ms, rel=1e-9)


def test_a_target_of_prunes_may_lie_above_a_gap_by_the_predictions_interval() -> None:
    below, above = max(pairwise(TIMES_MS), key=lambda pair: pair[1] / pair[0])
    wide = LATENCY.model_copy(update={"interval_percent": 1.0})
    target_ms = below * 1.01
    assert target_ms < above
    check_pick(SPACE, wide, target_ms, 0.999)
    with pytest.raises(InfeasibleTargetError, match="no network of space toy takes between"):
        check_pick(SPACE, wide.model_copy(update={"interval_percent": 0.1}), target_ms, 0.999)
