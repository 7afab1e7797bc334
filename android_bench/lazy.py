"""A device that is looked for when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

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
from android_bench.outputs import Example, WritesOutputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LazyDevice:
    """Stands for the device that ``find`` returns (a :class:`~android_bench.device.Device`).

    A run in which everything is fresh, and every command that only reads, need no phone at all. What ``find``
    raises (NoUsableDeviceError), every method raises. ``overhead`` is that of the device to be found.
    """

    def __init__(self, find: Callable[[], Device], overhead: Overhead) -> None:
        self._find = find
        self.overhead = overhead
        self._found: Device | None = None

    def _device(self) -> Device:
        if self._found is None:
            self._found = self._find()
        return self._found

    def info(self) -> DeviceInfo:
        """Which device this is."""
        return self._device().info()

    def conditions(self) -> Conditions:
        """The device's present state."""
        return self._device().conditions()

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """Time one model, one round."""
        return self._device().benchmark(request)

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        """Time each request in the order given; yield its index and result as soon as it is known."""
        return self._device().benchmark_many(requests)

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> NDArray[np.float32]:
        """Outputs (N, ...) of a model with batch size 1, image by image."""
        return self._device().run_model(model, inputs_NHWC, options)

    def output_bytes(
        self, model: bytes, examples: Sequence[Example], options: RuntimeOptions
    ) -> list[bytes] | None:
        """The outputs' bytes for each example; None where the device cannot write them."""
        device = self._device()
        return device.output_bytes(model, examples, options) if isinstance(device, WritesOutputs) else None

    def renew(self) -> None:
        """Nothing where it was never needed."""
        if self._found is not None:
            self._found.renew()

    def close(self) -> None:
        """Nothing where it was never needed."""
        if self._found is not None:
            self._found.close()
