"""Time many models in random order over several rounds, and go on where a killed run stopped.

Whatever else the device does comes and goes in spells, and a device that grows hot grows slow. A model timed
once may meet one; timed in every round, each round in another order, it is seen in most of them undisturbed.
Between the timings an anchor model is timed again and again: what it shows of the device's speed is taken
out of all others (:mod:`stages.drift`), and what was timed in a spell is timed again.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol, runtime_checkable

from pydantic import Field, ValidationError

from android_bench.device import (
    LOCAL_OVERHEAD,
    BenchmarkRequest,
    Device,
    LatencyMeasurement,
    Overhead,
    RuntimeOptions,
    combine,
)
from nasflow.errors import DeviceError
from pipeline.artifact import Record
from pipeline.stage import Context
from stages.documents import Timing
from stages.drift import Drift, find_drift

_LOG = "measurements"
NEGLIGIBLE_MS = 2e-4  # twenty ticks of a usual clock; no network's latency hangs on that
OUT_OF_THE_RACE = 1.5  # a rival that much slower will not win; the first timings may have met a spell
OUT_AT_ONCE, ENOUGH_TIMINGS = 4.0, 3
PRIOR_TIMINGS = 10.0
MACS_PER_MS = 2e7  # a slow core; only for an estimate of the time


@runtime_checkable
class Measures(Protocol):
    """A stage that measures on the device."""

    def device_seconds(self) -> tuple[float, float]:
        """A guess how long the device is at work: at least, and at most where its timings scatter."""


class MeasuringConfig(Record):
    """How long and how often each model is timed."""

    rounds: int = Field(default=8, ge=3, le=1000, description="rounds in which every model is timed once")
    extra_rounds: int = Field(
        default=12, ge=0, le=1000, description="up to so many more rounds for models that are still unsure"
    )
    interval_percent: float = Field(
        default=2.0,
        gt=0,
        le=100,
        description="width of the median's 95 % interval above which a model is unsure",
    )
    anchor_every: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="timings between two of the anchor, which shows the device's drift; 0: drift stays in",
    )
    warmup_ms: float = Field(
        default=3.0, ge=0, le=60_000, description="uncounted invocations before each timing"
    )
    min_ms: float = Field(default=20.0, gt=0, le=60_000, description="counted invocations of each timing")
    min_runs: int = Field(default=5, ge=1, le=100_000, description="counted invocations at least")

    def estimate_seconds(
        self, macs: Sequence[int], anchor_macs: int = 0, overhead: Overhead = LOCAL_OVERHEAD
    ) -> float:
        """Roughly how long models of so many multiply-accumulates take, extra rounds left out."""
        anchors = 1 + len(macs) // self.anchor_every if self.anchor_every else 0
        invoking_ms = sum(self._invoking_ms(mac) for mac in macs) + anchors * self._invoking_ms(anchor_macs)
        timings = len(macs) + anchors
        return self.rounds * (invoking_ms + timings * overhead.timing_ms + overhead.list_ms) / 1000

    def most_seconds(self, seconds: float) -> float:
        """What becomes of such an estimate where every model needs all extra rounds."""
        return seconds * (self.rounds + self.extra_rounds) / self.rounds

    def _invoking_ms(self, macs: int) -> float:
        return max(self.warmup_ms + self.min_ms, (1 + self.min_runs) * macs / MACS_PER_MS)


@dataclass(frozen=True)
class Work:
    """What is to be timed.

    ``anchor`` is a model (by name, like the others) that is timed between them; ``reference_ms`` its time
    where an earlier series has found it. ``rivals`` are groups of models of which only the fastest will be
    used: one that is far behind after the first round drops out.
    """

    models: Mapping[str, bytes]
    anchor: tuple[str, bytes] | None = None
    reference_ms: float | None = None
    rivals: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Measured:
    """What came out: each model's rounds joined, drift taken out, and the time spent, earlier runs included.

    ``timings`` are the raw ones, in order of time, with the drift that was found in them.
    """

    by_name: Mapping[str, LatencyMeasurement]
    timings: tuple[Timing, ...]
    seconds: float


def scatter(medians_ms: Sequence[float]) -> float:
    """Relative standard deviation of some rounds by their median absolute deviation.

    A few disturbed rounds do not move it. 0 for fewer than 2.
    """
    middle = median(medians_ms)
    return 1.4826 * median(abs(value - middle) for value in medians_ms) / middle


def interval_percent(medians_ms: Sequence[float], usual_scatter: float | None = None) -> float:
    """Width of the 95 % interval of the median of some rounds, in percent of it; infinite below 2 rounds.

    For normal noise the median's standard error is 1.2533 sigma / sqrt(n); Student's t widens it for few.
    ``usual_scatter`` is the relative scatter of the other models beside which this one was timed. It is
    weighed as if it were ten timings: where rounds are added until the interval is narrow, a model whose
    few rounds agree by luck would otherwise stop there, and be known less well than it says.
    """
    from scipy.special import stdtrit

    count = len(medians_ms)
    if count < 2:
        return math.inf
    own, weight = scatter(medians_ms), PRIOR_TIMINGS if usual_scatter is not None else 0.0
    sigma = math.sqrt((weight * (usual_scatter or 0.0) ** 2 + count * own**2) / (weight + count))
    error = 1.2533 * sigma / math.sqrt(count)
    return 200 * float(stdtrit(count - 1 + weight, 0.975)) * error


def measure_rounds(
    context: Context,
    device: Device,
    work: Work,
    config: MeasuringConfig,
    options: RuntimeOptions,
    seed: int,
) -> Measured:
    """Time every model; each timing is in ``context.scratch`` before the next begins.

    Raises DeviceError, BadMeasurement; what is done by then is kept. Warns of models that stay unsure.
    """
    session = _Session(context, device, work, config, options)
    for number in range(config.rounds + config.extra_rounds):
        # Judged by earlier rounds alone, so that a run that goes on judges as the killed one did.
        wanted = session.wanted(number)
        if not wanted:
            break
        random.Random(f"{seed}/{number}").shuffle(wanted)
        session.measure(number, wanted)
    judged = session.judge()
    if len(judged.drift.levels) > 1:
        levels = ", ".join(f"{slow:.2f} ({share:.0%})" for slow, share in judged.drift.levels)
        context.say(
            f"the device changed its speed meanwhile; time per work, and for how much of the time: {levels}. "
            "Latencies are those at its fastest lasting speed."
        )
    if unsure := [name for name in work.models if judged.unsure(name, config)]:
        worst = max(unsure, key=judged.width_percent)
        context.warn(
            f"{len(unsure)} of {len(work.models)} latencies are known less well than wanted: their 95 % "
            f"interval is wider than {config.interval_percent:g} % (worst: {worst}, "
            f"{judged.width_percent(worst):.1f} %). Other programs or heat disturb the device; quieten it "
            f"and run 'nasflow run --force {context.stage}'."
        )
    names = [*work.models, *(name for name in judged.names if name not in work.models)]
    return Measured({name: judged.joined(name) for name in names}, judged.timings(), session.seconds)


@dataclass(frozen=True)
class _Row:
    round: int
    name: str
    measurement: LatencyMeasurement
    seconds: float


@dataclass
class _Judged:
    """What some timings say when the device's drift is taken out of them."""

    rows: Sequence[_Row]
    drift: Drift
    rivals: Mapping[str, Sequence[str]]
    _usual_scatter: float | None = None
    _of: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows):
            self._of[row.name].append(place)
        scatters = [scatter(self.medians_ms(name)) for name in self._of if len(self._of[name]) > 2]
        self._usual_scatter = median(scatters) if scatters else None

    @property
    def names(self) -> list[str]:
        """Every model, the anchor among them."""
        return list(self._of)

    def medians_ms(self, name: str) -> list[float]:
        """A model's undisturbed rounds; all of them where too few are."""
        return [m.median_ms for m in self._corrected(name)]

    def width_percent(self, name: str) -> float:
        """Width of the interval of a model's median."""
        return interval_percent(self.medians_ms(name), self._usual_scatter)

    def wanting(self, name: str, config: MeasuringConfig) -> bool:
        """Whether a model that may still be used needs more timings."""
        return not self.beaten(name) and (self.unsure(name, config) or len(self._whole(name)) < config.rounds)

    def unsure(self, name: str, config: MeasuringConfig) -> bool:
        """Whether the latency of a model that may still be used is known less well than wanted."""
        if self.beaten(name):
            return False
        width = self.width_percent(name)
        width_ms = width / 100 * median(self.medians_ms(name))
        return width > config.interval_percent and width_ms > NEGLIGIBLE_MS

    def beaten(self, name: str) -> bool:
        """Whether a rival is so much faster that this model will never be used."""
        mine = self.medians_ms(name)
        few = len(mine) < ENOUGH_TIMINGS
        factor = OUT_AT_ONCE if few else OUT_OF_THE_RACE
        return any(
            median(mine) > factor * median(self.medians_ms(other)) for other in self.rivals.get(name, ())
        )

    def joined(self, name: str) -> LatencyMeasurement:
        """A model's rounds as one measurement."""
        return combine(self._corrected(name))

    def timings(self) -> tuple[Timing, ...]:
        """All timings as they were taken."""
        return tuple(
            Timing(
                round=row.round,
                name=row.name,
                measurement=row.measurement,
                slowdown=factor,
                disturbed=disturbed,
            )
            for row, factor, disturbed in zip(
                self.rows, self.drift.factors, self.drift.disturbed, strict=True
            )
        )

    def _whole(self, name: str) -> list[int]:
        return [place for place in self._of[name] if not self.drift.disturbed[place]]

    def _corrected(self, name: str) -> list[LatencyMeasurement]:
        whole = self._whole(name)
        places = whole if 2 * len(whole) >= len(self._of[name]) else self._of[name]
        return [self.rows[place].measurement.divided(self.drift.factors[place]) for place in places]


