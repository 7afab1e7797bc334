"""Latency of several networks side by side, in interleaved rounds that survive an interruption."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from android_bench.device import BenchmarkRequest, Conditions, Device, LatencyMeasurement, combine
from pipeline.stage import Scratch
from stages.measurement.timing import random_order, time_each


class PairedRounds:
    """Whole rounds only: one that was cut off is measured again, so that a round is one moment."""

    def __init__(
        self, scratch: Scratch, device: Device, requests: Mapping[str, BenchmarkRequest], seed: int
    ) -> None:
        self._scratch = scratch
        self._device = device
        self._requests = requests
        self._seed = seed
        self._rows: list[dict[str, Any]] = scratch.rows("rounds")

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
        names = random_order(self._requests, self._seed, len(self))
        started = time.monotonic()
        measured = {
            name: measurement.model_dump(mode="json")
            for name, measurement in time_each(self._device, self._requests, names)
        }
        self._device.renew()
        row = {"measured": measured, "seconds": time.monotonic() - started}
        self._scratch.append("rounds", row)
        self._rows.append(row)

    def medians_ms(self, name: str) -> list[float]:
        """One network's median of every round."""
        return [measurement.median_ms for measurement in self._of(name)]

    def combined(self, name: str) -> LatencyMeasurement:
        """One network's rounds joined."""
        return combine(self._of(name))

    def conditions(self) -> tuple[Conditions, ...]:
        """The device's state beside the timings of all rounds, each moment once, in order of time."""
        seen = {
            timing.conditions.at: timing.conditions
            for row in self._rows
            for fields in row["measured"].values()
            if (timing := LatencyMeasurement.model_validate(fields)).conditions is not None
        }
        return tuple(seen[at] for at in sorted(seen))

    def _of(self, name: str) -> list[LatencyMeasurement]:
        return [LatencyMeasurement.model_validate(row["measured"][name]) for row in self._rows]
