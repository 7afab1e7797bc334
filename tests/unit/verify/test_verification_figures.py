"""What `verify` says of real `.tflite` files that LiteRT has run: figures, references, blobs."""

from __future__ import annotations

import numpy as np
import pytest
from support.memory_context import MemoryScratch, MemoryStore, memory_context
from support.scripted_device import ScriptedDevice
from support.verify_inputs import (
    NETWORKS,
    TRUE_MS,
    Run,
    converted,
    latency_model,
    pruned,
    resumed,
    small_net,
    stage,
)

from nasflow.base.errors import UsageError
from pipeline.artifact import blobs_of, document_bytes
from stages.documents import ConvertedNetwork, ConvertedNetworks, Verification
from stages.verification.answers import classes_in


def test_the_published_baseline_is_shown_but_chosen_only_where_configured(
    store: MemoryStore, answered: MemoryScratch
) -> None:
    published_only = converted(store, ["found", "published"])
    context = memory_context("verify", store=store)
    configured = stage(ScriptedDevice(TRUE_MS), published_counts=True)
    result = configured.run(context, converted=published_only, latency=latency_model(), pruned=pruned())
    assert result.reference == "published"
    with pytest.raises(UsageError, match="published_counts"):
        stage(ScriptedDevice(TRUE_MS)).run(
            memory_context("verify", store=store, scratch=resumed(answered)),
            converted=published_only,
            latency=latency_model(),
            pruned=pruned(),
        )


def test_a_prediction_is_made_only_where_every_block_was_profiled(run: Run) -> None:
    result = run(ScriptedDevice(TRUE_MS))
    predicted = {network.name: network.predicted_ms for network in result.networks}
    assert predicted["found"] == pytest.approx(0.01 + 0.95 * 0.2)
    assert predicted["random"] == predicted["found"]
    assert predicted["mobilenet_v2_w1.0"] is None


def test_every_network_is_set_beside_the_found_one(run: Run) -> None:
    result = run(ScriptedDevice(TRUE_MS), rounds=8)
    by_name = {network.name: network for network in result.networks}
    assert by_name["found"].against_found is None
    slow = by_name["mobilenet_v2_w1.0"]
    assert slow.against_found is not None
    assert slow.against_found.latency_ratio == pytest.approx(4, rel=0.05)
    assert slow.against_found.accuracy_points == pytest.approx(
        slow.accuracy_percent - by_name["found"].accuracy_percent
    )
    low, high = slow.against_found.accuracy_points_interval_95
    assert low < slow.against_found.accuracy_points < high


def test_the_found_network_is_set_beside_the_mean_of_the_random_ones(
    store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch
) -> None:
    def verified(kept: tuple[ConvertedNetwork, ...]) -> Verification:
        scratch = resumed(answered)
        scratch.logs.pop("rounds", None)
        device = ScriptedDevice({**TRUE_MS, "random_2": 0.2})
        return stage(device).run(
            memory_context("verify", store=store, scratch=scratch),
            converted=ConvertedNetworks(networks=kept),
            latency=latency_model(),
            pruned=pruned(),
        )

    one = verified(networks.networks)
    random = next(n for n in one.networks if n.name == "random")
    assert one.against_random is not None
    assert random.against_found is not None
    assert one.against_random.networks == 1
    assert one.against_random.accuracy_points == pytest.approx(-random.against_found.accuracy_points)
    low, high = random.against_found.accuracy_points_interval_95
    assert one.against_random.accuracy_points_interval_95 == pytest.approx((-high, -low))

    predicted = {n.name: n.predicted_ms or 0.0 for n in one.networks}
    ratio = predicted["random"] / predicted["found"]
    assert one.against_random.predicted_ratio == pytest.approx(ratio)
    assert one.against_random.predicted_ratio_range == pytest.approx((ratio, ratio))
    assert one.against_random.latency_ratio == random.against_found.latency_ratio
    assert one.against_random.latency_ratio_interval_95 == random.against_found.latency_ratio_interval_95

    other = next(n for n in networks.networks if n.name == "published")
    second = other.model_copy(update={"name": "random_2", "role": "random", "net": small_net(4)})
    two = verified((*networks.networks, second))
    accuracy = {n.name: n.accuracy_percent for n in two.networks}
    assert two.against_random is not None
    assert two.against_random.networks == 2
    assert two.against_random.accuracy_points == pytest.approx(
        accuracy["found"] - (accuracy["random"] + accuracy["random_2"]) / 2
    )
    assert two.against_random.latency_ratio == pytest.approx(
        (TRUE_MS["random"] + 0.2) / 2 / TRUE_MS["found"], rel=0.01
    )
    low, high = two.against_random.latency_ratio_interval_95
    assert low <= two.against_random.latency_ratio <= high
    assert verified(tuple(n for n in networks.networks if n.role != "random")).against_random is None


