"""Time many models in random order over several rounds, and go on where a killed run stopped.

Whatever else the device does comes and goes in spells, and a device that grows hot grows slow. A model timed
once may meet one; timed in every round, each round in another order, it is seen in most of them undisturbed.
Between the timings an anchor model is timed again and again: what it shows of the device's speed is taken
out of all others (:mod:`stages.drift`), and what was timed in a spell is timed again. Where the device's
clock is coarser than a model's work, from the second round on several copies of it are timed in its stead
(:mod:`stages.repetition`).
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
from stages.repetition import Repeatable, copies_needed, repeated_name, resolution_percent, single_name

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
    used: one that is far behind after the first round drops out. Models that are ``repeatable`` are made
    longer where the device's clock is too coarse for them; ``invoke`` names the model that does next to
    nothing, whose time is no part of theirs. ``kinds``: models that other programs slow alike, by a word.
    """

    models: Mapping[str, bytes]
    anchor: tuple[str, bytes] | None = None
    reference_ms: float | None = None
    rivals: Sequence[Sequence[str]] = ()
    repeatable: Mapping[str, Repeatable] = field(default_factory=dict)
    invoke: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What came out: each model's rounds joined, drift taken out, and the time spent, earlier runs included.

    ``timings`` are the raw ones, in order of time, with the drift that was found in them. What ``by_name``
    gives is the time of so many ``copies`` of a model in one. A model is ``resolved`` unless the step of the
    device's clock alone leaves its own time a wider interval than was wanted. ``shift_percent``: how far the
    anchor failed to speak for the models (:mod:`stages.alignment`).
    """

    by_name: Mapping[str, LatencyMeasurement]
    timings: tuple[Timing, ...]
    seconds: float
    copies: Mapping[str, int] = field(default_factory=dict)
    resolved: Mapping[str, bool] = field(default_factory=dict)
    shift_percent: float = 0.0


def scatter(medians_ms: Sequence[float]) -> float:
    """Relative standard deviation of some rounds by their median absolute deviation.

    A few disturbed rounds do not move it. 0 for fewer than 2.
    """
    middle = median(medians_ms)
    return 1.4826 * median(abs(value - middle) for value in medians_ms) / middle


def interval_percent(
    medians_ms: Sequence[float], usual_scatter: float | None = None, resolution_ms: float = 0.0
) -> float:
    """Width of the 95 % interval of the median of some rounds, in percent of it; infinite below 2 rounds.

    For normal noise the median's standard error is 1.2533 sigma / sqrt(n); Student's t widens it for few.
    ``usual_scatter`` is the relative scatter of the other models beside which this one was timed. It is
    weighed as if it were ten timings: where rounds are added until the interval is narrow, a model whose
    few rounds agree by luck would otherwise stop there, and be known less well than it says.

    A clock that counts steps of ``resolution_ms`` leaves every median off by up to half a step, whatever the
    rounds agree on. That error and the noise are independent: their squares add up.
    """
    from scipy.special import stdtrit

    count = len(medians_ms)
    if count < 2:
        return math.inf
    own, weight = scatter(medians_ms), PRIOR_TIMINGS if usual_scatter is not None else 0.0
    sigma = math.sqrt((weight * (usual_scatter or 0.0) ** 2 + count * own**2) / (weight + count))
    error = 1.2533 * sigma / math.sqrt(count)
    width = 200 * float(stdtrit(count - 1 + weight, 0.975)) * error
    return math.hypot(width, 100 * resolution_ms / median(medians_ms)) if resolution_ms > 0 else width


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
        if number == 1:
            session.make_longer()
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
    if work.anchor is not None and judged.drift.shift_percent > 0:
        context.say(
            f"the models changed their speed otherwise than {work.anchor[0]} did, by "
            f"{judged.drift.shift_percent:.1f} % from stretch to stretch (standard deviation); that is taken "
            "out, too."
        )
    _tell_unsure(context, judged, work, config)
    names = [*work.models, *(name for name in judged.names if name not in work.models)]
    return Measured(
        by_name={name: judged.joined(name) for name in names},
        copies={name: judged.copies(name) for name in names},
        resolved={name: judged.resolution_percent(name) <= config.interval_percent for name in names},
        timings=judged.timings(),
        seconds=session.seconds,
        shift_percent=judged.drift.shift_percent,
    )


def judge_again(
    timings: Sequence[Timing], anchor: str, reference_ms: float | None
) -> tuple[dict[str, LatencyMeasurement], float]:
    """Each model's rounds joined, and ``shift_percent``: what :func:`measure_rounds` found in these timings.

    ``timings``: in order of time, of models none of which was repeated. Drift is looked for again; what a
    timing says of it is not used. ``anchor`` counts as one where some round timed it more than once.
    """
    rows = [_Row(timing.round, timing.name, timing.measurement, 0.0) for timing in timings]
    of_anchor = [row.round for row in rows if row.name == anchor]
    between = len(set(of_anchor)) < len(of_anchor)
    drift = _drift(rows, anchor if between else None, reference_ms, {})
    judged = _Judged(rows, drift, Work({}), {}, {})
    return {name: judged.joined(name) for name in judged.names}, drift.shift_percent


def _drift(
    rows: Sequence[_Row], anchor: str | None, reference_ms: float | None, kinds: Mapping[str, str]
) -> Drift:
    return find_drift(
        [row.name for row in rows],
        [row.measurement.median_ms for row in rows],
        anchor or "",
        reference_ms,
        steps_ms=[row.measurement.resolution_ms for row in rows],
        kinds={row.name: kinds.get(single_name(row.name), "") for row in rows},
    )


def _tell_unsure(context: Context, judged: _Judged, work: Work, config: MeasuringConfig) -> None:
    """Say which latencies are known less well than wanted, and why."""
    coarse = [name for name in work.models if judged.unresolved(name, config)]
    unsure = [name for name in work.models if judged.unsure(name, config) and name not in coarse]
    if unsure:
        worst = max(unsure, key=judged.width_percent)
        context.warn(
            f"{len(unsure)} of {len(work.models)} latencies are known less well than wanted: their 95 % "
            f"interval is wider than {config.interval_percent:g} % (worst: {worst}, "
            f"{judged.width_percent(worst):.1f} %). Other programs or heat disturb the device; quieten it "
            f"and run 'nasflow run --force {context.stage}'."
        )
    if coarse:
        worst = max(coarse, key=judged.resolution_percent)
        step_us, copies = 1000 * judged.joined(worst).resolution_ms, judged.copies(worst)
        told = (
            f"the device's clock, which counts steps of {step_us:.3g} us, cannot resolve {len(coarse)} of "
            f"{len(work.models)} latencies: it alone makes their interval wider than "
            f"{config.interval_percent:g} % (worst: {worst}, {judged.resolution_percent(worst):.1f} %"
            f"{f', as {copies} copies in one model' if copies > 1 else ''})."
        )
        # Where no network's latency hangs on any of them, that is no reason to worry.
        tell = context.warn if any(judged.unsure(name, config) for name in coarse) else context.say
        tell(told)


@dataclass(frozen=True)
class _Row:
    round: int
    name: str
    measurement: LatencyMeasurement
    seconds: float


@dataclass
class _Judged:
    """What some timings say when the device's drift is taken out of them.

    ``longer`` are models in whose stead so many copies are timed: by name, what their timings are called and
    how many copies they are of.
    """

    rows: Sequence[_Row]
    drift: Drift
    work: Work
    rivals: Mapping[str, Sequence[str]]
    longer: Mapping[str, tuple[str, int]]
    _usual_scatter: float | None = None
    _of: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows):
            self._of[row.name].append(place)
        scatters = [
            scatter([m.median_ms for m in self._corrected(places)])
            for places in self._of.values()
            if len(places) > 2
        ]
        self._usual_scatter = median(scatters) if scatters else None

    @property
    def names(self) -> list[str]:
        """Every model, the anchor among them."""
        repeated = {timed for timed, _ in self.longer.values()}
        return [name for name in self._of if name not in repeated]

    def copies(self, name: str) -> int:
        """How many copies of a model its latency is of."""
        timed, copies = self.longer.get(name, (name, 1))
        return copies if timed in self._of else 1

    def medians_ms(self, name: str) -> list[float]:
        """A model's undisturbed rounds; all of them where too few are."""
        return [m.median_ms for m in self._corrected(self._places(name))]

    def width_percent(self, name: str) -> float:
        """Width of the interval of a model's own time, in percent of it."""
        return self._width(name)[0]

    def resolution_percent(self, name: str) -> float:
        """The part of it that the clock's step alone makes: no further round narrows that."""
        total_ms, invoke_ms = median(self.medians_ms(name)), self._invoke_ms(name)
        return resolution_percent(total_ms, self._step_ms(name), invoke_ms)

    def wanting(self, name: str, config: MeasuringConfig) -> bool:
        """Whether a model that may still be used needs more timings."""
        if self.beaten(name):
            return False
        if len(self._whole(name)) < config.rounds:
            return True
        if self.unresolved(name, config):
            noise = interval_percent(self.medians_ms(name), self._usual_scatter)
            return noise > config.interval_percent
        return self.unsure(name, config)

    def unsure(self, name: str, config: MeasuringConfig) -> bool:
        """Whether the latency of a model that may still be used is known less well than wanted."""
        if self.beaten(name):
            return False
        width, width_ms = self._width(name)
        return width > config.interval_percent and width_ms > NEGLIGIBLE_MS

    def unresolved(self, name: str, config: MeasuringConfig) -> bool:
        """Whether the clock is too coarse for a model that may still be used."""
        if name == self.work.invoke or self.beaten(name):
            return False
        return self.resolution_percent(name) > config.interval_percent

    def beaten(self, name: str) -> bool:
        """Whether a rival is so much faster that this model will never be used."""
        few = len(self.medians_ms(name)) < ENOUGH_TIMINGS
        factor = OUT_AT_ONCE if few else OUT_OF_THE_RACE
        return any(self._span_ms(name)[0] > factor * self._span_ms(r)[1] for r in self.rivals.get(name, ()))

    def joined(self, name: str) -> LatencyMeasurement:
        """A model's rounds as one measurement."""
        return combine(self._corrected(self._places(name)))

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

    def _width(self, name: str) -> tuple[float, float]:
        """Width of the interval in percent of a model's own time, and in milliseconds for each copy."""
        medians, step_ms = self.medians_ms(name), self._step_ms(name)
        total_ms = median(medians)
        if step_ms == 0 or name == self.work.invoke:  # its step is counted where it is taken off
            width = interval_percent(medians, self._usual_scatter)
            return width, width / 100 * total_ms
        invoke_ms = self._invoke_ms(name)
        steps_ms = step_ms if invoke_ms is None else math.sqrt(2) * step_ms
        width_ms = interval_percent(medians, self._usual_scatter, steps_ms) / 100 * total_ms
        own_ms = total_ms - (invoke_ms or 0.0)
        return 100 * width_ms / own_ms if own_ms > 0 else math.inf, width_ms / self.copies(name)

    def _step_ms(self, name: str) -> float:
        return max(self.rows[place].measurement.resolution_ms for place in self._places(name))

    def _invoke_ms(self, name: str) -> float | None:
        """The invocation's part in a model's time; None where it belongs to it."""
        invoke = self.work.invoke
        return median(self.medians_ms(invoke)) if invoke and name in self.work.repeatable else None

    def _span_ms(self, name: str) -> tuple[float, float]:
        """Between which times one copy lies, by the clock's step."""
        total_ms, half_ms, copies = median(self.medians_ms(name)), self._step_ms(name) / 2, self.copies(name)
        return (total_ms - half_ms) / copies, (total_ms + half_ms) / copies

    def _places(self, name: str) -> list[int]:
        timed, _ = self.longer.get(name, (name, 1))
        return self._of[timed if timed in self._of else name]

    def _whole(self, name: str) -> list[int]:
        return [place for place in self._places(name) if not self.drift.disturbed[place]]

    def _corrected(self, places: Sequence[int]) -> list[LatencyMeasurement]:
        whole = [place for place in places if not self.drift.disturbed[place]]
        chosen = whole if 2 * len(whole) >= len(places) else places
        return [self.rows[place].measurement.divided(self.drift.factors[place]) for place in chosen]


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
        self._options = options
        self._requests = {name: self._request(name, model) for name, model in models.items()}
        self._longer: dict[str, tuple[str, int]] = {}
        self._rivals = {
            name: [other for other in group if other != name] for group in work.rivals for name in group
        }
        self._rows = self._kept()

    @property
    def seconds(self) -> float:
        """Time of all timings, those of earlier runs included."""
        return sum(row.seconds for row in self._rows)

    def make_longer(self) -> None:
        """Put several copies in one model in the place of what the first round shows to be too short.

        Nothing is done on a device with an exact clock. The first round alone decides, so that a run that
        goes on takes as many copies as the killed one did.
        """
        judged, work = self.judge(1), self._work
        invoke_ms = judged.joined(work.invoke).median_ms if work.invoke is not None else 0.0
        for name, repeatable in work.repeatable.items():
            if judged.beaten(name):
                continue
            alone, percent = judged.joined(name), self._config.interval_percent
            copies = copies_needed(repeatable, alone.median_ms, invoke_ms, alone.resolution_ms, percent)
            if copies > 1:
                timed = repeated_name(name, copies)
                self._longer[name] = timed, copies
                self._requests[timed] = self._request(timed, repeatable.model(copies))
        # Kept timings of other numbers of copies, if the first round was taken again, are of no use.
        self._rows = [row for row in self._rows if row.name in self._requests]
        if self._longer:
            numbers = [copies for _, copies in self._longer.values()]
            self._context.say(
                f"the device's clock is too coarse for {len(numbers)} of {len(work.models)} models: from now "
                f"on {min(numbers)} to {max(numbers)} copies of each are timed in one, their time divided."
            )

    def _request(self, name: str, model: bytes) -> BenchmarkRequest:
        config = self._config
        return BenchmarkRequest(
            name=name,
            model=model,
            options=self._options,
            warmup_ms=config.warmup_ms,
            min_ms=config.min_ms,
            min_runs=config.min_runs,
        )

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
        drift = _drift(rows, self._anchor, self._work.reference_ms, self._work.kinds)
        return _Judged(rows, drift, self._work, self._rivals, self._longer)

    def measure(self, number: int, names: Sequence[str]) -> None:
        """Time what is not yet in the log, and the anchor between."""
        if number > 0:
            names = [self._longer.get(name, (name, 1))[0] for name in names]
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
        return [row for row in rows if row.name in self._requests or self._may_be_copies(row.name)]

    def _may_be_copies(self, name: str) -> bool:
        """Whether a kept timing may be of several copies: how many there are to be is known only later."""
        alone, _, copies = name.rpartition(" x")
        return copies.isdecimal() and alone in self._work.repeatable
