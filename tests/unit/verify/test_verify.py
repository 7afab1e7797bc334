"""Verification of real `.tflite` files, run by LiteRT, on a device whose latencies are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.scripted_device import SCRIPTED, ScriptedDevice

from android_bench.device import (
    DEFAULT_OPTIONS,
    BenchmarkRequest,
    Conditions,
    LatencyMeasurement,
    RuntimeOptions,
)
from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError, DeviceError, UsageError
from pipeline.artifact import Blob, blobs_of, document_bytes
from stages.conversion.block_weights import random_weights
from stages.conversion.flatbuffer import network_model
from stages.data.config import DataConfig
from stages.data.grey import GreyImages
from stages.documents import (
    ConversionCheck,
    ConvertedNetwork,
    ConvertedNetworks,
    HeldOutError,
    LatencyModel,
    ModelFile,
    PrunedNetwork,
    PrunedNetworks,
    ReferenceLatency,
    Role,
    Verification,
)
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig
from stages.verification.answers import answers_of, classes_in
from stages.verification.estimate import Estimate
from stages.verification.prediction import verdict
from stages.verify import Verify, VerifyConfig

Run = Callable[..., Verification]

ANCHOR = "reference+anchor"
TRUE_MS = {
    "found": 0.2,
    "random": 0.21,
    "mobilenet_v2_w0.35": 0.3,
    "mobilenet_v2_w1.0": 0.8,
    "published": 0.1,
    ANCHOR: 1.0,
}
TIMINGS = len(TRUE_MS) + 1  # of a round: the anchor comes first and last
NETWORKS = [name for name in TRUE_MS if name != ANCHOR]
ROLES: dict[str, Role] = {
    "found": "found",
    "random": "random",
    "mobilenet_v2_w0.35": "baseline",
    "mobilenet_v2_w1.0": "baseline",
    "published": "baseline_published",
}


def small_net(width: int) -> NetConfig:
    stem = BlockSpec(kind="stem", kernel=3, stride=2, in_channels=3, out_channels=width, resolution=32)
    classifier = BlockSpec(kind="classifier", in_channels=width, out_channels=10, resolution=16)
    return NetConfig(resolution=32, classes=10, blocks=(stem, classifier))


def converted(
    store: MemoryStore, names: list[str], models: dict[str, bytes] | None = None
) -> ConvertedNetworks:
    check = ConversionCheck(
        images=1,
        max_abs_diff=0,
        max_relative_diff=0,
        top1_agreement_percent=100,
        snr_db=200,
        edges=(),
        operators=3,
        operator_counts={},
        delegate_partitions=1,
    )
    networks = []
    for seed, name in enumerate(names):
        net = small_net(4 if name in ("found", "random") else 8)
        model = (models or {}).get(name) or network_model(net, seed=seed)
        networks.append(
            ConvertedNetwork(
                name=name,
                role=ROLES[name],
                net=net,
                origin="fresh",
                images_seen=1000,
                validation_accuracy_percent=50.0,
                weights=store.put_bytes(name.encode(), ".safetensors"),
                files=(
                    ModelFile(
                        precision="float32",
                        output="probabilities",
                        blob=store.put_bytes(model, ".tflite"),
                        check=check,
                    ),
                ),
            )
        )
    return ConvertedNetworks(networks=tuple(networks))


def latency_model() -> LatencyModel:
    measured = LatencyMeasurement(
        median_ms=1, p5_ms=1, p95_ms=1, min_ms=1, runs=1, rounds=1, round_medians_ms=(1.0,)
    )
    return LatencyModel(
        device=SCRIPTED,
        runtime=RuntimeOptions(),
        block_ms={block.key: 0.1 for block in small_net(4).blocks},
        scale=0.95,
        overhead_ms=0.01,
        interval_percent=3.0,
        timings=(),
        calibration=(),
        held_out=(),
        held_out_error=HeldOutError(
            networks=0,
            share_within_5_percent=0,
            share_within_10_percent=0,
            share_within_interval=0,
            mape_percent=0,
            spearman=0,
        ),
        reference=ReferenceLatency(name="reference", net=small_net(8), measurement=measured),
        feasible_ms=(0.1, 1.0),
        seconds=1.0,
    )


def pruned(target_ms: float = 0.21) -> PrunedNetworks:
    network = PrunedNetwork(
        name="found",
        role="found",
        choices=(),
        net=small_net(4),
        target_ms=target_ms,
        predicted_ms=0.2,
        supernet_accuracy_percent=50.0,
        weights=Blob(sha256="0" * 64, suffix=".safetensors", size_bytes=1),
    )
    return PrunedNetworks(
        target_ms=target_ms,
        considered=(),
        anchor=latency_model().reference,
        found=network,
        randoms=(),
        seconds=1.0,
    )


class SlowAtFirst(ScriptedDevice):
    """Takes a third more in its first three rounds."""

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        slow = len(self.order) < 3 * TIMINGS
        return super().benchmark(request).divided(0.75 if slow else 1.0)


@dataclass
class Hot(ScriptedDevice):
    """A phone that tells a thermal status beside every timing."""

    status: int = 2

    def conditions(self) -> Conditions:
        return super().conditions().model_copy(update={"thermal_status": self.status})


def stage(device: ScriptedDevice, **config: object) -> Verify:
    settings = {"rounds": 4, "max_rounds": 12, "min_ms": 1.0, "warmup_ms": 0.0, **config}
    return Verify(
        config=VerifyConfig.model_validate(settings),
        data=DataConfig(),
        runtime=RuntimeOptions(),
        seed=0,
        device=device,
    )


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def networks(store: MemoryStore) -> ConvertedNetworks:
    return converted(store, NETWORKS)


@pytest.fixture(scope="module")
def answered(store: MemoryStore, networks: ConvertedNetworks) -> MemoryScratch:
    """The scratch of a run that was unplugged in its third round: all answers, two whole rounds."""
    scratch = MemoryScratch()
    device = ScriptedDevice(TRUE_MS, unplug_at=2 * TIMINGS + 3)
    with pytest.raises(DeviceError, match="unplugged"):
        stage(device).run(
            memory_context("verify", store=store, scratch=scratch),
            converted=networks,
            latency=latency_model(),
            pruned=pruned(),
        )
    return scratch


def resumed(scratch: MemoryScratch) -> MemoryScratch:
    return MemoryScratch(dict(scratch.entries), {name: list(rows) for name, rows in scratch.logs.items()})


@pytest.fixture
def run(store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch) -> Run:
    def go(device: ScriptedDevice, told: Told | None = None, **config: object) -> Verification:
        scratch = resumed(answered)
        if config.pop("afresh", False):
            del scratch.logs["rounds"]
        context = memory_context("verify", store=store, scratch=scratch, told=told)
        return stage(device, **config).run(
            context, converted=networks, latency=latency_model(), pruned=pruned()
        )

    return go


def test_an_unplugged_run_goes_on_after_its_last_whole_round(run: Run, answered: MemoryScratch) -> None:
    assert len(answered.rows("rounds")) == 2
    device = ScriptedDevice(TRUE_MS)
    result = run(device, precision_percent=50)
    assert len(device.order) == 2 * TIMINGS, "two of the four rounds were already there"
    assert result.rounds == 4
    assert all(len(n.measurement.round_medians_ms) == 4 for n in result.networks)


def test_known_latencies_are_found_again(run: Run) -> None:
    result = run(ScriptedDevice(TRUE_MS), rounds=12, afresh=True)
    for network in result.networks:
        assert network.measurement.median_ms == pytest.approx(TRUE_MS[network.name], rel=0.02)
    medians = {network.name: network.measurement.median_ms for network in result.networks}
    assert result.ratio == pytest.approx(medians["found"] / medians[result.reference], rel=0.01)
    assert result.equal_accuracy_speedup == pytest.approx(1 / result.ratio)
    low, high = result.equal_accuracy_speedup_interval_95
    assert low < TRUE_MS[result.reference] / TRUE_MS["found"] < high
    assert ROLES[result.reference] == "baseline"
    assert result.reference in result.reference_reason


def test_every_network_is_timed_once_a_round_in_ever_another_order(run: Run) -> None:
    device = ScriptedDevice(TRUE_MS)
    run(device, rounds=10, precision_percent=50, afresh=True)
    rounds = [tuple(device.order[i : i + TIMINGS]) for i in range(0, len(device.order), TIMINGS)]
    assert all(sorted(one) == sorted([*TRUE_MS, ANCHOR]) for one in rounds)
    assert all(one[0] == one[-1] == ANCHOR for one in rounds)
    assert len(set(rounds)) > 5
    assert device.renewed == 10, "fresh processes for every round"


def test_rounds_are_the_same_for_the_same_seed(run: Run) -> None:
    first, second = ScriptedDevice(TRUE_MS), ScriptedDevice(TRUE_MS)
    one, two = run(first, afresh=True), run(second, afresh=True)
    assert first.order == second.order
    assert one.model_copy(update={"seconds": 0.0}) == two.model_copy(update={"seconds": 0.0})


def test_a_noisy_device_is_measured_longer_and_then_named(run: Run) -> None:
    told = Told()
    result = run(ScriptedDevice(TRUE_MS, noise=0.3), told, afresh=True)
    assert result.rounds == 12
    assert len(told.warnings) == 1
    assert "after 12 rounds" in told.warnings[0]


def test_a_clear_gate_is_decided_at_the_first_look_however_wide_the_interval_is(run: Run) -> None:
    told = Told()
    device = ScriptedDevice({**TRUE_MS, "found": 0.05}, noise=0.05)
    result = run(device, told, afresh=True, precision_percent=0.001, max_ratio=2.0, rounds=6)
    assert (result.rounds, result.ratio_interval_95[1] < 2.0) == (6, True)
    assert result.interval_error == pytest.approx(0.05 * (6 / 12) ** 2)
    assert not [text for text in told.warnings if "is known to" in text]


def test_looks_share_the_error_of_the_interval(run: Run) -> None:
    first = run(ScriptedDevice(TRUE_MS, noise=0.001), afresh=True)
    last = run(ScriptedDevice(TRUE_MS, noise=0.05), afresh=True, precision_percent=0.01)
    assert (first.rounds, last.rounds) == (4, 12)
    assert first.interval_error < last.interval_error < 0.05


def test_rounds_in_which_the_device_was_slow_do_not_count_and_are_measured_again(run: Run) -> None:
    device = SlowAtFirst(TRUE_MS, noise=0.001)
    result = run(device, afresh=True, rounds=6, precision_percent=50)
    assert (result.rounds, result.rounds_dropped) == (6, 3)
    for network in result.networks:
        assert max(network.measurement.round_medians_ms) < 1.1 * TRUE_MS[network.name]


def test_a_device_that_throttles_throughout_decides_no_gate_and_is_warned_of(run: Run) -> None:
    told = Told()
    result = run(Hot(TRUE_MS, noise=0.001), told, afresh=True, rounds=4, max_ratio=5.0)
    assert result.ratio_interval_95[1] < 5.0
    assert (result.verdict, result.disturbed) == ("inconclusive", True)
    assert (result.rounds, result.rounds_dropped) == (12, 12)
    (warning,) = [text for text in told.warnings if "throttled" in text]
    assert "12 of 12 rounds" in warning
    ungated = run(Hot(TRUE_MS, noise=0.001), told := Told(), afresh=True, rounds=4)
    assert ungated.verdict == "ungated"
    assert [text for text in told.warnings if "nothing is decided" in text]


def test_a_phone_that_may_be_measured_warm_passes_its_gate_warm(
    store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch
) -> None:
    scratch = resumed(answered)
    del scratch.logs["rounds"]
    warm = replace(stage(Hot(TRUE_MS, noise=0.001, status=1), max_ratio=5.0), max_thermal_status=1)
    context = memory_context("verify", store=store, scratch=scratch)
    result = warm.run(context, converted=networks, latency=latency_model(), pruned=pruned())
    assert (result.verdict, result.rounds, result.rounds_dropped) == ("pass", 4, 0)


def test_a_quiet_device_is_not_measured_longer(run: Run) -> None:
    told = Told()
    assert run(ScriptedDevice(TRUE_MS, noise=0.001), told, afresh=True).rounds == 4
    assert not told.warnings


def test_a_found_network_that_takes_another_time_than_promised_is_warned_of_and_passes_no_gate(
    run: Run,
) -> None:
    told = Told()
    device = ScriptedDevice({**TRUE_MS, "found": 0.27}, noise=0.001)
    slow = run(device, told, afresh=True, max_ratio=5.0)
    (warning,) = [text for text in told.warnings if "as predicted" in text]
    assert "slower than the predicted 0.2 ms" in warning
    assert "above its target of 0.21 ms" in warning
    assert "The latency model that it was chosen by can be measured again" in warning
    assert slow.found_latency is not None
    assert slow.found_latency.ms == pytest.approx(0.27, rel=0.03)
    assert (slow.verdict, slow.found_latency.target) == ("fail", "missed")
    assert slow.anchor is not None
    assert slow.anchor.measurement.rounds == slow.rounds

    told = Told()
    assert run(ScriptedDevice(TRUE_MS), told, afresh=True, max_ratio=5.0).verdict == "pass"
    assert not told.warnings


def test_on_a_disturbed_device_the_comparison_is_to_be_repeated_before_the_latency_model(run: Run) -> None:
    told = Told()
    device = ScriptedDevice({**TRUE_MS, "found": 0.6}, noise=0.05)
    run(device, told, afresh=True, precision_percent=0.01)
    (warning,) = [text for text in told.warnings if "as predicted" in text]
    assert warning.index("--force verify") < warning.index("--force latency")


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


@dataclass
class OtherEngine(ScriptedDevice):
    """A device that is given exported models: it answers as their files do, and notes what it times."""

    files: Mapping[bytes, bytes] = field(default_factory=dict)
    given: dict[str, bytes] = field(default_factory=dict)

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        self.given[request.name] = request.model
        return super().benchmark(request)

    def run_model(
        self, model: bytes, inputs_NHWC: NDArray[Any], options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> NDArray[np.float32]:
        with LocalDevice() as here:
            return here.run_model(self.files[model], inputs_NHWC, options)


def exported(store: MemoryStore, networks: ConvertedNetworks) -> tuple[ConvertedNetworks, OtherEngine]:
    """The networks with an exported model each, and the engine that knows what they compute."""
    files = {
        f"exported {network.name}".encode(): store.read_bytes(network.file().blob)
        for network in networks.networks
    }
    with_onnx = tuple(
        network.model_copy(update={"onnx": store.put_bytes(model, ".onnx")})
        for network, model in zip(networks.networks, files, strict=True)
    )
    return networks.model_copy(update={"networks": with_onnx}), OtherEngine(TRUE_MS, files=files)


def verified_by(
    engine: OtherEngine, networks: ConvertedNetworks, store: MemoryStore, answered: MemoryScratch
) -> Verification:
    scratch = resumed(answered)
    del scratch.logs["rounds"]
    context = memory_context("verify", store=store, scratch=scratch)
    verify = replace(stage(engine), engine="onnx")
    return verify.run(context, converted=networks, latency=latency_model(), pruned=pruned())


def test_another_engine_times_what_the_conversion_exported(
    store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch
) -> None:
    changed, engine = exported(store, networks)
    result = verified_by(engine, changed, store, answered)
    anchor = engine.given.pop(ANCHOR)
    assert engine.given == {name: f"exported {name}".encode() for name in NETWORKS}
    assert anchor[4:8] == b"TFL3", "networks that are not converted stay as they were measured"
    assert {network.model for network in result.networks} == {n.file().blob for n in networks.networks}


def test_exported_models_that_answer_otherwise_or_were_not_kept_are_refused(
    store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch
) -> None:
    changed, engine = exported(store, networks)
    wrong = dict(engine.files)
    wrong[b"exported random"] = wrong[b"exported mobilenet_v2_w1.0"]
    with pytest.raises(ConversionError, match="network random: script 1 answers otherwise"):
        verified_by(OtherEngine(TRUE_MS, files=wrong), changed, store, answered)
    with pytest.raises(UsageError, match="ONNX model of network found was not kept"):
        verified_by(engine, networks, store, answered)


def test_a_device_that_leaves_a_network_out_is_an_error(run: Run) -> None:
    with pytest.raises(DeviceError, match="left out 1 of 6 models, random"):
        run(ScriptedDevice(TRUE_MS, leaves_out="random"), afresh=True)


# --- answers -----------------------------------------------------------------------------------------


def images(count: int) -> GreyImages:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 32, 32), dtype=np.uint8)
    return GreyImages(pixels, random.integers(0, 10, count))


def files_of(networks: Sequence[ConvertedNetwork]) -> dict[str, ModelFile]:
    return {network.name: network.file() for network in networks}


def test_answers_are_those_of_litert_and_are_asked_once(store: MemoryStore) -> None:
    from ai_edge_litert.interpreter import Interpreter

    test = images(50)
    networks = converted(store, ["found"]).networks
    interpreter = Interpreter(model_content=store.read_bytes(networks[0].file().blob), num_threads=1)
    interpreter.allocate_tensors()
    [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()
    expected = []
    for index in range(len(test)):
        interpreter.set_tensor(source["index"], test.batch_NHWC(slice(index, index + 1)))
        interpreter.invoke()
        expected.append(int(interpreter.get_tensor(target["index"]).argmax()))
    scratch = MemoryScratch()
    with LocalDevice() as device:
        answers, seconds = answers_of(
            memory_context("verify", store=store, scratch=scratch), files_of(networks), test, device
        )
    assert answers["found"].classes_N.tolist() == expected
    assert seconds > 0
    again, _ = answers_of(
        memory_context("verify", store=store, scratch=scratch), files_of(networks), test, ScriptedDevice({})
    )
    assert again["found"].classes_N.tolist() == expected
    assert again["found"].calibration_error_percent == answers["found"].calibration_error_percent


def test_a_model_that_answers_nan_is_refused(store: MemoryStore) -> None:
    net = small_net(4)
    huge = {name: np.full_like(w, 3e38) for name, w in random_weights(net.blocks).items()}
    networks = converted(store, ["found"], {"found": network_model(net, huge)}).networks
    with (
        LocalDevice() as device,
        pytest.raises(DeviceError, match=r"found: the \.tflite model answered with NaN"),
    ):
        answers_of(memory_context("verify", store=store), files_of(networks), images(3), device)


# --- verdict and declarations ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "max_ratio", "expected"),
    [
        (0.4, 0.5, None, "ungated"),
        (0.4, 0.5, 0.55, "pass"),
        (0.4, 0.5, 0.35, "fail"),
        (0.4, 0.5, 0.45, "inconclusive"),
        (0.4, 0.5, 0.5, "inconclusive"),
        (0.4, 0.5, 0.4, "inconclusive"),
    ],
)
def test_only_an_interval_wholly_on_one_side_decides(
    low: float, high: float, max_ratio: float | None, expected: str
) -> None:
    assert verdict(Estimate(0.45, low, high), max_ratio) == expected


def test_two_found_networks_or_equal_names_are_refused(store: MemoryStore) -> None:
    one = converted(store, ["found", "mobilenet_v2_w1.0"]).networks
    for networks in ((*one, one[0]), one[1:]):
        with pytest.raises(UsageError, match="one found network"):
            stage(ScriptedDevice(TRUE_MS)).run(
                memory_context("verify", store=store),
                converted=ConvertedNetworks(networks=networks),
                latency=latency_model(),
                pruned=pruned(),
            )


def test_device_runtime_and_images_enter_the_fingerprint_but_the_serial_does_not() -> None:
    device = ScriptedDevice(TRUE_MS)
    environment = stage(device).environment()
    assert environment["device_model"] == "Scripted Phone"
    assert {"dataset_sha256", "accuracy_runtime"} <= set(environment)
    assert "SECRET-SERIAL" not in environment.values()
    assert "device" not in stage(device).settings()
    assert stage(device).fingerprint({}) != stage(device, max_ratio=0.5).fingerprint({})
    assert stage(device).estimate_seconds() > 0
