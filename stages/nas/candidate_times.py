"""How long the networks take that a pick is made from; those at the edge of a target are timed again.

A network that is measured a little above its target, by less than its timings scatter, may keep it. Where no
more probable one does, such networks are timed again, a bounded number of times, before they are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from statistics import median

from android_bench.device import Device, LatencyMeasurement, RuntimeOptions, combine
from nasflow.base.errors import InconclusiveError, InfeasibleTargetError
from pipeline.stage import Context
from pipeline.store.scratch import PartOfScratch
from stages.documents import LatencyModel
from stages.measurement.config import MeasurementConfig
from stages.measurement.interval import interval_percent
from stages.measurement.rounds import Measured, measure_rounds
from stages.measurement.work import Work
from stages.space.network_name import network_name
from stages.space.search_space import SearchSpace

PASSES = 2  # so often networks are timed again
_DIGITS = 4  # of a target that is offered

Path = tuple[int, ...]


@dataclass(frozen=True)
class Timed:
    """A network's latency and its 95 % interval, measured, and its predicted one; milliseconds.

    As the latency model's device would take them.
    """

    ms: float
    low_ms: float
    high_ms: float
    predicted_ms: float

    def describe(self) -> str:
        """``0.101 ms (95 % interval 0.098 to 0.104 ms)``."""
        return f"{self.ms:.4g} ms (95 % interval {self.low_ms:.4g} to {self.high_ms:.4g} ms)"

    def may_keep(self, target_ms: float) -> bool:
        """Whether the interval reaches down to a target."""
        return self.low_ms <= target_ms


@dataclass(frozen=True)
class CandidateTimer:
    """Times whole networks of a space on the device, at the speed that the latency model stands for."""

    space: SearchSpace
    latency: LatencyModel
    config: MeasurementConfig
    device: Device
    runtime: RuntimeOptions
    seed: int
    context: Context

    def measure(self, ranked: Mapping[float, Sequence[Path]]) -> CandidateTimes:
        """Time each target's networks, and again those on which a target depends. Raises DeviceError."""
        paths = [path for of_target in ranked.values() for path in of_target]
        times = CandidateTimes(self.space, self.latency, self._series(paths, self.context))
        for number in range(1, PASSES + 1):
            unsure = {path for target_ms, of in ranked.items() for path in times.unsure(of, target_ms)}
            if not unsure:
                break
            self.context.say(
                f"{len(unsure)} networks take longer than their target by less than their timings scatter, "
                f"and no more probable one keeps it: they are timed again ({number} of at most {PASSES} "
                "times)."
            )
            scratch = PartOfScratch(self.context.scratch, f"again_{number}")
            again = self._series(sorted(unsure), replace(self.context, scratch=scratch))
            times = replace(times, measured=pooled(times.measured, again, self._anchor_of_speed))
        return times

    @property
    def _anchor_of_speed(self) -> str | None:
        """The model that tells how fast a series was; None where all are at the latency model's speed."""
        return self.latency.reference.name if self.latency.foreign else None

    def _series(self, paths: Sequence[Path], context: Context) -> Measured:
        from stages.conversion.measured import measured_network

        reference = self.latency.reference
        models = {
            network_name(path): measured_network(
                self.space.network(path),
                seed=self.seed,
                implementations=self.latency.implementations,
                precision=self.latency.precision,
                output=self.latency.output,
            )
            for path in paths
        }
        work = Work(
            models,
            anchor=(
                reference.name,
                measured_network(
                    reference.net, self.latency.precision, seed=self.seed, output=self.latency.output
                ),
            ),
            reference_ms=None if self.latency.foreign else reference.measurement.median_ms,
            in_units=True,
        )
        return measure_rounds(context, self.device, work, self.config, self.runtime, self.seed)