def test_the_stored_bits_are_the_test_sets_answers(run: Run, store: MemoryStore) -> None:
    result = run(ScriptedDevice(TRUE_MS))
    assert result.test_images == 10_000
    for network in result.networks:
        bits = np.unpackbits(np.frombuffer(store.read_bytes(network.correct), np.uint8), count=10_000)
        assert 100 * bits.mean() == pytest.approx(network.accuracy_percent)
        assert network.accuracy_interval_95[0] < network.accuracy_percent < network.accuracy_interval_95[1]


def test_the_stored_answers_give_accuracy_by_class_and_confusion(run: Run, store: MemoryStore) -> None:
    result = run(ScriptedDevice(TRUE_MS))
    assert result.labels is not None
    assert result.images is not None
    labels = classes_in(store.read_bytes(result.labels))
    images_K = np.bincount(labels, minlength=10)
    assert [one.test for one in result.images.classes] == images_K.tolist() == [1000] * 10
    assert [one.name for one in result.images.classes][:2] == ["T-shirt/top", "Trouser"]
    assert result.majority_percent == 10
    for network in result.networks:
        assert network.answers is not None
        answers = classes_in(store.read_bytes(network.answers))
        bits = np.unpackbits(np.frombuffer(store.read_bytes(network.correct), np.uint8), count=10_000)
        assert ((answers == labels) == bits).all()
        assert network.correct_by_class == tuple(np.bincount(labels[answers == labels], minlength=10))
        assert network.balanced_accuracy_percent == pytest.approx(network.accuracy_percent)
        shown = network.name in ("found", result.reference)
        assert (network.confusion is not None) == shown
        if network.confusion:
            assert sum(images for _, _, images in network.confusion) == 10_000
        if against := network.against_found:
            assert against.only_correct is not None
            assert against.only_found_correct is not None
            differing = against.only_correct - against.only_found_correct
            assert differing / 100 == pytest.approx(against.accuracy_points)


def test_mobilenets_from_random_weights_are_no_reference_for_a_pretrained_find(
    store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch
) -> None:
    def changed(network: ConvertedNetwork) -> ConvertedNetwork:
        if network.name == "mobilenet_v2_w1.0":
            return network.model_copy(update={"role": "full", "origin": "pretrained"})
        return network.model_copy(update={"origin": "pretrained"}) if network.role == "found" else network

    def verified(kept: list[ConvertedNetwork]) -> Verification:
        scratch = resumed(answered)
        scratch.logs.pop("rounds", None)
        return stage(ScriptedDevice(TRUE_MS)).run(
            memory_context("verify", store=store, scratch=scratch),
            converted=ConvertedNetworks(networks=tuple(kept)),
            latency=latency_model(),
            pruned=pruned(),
        )

    pretrained = list(map(changed, networks.networks))
    result = verified(pretrained)
    assert result.reference == "mobilenet_v2_w1.0"
    assert "reference with pretrained weights" in result.reference_reason
    counts = {network.name: network.counts for network in result.networks}
    assert counts == {
        "found": None,
        "random": None,
        "mobilenet_v2_w0.35": False,
        "mobilenet_v2_w1.0": True,
        "published": False,
    }
    with pytest.raises(UsageError, match="no fair reference"):
        verified([network for network in pretrained if network.role != "full"])


def test_the_output_is_a_document_whose_blobs_are_known(run: Run) -> None:
    result = run(ScriptedDevice(TRUE_MS))
    assert Verification.model_validate_json(document_bytes(result)) == result
    assert len(blobs_of(result)) == 3 * len(NETWORKS) + 3, "the found model is also one of its files"
