"""Fine-tune and baseline as stages, and the one thing that no stage before verify may do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.toy_search import SPACE, Stopped, latency_model, toy_device

from android_bench.device import RuntimeOptions
from nasflow.base.errors import IntegrityError, UsageError
from pipeline.artifact import document_bytes
from pipeline.events import Event, Message, Progress
from pipeline.stage import Context
from stages.baseline import Baseline, BaselineConfig
from stages.data import fashion_mnist as data
from stages.data.config import DataConfig, open_dataset
from stages.documents import PrunedNetwork, PrunedNetworks, Role, TrainedNetworks
from stages.finetune import Finetune
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.targets import TargetConfig
from stages.nn.network import Network, load_network, save_weights
from stages.prune import Prune
from stages.search import Search
from stages.space import SpaceConfig, load_space
from stages.training.recipe import TrainingConfig

DATA = DataConfig(train_images=200, architecture_images=100)
RECIPE = TrainingConfig(epochs=2, batch_size=50)
OPENED: list[str] = []
WATCHING: list[bool] = []


def note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: it hears of every file that the process opens, and cannot be taken out again."""
    if WATCHING and event == "open" and isinstance(arguments[0], str | Path):
        OPENED.append(str(arguments[0]))


sys.addaudithook(note_opened)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Names of the files that are opened from here on; nothing of the images is in memory yet."""
    data._read_files.cache_clear()
    OPENED.clear()
    WATCHING.append(True)
    yield OPENED
    WATCHING.clear()
    data._read_files.cache_clear()


def pruned_networks(store: MemoryStore) -> PrunedNetworks:
    """Two networks of the toy space as prune would leave them."""

    def one(name: str, role: Role, choices: tuple[int, ...]) -> PrunedNetwork:
        net = SPACE.network(choices)
        weights = store.put_bytes(save_weights(Network(net)), ".safetensors")
        return PrunedNetwork(
            name=name,
            role=role,
            choices=choices,
            net=net,
            target_ms=0.1,
            predicted_ms=latency_model().predict_ms(net),
            supernet_accuracy_percent=10.0,
            weights=weights,
        )

    return PrunedNetworks(
        target_ms=0.1,
        considered=(),
        anchor=latency_model().reference,
        seconds=0.0,
        found=one("found", "found", (0, 1, 0, 2)),
        randoms=(one("random", "random", (0, 2, 1, 0)),),
    )


def finetuned(
    pruned: PrunedNetworks, context: Context, recipe: TrainingConfig = RECIPE, seed: int = 0
) -> TrainedNetworks:
    return Finetune(config=recipe, space=SPACE, data=DATA, seed=seed).run(context, pruned=pruned)


def without_seconds(outcome: TrainedNetworks) -> bytes:
    networks = tuple(
        network.model_copy(
            update={
                "seconds": 0.0,
                "compute_cost": None,
                "curve": tuple(point.model_copy(update={"seconds": 0.0}) for point in network.curve),
            }
        )
        for network in outcome.networks
    )
    return document_bytes(outcome.model_copy(update={"networks": networks}))


def test_no_stage_before_verify_reads_the_test_images(opened: list[str]) -> None:
    store, latency = MemoryStore(), latency_model()
    config = SearchConfig(
        warmup_epochs=1, epochs=1, batch_size=50, architecture_every=2, architecture_batch_size=50
    )
    target = TargetConfig(ms=0.085, minimum_share=0.5)
    short = RECIPE.model_copy(update={"epochs": 1})
    searched = Search(config=config, target=target, space=SPACE, data=DATA, seed=0).run(
        memory_context("search", store=store), latency=latency
    )
    pruned = Prune(
        config=PruneConfig(candidates=2),
        target=target,
        space=SPACE,
        data=DATA,
        runtime=RuntimeOptions(),
        seed=0,
        device=toy_device(),
    ).run(memory_context("prune", store=store), search=searched, latency=latency)
    finetuned(pruned, memory_context("finetune", store=store), short)
    baseline = BaselineConfig(widths=(0.1,), published_widths=())
    Baseline(config=baseline, recipe=short, space=SPACE, data=DATA, seed=0).run(
        memory_context("baseline", store=store)
    )
    read = {Path(name).name for name in opened if "ubyte" in name}
    assert read == {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"}
    open_dataset(DATA).load("test")
    assert any("t10k" in name for name in opened), "the test would not have noticed"


def test_both_networks_are_trained_by_one_recipe_from_their_inherited_weights() -> None:
    store = MemoryStore()
    outcome = finetuned(pruned_networks(store), memory_context("finetune", store=store))
    assert [(n.name, n.role, n.origin) for n in outcome.networks] == [
        ("found", "found", "inherited"),
        ("random", "random", "inherited"),
    ]
    for network in outcome.networks:
        assert network.images_seen == 2 * 200
        assert [point.epoch for point in network.curve] == [0, 1]
        best = max(network.curve, key=lambda point: point.validation_accuracy_percent)
        assert network.validation_accuracy_percent == best.validation_accuracy_percent
        load_network(network.net, store.read_bytes(network.weights))


def test_every_random_network_is_trained_as_the_found_one_is() -> None:
    store = MemoryStore()
    pruned = pruned_networks(store)
    (random,) = pruned.randoms
    more = pruned.model_copy(
        update={"randoms": (random, random.model_copy(update={"name": "random_2"})), "front": ()}
    )
    short = RECIPE.model_copy(update={"epochs": 1})
    outcome = finetuned(more, memory_context("finetune", store=store), short)
    assert [n.name for n in outcome.networks] == ["found", "random", "random_2"]
    assert outcome.networks[1].weights == outcome.networks[2].weights, "equal networks, equal training"
    alone = finetuned(
        pruned.model_copy(update={"randoms": ()}), memory_context("finetune", store=store), short
    )
    assert [n.weights for n in alone.networks] == [outcome.networks[0].weights]


def test_where_training_starts_decides_its_outcome() -> None:
    store = MemoryStore()
    pruned = pruned_networks(store)
    frozen = RECIPE.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    inherited, fresh = (
        finetuned(
            pruned,
            memory_context("finetune", store=store),
            frozen.model_copy(update={"start": start}),
        )
        for start in ("inherited", "fresh")
    )
    assert [n.origin for n in fresh.networks] == ["fresh", "fresh"]
    for start, old, new in zip(
        (pruned.found, *pruned.randoms), inherited.networks, fresh.networks, strict=True
    ):
        given, kept, replaced = (load(store.read_bytes(n.weights)) for n in (start, old, new))
        name = "blocks.0.0.weight"
        assert (given[name] - kept[name]).abs().max() < 1e-6
        assert (given[name] - replaced[name]).abs().max() > 1e-2


def test_networks_of_one_architecture_start_equally_and_see_the_same_images() -> None:
    store = MemoryStore()
    pruned = pruned_networks(store)
    twins = pruned.model_copy(
        update={"randoms": (pruned.found.model_copy(update={"name": "random", "role": "random"}),)}
    )
    outcome = finetuned(
        twins, memory_context("finetune", store=store), RECIPE.model_copy(update={"start": "fresh"})
    )
    found, random = outcome.networks
    assert found.weights == random.weights
    other = finetuned(
        twins, memory_context("finetune", store=store), RECIPE.model_copy(update={"start": "fresh"}), seed=1
    )
    assert other.networks[0].weights != found.weights


def test_stopped_between_two_networks_it_goes_on_with_the_second() -> None:
    store, scratch = MemoryStore(), MemoryScratch()
    pruned = pruned_networks(store)
    whole = finetuned(pruned, memory_context("finetune", store=store))

    def emit(event: Event) -> None:
        if isinstance(event, Message) and event.text.startswith("found:"):
            raise Stopped

    with pytest.raises(Stopped):
        finetuned(pruned, Context("finetune", "0" * 64, store, scratch, emit))
    assert set(scratch.entries) == {"found.checkpoint"}
    resumed = finetuned(pruned, memory_context("finetune", store=store, scratch=scratch))
    assert without_seconds(resumed) == without_seconds(whole)


def test_progress_counts_all_networks_together() -> None:
    store, told = MemoryStore(), Told()
    many = RECIPE.model_copy(update={"batch_size": 5, "epochs": 1})
    finetuned(pruned_networks(store), memory_context("finetune", store=store, told=told), many)
    steps = [(e.done, e.total) for e in told.events if isinstance(e, Progress)]
    assert steps == [(0.5, 2.0), (1.0, 2.0), (1.5, 2.0), (2.0, 2.0)]


def test_weights_of_another_network_are_not_trained() -> None:
    store = MemoryStore()
    pruned = pruned_networks(store)
    mixed = pruned.model_copy(
        update={"found": pruned.found.model_copy(update={"weights": pruned.randoms[0].weights})}
    )
    with pytest.raises(IntegrityError, match="another network"):
        finetuned(mixed, memory_context("finetune", store=store))


def test_baselines_are_trained_from_fresh_weights_by_the_same_recipe() -> None:
    store = MemoryStore()
    stage = Baseline(
        config=BaselineConfig(widths=(0.1,), published_widths=(0.1,)),
        recipe=RECIPE.model_copy(update={"epochs": 1}),
        space=SPACE,
        data=DATA,
        seed=0,
    )
    outcome = stage.run(memory_context("baseline", store=store))
    assert [(n.name, n.role, n.origin) for n in outcome.networks] == [
        ("mobilenet_v2_0.1", "baseline", "fresh"),
        ("mobilenet_v2_0.1_published", "baseline_published", "fresh"),
    ]
    assert [network.images_seen for network in outcome.networks] == [200, 200]
    for network in outcome.networks:
        load_network(network.net, store.read_bytes(network.weights))


def test_baselines_do_not_care_where_finetuning_starts_nor_what_the_space_is_called() -> None:
    def fingerprint(space_name: str = "toy", **recipe: Any) -> str:
        stage = Baseline(
            config=BaselineConfig(),
            recipe=RECIPE.model_copy(update=recipe),
            space=SPACE.model_copy(update={"name": space_name}),
            data=DATA,
            seed=0,
        )
        return stage.fingerprint({})

    assert fingerprint() == fingerprint(start="fresh") == fingerprint("other")
    assert fingerprint() != fingerprint(epochs=3)


def test_baselines_for_other_images_are_not_trained() -> None:
    stage = Baseline(
        config=BaselineConfig(),
        recipe=RECIPE,
        space=load_space(SpaceConfig(name="proxyless_mobile")),
        data=DATA,
        seed=0,
    )
    with pytest.raises(UsageError, match="proxyless_mobile is for images of 224 pixels"):
        stage.run(memory_context("baseline"))
