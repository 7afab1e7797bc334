"""A device of which all is known that keeps a latency model from being exact, for simulated calibrations.

Beside drift and throttling (:class:`benchmarks._drift.DriftingDevice`): the effect of a model's place in a
process's memory, which the next process draws anew; the noise of a single timing, and now and then another
program beside one; and what a whole network takes more or less than its blocks say. Time is simulated.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from android_bench.device import BenchmarkRequest, LatencyMeasurement
from benchmarks._drift import DriftingDevice

NOISE, DISTURBED, DISTURBED_SHARE = 0.01, 1.3, 0.02
"""Of a timing: its own scatter, and how much slower one in fifty is."""


@dataclass(frozen=True)
class NoiseSources:
    """Standard deviations of logarithms. ``placement``: of a model in one process, against all processes.

    ``own``: of a whole network's time, against what is computed from its blocks.
    """

    placement: float
    own: float

    @classmethod
    def drawn(cls, seed: int) -> NoiseSources:
        """Another device in each calibration: placement 0 to 4 %, networks' own deviations 0.5 to 3 %."""
        chance = random.Random(f"{seed}/chances")
        return cls(placement=chance.uniform(0.0, 0.04), own=chance.uniform(0.005, 0.03))

    def network_factor(self, seed: int, name: str) -> float:
        """What a network takes over what is computed from its blocks, on the device of a calibration."""
        return math.exp(random.Random(f"{seed}/own/{name}").gauss(0, self.own))


class NoisyDevice(DriftingDevice):
    """Models' times by :class:`NoiseSources`; ``renew`` starts another process."""

    def __init__(
        self,
        true_ms: Callable[[BenchmarkRequest], float],
        noise: NoiseSources,
        *,
        seed: int,
        throttle_at: int,
    ) -> None:
        super().__init__(true_ms, seed=seed, throttle_at=throttle_at)
        self._noise, self._seed = noise, seed
        self.processes = 1

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """One timing, in the midst of drift, of a model at its place in the present process."""
        chance = random.Random(f"{self._seed}/timing/{self.timings}")
        place = random.Random(f"{self._seed}/{self.processes}/{request.name}")
        factor = math.exp(place.gauss(0, self._noise.placement) + chance.gauss(0, NOISE))
        if chance.random() < DISTURBED_SHARE:
            factor *= DISTURBED
        return super().benchmark(request).divided(1 / factor)

    def renew(self) -> None:
        """What is timed from now on lies elsewhere in memory."""
        self.processes += 1
