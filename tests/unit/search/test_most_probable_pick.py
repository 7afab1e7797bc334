"""Prune keeps the most probable network that keeps the target on the device, for each target its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.scripted_device import ScriptedDevice
from support.toy_search import DATA, SPACE, latency_model, prune_sections, toy_device

from android_bench.device import RuntimeOptions
from stages.documents import PathEvaluations, PrunedNetworks, SearchResult, TargetProbabilities
from stages.nas import pick
from stages.nas.config import SearchConfig
from stages.nas.search_loop import run_search
from stages.nn.network import save_weights
from stages.nn.supernet import Supernet
from stages.prune import Prune
from stages.space.network_name import network_name
from stages.training.optimisation import Evaluation, evaluate

Path = tuple[int, ...]
Rows = tuple[tuple[float, ...], ...]
LATENCY = latency_model()
PATHS: list[Path] = list(product(*(range(len(layer.blocks)) for layer in SPACE.layers())))
MS = {path: LATENCY.predict_ms(SPACE.network(path)) for path in PATHS}
TARGET_MS, FURTHER_MS, SHARE = 0.0815, 0.0936, 0.9


def some_probabilities(seed: int) -> Rows:
    random = np.random.default_rng(seed)
    rows = [random.normal(size=len(layer.blocks)) for layer in SPACE.layers()]
    return tuple(tuple((row - np.logaddexp.reduce(row)).tolist()) for row in rows)


FIRST, FURTHER = some_probabilities(1), some_probabilities(5)
WORTH = np.random.default_rng(3).normal(size=len(PATHS))
"""What each path was worth when it was evaluated."""


def likelihood(path: Path, rows: Rows) -> float:
    return sum(row[choice] for row, choice in zip(rows, path, strict=True))


def ranked(rows: Rows, target_ms: float, share: float = SHARE) -> list[Path]:
    """The paths that use enough of a target, the most probable one first."""
    within = [path for path in PATHS if share * target_ms <= MS[path] <= target_ms]
    return sorted(within, key=lambda path: likelihood(path, rows), reverse=True)


@dataclass
class Searched:
    """A search that has ended, in a store."""

    estimator: str = "posterior"
    store: MemoryStore = field(default_factory=MemoryStore)
    told: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        kept = PathEvaluations(
            step=tuple(number // 4 for number in range(4 * len(PATHS))),
            choices=tuple(PATHS[number % len(PATHS)] for number in range(4 * len(PATHS))),
            value=tuple(float(WORTH[number % len(PATHS)]) for number in range(4 * len(PATHS))),
            noise=(1.0,) * (4 * len(PATHS)),
        )
        blob = self.store.put_bytes(kept.model_dump_json().encode(), ".json")
        learns_all = self.estimator in ("posterior", "window")
        further = (TargetProbabilities(target_ms=FURTHER_MS, log_probabilities=FURTHER),)
        self.result = SearchResult(
            space=SPACE,
            target_ms=TARGET_MS,
            log_probabilities=FIRST,
            further=further if learns_all else (),
            estimator=self.estimator,
            evaluations=blob if self.estimator == "posterior" else None,
            expected_ms=TARGET_MS,
            supernet=self.store.put_bytes(save_weights(Supernet(SPACE)), ".safetensors"),
            history=(),
            seconds=0.0,
        )

    def pruned(self, device: ScriptedDevice | None = None, **settings: Any) -> PrunedNetworks:
        usual = {"minimum_share": SHARE, "recalibration_batches": 1, "ms": TARGET_MS, "random_networks": 0}
        config, target = prune_sections(usual | settings)
        stage = Prune(
            config=config,
            target=target,
            space=SPACE,
            data=DATA,
            runtime=RuntimeOptions(),
            seed=1,
            device=device or toy_device(),
        )
        context = memory_context("prune", store=self.store, told=self.told, scratch=MemoryScratch())
        return stage.run(context, search=self.result, latency=LATENCY)


def slower_for(factors: Mapping[Path, float]) -> ScriptedDevice:
    """Some networks take longer than predicted."""
    times = dict(toy_device().true_ms)
    for path, factor in factors.items():
        times[network_name(path)] *= factor
    return ScriptedDevice(times, noise=0.0)


@pytest.mark.parametrize("candidates", [1, 3, 10])
def test_the_most_probable_network_that_keeps_the_target_is_kept(candidates: int) -> None:
    outcome = Searched().pruned(candidates=candidates)
    wanted = ranked(FIRST, TARGET_MS)
    assert len(wanted) > 3
    assert outcome.found.choices == wanted[0]
    assert [c.choices for c in outcome.considered[:candidates]] == wanted[:candidates]
    assert [c.log_probability for c in outcome.considered] == pytest.approx(
        [likelihood(c.choices, FIRST) for c in outcome.considered]
    )


@pytest.mark.parametrize("late", [1, 2])
def test_where_the_most_probable_ones_take_too_long_on_the_device_the_next_one_is_kept(late: int) -> None:
    wanted = ranked(FIRST, TARGET_MS)
    device = slower_for(dict.fromkeys(wanted[:late], 1.3))
    outcome = Searched().pruned(device, candidates=4)
    assert outcome.found.choices == wanted[late]
    over = [c.choices for c in outcome.considered if c.measurement.median_ms > TARGET_MS]
    assert over == wanted[:late]


def test_what_steps_in_under_a_lower_limit_is_probable_for_that_limit() -> None:
    """The first target's probabilities say little of it: what was evaluated does."""
    searched, rows = Searched(), some_probabilities(3)
    searched.result = searched.result.model_copy(update={"log_probabilities": rows})
    careful_ms = TARGET_MS / (1 + LATENCY.interval_percent / 100)
    wanted = searched.pruned(pick_ms=careful_ms).found.choices
    assert wanted not in (*ranked(rows, TARGET_MS)[:2], ranked(rows, careful_ms)[0]), "it would show nothing"
    outcome = searched.pruned(slower_for({ranked(rows, TARGET_MS)[0]: 1.3}), candidates=1)
    assert outcome.found.choices == wanted
    assert searched.told.warnings == []


