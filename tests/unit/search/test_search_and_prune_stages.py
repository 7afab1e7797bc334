"""The stages search and prune: targets, what is chosen under them, and what cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.scripted_device import ScriptedDevice
from support.toy_search import DATA, SPACE, latency_model, prune_sections, toy_device

from android_bench.device import RuntimeOptions
from nasflow.base.errors import InfeasibleTargetError, UsageError
from pipeline.artifact import document_bytes
from pipeline.events import Message
from stages.data.config import DataConfig
from stages.documents import LatencyModel, PrunedNetworks, SearchResult
from stages.nas.config import SearchConfig
from stages.nas.search_loop import architecture_of
from stages.nas.solver import path_ms
from stages.nas.targets import RelativeTarget, TargetConfig
from stages.nn.network import load_network
from stages.nn.supernet import Supernet
from stages.prune import Prune
from stages.search import Search
from stages.space import SpaceConfig, load_space

LATENCY = latency_model()
FASTEST, SLOWEST = LATENCY.feasible_ms
CONFIG = SearchConfig(
    warmup_epochs=1, epochs=1, batch_size=50, architecture_every=2, architecture_batch_size=50
)
TWO_PATH = CONFIG.model_copy(update={"estimator": "two_path"})
TARGET = TargetConfig(ms=0.08)
COSTS = [row.tolist() for row in architecture_of(SPACE, LATENCY).block_ms]
FIXED_MS = architecture_of(SPACE, LATENCY).fixed_ms


def stage(config: SearchConfig = CONFIG, target: TargetConfig = TARGET) -> Search:
    return Search(config=config, target=target, space=SPACE, data=DATA, seed=1)


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def told() -> Told:
    """What the search tells."""
    return Told()


@pytest.fixture(scope="module")
def searched(store: MemoryStore, told: Told) -> SearchResult:
    return stage().run(memory_context("search", store=store, told=told), latency=LATENCY)


def pruned(
    searched: SearchResult,
    store: MemoryStore,
    *,
    target_ms: float = 0.08,
    told: Told | None = None,
    scratch: MemoryScratch | None = None,
    device: ScriptedDevice | None = None,
    latency: LatencyModel = LATENCY,
    data: DataConfig = DATA,
    **settings: Any,
) -> PrunedNetworks:
    config, target = prune_sections(settings)
    stage = Prune(
        config=config,
        target=target,
        space=SPACE,
        data=data,
        runtime=RuntimeOptions(),
        seed=1,
        device=device or toy_device(),
    )
    return stage.run(
        memory_context("prune", store=store, told=told, scratch=scratch),
        search=searched.model_copy(update={"target_ms": target_ms}),
        latency=latency,
    )


def untimed(outcome: PrunedNetworks) -> bytes:
    return document_bytes(outcome.model_copy(update={"seconds": 0.0, "compute_cost": None}))


# --- the target ------------------------------------------------------------------------------------


def test_the_target_is_a_time_or_a_share_of_mobilenet_v2s() -> None:
    assert TargetConfig(ms=0.07).searched_ms(LATENCY) == 0.07
    assert TargetConfig(ratio=0.4).searched_ms(LATENCY) == pytest.approx(0.4 * 0.2)
    assert TargetConfig().searched_ms(LATENCY) == pytest.approx(0.5 * 0.2)
    with pytest.raises(ValidationError, match=r"ms \(0\.07\) and ratio \(0\.5\) are two targets"):
        TargetConfig(ms=0.07, ratio=0.5)


def test_a_target_faster_than_every_network_is_refused_before_any_work() -> None:
    with pytest.raises(InfeasibleTargetError, match=r"^target: no network") as caught:
        stage(target=TargetConfig(ms=0.9 * FASTEST)).run(memory_context("search"), latency=LATENCY)
    assert f"the fastest takes {FASTEST:.4g} ms" in caught.value.message
    assert f"{SLOWEST:.4g} ms" in caught.value.hint
    with pytest.raises(InfeasibleTargetError, match=r"^target \(ratio 0\.1 of reference's 0\.2 ms\)"):
        TargetConfig(ratio=0.1).searched_ms(LATENCY)


def test_a_space_for_other_images_is_not_searched() -> None:
    space = load_space(SpaceConfig(resolution=64))
    with pytest.raises(UsageError, match="space fashion is for images of 64 pixels"):
        Search(config=CONFIG, target=TARGET, space=space, data=DATA, seed=1).run(
            memory_context("search"), latency=latency_model(space)
        )


# --- what a search leaves --------------------------------------------------------------------------


def test_a_search_leaves_a_supernet_that_loads_and_a_document_that_can_be_stored(
    searched: SearchResult, store: MemoryStore
) -> None:
    assert SearchResult.model_validate_json(document_bytes(searched)) == searched
    Supernet(SPACE).load_state_dict(load(store.read_bytes(searched.supernet)))
    assert searched.target_ms == 0.08
    assert [len(row) for row in searched.log_probabilities] == [len(row.blocks) for row in SPACE.layers()]


def test_what_the_test_images_can_show_is_told_before_anything_is_trained(
    searched: SearchResult, told: Told
) -> None:
    first = [event.text for event in told.events if isinstance(event, Message)][:2]
    assert first[1].startswith("10,000 test images: differences under 0.9 points cannot be shown")


def test_expected_latency_is_the_mean_over_all_networks(searched: SearchResult) -> None:
    architecture = architecture_of(SPACE, LATENCY)
    paths = list(product(*(range(len(layer.blocks)) for layer in SPACE.layers())))
    mean = sum(LATENCY.predict_ms(SPACE.network(path)) for path in paths) / len(paths)
    assert architecture.expected_ms() == pytest.approx(mean)
    for path in paths:
        assert path_ms(COSTS, path) + FIXED_MS == pytest.approx(LATENCY.predict_ms(SPACE.network(path)))


# --- pruning ---------------------------------------------------------------------------------------


def test_the_most_probable_network_within_the_target_is_kept(
    searched: SearchResult, store: MemoryStore
) -> None:
    outcome = pruned(searched, store, candidates=4, minimum_share=0.8)
    least, most = 0.8 * 0.08, 0.08
    within = [
        path
        for path in product(*(range(len(layer.blocks)) for layer in SPACE.layers()))
        if least <= LATENCY.predict_ms(SPACE.network(path)) <= most
    ]
    likely = sorted((path_ms(searched.log_probabilities, path) for path in within), reverse=True)
    first = outcome.considered[:4]
    assert [c.log_probability for c in first] == pytest.approx(likely[:4], abs=2e-6)
    assert all(least <= c.predicted_ms <= most for c in first)
    assert outcome.found.choices == first[0].choices
    assert PrunedNetworks.model_validate_json(document_bytes(outcome)) == outcome


def test_one_candidate_is_the_papers_rule(searched: SearchResult, store: MemoryStore) -> None:
    outcome = pruned(searched, store, candidates=1, target_ms=SLOWEST, minimum_share=0)
    likeliest = tuple(max(range(len(row)), key=row.__getitem__) for row in searched.log_probabilities)
    assert outcome.found.choices == likeliest


def test_the_papers_rule_under_a_target_takes_the_likeliest_network_that_keeps_it(
    searched: SearchResult, store: MemoryStore
) -> None:
    paths = list(product(*(range(len(layer.blocks)) for layer in SPACE.layers())))
    log_p = {path: path_ms(searched.log_probabilities, path) for path in paths}
    times = {path: LATENCY.predict_ms(SPACE.network(path)) for path in paths}
    likeliest = max(paths, key=log_p.__getitem__)
    binding = [ms for ms in sorted(set(times.values())) if FASTEST < ms < times[likeliest]]
    assert len(binding) >= 2, "the target would not bind"
    for target_ms in binding:
        within = [path for path in paths if 0.9 * target_ms <= times[path] <= target_ms * (1 + 1e-9)]
        outcome = pruned(searched, store, candidates=1, target_ms=target_ms * (1 + 1e-6), minimum_share=0.9)
        assert log_p[outcome.found.choices] == pytest.approx(max(map(log_p.__getitem__, within)), abs=2e-6)
        assert outcome.found.choices != likeliest


def test_skipped_layers_vanish_and_the_rest_keeps_the_supernets_weights(
    searched: SearchResult, store: MemoryStore
) -> None:
    outcome = pruned(searched, store, candidates=30, minimum_share=0)
    weights = load(store.read_bytes(searched.supernet))
    with_skip = [n for n in (outcome.found, *outcome.randoms) if n.net.layers != (-1, 0, 1, 2, 3, -1, -1)]
    assert with_skip, "neither of the two skips a layer"
    for network in (outcome.found, *outcome.randoms):
        model = load_network(network.net, store.read_bytes(network.weights))
        for block, index in zip(model.blocks, network.net.layers, strict=True):
            if index >= 0:
                prefix = f"layers.{index}.candidates.{network.choices[index]}."
                for name, parameter in block.named_parameters():
                    assert (weights[prefix + name] == parameter).all()


def test_networks_are_evaluated_with_batch_statistics_of_their_own(
    searched: SearchResult, store: MemoryStore
) -> None:
    weights = load(store.read_bytes(searched.supernet))
    for batches in (1, 2):
        outcome = pruned(searched, store, candidates=1, minimum_share=0.8, recalibration_batches=batches)
        for network in (outcome.found, *outcome.randoms):
            own = load(store.read_bytes(network.weights))
            counts = {int(t) for name, t in own.items() if name.endswith("num_batches_tracked")}
            assert counts == {batches}
            assert not torch.equal(own["blocks.0.1.running_mean"], weights["stem.1.running_mean"])


def test_the_random_network_is_another_one_of_about_equal_latency(
    searched: SearchResult, store: MemoryStore
) -> None:
    outcome = pruned(searched, store, candidates=2, minimum_share=0.8)
    (random,) = outcome.randoms
    assert random.choices != outcome.found.choices
    nearest = min(
        abs(LATENCY.predict_ms(SPACE.network(path)) - outcome.found.predicted_ms)
        for path in product(*(range(len(layer.blocks)) for layer in SPACE.layers()))
        if path != outcome.found.choices
    )
    allowed = max(nearest, 0.03 * outcome.found.predicted_ms) + 1e-12
    assert abs(random.predicted_ms - outcome.found.predicted_ms) <= allowed


def test_more_random_networks_join_those_that_were_drawn(searched: SearchResult, store: MemoryStore) -> None:
    none, one, five = (
        pruned(searched, store, candidates=2, minimum_share=0.8, random_networks=count) for count in (0, 1, 5)
    )
    assert none.randoms == ()
    assert one.randoms == five.randoms[:1]
    assert none.found == one.found == five.found
    assert [n.name for n in five.randoms] == ["random", "random_2", "random_3", "random_4", "random_5"]
    assert {n.role for n in five.randoms} == {"random"}
    made_of = {tuple(block.key for block in n.net.blocks) for n in (five.found, *five.randoms)}
    assert len(made_of) == 6
    off = [abs(n.predicted_ms - five.found.predicted_ms) for n in five.randoms]
    beyond = [ms for ms in off if ms > 0.03 * five.found.predicted_ms]
    assert beyond == sorted(beyond), "those of equal latency first, then ever farther ones"


def test_a_space_without_enough_other_networks_is_told_of(searched: SearchResult, store: MemoryStore) -> None:
    with pytest.raises(UsageError, match=r"holds 17 other networks .* prune\.random_networks asks for 18"):
        pruned(searched, store, candidates=1, minimum_share=0.8, random_networks=18)


def test_without_a_multiplier_latency_does_not_count(store: MemoryStore) -> None:
    """Two searches under far apart targets learn the same where latency does not count."""
    free = TWO_PATH.model_copy(update={"multiplier_rate": 0.0, "multiplier_damping": 0.0})
    outcomes = [
        stage(free, TargetConfig(ms=target_ms)).run(memory_context("search", store=store), latency=LATENCY)
        for target_ms in (1.01 * FASTEST, 10 * SLOWEST)
    ]
    assert all(epoch.multiplier == 0.0 for outcome in outcomes for epoch in outcome.history)
    assert outcomes[0].log_probabilities == outcomes[1].log_probabilities
    assert outcomes[0].supernet == outcomes[1].supernet


def test_a_target_that_every_network_meets_has_no_price_and_slowness_no_bonus(store: MemoryStore) -> None:
    def history(target_ms: float) -> list[float]:
        search = stage(TWO_PATH.model_copy(update={"anneal_share": 0.0}), TargetConfig(ms=target_ms))
        result = search.run(memory_context("search", store=store), latency=LATENCY)
        return [epoch.multiplier for epoch in result.history if epoch.multiplier is not None]

    assert history(1.001 * SLOWEST) == history(10 * SLOWEST) == [0.0, 0.0]
    assert history(0.9 * SLOWEST)[-1] < 0, "below it, time that is not used is a loss of accuracy"


def test_pruning_repeats_exactly(searched: SearchResult, store: MemoryStore) -> None:
    outcomes = [untimed(pruned(searched, store, candidates=2, minimum_share=0.8)) for _ in range(2)]
    assert outcomes[0] == outcomes[1]


def test_a_target_that_every_network_meets_asks_for_no_more_than_the_slowest_takes(
    searched: SearchResult, store: MemoryStore
) -> None:
    outcome = pruned(searched, store, target_ms=3 * SLOWEST, candidates=1, minimum_share=0.9)
    assert 0.9 * SLOWEST <= outcome.found.predicted_ms <= SLOWEST * (1 + 1e-9)


def test_a_share_of_the_target_that_no_network_uses_is_told_in_whole_milliseconds(
    searched: SearchResult, store: MemoryStore
) -> None:
    with pytest.raises(InfeasibleTargetError) as caught:
        pruned(searched, store, target_ms=FASTEST * 1.0001, minimum_share=0.999999)
    assert f"{FASTEST:.4g} to {SLOWEST:.4g} ms" in caught.value.message


def test_a_target_of_exactly_the_fastest_networks_latency_is_met_by_it(
    searched: SearchResult, store: MemoryStore
) -> None:
    outcome = pruned(searched, store, target_ms=FASTEST, minimum_share=0.5)
    assert outcome.found.predicted_ms == pytest.approx(FASTEST)


# --- measured on the device ------------------------------------------------------------------------


def test_candidates_that_take_longer_than_the_target_are_dropped(
    searched: SearchResult, store: MemoryStore
) -> None:
    paths = product(*(range(len(layer.blocks)) for layer in SPACE.layers()))
    times = sorted(LATENCY.predict_ms(SPACE.network(path)) for path in paths)
    target_ms = 1.001 * times[-2]
    outcome = pruned(
        searched, store, target_ms=target_ms, candidates=50, minimum_share=0, device=toy_device(slower=1.01)
    )
    late = [c for c in outcome.considered if c.measurement.median_ms > target_ms]
    assert late, "no candidate was late: the test shows nothing"
    assert all(c.predicted_ms <= target_ms for c in outcome.considered)
    assert outcome.found.choices not in [c.choices for c in late]
    assert 1.01 * outcome.found.predicted_ms <= target_ms


def test_a_device_on_which_no_candidate_keeps_the_target_ends_the_stage(
    searched: SearchResult, store: MemoryStore
) -> None:
    with pytest.raises(InfeasibleTargetError, match="the latency model does not hold") as caught:
        pruned(searched, store, device=toy_device(slower=1.2))
    assert "--force profile" in caught.value.hint


def test_every_further_target_gets_a_network_that_keeps_it_or_is_told_of(
    searched: SearchResult, store: MemoryStore
) -> None:
    told = Told()
    outcome = pruned(searched, store, candidates=2, front=10, told=told)
    fastest, slowest = LATENCY.feasible_ms
    wanted = [fastest * (slowest / fastest) ** ((index + 1) / 10) for index in range(10)]
    missing = [text for text in told.warnings if "further target" in text]
    targets = [network.target_ms for network in outcome.front]
    assert all(any(target == pytest.approx(ms) for ms in wanted) for target in targets)
    nets = [network.net for network in (outcome.found, *outcome.front)]
    assert all(nets.count(net) == 1 for net in nets), "two targets have the same network"
    assert 3 <= len(targets) <= 10 - len(missing)
    assert {network.role for network in outcome.front} == {"front"}
    for network in outcome.front:
        assert 0.9 * network.target_ms <= network.predicted_ms <= network.target_ms * (1 + 1e-9)


def test_further_targets_do_not_change_the_first_ones_network_of_a_search(
    searched: SearchResult, store: MemoryStore
) -> None:
    alone = pruned(searched, store, candidates=2, minimum_share=0.5)
    assert pruned(searched, store, candidates=2, minimum_share=0.5, front=4).found == alone.found


def test_a_further_target_that_no_network_uses_is_told_of_and_the_first_ends_the_stage(
    searched: SearchResult, store: MemoryStore
) -> None:
    told = Told()
    outcome = pruned(
        searched,
        store,
        further=(FASTEST * 1.0001,),
        minimum_share=0.99999,
        told=told,
        target_ms=1.001 * SLOWEST,
    )
    assert outcome.front == ()
    assert any("no network for the further target" in text for text in told.warnings)


def test_under_another_devices_model_the_anchor_tells_what_is_late(
    searched: SearchResult, store: MemoryStore
) -> None:
    """Every network, the anchor too, takes three times as long here: by its own measure nothing is late."""
    slow = toy_device()
    slow = ScriptedDevice({name: 3 * ms for name, ms in slow.true_ms.items()}, noise=0.0)
    foreign = LATENCY.model_copy(update={"foreign": ("device",)})
    outcome = pruned(searched, store, candidates=2, minimum_share=0.5, device=slow, latency=foreign)
    assert outcome.found.choices == outcome.considered[0].choices


def test_further_targets_are_listed_behind_the_first() -> None:
    target = TargetConfig(ms=0.08, further=(RelativeTarget(ratio=0.45), 0.07))
    assert target.searched_ms(LATENCY) == 0.08
    assert target.further_ms(LATENCY) == pytest.approx((0.45 * 0.2, 0.07))
    assert target.all_ms(LATENCY) == pytest.approx((0.08, 0.45 * 0.2, 0.07))
    front = target.model_copy(update={"front": 3}).all_ms(LATENCY)
    third = (SLOWEST / FASTEST) ** (1 / 3)
    assert front == pytest.approx((0.08, 0.09, 0.07, FASTEST * third, FASTEST * third**2, SLOWEST))
    twice = TargetConfig(ms=0.08, further=(0.08, 0.07, 0.07))
    assert twice.all_ms(LATENCY) == (0.08, 0.07)


def test_a_target_may_refer_to_the_slowest_network_of_the_space() -> None:
    target = TargetConfig(relative_to="full", ratio=0.8)
    assert target.searched_ms(LATENCY) == pytest.approx(0.8 * SLOWEST)
    with pytest.raises(InfeasibleTargetError, match="of the space's slowest network's"):
        TargetConfig(relative_to="full", ratio=0.9 * FASTEST / SLOWEST).searched_ms(LATENCY)


def test_a_further_target_faster_than_every_network_is_refused_before_any_work(
    searched: SearchResult, store: MemoryStore
) -> None:
    further = (0.08, 0.5 * FASTEST)
    with pytest.raises(InfeasibleTargetError, match=r"target\.further, number 2: no network"):
        stage(target=TargetConfig(ms=0.08, further=further)).run(memory_context("search"), latency=LATENCY)
    with pytest.raises(InfeasibleTargetError, match=r"target\.further, number 2: no network"):
        pruned(searched, store, further=further)


@pytest.mark.parametrize("first", [{"ms": 0.08}, {"ratio": 0.45}])
def test_what_is_drawn_from_is_searched_for_and_another_pick_is_not(first: Mapping[str, float]) -> None:
    """Steps draw from the windows of all targets; ``pick_ms`` picks from a search that is there."""

    def settings(**keys: Any) -> dict[str, Any]:
        return stage(target=TargetConfig.model_validate({**first, **keys})).settings()

    alone = settings()
    assert settings(pick_ms=0.07) == alone
    for key, value in (("further", (RelativeTarget(ratio=0.4), 0.07)), ("front", 3), ("minimum_share", 0.5)):
        assert settings(**{key: value}) != alone
    assert stage(target=TargetConfig(ms=0.081)).settings() != alone


def test_a_further_target_gets_a_network_of_its_own(searched: SearchResult, store: MemoryStore) -> None:
    target = RelativeTarget(ratio=0.45)
    (network,) = pruned(searched, store, minimum_share=0.9, further=(target,)).front
    assert network.target_ms == pytest.approx(0.45 * 0.2)
    assert network.predicted_ms <= network.target_ms
