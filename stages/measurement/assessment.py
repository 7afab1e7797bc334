"""What a series of timings says of each model when the device's drift is taken out of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from android_bench.device import LatencyMeasurement, combine
from stages.documents import Timing
from stages.measurement.config import MeasurementConfig
from stages.measurement.drift import Drift, find_drift
from stages.measurement.interval import interval_percent, scatter
from stages.measurement.repetition import resolution_percent, single_name
from stages.measurement.work import Work

NEGLIGIBLE_MS = 2e-4  # twenty ticks of a usual clock; no network's latency depends on that
OUT_OF_THE_RACE = 1.5  # a rival that much slower will not win; the first timings may have met a spell
OUT_AT_ONCE, ENOUGH_TIMINGS = 4.0, 3


@dataclass(frozen=True)
class Row:
    """One timing of one round; ``seconds`` is all the time that it took."""

    round: int
    name: str
    measurement: LatencyMeasurement
    seconds: float


def drift_of(
    rows: Sequence[Row], anchor: str | None, reference_ms: float | None, kinds: Mapping[str, str]
) -> Drift:
    """The drift in timings that are given in order of time; ``anchor``: none shows it."""
    return find_drift(
        [row.name for row in rows],
        [row.measurement.median_ms for row in rows],
        anchor or "",
        reference_ms,
        steps_ms=[row.measurement.resolution_ms for row in rows],
        kinds={row.name: kinds.get(single_name(row.name), "") for row in rows},
    )


@dataclass
class Assessment:
    """What some timings say when the device's drift is taken out of them.

    ``longer`` are models in whose stead so many copies are timed: by name, what their timings are called and
    how many copies they are of.
    """

    rows: Sequence[Row]
    drift: Drift
    work: Work
    rivals: Mapping[str, Sequence[str]]
    longer: Mapping[str, tuple[str, int]]
    _usual_scatter: float | None = None
    _of: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            self._of[row.name].append(index)
        scatters = [scatter(self._corrected_ms(indices)) for indices in self._of.values() if len(indices) > 2]
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
        return self._corrected_ms(self._places(name))

    def width_percent(self, name: str) -> float:
        """Width of the interval of a model's own time, in percent of it."""
        return self._width(name)[0]

    def resolution_percent(self, name: str) -> float:
        """The part of it that the clock's step alone makes: no further round narrows that."""
        total_ms, invoke_ms = median(self.medians_ms(name)), self._invoke_ms(name)
        return resolution_percent(total_ms, self._step_ms(name), invoke_ms)

    def wanting(self, name: str, config: MeasurementConfig) -> bool:
        """Whether a model that may still be used needs more timings."""
        if self.beaten(name):
            return False
        if len(self._whole(name)) < config.rounds:
            return True
        if self.unresolved(name, config):
            noise = interval_percent(self.medians_ms(name), self._usual_scatter)
            return noise > config.interval_percent
        return self.unsure(name, config)

    def unsure(self, name: str, config: MeasurementConfig) -> bool:
        """Whether the latency of a model that may still be used is known less well than wanted."""
        if self.beaten(name):
            return False
        width, width_ms = self._width(name)
        return width > config.interval_percent and width_ms > NEGLIGIBLE_MS

    def unresolved(self, name: str, config: MeasurementConfig) -> bool:
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
        return max(self.rows[index].measurement.resolution_ms for index in self._places(name))

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
        return [index for index in self._places(name) if not self.drift.disturbed[index]]

    def _corrected(self, indices: Sequence[int]) -> list[LatencyMeasurement]:
        return [
            self.rows[index].measurement.divided(self.drift.factors[index]) for index in self._chosen(indices)
        ]

    def _corrected_ms(self, indices: Sequence[int]) -> list[float]:
        """The medians of :meth:`_corrected` alone: they are asked for again and again."""
        return [
            self.rows[index].measurement.median_ms / self.drift.factors[index]
            for index in self._chosen(indices)
        ]

    def _chosen(self, indices: Sequence[int]) -> Sequence[int]:
        whole = [index for index in indices if not self.drift.disturbed[index]]
        return whole if 2 * len(whole) >= len(indices) else indices
