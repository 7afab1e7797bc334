"""How a latency model is measured: quiet or beside a busy process, in one sitting or in several."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from android_bench.device import (
    DEFAULT_OPTIONS,
    BenchmarkRequest,
    Conditions,
    Device,
    DeviceInfo,
    LatencyMeasurement,
    Overhead,
    RuntimeOptions,
)
from nasflow.base.errors import DeviceLostError
from stages.measurement.config import MeasurementConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class Condition:
    """Whether another program is busy in each sitting, and where each sitting but the last is stopped.

    ``stops``: a stage, and after which share of the timings that it takes at least; none: one sitting.
    """

    busy: tuple[bool, ...]
    stops: tuple[tuple[str, float], ...] = ()


_AMID_BOTH = (("profile", 0.5), ("latency", 0.5))
"""Half of the blocks' rounds before the first stop, half of the networks' (at least so many) behind the
second: a table from two sittings, and networks from two sittings of which one is the table's."""

CONDITIONS: Mapping[str, Condition] = {
    "quiet": Condition((False,)),
    "busy": Condition((True,)),
    "resumed": Condition((False, False, False), _AMID_BOTH),
    "resumed_busy": Condition((False, True, False), _AMID_BOTH),
}

# Computes and reads more memory than a cache holds, as a program that one has forgotten does.
_BUSY = (
    "import hashlib\n"
    "content = bytes(range(256)) * 131_072\n"
    "while True:\n"
    "    hashlib.sha256(content).digest()\n"
    "    content = content[1:] + content[:1]\n"
)


@contextmanager
def beside_busy_process(wanted: bool) -> Iterator[None]:
    """One more process that never rests, where ``wanted``."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _BUSY], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Stop(DeviceLostError):
    """The benchmark has ended a sitting."""


class StoppedDevice:
    """A device that goes away after so many timings: a run that somebody stops."""

    def __init__(self, device: Device, timings: float) -> None:
        self._device, self._left = device, timings

    @property
    def overhead(self) -> Overhead:
        """The device's."""
        return self._device.overhead

    def info(self) -> DeviceInfo:
        """The device."""
        return self._device.info()

    def conditions(self) -> Conditions:
        """The device's."""
        return self._device.conditions()

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """Time one model. Raises Stop after the last timing that is allowed, as benchmark_many does."""
        ((_, found),) = self.benchmark_many([request])
        return found

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        """Time each request. Raises Stop after the last timing that is allowed."""
        for found in self._device.benchmark_many(requests):
            yield found
            self._left -= 1
            if self._left <= 0:
                raise Stop("stopped by the benchmark.", hint="It goes on by itself.")

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> NDArray[np.float32]:
        """Outputs of a model: no timing."""
        return self._device.run_model(model, inputs_NHWC, options)

    def renew(self) -> None:
        """As the device does."""
        self._device.renew()

    def close(self) -> None:
        """As the device does."""
        self._device.close()


def least_timings(config: MeasurementConfig, models: int) -> int:
    """How many timings ``models`` that stay in the race take at least, the anchor's among them."""
    anchors = 1 + math.ceil(models / config.anchor_every) if config.anchor_every else 1
    return config.rounds * (models + anchors)


def measure_in_sittings(
    condition: Condition,
    least: Mapping[str, int],
    device: Callable[[], Device],
    run: Callable[[Mapping[str, Device]], T],
) -> T:
    """What ``run`` gives in the last sitting. It is given a device for each stage of ``least``.

    ``least``: timings that each stage takes at least (:func:`least_timings`). Each sitting has a new
    ``device``. Raises RuntimeError where one ends before it is stopped: nothing was resumed then.
    """
    for busy, (stage, share) in zip(condition.busy, condition.stops, strict=False):
        with beside_busy_process(busy), closing(device()) as real:
            allowed = max(1, round(share * least[stage]))
            limits = {name: allowed if name == stage else math.inf for name in least}
            try:
                run({name: StoppedDevice(real, limit) for name, limit in limits.items()})
            except Stop:
                continue
            raise RuntimeError(f"stage {stage} was to be stopped after {allowed} timings and took fewer")
    with beside_busy_process(condition.busy[-1]), closing(device()) as real:
        return run(dict.fromkeys(least, real))
