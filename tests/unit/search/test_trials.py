"""The last choice by a short training: what is trained, by which recipe, and what a killed run keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.toy_search import DATA, SPACE, Stopped, latency_model, toy_device

from android_bench.device import RuntimeOptions
from nasflow.assemble import build_pipeline
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config
from pipeline.events import Message
from stages.documents import PrunedNetworks, SearchResult
from stages.nas import trials
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.targets import TargetConfig
from stages.nas.trials import TRIALS, Trials
from stages.prune import Prune
from stages.search import Search
from stages.space.search_space import NetConfig
from stages.training import together
from stages.training.makers import made_here
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime
from stages.training.task import Task

LATENCY = latency_model()
RECIPE = Recipe(batch_size=25, warmup_epochs=0.0, learning_rate=0.05)
SHORT = RECIPE.model_copy(update={"epochs": 1})


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def searched(store: MemoryStore) -> SearchResult:
    config = SearchConfig(
        warmup_epochs=1, epochs=1, batch_size=50, architecture_every=2, architecture_batch_size=50
    )
    search = Search(config=config, target=TargetConfig(ms=0.08), space=SPACE, data=DATA, seed=1)
    return search.run(memory_context("search", store=store), latency=LATENCY)


def prune(recipe: Recipe = RECIPE, slower: float = 1.0, **config: Any) -> Prune:
    return Prune(
        config=PruneConfig.model_validate({"candidates": 3, **config}),
        target=TargetConfig(),
        space=SPACE,
        data=DATA,
        runtime=RuntimeOptions(),
        seed=1,
        device=toy_device(slower),
        recipe=recipe,
    )


def pruned(
    searched: SearchResult,
    store: MemoryStore,
    scratch: MemoryScratch | None = None,
    told: Told | None = None,
    **config: Any,
) -> PrunedNetworks:
    context = memory_context("prune", store=store, scratch=scratch, told=told)
    return prune(**config).run(context, search=searched, latency=LATENCY)


def tried(
    networks: dict[tuple[int, ...], NetConfig], recipe: Recipe = SHORT, scratch: MemoryScratch | None = None
) -> Trials:
    trials = Trials(recipe, DATA, 0, memory_context("prune", scratch=scratch), SPACE)
    trials.evaluate(networks)
    return trials


def of_found(outcome: PrunedNetworks) -> float | None:
    return next(c.trial_loss for c in outcome.considered if c.choices == outcome.found.choices)


def test_the_network_of_the_least_loss_after_its_trial_is_taken(
    searched: SearchResult, store: MemoryStore
) -> None:
    told = Told()
    outcome = pruned(searched, store, told=told, trial_epochs=1)
    losses = [c.trial_loss for c in outcome.considered if c.trial_loss is not None]
    assert len(losses) == 3 and len(set(losses)) == 3
    assert of_found(outcome) == min(losses)
    said = [event.text for event in told.events if isinstance(event, Message)]
    assert any("trained 3 of them from fresh weights (prune.trial_epochs: 1)" in text for text in said)


def test_without_trials_nothing_is_trained(
    searched: SearchResult, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "train_together", None)
    outcome = pruned(searched, store)
    assert all(c.trial_loss is None and c.trial_accuracy_percent is None for c in outcome.considered)


def test_networks_above_the_target_are_not_tried(searched: SearchResult, store: MemoryStore) -> None:
    outcome = pruned(searched, store, trial_epochs=1, slower=1.02)
    late = [c for c in outcome.considered if c.measurement.median_ms > outcome.target_ms]
    assert late, "no candidate was late: the test shows nothing"
    tried = [c for c in outcome.considered if c.trial_loss is not None]
    assert 1 <= len(tried) <= 3
    assert not [c for c in tried if c in late]


def test_a_killed_run_trains_no_network_twice(
    searched: SearchResult, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pruned(searched, store, trial_epochs=1)
    real, trained = together.perform, []

    def counted(task: Task, *others: object) -> object:
        if len(trained) == 2:
            raise Stopped
        trained.append(task.name)
        return real(task, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(together, "perform", counted)
    scratch = MemoryScratch()
    with pytest.raises(Stopped):
        pruned(searched, store, scratch=scratch, trial_epochs=1)
    assert len(scratch.rows(TRIALS)) == 2
    first = list(trained)
    trained.clear()
    again = pruned(searched, store, scratch=scratch, trial_epochs=1)
    assert len(trained) == 1 and trained[0] not in first
    assert again.considered == whole.considered and again.found == whole.found


def test_a_trial_longer_than_another_learns_more() -> None:
    net = SPACE.network([0] * len(SPACE.layers()))
    recipes = [RECIPE.model_copy(update={"epochs": epochs}) for epochs in (1, 8)]
    short, long = (tried({(0,): net}, recipe) for recipe in recipes)
    assert long.evaluation([0]).loss < short.evaluation([0]).loss - 0.1


def test_equal_networks_have_equal_trials_whatever_was_tried_before() -> None:
    one, other = (0, 0, 0, 0), (0, 1, 1, 1)
    alone = tried({one: SPACE.network(one)})
    both = tried({other: SPACE.network(other)})
    both.evaluate({one: SPACE.network(one)})
    assert both.evaluation(one) == alone.evaluation(one)


def test_the_recipe_counts_only_where_there_are_trials_and_its_epochs_never() -> None:
    other = RECIPE.model_copy(update={"learning_rate": 0.2})
    longer = RECIPE.model_copy(update={"epochs": 20})
    assert prune(other).fingerprint({}) == prune().fingerprint({})
    assert prune(other, trial_epochs=1).fingerprint({}) != prune(trial_epochs=1).fingerprint({})
    assert prune(longer, trial_epochs=1).fingerprint({}) == prune(trial_epochs=1).fingerprint({})
    assert prune(trial_epochs=2).fingerprint({}) != prune(trial_epochs=1).fingerprint({})


def test_trials_follow_the_recipe_of_finetune(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("training: {learning_rate: 0.3, start: fresh}\nprune: {trial_epochs: 2}\n")
    config = load_config(PipelineConfig, path, [])
    pipeline = build_pipeline(config, tmp_path, Told())
    stage = next(stage for stage in pipeline.stages if isinstance(stage, Prune))
    assert stage.settings()["recipe"]["learning_rate"] == 0.3
    assert {"epochs", "start"}.isdisjoint(stage.settings()["recipe"])


def test_trials_are_part_of_the_estimate() -> None:
    assert prune(trial_epochs=2).estimate_seconds() > prune().estimate_seconds()


def test_what_trained_is_kept_with_the_trials_and_by_a_run_that_goes_on() -> None:
    path, scratch = (0, 0, 0, 0), MemoryScratch()
    assert tried({}, scratch=scratch).made_by == ()
    first = tried({path: SPACE.network(path)}, scratch=scratch)
    assert first.made_by == (made_here(start_runtime(0).device),)
    again = tried({path: SPACE.network(path)}, scratch=scratch)
    assert again.made_by == first.made_by, "that network is not tried again"
