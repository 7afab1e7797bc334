"""Documents as a whole run would leave them, to draw reports from. Invented figures, for tests alone.

They are made through the real document classes and hang together: block
latencies sum to predictions, predictions are off by what the held-out error says, accuracies follow from
counts of images.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import get_args

import numpy as np

from android_bench.device import Conditions, DeviceInfo, LatencyMeasurement, RuntimeOptions
from pipeline.artifact import Blob, Document, sha256_hex
from stages.data.config import DataConfig, open_dataset
from stages.documents import (
    AgainstFound,
    AgainstRandom,
    ComputeCost,
    ConsideredNetwork,
    ConversionCheck,
    ConvertedNetwork,
    ConvertedNetworks,
    Edge,
    EdgeCheck,
    ElementType,
    EpochPoint,
    HeldOutError,
    LatencyModel,
    LatencyTable,
    ModelFile,
    Precheck,
    PrecheckedNetwork,
    Precision,
    PredictionPoint,
    PrunedNetwork,
    PrunedNetworks,
    ReferenceLatency,
    Role,
    SearchEpoch,
    SearchResult,
    TableRow,
    Timing,
    TrainedNetwork,
    TrainedNetworks,
    Verification,
    VerifiedFile,
    VerifiedNetwork,
)
from stages.space.block_spec import BlockSpec
from stages.space.mobilenet_v2 import fit_strides, mobilenet_v2
from stages.space.search_space import Candidate, NetConfig, SearchSpace, StageSpec, StemSpec
from stages.verification.classes import balanced_accuracy
from stages.verification.images import images_report
from stages.verification.rivals import counting
from stages.verification.statistics import latency_ratio, wilson_interval

TEST_IMAGES = 10_000
IMAGES_BY_CLASS = (1_000,) * 10
ROUNDS = 12
EPOCHS = 8
DEVICE = DeviceInfo(
    kind="local",
    model="Sample Computer",
    soc="Sample CPU @ 2.40GHz",
    os_build="Sample Linux 6.1",
    runtime="LiteRT 2.3.0 (XNNPACK)",
)
ACCURACIES = {
    "found": 91.84,
    "random": 90.93,
    "mobilenet_v2_0.35": 90.61,
    "mobilenet_v2_0.5": 91.52,
    "mobilenet_v2_0.75": 92.07,
    "mobilenet_v2_1": 92.31,
    "mobilenet_v2_0.5_published": 87.16,
    "mobilenet_v2_1_published": 88.79,
}
WRONG_BY_CLASS = (0.17, 0.02, 0.13, 0.09, 0.13, 0.04, 0.28, 0.06, 0.02, 0.06)
"""How the wrong answers are spread over the classes, and what they are taken for, mostly."""
TAKEN_FOR = (6, 3, 4, 6, 2, 7, 0, 9, 0, 7)
DISCORDANCE = 0.055
"""Share of the images on which exactly one of two networks is right, at the sample's accuracies."""
SPACE = SearchSpace(
    name="sample",
    resolution=32,
    classes=10,
    stem=StemSpec(width=16),
    stages=(
        StageSpec(width=16, layers=1, fixed=Candidate(kernel=3, expansion=1)),
        StageSpec(width=24, layers=2),
        StageSpec(width=32, layers=2, stride=2),
        StageSpec(width=48, layers=2),
        StageSpec(width=64, layers=2),
        StageSpec(width=96, layers=2, stride=2),
        StageSpec(width=128, layers=1),
    ),
    head_width=256,
    candidates=tuple(Candidate(kernel=k, expansion=e) for k in (3, 5) for e in (3, 6)),
)
ROLES: dict[str, Role] = {
    "found": "found",
    "random": "random",
    **{f"mobilenet_v2_{w:g}": "baseline" for w in (0.35, 0.5, 0.75, 1.0)},
    **{f"mobilenet_v2_{w:g}_published": "baseline_published" for w in (0.5, 1.0)},
}