@dataclass(frozen=True)
class CandidateTimes:
    """What was measured of the networks, the anchor among them."""

    space: SearchSpace
    latency: LatencyModel
    measured: Measured

    def of(self, path: Path) -> LatencyMeasurement:
        """A network's measurement, in the device's own milliseconds."""
        return self.measured.by_name[network_name(path)]

    @property
    def anchor(self) -> LatencyMeasurement:
        """The reference's, from between them."""
        return self.measured.by_name[self.latency.reference.name]

    def timed(self, path: Path) -> Timed:
        """A network's time as the latency model's device would take it.

        A model of another device is in that device's milliseconds: there the anchor tells the ratio.
        """
        measurement, reference_ms = self.of(path), self.latency.reference.measurement.median_ms
        slower = reference_ms / self.anchor.median_ms if self.latency.foreign else 1.0
        ms, share = slower * measurement.median_ms, interval_percent(measurement.round_medians_ms) / 200
        predicted_ms = self.latency.predict_ms(self.space.network(path))
        return Timed(ms, ms * max(0.0, 1 - share), ms * (1 + share), predicted_ms)

    def unsure(self, paths: Sequence[Path], target_ms: float) -> list[Path]:
        """The networks that may keep a target and come before the first that does; most probable first."""
        before = takewhile(lambda path: self.timed(path).ms > target_ms, paths)
        return [path for path in before if self.timed(path).may_keep(target_ms)]

    def no_network(
        self, paths: Sequence[Path], target_ms: float, device: str
    ) -> InconclusiveError | InfeasibleTargetError:
        """The error where none of a target's networks was measured to keep it."""
        timed = [self.timed(path) for path in paths]
        fastest = min(timed, key=lambda one: one.ms)
        hints = ["Measure them again, with the search as it is: nasflow run --force prune."]
        if (offered_ms := target_that_holds_ms(timed, target_ms, self.latency.interval_percent)) is not None:
            hints.append(
                f"The nearest target that is met is {offered_ms:.{_DIGITS}g} ms, with the search as it is: "
                f"put target.pick_ms: {offered_ms:.{_DIGITS}g} into the configuration, so that it holds for "
                f"every command, or try it once: nasflow run --set target.pick_ms={offered_ms:.{_DIGITS}g}."
            )
        if self.unsure(paths, target_ms):
            said = (
                f"whether one of {len(paths)} networks keeps {target_ms:.4g} ms on {device} cannot be "
                f"determined: measured {1 + PASSES} times, the fastest takes {fastest.describe()}"
            )
            if not fastest.may_keep(target_ms):
                said += f", and another one {min(timed, key=lambda one: one.low_ms).describe()}"
            return InconclusiveError(f"{said}.", hint=" ".join(hints))
        hints.append(
            "Or measure the device again, and search and train again: nasflow run --force profile "
            "--force latency."
        )
        return InfeasibleTargetError(
            f"all {len(paths)} networks that should take {target_ms:.4g} ms or less take longer on {device}, "
            f"the fastest {fastest.ms:.4g} ms: the latency model does not hold for them.",
            hint=" ".join(hints),
        )


def pooled(first: Measured, again: Measured, anchor: str | None = None) -> Measured:
    """Both series as one. ``anchor``: the model that brings the second one to the first one's speed."""
    slower = again.by_name[anchor].median_ms / first.by_name[anchor].median_ms if anchor else 1.0
    by_name = dict(first.by_name)
    for name, measurement in again.by_name.items():
        joined = combine([first.by_name[name], measurement.divided(slower)])
        # All rounds count alike: the median of two series' medians would favour the shorter one.
        by_name[name] = joined.model_copy(update={"median_ms": median(joined.round_medians_ms)})
    return Measured(by_name, (*first.timings, *again.timings), first.seconds + again.seconds)


def target_that_holds_ms(
    timed: Sequence[Timed], target_ms: float, prediction_interval_percent: float
) -> float | None:
    """The nearest target that a network will keep which is chosen by its prediction; None: no one can say.

    Beside the best networks under a target the best under one that is lower by the predictions' interval are
    measured. A device that takes no longer than that interval allows runs these in time. At the target that
    is offered there is such a network: one of those that were measured now, and within its interval.
    """
    longest = 1 + prediction_interval_percent / 100
    as_predicted = [one.predicted_ms for one in timed if one.high_ms <= one.predicted_ms * longest]
    if not as_predicted:
        return None
    return _rounded_up(max(target_ms, min(as_predicted) * longest))


def _rounded_up(value: float) -> float:
    """To four significant digits, and not below ``value``."""
    step = 10.0 ** (math.floor(math.log10(value)) - _DIGITS + 1)
    return float(f"{math.ceil(value / step * (1 - 1e-12)) * step:.{_DIGITS}g}")
