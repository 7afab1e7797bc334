"""Time many models in random order over several rounds, and go on where a killed run stopped.

Whatever else the device does comes and goes in spells. A block measured once may meet one; measured in
every round, each round in another order, it is seen in most of them undisturbed, and the median of the
rounds' medians leaves the spell out.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pydantic import Field, ValidationError

from android_bench.device import BenchmarkRequest, Device, LatencyMeasurement, RuntimeOptions, combine
from nasflow.errors import DeviceError
from pipeline.artifact import Record
from pipeline.stage import Context

_LOG = "measurements"
NEGLIGIBLE_MS = 5e-5  # five ticks of a usual clock; no network's latency hangs on that
_MAC_PER_MS = 2e7  # a slow core; only for an estimate of the time


class MeasuringConfig(Record):
    """How long and how often each model is timed."""

    rounds: int = Field(default=10, ge=3, le=1000, description="rounds in which every model is timed once")
    extra_rounds: int = Field(
        default=10, ge=0, le=1000, description="up to so many more rounds for models that are still unsure"
    )
    max_error_percent: float = Field(
        default=1.0, gt=0, le=100, description="standard error of the median above which a model is unsure"
    )
    warmup_ms: float = Field(
        default=3.0, ge=0, le=60_000, description="uncounted invocations before each timing"
    )
    min_ms: float = Field(default=20.0, gt=0, le=60_000, description="counted invocations of each timing")
    min_runs: int = Field(default=10, ge=1, le=100_000, description="counted invocations at least")

    def estimate_seconds(self, macs: Sequence[int]) -> float:
        """Roughly how long models of so many multiply-accumulates take, extra rounds left out."""
        overhead_ms = 4.0
        one_round_ms = sum(
            overhead_ms + max(self.warmup_ms + self.min_ms, (1 + self.min_runs) * mac / _MAC_PER_MS)
            for mac in macs
        )
        return self.rounds * one_round_ms / 1000


@dataclass(frozen=True)
class Measured:
    """What came out: each model's rounds joined, and the time spent, earlier runs included."""

    by_name: Mapping[str, LatencyMeasurement]
    seconds: float


@dataclass(frozen=True)
class _Row:
    round: int
    name: str
    measurement: LatencyMeasurement
    seconds: float


def median_error(medians_ms: Sequence[float]) -> float:
    """Relative standard error of the median of some rounds, estimated by their absolute deviations.

    For normal noise the median's standard error is 1.2533 sigma / sqrt(n), and sigma is 1.4826 times the
    median absolute deviation, which a few disturbed rounds do not move.
    """
    middle = median(medians_ms)
    deviation = median(abs(value - middle) for value in medians_ms)
    return 1.2533 * 1.4826 * deviation / (middle * math.sqrt(len(medians_ms)))


def measure_rounds(
    context: Context,
    device: Device,
    models: Mapping[str, bytes],
    config: MeasuringConfig,
    options: RuntimeOptions,
    seed: int,
) -> Measured:
    """Time every model; each timing is in ``context.scratch`` before the next begins.

    Raises DeviceError, BadMeasurement; what is done by then is kept. Warns of models that stay unsure.
    """
    session = _Session(context, device, models, config, options)
    every_round = [
        (number, name) for number in range(config.rounds) for name in _shuffled(models, seed, number)
    ]
    session.measure(every_round)
    for number in range(config.rounds, config.rounds + config.extra_rounds):
        # Judged by earlier rounds alone, so that a run that goes on judges as the killed one did.
        unsure = [name for name in models if session.unsure(name, config, before=number)]
        if not unsure:
            break
        session.measure([(number, name) for name in _shuffled(unsure, seed, number)])
    if unsure := [name for name in models if session.unsure(name, config)]:
        worst = max(unsure, key=session.error)
        context.warn(
            f"{len(unsure)} of {len(models)} latencies are known less well than to "
            f"{config.max_error_percent:g} % (worst: {worst}, {100 * session.error(worst):.1f} %). Other "
            f"programs or heat disturb the device; quieten it and run 'nasflow run --force {context.stage}'."
        )
    return Measured({name: combine(session.rounds_of(name)) for name in models}, session.seconds)