def sample_documents(
    *,
    device: DeviceInfo = DEVICE,
    found_accuracy: float = 91.84,
    slowdown: float = 1.0,
    space: SearchSpace = SPACE,
) -> dict[str, Document]:
    """One document for each stage, by the stage's name. ``slowdown`` scales the found network's latency.

    In another ``space`` than the sample's own the random network is the found one.
    """
    return _Sample(device, found_accuracy, slowdown, space).documents()


def spread_errors(
    images_K: Sequence[int], wrong: int, weights: Sequence[float], taken_for: Sequence[int]
) -> tuple[tuple[int, int, int], ...]:
    """A confusion with so many wrong answers: most of each class's for one other class, some for the next."""
    errors = [min(n, int(wrong * w)) for n, w in zip(images_K, weights, strict=True)]
    for index in sorted(range(len(errors)), key=lambda k: errors[k] - images_K[k]):
        errors[index] += min(images_K[index] - errors[index], wrong - sum(errors))
    cells: dict[tuple[int, int], int] = {}
    for label, (total, missed) in enumerate(zip(images_K, errors, strict=True)):
        other = (taken_for[label] + 1) % len(images_K)
        if other == label:
            other = (other + 1) % len(images_K)
        cells |= {(label, label): total - missed, (label, taken_for[label]): missed - missed // 4}
        cells[label, other] = cells.get((label, other), 0) + missed // 4
    return tuple((*cell, images) for cell, images in sorted(cells.items()) if images)


def class_figures(images_K: Sequence[int], confusion: Sequence[tuple[int, int, int]]) -> Mapping[str, object]:
    """The fields of a verified network that follow from its confusion."""
    right = {label: images for label, answered, images in confusion if label == answered}
    correct_K = [right.get(label, 0) for label in range(len(images_K))]
    accuracy = wilson_interval(sum(correct_K), sum(images_K))
    balanced = balanced_accuracy(np.array(correct_K), np.array(images_K))
    return {
        "accuracy_percent": 100 * accuracy.value,
        "accuracy_interval_95": (100 * accuracy.low, 100 * accuracy.high),
        "balanced_accuracy_percent": 100 * balanced.value,
        "balanced_accuracy_interval_95": (100 * balanced.low, 100 * balanced.high),
        "correct_by_class": tuple(correct_K),
    }


def beside_found(points: float, against: AgainstFound, images: int, discordance: float) -> AgainstFound:
    """The comparison with another difference in accuracy, on so many images."""
    half = 196 * math.sqrt(discordance / images)
    net, both = (
        round(points * images / 100),
        max(round(discordance * images), abs(round(points * images / 100))),
    )
    return against.model_copy(
        update={
            "accuracy_points": points,
            "accuracy_points_interval_95": (points - half, points + half),
            "only_correct": (both + net) // 2,
            "only_found_correct": (both - net) // 2,
            "balanced_points": points,
            "balanced_points_interval_95": (points - half, points + half),
        }
    )


def _blob(name: str, size_bytes: int, suffix: str) -> Blob:
    return Blob(sha256=sha256_hex(name.encode()), suffix=suffix, size_bytes=size_bytes)


def _compute_cost(seconds: float) -> ComputeCost:
    """On two cores that do not wait much."""
    return ComputeCost(seconds=seconds, processor_seconds=1.83 * seconds, accelerator_seconds=0.0)


def block_ms(block: BlockSpec) -> float:
    """An invented device: fixed cost, arithmetic, memory; large kernels cost a little more."""
    cost = 0.0012 + block.macs / 3.1e7 + block.resolution**2 * block.hidden_channels / 4.5e7
    return cost * (1.18 if block.kernel == 5 else 1.0)


class _Sample:
    def __init__(
        self, device: DeviceInfo, found_accuracy: float, slowdown: float, space: SearchSpace
    ) -> None:
        self.random = random.Random(20)
        self.device = device
        self.slowdown = slowdown
        self.accuracies = {**ACCURACIES, "found": found_accuracy}
        self.space = space
        self.layers = self.space.layers()
        self.choices = tuple(self._preferred(index) for index in range(len(self.layers)))
        self.random_choices = self._as_slow_as_found() if space is SPACE else self.choices
        plan = fit_strides(self.space.stride_plan)
        self.nets: dict[str, NetConfig] = {
            "found": self.space.network(self.choices),
            "random": self.space.network(self.random_choices),
        }
        for name in ROLES:
            if name.startswith("mobilenet"):
                width = float(name.split("_")[2])
                strides = {} if name.endswith("published") else {"strides": plan}
                self.nets[name] = mobilenet_v2(
                    resolution=self.space.resolution, classes=10, width=width, **strides
                )

    def _preferred(self, index: int) -> int:
        wanted = (0, 0, 4, 2, 0, 0, 4, 1, 2, 3, 4, 1)
        return wanted[index % len(wanted)] % len(self.layers[index].blocks)

    def _as_slow_as_found(self) -> tuple[int, ...]:
        wanted = sum(block_ms(block) for block in self.space.network(self.choices).blocks)
        while True:
            choices = tuple(self.random.randrange(len(layer.blocks)) for layer in self.layers)
            cost = sum(block_ms(block) for block in self.space.network(choices).blocks)
            if abs(cost / wanted - 1) < 0.01:
                return choices

    def documents(self) -> dict[str, Document]:
        table, latency = self.table(), self.latency()
        finetune, baseline = self.trained(("found", "random")), self.trained(tuple(self.nets)[2:])
        convert = self.convert((*finetune.networks, *baseline.networks))
        return {
            "profile": table,
            "latency": latency,
            "precheck": self.precheck(latency),
            "search": self.search(latency),
            "prune": self.prune(latency),
            "finetune": finetune,
            "baseline": baseline,
            "convert": convert,
            "verify": self.verify(convert, latency),
        }

    def measurement(self, ms: float, rounds: int = 5, noise: float = 0.012) -> LatencyMeasurement:
        medians = [ms * self.random.lognormvariate(0, noise) for _ in range(rounds)]
        return self.joined(medians)

    def joined(self, medians: Sequence[float]) -> LatencyMeasurement:
        ms = median(medians)
        return LatencyMeasurement(
            median_ms=ms,
            p5_ms=0.975 * ms,
            p95_ms=1.06 * ms,
            min_ms=0.96 * min(medians),
            runs=400 * len(medians),
            rounds=len(medians),
            round_medians_ms=tuple(medians),
            conditions=Conditions(
                at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC), load_1min=0.31, cpu_mhz=2400.0
            ),
        )

    def table(self) -> LatencyTable:
        rows = tuple(
            TableRow(block=block, measurement=self.measurement(block_ms(block) + 0.0005))
            for block in self.space.distinct_blocks()
        )
        return LatencyTable(
            device=self.device,
            runtime=RuntimeOptions(),
            output="probabilities",
            rows=rows,
            invoke=self.measurement(0.0005),
            anchor=self.reference(self.joined([1.31] * 5)),
            timings=self.timings(),
            seconds=41.3,
        )

    def reference(self, measurement: LatencyMeasurement) -> ReferenceLatency:
        net = mobilenet_v2(
            resolution=self.space.resolution, classes=10, strides=fit_strides(self.space.stride_plan)
        )
        return ReferenceLatency(name="mobilenet_v2_1", net=net, measurement=measurement)

    def timings(self) -> tuple[Timing, ...]:
        return tuple(
            Timing(
                round=index // 10,
                name="mobilenet_v2_1",
                measurement=self.joined([1.31]),
                slowdown=1.0,
                disturbed=False,
            )
            for index in range(30)
        )

    def latency(self) -> LatencyModel:
        blocks = {block.key: block_ms(block) for block in self.space.distinct_blocks()}
        scale, overhead = 1.07, 0.0061

        def point(error: float) -> PredictionPoint:
            choices = tuple(self.random.randrange(len(layer.blocks)) for layer in self.layers)
            net = self.space.network(choices)
            predicted = overhead + scale * sum(blocks[b.key] for b in net.blocks)
            measured = predicted * (1 + self.random.gauss(0, error))
            return PredictionPoint(
                choices=choices, predicted_ms=predicted, measurement=self.measurement(measured)
            )

        calibration = tuple(point(0.012) for _ in range(8))
        held_out = tuple(point(0.024) for _ in range(24))
        errors = [abs(p.predicted_ms / p.measurement.median_ms - 1) for p in held_out]
        fastest, slowest = (
            overhead
            + scale
            * (
                sum(blocks[b.key] for b in self.space.fixed_blocks())
                + sum(
                    pick(0.0 if b is None else blocks[b.key] for b in layer.blocks) for layer in self.layers
                )
            )
            for pick in (min, max)
        )
        return LatencyModel(
            device=self.device,
            runtime=RuntimeOptions(),
            output="probabilities",
            block_ms=blocks,
            invoke_ms=0.0005,
            scale=scale,
            overhead_ms=overhead,
            interval_percent=4.4,
            calibration=calibration,
            held_out=held_out,
            held_out_error=HeldOutError(
                networks=len(held_out),
                share_within_5_percent=sum(e <= 0.05 for e in errors) / len(errors),
                share_within_10_percent=sum(e <= 0.10 for e in errors) / len(errors),
                share_within_interval=sum(e <= 0.044 for e in errors) / len(errors),
                mape_percent=100 * sum(errors) / len(errors),
                spearman=0.991,
            ),
            reference=self.reference(self.measurement(1.31)),
            feasible_ms=(fastest, slowest),
            timings=self.timings(),
            seconds=63.8,
        )

    def precheck(self, latency: LatencyModel) -> Precheck:
        measured = self.joined([0.2, 0.201, 0.199])
        network = PrecheckedNetwork(
            choices=self.choices,
            first_of_kind=tuple(block.key for block in self.nets["found"].blocks),
            operators=40,
            delegate_partitions=1,
            max_relative_diff=3e-7,
            predicted_ms=latency.predict_ms(self.nets["found"]),
            written=measured,
            converted=measured,
            ratio=1.0,
            ratio_interval_95=(0.99, 1.01),
        )
        return Precheck(device=self.device, runtime=RuntimeOptions(), networks=(network,), seconds=0.4)

    def search(self, latency: LatencyModel) -> SearchResult:
        target = 1.02 * latency.predict_ms(self.nets["found"])
        epochs, warm_up = 24, 6
        history, probabilities = [], [[1 / len(layer.blocks)] * len(layer.blocks) for layer in self.layers]
        for epoch in range(epochs):
            decided = max(0.0, (epoch + 1 - warm_up) / (epochs - warm_up)) ** 1.3
            probabilities = [self.softmax(index, 5.5 * decided) for index in range(len(self.layers))]
            expected = sum(
                p * (0.0 if b is None else latency.block_latency_ms(b))
                for layer, row in zip(self.layers, probabilities, strict=True)
                for b, p in zip(layer.blocks, row, strict=True)
            ) + sum(latency.block_latency_ms(b) for b in self.space.fixed_blocks())
            open_layers = [row for row in probabilities if len(row) > 1]
            history.append(
                SearchEpoch(
                    epoch=epoch,
                    phase="warm-up" if epoch < warm_up else "search",
                    train_loss=0.52 + 1.5 * math.exp(-epoch / 4),
                    validation_loss=0.50 + 1.4 * math.exp(-epoch / 4.4) + self.random.uniform(-0.02, 0.02),
                    validation_accuracy_percent=88.5
                    - 26 * math.exp(-epoch / 3.5)
                    + self.random.uniform(-0.4, 0.4),
                    expected_ms=expected + latency.overhead_ms,
                    entropy=sum(
                        -sum(p * math.log(p) for p in row) / math.log(len(row)) for row in open_layers
                    )
                    / len(open_layers),
                    probabilities=tuple(tuple(row) for row in probabilities),
                    seconds=4.1,
                )
            )
        return SearchResult(
            space=self.space,
            target_ms=target,
            log_probabilities=tuple(tuple(math.log(p) for p in row) for row in probabilities),
            estimator="posterior",
            evaluations=_blob("evaluations", 214_002, ".json"),
            agreement=0.62,
            expected_ms=history[-1].expected_ms,
            supernet=_blob("supernet", 4_812_344, ".safetensors"),
            history=tuple(history),
            seconds=98.4,
            compute_cost=_compute_cost(99.1),
        )

    def softmax(self, index: int, strength: float) -> list[float]:
        size, taste = len(self.layers[index].blocks), random.Random(index)
        scores = [strength * taste.uniform(0, 0.6) for _ in range(size)]
        scores[self.choices[index]] = strength * (0.65 + 0.35 * taste.random())
        total = sum(math.exp(score) for score in scores)
        return [math.exp(score) / total for score in scores]

    def prune(self, latency: LatencyModel) -> PrunedNetworks:
        def pruned(name: str, choices: tuple[int, ...]) -> PrunedNetwork:
            return PrunedNetwork(
                name=name,
                role=ROLES[name],
                choices=choices,
                net=self.nets[name],
                target_ms=1.02 * latency.predict_ms(self.nets[name]),
                predicted_ms=latency.predict_ms(self.nets[name]),
                supernet_accuracy_percent={"found": 87.9}.get(name, 86.4),
                weights=_blob(f"{name} pruned", 4 * self.nets[name].parameters, ".safetensors"),
            )

        found = pruned("found", self.choices)
        considered = tuple(
            ConsideredNetwork(
                choices=self.choices,
                target_ms=1.02 * found.predicted_ms,
                log_probability=-4.0 - 0.4 * index,
                predicted_ms=found.predicted_ms * (1 - 0.012 * index),
                measurement=latency.reference.measurement,
            )
            for index in range(8)
        )
        return PrunedNetworks(
            target_ms=1.02 * found.predicted_ms,
            anchor=latency.reference,
            seconds=2.0,
            compute_cost=_compute_cost(31.0),
            considered=considered,
            found=found,
            randoms=(pruned("random", self.random_choices),),
        )

    def trained(self, names: Sequence[str]) -> TrainedNetworks:
        networks = []
        for name in names:
            final = self.accuracies[name] + 0.35
            inherited = ROLES[name] in ("found", "random")
            start = 16 if inherited else 42
            curve = tuple(
                EpochPoint(
                    epoch=epoch,
                    learning_rate=0.05 * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2,
                    train_loss=0.55
                    + (0.5 if inherited else 1.0) * math.exp(-epoch / 2.2)
                    + (93 - final) / 30,
                    validation_accuracy_percent=final
                    - start * math.exp(-(epoch + 1) / 1.25)
                    - (0.03 * (7 - epoch)),
                    seconds=9.0,
                )
                for epoch in range(EPOCHS)
            )
            networks.append(
                TrainedNetwork(
                    name=name,
                    role=ROLES[name],
                    net=self.nets[name],
                    weights=_blob(f"{name} trained", 4 * self.nets[name].parameters + 2000, ".safetensors"),
                    origin="inherited" if inherited else "fresh",
                    images_seen=EPOCHS * 55_000,
                    curve=curve,
                    best_epoch=EPOCHS - 1,
                    validation_accuracy_percent=curve[-1].validation_accuracy_percent,
                    seconds=9.0 * EPOCHS,
                    compute_cost=_compute_cost(9.4 * EPOCHS),
                )
            )
        return TrainedNetworks(networks=tuple(networks))

    def convert(self, trained: Sequence[TrainedNetwork]) -> ConvertedNetworks:
        networks = []
        for network in trained:
            blocks = [b for b in network.net.blocks if b.kind == "mbconv"]
            expanded, adds = sum(b.expansion > 1 for b in blocks), sum(b.residual for b in blocks)
            counts = {
                "CONV_2D": 2 + len(blocks) + expanded,
                "DEPTHWISE_CONV_2D": len(blocks),
                "ADD": adds,
                "MEAN": 1,
                "FULLY_CONNECTED": 1,
                "SOFTMAX": 1,
            }
            networks.append(
                ConvertedNetwork(
                    name=network.name,
                    role=network.role,
                    net=network.net,
                    origin=network.origin,
                    images_seen=network.images_seen,
                    validation_accuracy_percent=network.validation_accuracy_percent,
                    weights=network.weights,
                    files=(
                        ModelFile(
                            precision="float32",
                            output="probabilities",
                            blob=_blob(
                                f"{network.name} tflite", 4 * network.net.parameters + 9000, ".tflite"
                            ),
                            check=ConversionCheck(
                                images=256,
                                max_abs_diff=2.4e-6,
                                max_relative_diff=3e-7,
                                top1_agreement_percent=100.0,
                                snr_db=128.0,
                                edges=tuple(
                                    EdgeCheck(
                                        edge=edge,
                                        images=8,
                                        max_relative_diff=4e-7,
                                        top1_agreement_percent=100.0,
                                        snr_db=127.0,
                                    )
                                    for edge in get_args(Edge)
                                ),
                                operators=sum(counts.values()),
                                operator_counts=counts,
                                delegate_partitions=1,
                            ),
                        ),
                    ),
                )
            )
        return ConvertedNetworks(networks=tuple(networks))

    def verify(self, convert: ConvertedNetworks, latency: LatencyModel) -> Verification:
        moods = [self.random.lognormvariate(0, 0.02) for _ in range(ROUNDS)]
        moods[7] *= 1.14
        rounds: dict[str, list[float]] = {}
        for network in convert.networks:
            inside = all(b.key in latency.block_ms for b in network.net.blocks)
            true_ms = (
                latency.predict_ms(network.net)
                if inside
                else 0.006 + 1.07 * sum(block_ms(b) for b in network.net.blocks)
            )
            if network.role == "found":
                true_ms *= self.slowdown
            rounds[network.name] = [
                true_ms * 1.015 * mood * self.random.lognormvariate(0, 0.008) for mood in moods
            ]
        reference = "mobilenet_v2_0.5"
        ratio = latency_ratio(rounds["found"], rounds[reference])
        speedup = ratio.inverse()
        return Verification(
            device=self.device,
            runtime=RuntimeOptions(),
            test_images=TEST_IMAGES,
            majority_percent=10.0,
            labels=_blob("labels", 2 * TEST_IMAGES, ".labels"),
            images=images_report(open_dataset(DataConfig()), DataConfig(), IMAGES_BY_CLASS),
            equal_points=3.0,
            networks=tuple(self.verified(n, rounds, latency, convert) for n in convert.networks),
            precisions=self.files(convert, rounds["found"]),
            reference=reference,
            reference_reason=f"{reference} is the fastest MobileNetV2 that is not significantly less "
            "accurate than the found network (-0.32 points, 95 % interval -0.78 to +0.14).",
            ratio=ratio.value,
            ratio_interval_95=ratio.interval,
            equal_accuracy_speedup=speedup.value,
            equal_accuracy_speedup_interval_95=speedup.interval,
            against_random=self.against_random(rounds, latency),
            max_ratio=None,
            verdict="ungated",
            rounds=ROUNDS,
            seconds=37.2,
        )

    def files(self, convert: ConvertedNetworks, found_ms: list[float]) -> tuple[VerifiedFile, ...]:
        """The found network in three precisions."""
        plain = next(n for n in convert.networks if n.role == "found").file().blob
        kinds: list[tuple[Precision, ElementType, float, float, float]] = [
            ("float32", "float32", 1.0, 1.0, 0.0),
            ("float16", "float32", 0.53, 1.0, 0.01),
            ("int8", "uint8", 0.31, 0.52, -0.24),
        ]
        accuracy = self.accuracies["found"]
        files = []
        for precision, takes, size, time, points in kinds:
            beside = precision != "float32"
            blob = _blob(f"found {precision}", round(size * plain.size_bytes), ".tflite")
            files.append(
                VerifiedFile(
                    precision=precision,
                    input_type=takes,
                    model=blob if beside else plain,
                    fine_tuned=False,
                    operators=66,
                    delegate_partitions=1,
                    accuracy_percent=accuracy + points,
                    accuracy_interval_95=(accuracy + points - 0.6, accuracy + points + 0.6),
                    accuracy_points=points if beside else None,
                    accuracy_points_interval_95=(points - 0.2, points + 0.2) if beside else None,
                    calibration_error_percent=2.1,
                    measurement=self.joined([time * ms for ms in found_ms]),
                    latency_ratio=time if beside else None,
                    latency_ratio_interval_95=(time - 0.01, time + 0.01) if beside else None,
                )
            )
        return tuple(files)

    def against_random(self, rounds: dict[str, list[float]], latency: LatencyModel) -> AgainstRandom:
        points = self.accuracies["found"] - self.accuracies["random"]
        predicted = latency.predict_ms(self.nets["random"]) / latency.predict_ms(self.nets["found"])
        measured = latency_ratio(rounds["random"], rounds["found"])
        return AgainstRandom(
            networks=1,
            accuracy_points=points,
            accuracy_points_interval_95=(points - 0.46, points + 0.46),
            predicted_ratio=predicted,
            predicted_ratio_range=(predicted, predicted),
            latency_ratio=measured.value,
            latency_ratio_interval_95=measured.interval,
        )

    def verified(
        self,
        network: ConvertedNetwork,
        rounds: dict[str, list[float]],
        latency: LatencyModel,
        convert: ConvertedNetworks,
    ) -> VerifiedNetwork:
        wrong = round(TEST_IMAGES * (1 - self.accuracies[network.name] / 100))
        confusion = spread_errors(IMAGES_BY_CLASS, wrong, WRONG_BY_CLASS, TAKEN_FOR)
        points = self.accuracies[network.name] - self.accuracies["found"]
        ratio = latency_ratio(rounds[network.name], rounds["found"])
        return VerifiedNetwork(
            name=network.name,
            role=network.role,
            net=network.net,
            origin=network.origin,
            images_seen=network.images_seen,
            validation_accuracy_percent=network.validation_accuracy_percent,
            **class_figures(IMAGES_BY_CLASS, confusion),  # type: ignore[arg-type]
            confusion=confusion if network.name in ("found", "mobilenet_v2_0.5") else None,
            counts=network.name in counting(convert.networks)
            if network.role.startswith("baseline")
            else None,
            predicted_ms=latency.predict_ms(network.net)
            if all(b.key in latency.block_ms for b in network.net.blocks)
            else None,
            measurement=self.joined(rounds[network.name]),
            parameters=network.net.parameters,
            macs=network.net.macs,
            against_found=None
            if network.role == "found"
            else AgainstFound(
                accuracy_points=points,
                accuracy_points_interval_95=(points - 0.46, points + 0.46),
                only_correct=round(TEST_IMAGES * (DISCORDANCE + points / 100) / 2),
                only_found_correct=round(TEST_IMAGES * (DISCORDANCE - points / 100) / 2),
                balanced_points=points,
                balanced_points_interval_95=(points - 0.46, points + 0.46),
                latency_ratio=ratio.value,
                latency_ratio_interval_95=ratio.interval,
            ),
            model=network.file().blob,
            correct=_blob(f"{network.name} correct", TEST_IMAGES // 8, ".bits"),
            answers=_blob(f"{network.name} answers", 2 * TEST_IMAGES, ".labels"),
        )
