"""A device that reads the models it is sent and knows what each must cost: the truth of a latency model.

It stands where a phone stands: it is sent `.tflite` bytes and answers with numbers, which pass through the
same parser as a real device's. Its truth is additive over operators, plus what every invocation costs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from android_bench.device import (
    LOCAL_OVERHEAD,
    BenchmarkRequest,
    Conditions,
    DeviceInfo,
    LatencyMeasurement,
    Overhead,
    RuntimeOptions,
    parse_measurement,
)
from android_bench.virtual_phone.described_cost import operators_ms
from nasflow.base.errors import DeviceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ONE_THREAD = RuntimeOptions()
SIMULATED = DeviceInfo(
    kind="android",
    model="Simulated Phone",
    soc="none",
    os_build="test",
    runtime="simulation 1",
    serial="SECRET-SERIAL",
    virtual=True,
)


def quiet(_: int) -> float:
    """A device on which nothing else ever runs."""
    return 1.0


def in_one_way(_: RuntimeOptions) -> float:
    """A device on which all settings take as long."""
    return 1.0


@dataclass
class SimulatedDevice:
    """``disturbance(n)`` multiplies the n-th answer, ``setting(options)`` those with these options.

    ``answers`` replaces an answer, with nonsense if so wished. By a clock that counts steps of ``step_ms`` a
    time is told to the nearest step, which is the median of what such a clock counts; below half a step it
    stands as half of one.
    """

    invoke_ms: float = 0.004
    network_factor: float = 1.0
    network_overhead_ms: float = 0.0
    noise: float = 0.0
    step_ms: float = 0.0
    disturbance: Callable[[int], float] = quiet
    setting: Callable[[RuntimeOptions], float] = in_one_way
    answers: Mapping[int, float] = field(default_factory=dict)
    unplug_at: int | None = None
    leaves_out: int | None = None
    order: list[str] = field(default_factory=list)
    renewed: int = 0
    seed: int = 0
    overhead: Overhead = LOCAL_OVERHEAD

    def true_ms(self, model: bytes) -> float:
        """How long a model takes when nothing disturbs it."""
        total_ms, whole = operators_ms(model)
        if whole:
            total_ms = self.network_factor * total_ms + self.network_overhead_ms
        return self.invoke_ms + total_ms

    def info(self) -> DeviceInfo:
        return SIMULATED

    def conditions(self) -> Conditions:
        return Conditions(at=datetime(2026, 1, 1, tzinfo=UTC))

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        number = len(self.order)
        if number == self.unplug_at:
            raise DeviceError("Simulated Phone was unplugged.")
        self.order.append(request.name)
        chance = random.Random(f"{self.seed}/{number}/{request.name}").lognormvariate(0, self.noise)
        ms = self.true_ms(request.model) * chance * self.disturbance(number) * self.setting(request.options)
        if self.step_ms:
            ms = max(self.step_ms / 2, self.step_ms * round(ms / self.step_ms))
        ms = self.answers.get(number, ms)
        fields = {"median_ms": ms, "p5_ms": 0.98 * ms, "p95_ms": 1.05 * ms, "min_ms": 0.97 * ms}
        if self.step_ms:
            fields["resolution_ms"] = self.step_ms
        return parse_measurement(
            {**fields, "runs": 100, "rounds": 1, "round_medians_ms": [ms], "conditions": self.conditions()},
            source="Simulated Phone",
        )

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        for index, request in enumerate(requests):
            if index != self.leaves_out:
                yield index, self.benchmark(request)

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = ONE_THREAD,
    ) -> NDArray[np.float32]:
        raise AssertionError("the simulated phone only measures")

    def renew(self) -> None:
        self.renewed += 1

    def close(self) -> None:
        pass
