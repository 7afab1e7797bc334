"""The quick start's ablation: what it takes over, what it trains, and how its table is made."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support.memory_context import MemoryScratch, MemoryStore, memory_context
from support.sample_documents import sample_documents
from support.sample_variants import with_random_networks
from support.scripted_device import ScriptedDevice
from support.toy_search import SPACE, Stopped, latency_model

from benchmarks._ablation import (
    CHANGES,
    NO_LATENCY,
    SMALLEST,
    FinetuneAblation,
    Finished,
    ablation_table,
    fastest_network,
)
from benchmarks.quickstart import configuration, summarise
from nasflow.assemble import build_stages
from nasflow.base.errors import UsageError
from pipeline.artifact import Document
from pipeline.events import Event, Message
from pipeline.stage import Context
from stages.data.config import DataConfig
from stages.documents import PrunedNetwork, PrunedNetworks, TrainedNetworks, Verification
from stages.nas.targets import latency_window
from stages.nn.network import Network, save_weights
from stages.space.equal_latency import equal_latency
from stages.training.recipe import TrainingConfig

LATENCY = latency_model()
IMAGES = 400


# --- the second run --------------------------------------------------------------------------------


def test_the_second_run_takes_over_what_latency_and_baselines_need() -> None:
    def fingerprints(changes: tuple[str, ...]) -> dict[str, str]:
        config = configuration(2, full=True, changes=changes)
        stages = build_stages(config, Path(), ScriptedDevice({}))
        return {stage.name: stage.fingerprint({}, {}) for stage in stages}

    first, second = fingerprints(()), fingerprints(CHANGES)
    assert {name for name in first if first[name] != second[name]} == {"search", "prune"}


def test_in_the_second_run_every_network_may_be_drawn_and_picked() -> None:
    config = configuration(0, full=True, changes=CHANGES)
    assert configuration(0, full=True).prune.random_networks == 5
    assert config.prune.random_networks == config.target.minimum_share == 0
    window = latency_window(SPACE, LATENCY, config.target.searched_ms(LATENCY), config.target.minimum_share)
    paths = list(product(*(range(len(layer.blocks)) for layer in SPACE.layers())))
    assert window.holds(np.array(paths)).all()


# --- its two networks ------------------------------------------------------------------------------


def free_pick(store: MemoryStore, target_ms: float = 1.0) -> PrunedNetworks:
    net = SPACE.network((0, 1, 0, 2))
    found = PrunedNetwork(
        name="found",
        role="found",
        choices=(0, 1, 0, 2),
        net=net,
        target_ms=target_ms,
        predicted_ms=LATENCY.predict_ms(net),
        supernet_accuracy_percent=10.0,
        weights=store.put_bytes(save_weights(Network(net)), ".safetensors"),
    )
    return PrunedNetworks(
        target_ms=target_ms,
        considered=(),
        anchor=LATENCY.reference,
        seconds=0.0,
        found=found,
        randoms=(),
    )


def trained(context: Context, pruned: PrunedNetworks) -> TrainedNetworks:
    return FinetuneAblation(
        config=TrainingConfig(epochs=1, batch_size=50),
        data=DataConfig(train_images=200, architecture_images=100),
        seed=0,
        space=SPACE,
    ).run(context, pruned=pruned, latency=LATENCY)


def test_the_smallest_network_is_the_fastest_of_all() -> None:
    paths = product(*(range(len(layer.blocks)) for layer in SPACE.layers()))
    networks = [SPACE.network(path) for path in paths]
    assert fastest_network(SPACE, LATENCY) == min(networks, key=LATENCY.predict_ms)
    assert LATENCY.predict_ms(fastest_network(SPACE, LATENCY)) == pytest.approx(LATENCY.feasible_ms[0])


def test_both_are_trained_from_fresh_weights_and_a_stopped_training_goes_on() -> None:
    store, scratch = MemoryStore(), MemoryScratch()
    pruned = free_pick(store)
    whole = trained(memory_context("finetune", store=store), pruned)
    assert [(n.name, n.role, n.origin) for n in whole.networks] == [
        (NO_LATENCY, "found", "fresh"),
        (SMALLEST, "front", "fresh"),
    ]
    assert whole.networks[0].net == pruned.found.net

    def emit(event: Event) -> None:
        if isinstance(event, Message) and event.text.startswith(NO_LATENCY):
            raise Stopped

    with pytest.raises(Stopped):
        trained(Context("finetune", "0" * 64, store, scratch, emit), pruned)
    assert set(scratch.entries) == {f"{NO_LATENCY}.checkpoint"}
    resumed = trained(memory_context("finetune", store=store, scratch=scratch), pruned)
    assert [n.weights for n in resumed.networks] == [n.weights for n in whole.networks]


def test_a_pick_that_was_not_free_is_refused() -> None:
    store = MemoryStore()
    limited = free_pick(store, target_ms=0.99 * LATENCY.feasible_ms[1])
    with pytest.raises(UsageError, match="without a limit the pick may take"):
        trained(memory_context("finetune", store=store), limited)


# --- the table -------------------------------------------------------------------------------------


def finished(documents: Mapping[str, Document], accuracies: dict[str, float], seed: int) -> Finished:
    """A run whose networks have these shares of right answers, exactly; 0.5 where nothing is said."""
    random = np.random.default_rng(seed)
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    correct = {}
    for network in verify.networks:
        bits = np.arange(IMAGES) < round(IMAGES * accuracies.get(network.name, 0.5))
        correct[network.name] = random.permutation(bits)
    return Finished(documents, correct)


@pytest.fixture(scope="module")
def three_seeds() -> tuple[list[Finished], list[Finished]]:
    first = with_random_networks(sample_documents(), 2)
    verify = first["verify"]
    assert isinstance(verify, Verification)
    names = {"found": NO_LATENCY, "random": SMALLEST}
    networks = tuple(n.model_copy(update={"name": names.get(n.name, n.name)}) for n in verify.networks)
    second = {**first, "verify": verify.model_copy(update={"networks": networks})}
    runs = [
        finished(first, {"found": 0.9, "random": 0.8 + 0.01 * seed, "random_2": 0.84}, seed)
        for seed in range(3)
    ]
    return runs, [finished(second, {NO_LATENCY: 0.95, SMALLEST: 0.6}, 9 + seed) for seed in range(3)]


def test_the_table_has_a_row_for_each_and_the_mean_of_the_random_ones(
    three_seeds: tuple[list[Finished], list[Finished]],
) -> None:
    table = ablation_table(*three_seeds)
    rows = table["rows"]
    assert list(rows) == ["found", "random_mean", NO_LATENCY, SMALLEST]
    accuracies = {name: row["accuracy_percent"] for name, row in rows.items()}
    assert accuracies == pytest.approx({"found": 90, "random_mean": 82.5, NO_LATENCY: 95, SMALLEST: 60})
    random = rows["random_mean"]
    assert random["accuracy_percent_by_seed"] == pytest.approx([82, 82.5, 83])
    assert np.array(random["accuracy_percent_by_seed_and_network"])[:, 1] == pytest.approx([84, 84, 84])
    assert "found_minus_points" not in rows["found"]
    assert all(ratio > 0 for ratio in random["latency_over_found_by_seed"])
    assert "latency_over_found_by_seed" not in rows[SMALLEST], "measured in another run"
    for name, points in (("random_mean", 7.5), (NO_LATENCY, -5), (SMALLEST, 30)):
        value, low, high = rows[name]["found_minus_points"]
        assert value == pytest.approx(points)
        assert low < value < high
    run = three_seeds[0][0]
    anchor_ms = run.verified(table["latency_over"]).measurement.median_ms
    assert rows["found"]["latency_ratio_by_seed"][0] == pytest.approx(
        run.verified("found").measurement.median_ms / anchor_ms
    )


def test_the_bar_is_the_difference_from_the_mean_and_further_random_networks_are_the_ablations_time(
    three_seeds: tuple[list[Finished], list[Finished]],
) -> None:
    runs, ablations = three_seeds
    outcome = summarise(runs, ablations, full=True)
    points = outcome.figures["found_minus_mean_random_points"]
    assert points[0] == pytest.approx(7.5)
    (bar,) = [bar for bar in outcome.bars if bar.name == "found_minus_mean_random_points"]
    assert (bar.value, bar.limit, bar.holds) == (points[0], 0.0, True)
    one_training = next(n.seconds for n in runs[0].trained("finetune") if n.role == "random")
    together = sum(run.seconds(list(run.documents)) for run in runs)
    assert outcome.figures["seconds"] == pytest.approx(together - 3 * one_training)
    repeated = sum(run.seconds(("search", "prune", "finetune", "verify")) for run in ablations)
    assert outcome.figures["ablation_seconds"] == pytest.approx(repeated + 3 * one_training)
    assert summarise(runs, ablations, full=False).bars == []
    ratios = outcome.figures["random_over_found_latency_by_seed"]
    assert len(ratios) == len(runs) and all(equal_latency(seed["measured"]) for seed in ratios)


def test_random_networks_that_took_another_time_let_nothing_be_concluded(
    three_seeds: tuple[list[Finished], list[Finished]],
) -> None:
    runs, ablations = three_seeds
    verify = runs[1].documents["verify"]
    assert isinstance(verify, Verification) and verify.against_random is not None
    slower = verify.against_random.model_copy(update={"latency_ratio": 1.2})
    documents = {**runs[1].documents, "verify": verify.model_copy(update={"against_random": slower})}
    outcome = summarise([runs[0], Finished(documents, runs[1].correct), runs[2]], ablations, full=True)
    bars = {bar.name: bar for bar in outcome.bars}
    assert "found_minus_mean_random_points" not in bars
    assert not bars["seeds_whose_random_networks_take_as_long"].holds
    assert outcome.figures["random_over_found_latency_by_seed"][1]["measured"] == 1.2
