"""What `verify` is given in tests: five networks whose latencies are known on a scripted device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from support.memory_context import MemoryScratch, MemoryStore
from support.scripted_device import SCRIPTED, ScriptedDevice

from android_bench.device import LatencyMeasurement, RuntimeOptions
from pipeline.artifact import Blob
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


def stage(device: ScriptedDevice, **config: object) -> Verify:
    settings = {"rounds": 4, "max_rounds": 12, "min_ms": 1.0, "warmup_ms": 0.0, **config}
    return Verify(
        config=VerifyConfig.model_validate(settings),
        data=DataConfig(),
        runtime=RuntimeOptions(),
        seed=0,
        device=device,
    )


def resumed(scratch: MemoryScratch) -> MemoryScratch:
    return MemoryScratch(dict(scratch.entries), {name: list(rows) for name, rows in scratch.logs.items()})


def images(count: int) -> GreyImages:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 32, 32), dtype=np.uint8)
    return GreyImages(pixels, random.integers(0, 10, count))
