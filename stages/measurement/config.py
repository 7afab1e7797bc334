"""How long and how often models are timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pydantic import Field

from android_bench.device import LOCAL_OVERHEAD, Overhead
from pipeline.artifact import Record

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