class _Session:
    """The log of timings, and what is still to be added to it."""

    def __init__(
        self,
        context: Context,
        device: Device,
        work: Work,
        config: MeasuringConfig,
        options: RuntimeOptions,
    ) -> None:
        self._context, self._device, self._work, self._config = context, device, work, config
        self._done = self._total = 0
        models = {**work.models, **dict([work.anchor] if work.anchor else [])}
        self._anchor = work.anchor[0] if work.anchor and config.anchor_every else None
        # An anchor that is not to be timed between the others is timed as one of them.
        self._names = [name for name in models if name != self._anchor]
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
        self._rivals = {
            name: [other for other in group if other != name] for group in work.rivals for name in group
        }
        self._rows = self._kept()

    @property
    def seconds(self) -> float:
        """Time of all timings, those of earlier runs included."""
        return sum(row.seconds for row in self._rows)

    def wanted(self, number: int) -> list[str]:
        """The models to be timed in a round, judged by the rounds before it."""
        names = list(self._names)
        if number == 0 or (number < self._config.rounds and not self._rivals):
            return names
        judged = self.judge(number)
        if number < self._config.rounds:
            return [name for name in names if not judged.beaten(name)]
        return [name for name in names if judged.wanting(name, self._config)]

    def judge(self, before: int | None = None) -> _Judged:
        """What the timings of the rounds ``before`` one say."""
        rows = [row for row in self._rows if before is None or row.round < before]
        drift = find_drift(
            [row.name for row in rows],
            [row.measurement.median_ms for row in rows],
            self._anchor or "",
            self._work.reference_ms,
        )
        return _Judged(rows, drift, self._rivals)

    def measure(self, number: int, names: Sequence[str]) -> None:
        """Time what is not yet in the log, and the anchor between."""
        known = {row.name for row in self._rows if row.round == number}
        todo = [name for name in names if name not in known]
        self._done += len(names) - len(todo)
        self._total = self._done + len(todo) + len(names) * max(0, self._config.rounds - number - 1)
        if not todo:
            return
        sequence = self._with_anchor(todo)
        before = time.monotonic()
        seen = set(known)
        for index, measurement in self._device.benchmark_many([self._requests[name] for name in sequence]):
            name = sequence[index]
            now = time.monotonic()
            self._keep(_Row(number, name, measurement, now - before))
            before = now
            if name not in seen and name != self._anchor:
                seen.add(name)
                self._done += 1
                note = f"{name} {1000 * measurement.median_ms:.1f} us"
                self._context.progress(self._done, self._total, "timings", note)
        if missing := [name for name in todo if name not in seen]:
            raise DeviceError(
                f"{self._device.info().model} left out {len(missing)} of {len(todo)} timings, "
                f"{missing[0]} among them.",
                hint="Run the command again: it goes on from what is already measured.",
            )

    def _with_anchor(self, names: Sequence[str]) -> list[str]:
        if self._anchor is None:
            return list(names)
        every = self._config.anchor_every
        sequence = [self._anchor]
        for start in range(0, len(names), every):
            sequence += [*names[start : start + every], self._anchor]
        return sequence

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
        self._rows.append(row)

    def _kept(self) -> list[_Row]:
        rows = []
        for row in self._context.scratch.rows(_LOG):
            try:
                measurement = LatencyMeasurement.model_validate(row["measurement"])
                rows.append(_Row(row["round"], row["name"], measurement, row["seconds"]))
            except (KeyError, ValidationError) as error:
                self._context.warn(f"a kept timing cannot be read and is taken again: {error}")
        return [row for row in rows if row.name in self._requests]
