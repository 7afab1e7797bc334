"""A device that is not there, for benchmarks whose truth is known: all that such devices have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from android_bench.device import (
    DEFAULT_OPTIONS,
    LOCAL_OVERHEAD,
    BenchmarkRequest,
    Conditions,
    DeviceInfo,
    LatencyMeasurement,
    RuntimeOptions,
)
from nasflow.base.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SimulatedDevice(ABC):
    """Times models, and computes nothing (a :class:`~android_bench.device.Device`)."""

    device_info: ClassVar[DeviceInfo]
    overhead = LOCAL_OVERHEAD

    def info(self) -> DeviceInfo:
        """What it is called."""
        return self.device_info

    def conditions(self) -> Conditions:
        """Nothing is known but the time."""
        return Conditions(at=datetime.now(UTC))

    @abstractmethod
    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """One timing."""

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        """One after the other."""
        for index, request in enumerate(requests):
            yield index, self.benchmark(request)

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> NDArray[np.float32]:
        """It has only times. Raises UsageError."""
        raise UsageError(f"the simulated device {self.device_info.model} computes nothing.")

    def renew(self) -> None:  # noqa: B027 (most have no processes)
        """It has no processes."""

    def close(self) -> None:  # noqa: B027 (most open nothing)
        """Nothing is open."""


def described(kind: str, model: str) -> DeviceInfo:
    """A device of which nothing is known but its kind and name."""
    return DeviceInfo(kind=kind, model=model, soc="none", os_build="none", runtime="none", virtual=True)


def timed(ms: float) -> LatencyMeasurement:
    """One timing whose runs took about so long."""
    return LatencyMeasurement(
        median_ms=ms,
        p5_ms=0.98 * ms,
        p95_ms=1.05 * ms,
        min_ms=0.97 * ms,
        runs=10,
        rounds=1,
        round_medians_ms=(ms,),
    )
