"""Time many models in random order over several rounds, and go on where a killed run stopped.

Whatever else the device does comes and goes in spells, and a device that grows hot grows slow. A model timed
once may meet one; timed in every round, each round in another order, it is seen in most of them undisturbed.
Each round has processes of its own: how fast a model is in one depends on where its memory lies there. Where
times in units of the anchor's are wanted, so has each timing of the anchor.
Between the timings an anchor model is timed again and again: what it shows of the device's speed is taken
out of all others (:mod:`stages.measurement.drift`), and what was timed in a spell is timed again. Where the
device's clock is coarser than a model's work, from the second round on several copies of it are timed in its
stead (:mod:`stages.measurement.repetition`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from android_bench.device import (
    BenchmarkRequest,
    Device,
    LatencyMeasurement,
    RuntimeOptions,
)
from pipeline.stage import Context
from stages.documents import Timing
from stages.measurement.assessment import Assessment, Row, drift_of
from stages.measurement.config import MeasurementConfig, starts_quickly
from stages.measurement.repetition import (
    copies_needed,
    repeated_name,
)
from stages.measurement.timing import random_order, time_each
from stages.measurement.work import Work

_LOG = "measurements"
DISTURBED = 5.0
"""Times as wide as wanted: intervals that idle devices do not have, though their processes differ."""


@dataclass(frozen=True)
class Measured:
    """What came out: each model's rounds joined, drift taken out, and the time spent, earlier runs included.

    ``timings`` are the raw ones, in order of time, with the drift that was found in them. What ``by_name``
    gives is the time of so many ``copies`` of a model in one. A model is ``resolved`` unless the step of the
    device's clock alone leaves its own time a wider interval than was wanted. ``shift_percent``: how far the
    anchor failed to speak for the models (:mod:`stages.measurement.alignment`).
    """

    by_name: Mapping[str, LatencyMeasurement]
    timings: tuple[Timing, ...]
    seconds: float
    copies: Mapping[str, int] = field(default_factory=dict)
    resolved: Mapping[str, bool] = field(default_factory=dict)
    shift_percent: float = 0.0


def measure_rounds(
    context: Context,
    device: Device,
    work: Work,
    config: MeasurementConfig,
    options: RuntimeOptions,
    seed: int,
) -> Measured:
    """Time every model; each timing is in ``context.scratch`` before the next begins.

    Raises DeviceError, BadMeasurementError; what is done by then is kept. Warns of models that stay unsure.
    """
    session = _Session(context, device, work, config, options)
    for number in range(config.rounds + config.extra_rounds):
        if number == 1:
            session.make_longer()
        # Judged by earlier rounds alone, so that a run that goes on judges as the killed one did.
        wanted = session.wanted(number)
        if not wanted:
            break
        session.measure(number, random_order(wanted, seed, number))
    assessment = session.assess()
    if len(assessment.drift.levels) > 1:
        levels = ", ".join(f"{slow:.2f} ({share:.0%})" for slow, share in assessment.drift.levels)
        context.say(
            "the device's speed changed during the measurement; relative time, and share of the "
            f"measurement: {levels}. Latencies are those at its fastest sustained speed."
        )
    if work.anchor is not None and assessment.drift.shift_percent > 0:
        context.say(
            f"the speed of the models changed differently from that of {work.anchor[0]}, by "
            f"{assessment.drift.shift_percent:.1f} % between segments (standard deviation); corrected, too."
        )
    _tell_unsure(context, assessment, work, config)
    names = [*work.models, *(name for name in assessment.names if name not in work.models)]
    return Measured(
        by_name={name: assessment.joined(name) for name in names},
        copies={name: assessment.copies(name) for name in names},
        resolved={name: assessment.resolution_percent(name) <= config.interval_percent for name in names},
        timings=assessment.timings(),
        seconds=session.seconds,
        shift_percent=assessment.drift.shift_percent,
    )


def assess_again(
    timings: Sequence[Timing], anchor: str, reference_ms: float | None
) -> tuple[dict[str, LatencyMeasurement], float]:
    """Each model's rounds joined, and ``shift_percent``: what :func:`measure_rounds` found in these timings.

    ``timings``: in order of time, of models none of which was repeated. Drift is looked for again; what a
    timing says of it is not used. ``anchor`` counts as one where some round timed it more than once.
    """
    rows = [Row(timing.round, timing.name, timing.measurement, 0.0) for timing in timings]
    of_anchor = [row.round for row in rows if row.name == anchor]
    between = len(set(of_anchor)) < len(of_anchor)
    drift = drift_of(rows, anchor if between else None, reference_ms, {})
    assessment = Assessment(rows, drift, Work({}), {}, {})
    return {name: assessment.joined(name) for name in assessment.names}, drift.shift_percent


def _tell_unsure(context: Context, assessment: Assessment, work: Work, config: MeasurementConfig) -> None:
    """Say which latencies are less precise than required, and why."""
    coarse = [name for name in work.models if assessment.unresolved(name, config)]
    unsure = [name for name in work.models if assessment.unsure(name, config) and name not in coarse]
    if unsure:
        worst = max(unsure, key=assessment.width_percent)
        width = assessment.width_percent(worst)
        known = (
            f"{len(unsure)} of {len(work.models)} latencies are less precise than wanted: their 95 % "
            f"interval is wider than {config.interval_percent:g} % (worst: {worst}, {width:.1f} %)."
        )
        if width > DISTURBED * config.interval_percent:
            context.warn(
                f"{known} Other programs or heat disturb the device: close them, let it cool, and run "
                f"'nasflow run --force {context.stage}'."
            )
        else:
            context.say(f"{known} More rounds narrow them: {context.stage}.extra_rounds.")
    if coarse:
        worst = max(coarse, key=assessment.resolution_percent)
        step_us, copies = 1000 * assessment.joined(worst).resolution_ms, assessment.copies(worst)
        message = (
            f"the device's clock, which counts steps of {step_us:.3g} us, cannot resolve {len(coarse)} of "
            f"{len(work.models)} latencies: it alone makes their interval wider than "
            f"{config.interval_percent:g} % (worst: {worst}, {assessment.resolution_percent(worst):.1f} %"
            f"{f', as {copies} copies in one model' if copies > 1 else ''})."
        )
        # Where no network's latency depends on any of them, that is no reason to worry.
        tell = context.warn if any(assessment.unsure(name, config) for name in coarse) else context.say
        tell(message)


class _Session:
    """The log of timings, and what is still to be added to it."""

    def __init__(
        self,
        context: Context,
        device: Device,
        work: Work,
        config: MeasurementConfig,
        options: RuntimeOptions,
    ) -> None:
        self._context, self._device, self._work, self._config = context, device, work, config
        self._done = self._total = 0
        models = {**work.models, **dict([work.anchor] if work.anchor else [])}
        self._anchor = work.anchor[0] if work.anchor and config.anchor_every else None
        self._anchor_moves = work.in_units and starts_quickly(device.overhead)
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
        assessment, work = self.assess(1), self._work
        invoke_ms = assessment.joined(work.invoke).median_ms if work.invoke is not None else 0.0
        for name, repeatable in work.repeatable.items():
            if assessment.beaten(name):
                continue
            alone, percent = assessment.joined(name), self._config.interval_percent
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
                f"the resolution of the device's clock is too low for {len(numbers)} of {len(work.models)} "
                f"models: from now on {min(numbers)} to {max(numbers)} copies of each are timed in one, "
                "their time divided."
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
        """The models to be timed in a round, chosen by the rounds before it."""
        names = list(self._names)
        if number == 0 or (number < self._config.rounds and not self._rivals):
            return names
        assessment = self.assess(number)
        if number < self._config.rounds:
            return [name for name in names if not assessment.beaten(name)]
        return [name for name in names if assessment.wanting(name, self._config)]

    def assess(self, before: int | None = None) -> Assessment:
        """What the timings of the rounds ``before`` one say."""
        rows = [row for row in self._rows if before is None or row.round < before]
        drift = drift_of(rows, self._anchor, self._work.reference_ms, self._work.kinds)
        return Assessment(rows, drift, self._work, self._rivals, self._longer)

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
        for name, measurement in time_each(self._device, self._requests, sequence):
            now = time.monotonic()
            self._keep(Row(number, name, measurement, now - before))
            before = now
            if name not in seen and name != self._anchor:
                seen.add(name)
                self._done += 1
                note = f"{name} {1000 * measurement.median_ms:.1f} us"
                self._context.progress(self._done, self._total, "timings", note)
            if name == self._anchor and self._anchor_moves:
                self._device.renew()
        self._device.renew()  # a process's memory layout is an effect of the round, not of a model

    def _with_anchor(self, names: Sequence[str]) -> list[str]:
        if self._anchor is None:
            return list(names)
        every = self._config.anchor_every
        sequence = [self._anchor]
        for start in range(0, len(names), every):
            sequence += [*names[start : start + every], self._anchor]
        return sequence

    def _keep(self, row: Row) -> None:
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

    def _kept(self) -> list[Row]:
        rows = []
        for row in self._context.scratch.rows(_LOG):
            try:
                measurement = LatencyMeasurement.model_validate(row["measurement"])
                rows.append(Row(row["round"], row["name"], measurement, row["seconds"]))
            except (KeyError, ValidationError) as error:
                self._context.warn(f"a stored timing cannot be read and is measured again: {error}")
        return [row for row in rows if row.name in self._requests or self._may_be_copies(row.name)]

    def _may_be_copies(self, name: str) -> bool:
        """Whether a kept timing may be of several copies: how many there are to be is known only later."""
        alone, _, copies = name.rpartition(" x")
        return copies.isdecimal() and alone in self._work.repeatable