def _shuffled(names: Mapping[str, bytes] | Sequence[str], seed: int, number: int) -> list[str]:
    order = list(names)
    random.Random(f"{seed}/{number}").shuffle(order)
    return order


class _Session:
    """The log of timings, and what is still to be added to it."""

    def __init__(
        self,
        context: Context,
        device: Device,
        models: Mapping[str, bytes],
        config: MeasuringConfig,
        options: RuntimeOptions,
    ) -> None:
        self._context, self._device = context, device
        self._done = self._total = 0
        self._requests = {
            name: BenchmarkRequest(
                name=name,
                model=model,
                options=options,
                warmup_ms=config.warmup_ms,
                min_ms=config.min_ms,
                min_runs=config.min_runs,
            )
            for name, model in models.items()
        }
        self._rows: dict[str, dict[int, _Row]] = defaultdict(dict)
        for row in self._kept():
            self._rows[row.name][row.round] = row

    @property
    def seconds(self) -> float:
        """Time of all timings, those of earlier runs included."""
        return sum(row.seconds for rows in self._rows.values() for row in rows.values())

    def rounds_of(self, name: str) -> list[LatencyMeasurement]:
        """A model's timings in the order of their rounds."""
        return [row.measurement for _, row in sorted(self._rows[name].items())]

    def error(self, name: str) -> float:
        """Relative standard error of a model's median."""
        return median_error(self._medians_ms(name))

    def unsure(self, name: str, config: MeasuringConfig, before: int | None = None) -> bool:
        """Whether the rounds ``before`` one leave a model's median less sure than asked for."""
        medians_ms = self._medians_ms(name, before)
        error = median_error(medians_ms)
        return error > config.max_error_percent / 100 and error * median(medians_ms) > NEGLIGIBLE_MS

    def _medians_ms(self, name: str, before: int | None = None) -> list[float]:
        rows = self._rows[name].values()
        return [row.measurement.median_ms for row in rows if before is None or row.round < before]

    def measure(self, wanted: Sequence[tuple[int, str]]) -> None:
        """Time what is wanted and not yet in the log."""
        todo = [(number, name) for number, name in wanted if number not in self._rows[name]]
        self._done += len(wanted) - len(todo)
        self._total += len(wanted)
        before = time.monotonic()
        answers = self._device.benchmark_many([self._requests[name] for _, name in todo])
        for index, measurement in answers:
            number, name = todo[index]
            now = time.monotonic()
            row = _Row(number, name, measurement, now - before)
            self._keep(row)
            before = now
            self._done += 1
            note = f"{name} {1000 * measurement.median_ms:.1f} us"
            self._context.progress(self._done, self._total, "timings", note)
        if missing := [name for number, name in todo if number not in self._rows[name]]:
            raise DeviceError(
                f"{self._device.info().model} left out {len(missing)} of {len(todo)} timings, "
                f"{missing[0]} among them.",
                hint="Run the command again: it goes on from what is already measured.",
            )

    def _keep(self, row: _Row) -> None:
        self._context.scratch.append(
            _LOG,
            {
                "round": row.round,
                "name": row.name,
                "seconds": row.seconds,
                "measurement": row.measurement.model_dump(mode="json"),
            },
        )
        self._rows[row.name][row.round] = row

    def _kept(self) -> list[_Row]:
        rows = []
        for row in self._context.scratch.rows(_LOG):
            try:
                measurement = LatencyMeasurement.model_validate(row["measurement"])
                rows.append(_Row(row["round"], row["name"], measurement, row["seconds"]))
            except (KeyError, ValidationError) as error:
                self._context.warn(f"a kept timing cannot be read and is taken again: {error}")
        return [row for row in rows if row.name in self._requests]
