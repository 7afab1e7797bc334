"""A described phone that times models as ``benchmark_model`` does, in whole microseconds, or exactly.

What a model takes follows from its operators (:mod:`android_bench.virtual_phone.described_cost`), plus what
each invocation costs; a whole network takes a little more than its parts. Every timing is a process of its
own, a little faster or slower than others; every run scatters, and some are interrupted. All that is drawn by
seed and name, so that two phones of one seed differ in their clocks alone. How much of each there is, is
assumed.

The counting clock reads the time before and after each run, rounded down, and where in a microsecond a run
begins follows from all before it. What it counted is printed and written as the tool does, and read by the
parsers that read a real phone's answers.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from android_bench.device import BenchmarkRequest, DeviceInfo, LatencyMeasurement
from android_bench.runner.identity import RunnerTool
from android_bench.runner.tool import finished_run
from android_bench.transport import Completed
from android_bench.virtual_phone import benchmark_text as text
from android_bench.virtual_phone.described_cost import operators_ms
from benchmarks._simulated_device import SimulatedDevice, described
from pipeline.artifact import sha256_hex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP_MS = 0.001
SPEEDS = (0.7, 1.6)  # from this to that many times the described phone's times
INVOKE_US = (0.4, 3.0)
BETWEEN_TIMINGS, BETWEEN_RUNS = 0.007, 0.01
INTERRUPTED, INTERRUPTION_US = 0.01, (20.0, 400.0)
GAP_US = 0.2  # from one run's end to the next one's begin
NETWORK_FACTOR, NETWORK_OVERHEAD_MS = 1.05, 0.002
_TOOL = RunnerTool("classic", frozenset())


@dataclass
class CountingPhone(SimulatedDevice):
    """A phone of this seed, with a clock that counts whole microseconds where ``counts``."""

    seed: int
    counts: bool
    device_info: ClassVar[DeviceInfo] = described("android", "Described phone")
    _timings: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        chance = random.Random(f"{self.seed}/phone")
        self._speed = chance.uniform(*SPEEDS)
        self._invoke_ms = chance.uniform(*INVOKE_US) / 1000

    def true_ms(self, model: bytes) -> float:
        """What an invocation of a model takes when nothing disturbs it."""
        return self._invoke_ms + self.own_ms(model)

    def own_ms(self, model: bytes) -> float:
        """The same without what every invocation costs."""
        total_ms, whole = operators_ms(model)
        if whole:
            total_ms = NETWORK_FACTOR * total_ms + NETWORK_OVERHEAD_MS
        return self._speed * total_ms

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """One timing, in a process of its own."""
        import numpy as np

        number = self._timings[request.name]
        self._timings[request.name] += 1
        digest = sha256_hex(f"{self.seed}/{request.name}/{number}".encode())
        draw = np.random.default_rng(int(digest[:16], 16))
        typical_us = 1000 * self.true_ms(request.model) * draw.lognormal(0, BETWEEN_TIMINGS)
        warmup_us = self._runs(draw, typical_us, request.warmup_ms, 1)
        runs_us = self._runs(draw, typical_us, request.min_ms, request.min_runs)
        if self.counts:
            return self._counted(request, _counted(draw, warmup_us), _counted(draw, runs_us))
        least, p5, median, p95 = (float(ms) for ms in np.quantile(runs_us, [0, 0.05, 0.5, 0.95]) / 1000)
        return LatencyMeasurement(
            median_ms=median,
            p5_ms=p5,
            p95_ms=p95,
            min_ms=least,
            runs=len(runs_us),
            rounds=1,
            round_medians_ms=(median,),
        )

    def _runs(
        self, draw: np.random.Generator, typical_us: float, least_ms: float, least_runs: int
    ) -> NDArray[np.float64]:
        """Durations of runs, until both minima are reached."""
        import numpy as np

        most = least_runs + int(1.2 * 1000 * least_ms / typical_us) + 1
        runs_us = typical_us * draw.lognormal(0, BETWEEN_RUNS, most)
        runs_us += (draw.random(most) < INTERRUPTED) * draw.uniform(*INTERRUPTION_US, most)
        enough = int(np.searchsorted(np.cumsum(runs_us + GAP_US), 1000 * least_ms)) + 1
        return np.asarray(runs_us[: max(least_runs, enough)], float)

    def _counted(
        self, request: BenchmarkRequest, warmup_us: tuple[int, ...], runs_us: tuple[int, ...]
    ) -> LatencyMeasurement:
        """What the tool says of such runs, as it is read from a real phone."""
        measured = text.Measured(
            graph="/data/local/tmp/model.tflite",
            model_bytes=len(request.model),
            input_bytes=4,
            init_us=1000,
            warmup_us=warmup_us,
            runs_us=runs_us,
            init_kib=1024,
            overall_kib=2048,
        )
        limits = (
            (1, request.warmup_ms / 1000, 150.0),
            (request.min_runs, request.min_ms / 1000, 150.0),
        )
        lines: list[str] = []
        for limit, times_us in zip(limits, (warmup_us, runs_us), strict=True):
            lines += [text.running_line(*limit), text.statistics_line(times_us), ""]
        lines += text.classic_summary(measured)
        printed = "".join(f"INFO: {line}\n" if line else "\n" for line in lines).encode()
        found = finished_run(_TOOL, Completed(printed, b"", 0), text.result_protobuf(measured), request)
        return found.model_copy(update={"resolution_ms": STEP_MS})


def _counted(draw: np.random.Generator, runs_us: NDArray[np.float64]) -> tuple[int, ...]:
    """Whole microseconds of each run: the clock's readings, both rounded down, one less the other."""
    import numpy as np

    ends = draw.uniform(0, 1000) + np.cumsum(runs_us + GAP_US)
    counted = np.floor(ends) - np.floor(ends - runs_us)
    return tuple(int(count) for count in counted)