def test_a_further_target_gets_the_most_probable_network_by_its_own_probabilities() -> None:
    wanted = ranked(FURTHER, FURTHER_MS)[0]
    assert wanted != ranked(FIRST, FURTHER_MS)[0], "the test would show nothing"
    outcome = Searched().pruned(further=(FURTHER_MS,))
    (front,) = outcome.front
    assert (front.choices, front.target_ms) == (wanted, FURTHER_MS)
    assert outcome.found.choices == ranked(FIRST, TARGET_MS)[0]
    own = [c for c in outcome.considered if c.target_ms == FURTHER_MS]
    assert own[0].log_probability == pytest.approx(likelihood(own[0].choices, FURTHER))


@pytest.mark.parametrize("estimator", ["two_path", "reinforce"])
def test_without_probabilities_of_its_own_a_further_target_gets_a_network_and_a_warning(
    estimator: str,
) -> None:
    searched = Searched(estimator)
    (front,) = searched.pruned(further=(FURTHER_MS,)).front
    assert front.choices == ranked(FIRST, FURTHER_MS)[0]
    (warning,) = searched.told.warnings
    assert f"the search by {estimator} has no probabilities for {FURTHER_MS:.4g} ms" in warning


def test_a_further_target_in_other_last_digits_is_the_same_one() -> None:
    searched = Searched("window")
    (front,) = searched.pruned(further=(FURTHER_MS * (1 + 1e-12),)).front
    assert front.choices == ranked(FURTHER, FURTHER_MS)[0]
    assert searched.told.warnings == []


def test_a_target_that_was_not_searched_for_is_learned_from_what_the_search_evaluated() -> None:
    searched, pick_ms = Searched(), 0.0912
    within = ranked(FIRST, pick_ms)
    by_worth = sorted(within, key=lambda path: float(WORTH[PATHS.index(path)]), reverse=True)
    assert by_worth[0] != within[0], "the test would show nothing"
    outcome = searched.pruned(pick_ms=pick_ms)
    assert outcome.found.choices in by_worth[:2]
    assert outcome.target_ms == outcome.found.target_ms == pick_ms
    assert searched.told.warnings == []
    assert searched.pruned(pick_ms=pick_ms).found == outcome.found, "the same again"


def test_where_no_evaluations_were_kept_another_pick_is_told_of_and_uses_the_first_targets() -> None:
    searched, pick_ms = Searched("window"), 0.0912
    outcome = searched.pruned(pick_ms=pick_ms)
    assert outcome.found.choices == ranked(FIRST, pick_ms)[0]
    (warning,) = searched.told.warnings
    assert "the search by window has no probabilities for 0.0912 ms" in warning
    assert "0.0815 ms" in warning


def test_picking_for_the_target_that_was_searched_for_is_no_other_pick() -> None:
    searched = Searched("window")
    assert searched.pruned(pick_ms=TARGET_MS).found == searched.pruned().found
    assert searched.pruned(pick_ms=FURTHER_MS).found.choices == ranked(FURTHER, FURTHER_MS)[0]
    assert searched.told.warnings == []


# --- what is evaluated -----------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks each evaluated network has, in order."""
    seen: list[int] = []

    def counting(network: Any, batches: Any) -> Evaluation:
        seen.append(len(network.blocks))
        return evaluate(network, batches)

    monkeypatch.setattr(pick, "evaluate", counting)
    return seen


@pytest.mark.parametrize(("randoms", "further"), [(0, ()), (2, ()), (1, (FURTHER_MS,))])
def test_nothing_but_the_kept_networks_is_evaluated_in_the_supernet(
    monkeypatch: pytest.MonkeyPatch, randoms: int, further: tuple[float, ...]
) -> None:
    seen = counted(monkeypatch)
    outcome = Searched().pruned(candidates=6, random_networks=randoms, further=further)
    assert len(outcome.considered) > 5
    assert len(seen) == 1 + randoms + len(further)
    kept = (outcome.found, *outcome.front, *outcome.randoms)
    assert all(0 <= network.supernet_accuracy_percent <= 100 for network in kept)


# --- from a real search ----------------------------------------------------------------------------


def test_a_search_for_several_targets_leaves_probabilities_that_prune_finds_again() -> None:
    store, told = MemoryStore(), Told()
    config = SearchConfig(
        warmup_epochs=0, epochs=2, batch_size=100, architecture_every=1, architecture_batch_size=50
    )
    result = run_search(
        config,
        SPACE,
        DATA,
        1,
        latency=LATENCY,
        targets_ms=[TARGET_MS, FURTHER_MS],
        minimum_share=SHARE,
        context=memory_context("search", store=store),
    )
    searched = Searched(store=store, told=told)
    searched.result = result
    outcome = searched.pruned(further=(FURTHER_MS,))
    assert result.evaluations is not None
    kept = PathEvaluations.model_validate_json(store.read_bytes(result.evaluations))
    assert set(kept.step) == set(range(10))
    for step, path in zip(kept.step, kept.choices, strict=True):
        limit_ms = FURTHER_MS if step % 2 else TARGET_MS
        assert SHARE * limit_ms * (1 - 1e-6) <= MS[path] <= limit_ms * (1 + 1e-6)
    assert outcome.found.choices == ranked(result.log_probabilities, TARGET_MS)[0]
    (front,) = outcome.front
    assert front.choices == ranked(result.further[0].log_probabilities, FURTHER_MS)[0]
    assert told.warnings == []
