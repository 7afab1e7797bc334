"""One round: every model timed once, in random order. All series of timings are made of these."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from android_bench.device import BenchmarkRequest, Device, LatencyMeasurement
from nasflow.base.errors import DeviceError


def random_order(names: Iterable[str], seed: int, number: int) -> list[str]:
    """The order in which round ``number`` times the models: equal arguments give an equal one."""
    order = list(names)
    random.Random(f"{seed}/{number}").shuffle(order)
    return order


def time_each(
    device: Device, requests: Mapping[str, BenchmarkRequest], names: Sequence[str]
) -> Iterator[tuple[str, LatencyMeasurement]]:
    """Time models by name, in this order; a name may come several times.

    Raises DeviceError where the device is lost, or has left a model out.
    """
    seen = set()
    for index, measurement in device.benchmark_many([requests[name] for name in names]):
        seen.add(names[index])
        yield names[index], measurement
    wanted = list(dict.fromkeys(names))
    if missing := [name for name in wanted if name not in seen]:
        raise DeviceError(
            f"{device.info().model} left out {len(missing)} of {len(wanted)} models, "
            f"{missing[0]} among them.",
            hint="Run the command again: it continues from what is already measured.",
        )
