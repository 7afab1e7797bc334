"""A search space, a latency model and data small enough to search and train in a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import Any

from support.memory_context import MemoryScratch
from support.scripted_device import ScriptedDevice

from android_bench.device import Conditions, DeviceInfo, LatencyMeasurement, RuntimeOptions
from stages.data.config import DataConfig
from stages.documents import HeldOutError, LatencyModel, ReferenceLatency
from stages.nas.config import PruneConfig
from stages.nas.targets import TargetConfig
from stages.space.block_spec import BlockSpec
from stages.space.network_name import network_name
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

EACH_STEP = -1.0
"""As ``checkpoint_seconds``: a checkpoint after every step."""
DATA = DataConfig(train_images=500, architecture_images=200)
SPACE = SearchSpace(
    name="toy",
    resolution=32,
    classes=10,
    stem=StemSpec(width=8, stride=2),
    stages=(
        StageSpec(width=8, layers=1, stride=2, fixed=Candidate(kernel=3, expansion=1)),
        StageSpec(width=8, layers=1),
        StageSpec(width=16, layers=2, stride=2),
    ),
    head_width=32,
    candidates=(Candidate(kernel=3, expansion=2), Candidate(kernel=5, expansion=3)),
)
"""Layers: one fixed; then k3 e2, k5 e3 or skip; k3 e2 or k5 e3 at stride 2; k3 e2, k5 e3 or skip."""


def prune_sections(settings: Mapping[str, Any]) -> tuple[PruneConfig, TargetConfig]:
    """What prune is told, as its two sections: each setting in the one that has it."""
    target = {key: value for key, value in settings.items() if key in TargetConfig.model_fields}
    own = {key: value for key, value in settings.items() if key not in target}
    return PruneConfig.model_validate(own), TargetConfig.model_validate(target)


def toy_device(slower: float = 1.0, space: SearchSpace = SPACE) -> ScriptedDevice:
    """Networks take what :func:`latency_model` predicts, or all but the reference longer."""
    latency = latency_model(space)
    paths = product(*(range(len(layer.blocks)) for layer in space.layers()))
    times = {network_name(path): slower * latency.predict_ms(space.network(path)) for path in paths}
    return ScriptedDevice(
        {**times, latency.reference.name: latency.reference.measurement.median_ms}, noise=0.0
    )


class Stopped(BaseException):
    """Stands for the signal that ends a run at some point; no code may swallow it."""


@dataclass
class StoppingScratch(MemoryScratch):
    """Ends the run at its ``stop_at``-th write (from 1): before it is kept, or right after."""

    stop_at: int | None = None
    kept: bool = True
    saved: list[bytes] = field(default_factory=list)

    def save(self, name: str, payload: bytes) -> None:
        stopping = len(self.saved) + 1 == self.stop_at
        if stopping and not self.kept:
            self.stop_at = None
            raise Stopped
        super().save(name, payload)
        self.saved.append(payload)
        if stopping:
            self.stop_at = None
            raise Stopped


def block_ms(block: BlockSpec) -> float:
    """An invented device: a fixed cost and arithmetic."""
    return 0.01 + block.macs / 1e7


def latency_model(
    space: SearchSpace = SPACE, cost: Callable[[BlockSpec], float] = block_ms, *, overhead_ms: float = 0.005
) -> LatencyModel:
    """A latency model that knows every block of ``space``; its scale is 1."""
    layers = space.layers()
    fixed = overhead_ms + sum(cost(block) for block in space.fixed_blocks())
    choices = [[0.0 if block is None else cost(block) for block in layer.blocks] for layer in layers]
    return LatencyModel(
        device=DeviceInfo(kind="local", model="Toy", soc="toy", os_build="toy", runtime="toy"),
        runtime=RuntimeOptions(),
        block_ms={block.key: cost(block) for block in space.distinct_blocks()},
        scale=1.0,
        overhead_ms=overhead_ms,
        interval_percent=3.0,
        timings=(),
        calibration=(),
        held_out=(),
        held_out_error=HeldOutError(
            networks=0,
            share_within_5_percent=1,
            share_within_10_percent=1,
            share_within_interval=1,
            mape_percent=0,
            spearman=1,
        ),
        reference=ReferenceLatency(
            name="reference", net=space.network([0] * len(layers)), measurement=measured(0.2)
        ),
        feasible_ms=(fixed + sum(map(min, choices)), fixed + sum(map(max, choices))),
        seconds=1.0,
    )


def measured(median_ms: float) -> LatencyMeasurement:
    """A measurement without any spread."""
    return LatencyMeasurement(
        median_ms=median_ms,
        p5_ms=median_ms,
        p95_ms=median_ms,
        min_ms=median_ms,
        runs=1,
        rounds=1,
        round_medians_ms=(median_ms,),
        conditions=Conditions(at=datetime(2024, 1, 1, tzinfo=UTC)),
    )
