"""How long and how often models are timed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from pydantic import Field

from android_bench.device import LOCAL_OVERHEAD, Overhead
from android_bench.warm_up import WARM_RUNS
from pipeline.artifact import Record

Section = TypeVar("Section", bound=Record)

QUICK_START_MS = 500.0
"""A process that takes longer to start is started once in a round, and not for each timing of the anchor."""

MACS_PER_MS = 2e7  # a slow core; only for an estimate of the time


@runtime_checkable
class Measures(Protocol):
    """A stage that measures on the device."""

    def device_seconds(self) -> tuple[float, float]:
        """A guess how long the device is at work: at least, and at most where its timings scatter."""


class MeasurementConfig(Record):
    """How long and how often each model is timed."""

    rounds: int = Field(
        default=8,
        ge=3,
        le=1000,
        description="every model is timed once in each round, in random order, so that a short disturbance "
        "of the device cannot affect one model alone",
    )
    extra_rounds: int = Field(
        default=12,
        ge=0,
        le=1000,
        description="up to so many more rounds for models whose median is not precise yet",
    )
    interval_percent: float = Field(
        default=2.0,
        gt=0,
        le=100,
        description="precise: the 95 % interval of the median is no wider than this, in percent of the "
        "median",
    )
    anchor_every: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="timings between two of the anchor, a MobileNetV2 that shows how the device's speed "
        "changes (heat, other programs); the change is removed from all other timings; 0: it is not removed",
    )
    warmup_ms: float = Field(
        default=3.0,
        ge=0,
        le=60_000,
        description="milliseconds of uncounted runs before each timing; ten runs at least, on this computer "
        "while they take less than 100 ms",
    )
    min_ms: float = Field(
        default=20.0, gt=0, le=60_000, description="milliseconds of counted runs in each timing"
    )
    min_runs: int = Field(default=5, ge=1, le=100_000, description="counted runs in each timing, at least")

    def estimate_seconds(
        self,
        macs: Sequence[int],
        anchor_macs: int = 0,
        overhead: Overhead = LOCAL_OVERHEAD,
        *,
        in_units: bool = False,
    ) -> float:
        """Roughly how long models of so many multiply-accumulates take, extra rounds left out.

        ``in_units``: see :class:`stages.measurement.work.Work`.
        """
        anchors = 1 + len(macs) // self.anchor_every if self.anchor_every else 0
        invoking_ms = sum(self._invoking_ms(mac) for mac in macs) + anchors * self._invoking_ms(anchor_macs)
        timings = len(macs) + anchors
        processes = 1 + (anchors if in_units and starts_quickly(overhead) else 0)
        beside_ms = timings * overhead.timing_ms + processes * overhead.process_ms + overhead.list_ms
        return self.rounds * (invoking_ms + beside_ms) / 1000

    def most_seconds(self, seconds: float) -> float:
        """What becomes of such an estimate where every model needs all extra rounds."""
        return seconds * (self.rounds + self.extra_rounds) / self.rounds

    def _invoking_ms(self, macs: int) -> float:
        run_ms = macs / MACS_PER_MS
        return max(self.warmup_ms, WARM_RUNS * run_ms) + max(self.min_ms, self.min_runs * run_ms)


def starts_quickly(overhead: Overhead) -> bool:
    """Whether a device's processes start so fast that each timing of the anchor may have its own."""
    return overhead.process_ms <= QUICK_START_MS


def with_shared(section: Section, shared: MeasurementConfig, own: Collection[str] = ()) -> Section:
    """A stage's section whose keys that were not set have the values of the section ``measurement``.

    ``own``: keys of the same name that keep the stage's own default.
    """
    common = (type(section).model_fields.keys() & type(shared).model_fields.keys()) - set(own)
    unset = common - section.model_fields_set
    return section.model_copy(update={key: getattr(shared, key) for key in unset})
