"""Latency of several networks side by side, in interleaved rounds that survive an interruption."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from android_bench.device import BenchmarkRequest, Device, LatencyMeasurement, combine
from nasflow.base.errors import DeviceError
from pipeline.stage import Context


class Rounds:
    """Whole rounds only: one that was cut off is measured again, so that a round is one moment."""

    def __init__(
        self, context: Context, device: Device, requests: Mapping[str, BenchmarkRequest], seed: int
    ) -> None:
        self._scratch = context.scratch
        self._device = device
        self._requests = requests
        self._seed = seed
        self._rows: list[dict[str, Any]] = context.scratch.rows("rounds")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def seconds(self) -> float:
        """Time that the rounds took, earlier runs included."""
        return float(sum(row["seconds"] for row in self._rows))

    def measure(self) -> None:
        """Time every network once, in random order; the round is on the disk when this returns.

        Raises DeviceError where the device is lost or leaves a network out.
        """
        names = list(self._requests)
        random.Random(f"{self._seed} {len(self)}").shuffle(names)
        started = time.monotonic()
        measured = {
            names[index]: measurement.model_dump(mode="json")
            for index, measurement in self._device.benchmark_many([self._requests[n] for n in names])
        }
        self._device.renew()
        if lost := sorted(set(names) - set(measured)):
            raise DeviceError(
                f"the device gave no latency for {', '.join(lost)}.",
                hint="Run nasflow again; the rounds measured so far are kept.",
            )
        row = {"measured": measured, "seconds": time.monotonic() - started}
        self._scratch.append("rounds", row)
        self._rows.append(row)

    def medians_ms(self, name: str) -> list[float]:
        """One network's median of every round."""
        return [measurement.median_ms for measurement in self._of(name)]

    def combined(self, name: str) -> LatencyMeasurement:
        """One network's rounds joined."""
        return combine(self._of(name))

    def _of(self, name: str) -> list[LatencyMeasurement]:
        return [LatencyMeasurement.model_validate(row["measured"][name]) for row in self._rows]
