"""A device whose latencies are known: the truth that a measurement has to find."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from android_bench.device import (
    PHONE_OVERHEAD,
    BenchmarkRequest,
    Conditions,
    DeviceInfo,
    LatencyMeasurement,
    Overhead,
    RuntimeOptions,
)
from nasflow.base.errors import DeviceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ONE_THREAD = RuntimeOptions()
SCRIPTED = DeviceInfo(
    kind="android",
    model="Scripted Phone",
    soc="none",
    os_build="test",
    runtime="script 1",
    serial="SECRET-SERIAL",
    virtual=True,
)


@dataclass
class ScriptedDevice:
    """Answers with ``true_ms[name]`` times noise; unplugged before measurement ``unplug_at``."""

    true_ms: Mapping[str, float]
    noise: float = 0.01
    unplug_at: int | None = None
    leaves_out: str | None = None
    order: list[str] = field(default_factory=list)
    renewed: int = 0
    closed: int = 0
    overhead: Overhead = PHONE_OVERHEAD
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def info(self) -> DeviceInfo:
        return SCRIPTED

    def conditions(self) -> Conditions:
        return Conditions(at=datetime(2026, 1, 1, tzinfo=UTC))

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        if len(self.order) == self.unplug_at:
            raise DeviceError("Scripted Phone was unplugged.")
        self.order.append(request.name)
        ms = self.true_ms[request.name] * self._random.lognormvariate(0, self.noise)
        return LatencyMeasurement(
            median_ms=ms,
            p5_ms=0.98 * ms,
            p95_ms=1.05 * ms,
            min_ms=0.97 * ms,
            runs=100,
            rounds=1,
            round_medians_ms=(ms,),
            conditions=self.conditions(),
        )

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        for index, request in enumerate(requests):
            if request.name != self.leaves_out:
                yield index, self.benchmark(request)

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = ONE_THREAD,
    ) -> NDArray[np.float32]:
        raise AssertionError("accuracy is computed on this computer, not on the device")

    def renew(self) -> None:
        self.renewed += 1

    def close(self) -> None:
        self.closed += 1
