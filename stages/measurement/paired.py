"""Latency of several networks side by side, in interleaved rounds that survive an interruption."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from android_bench.device import BenchmarkRequest, Conditions, Device, LatencyMeasurement, combine
from pipeline.stage import Scratch
from stages.documents.gate import Dropped
from stages.measurement.disturbed import Moment, dropped
from stages.measurement.timing import random_order, time_each

_LOG = "rounds"


@dataclass(frozen=True)
class Round:
    """The timings of one moment, in the order in which they were made."""

    timings: tuple[tuple[str, LatencyMeasurement], ...]
    seconds: float

    def of(self, name: str) -> list[LatencyMeasurement]:
        """One network's timings."""
        return [measured for timed, measured in self.timings if timed == name]

    def median_ms(self, name: str) -> float:
        """The median of one network's timings."""
        return median(measured.median_ms for measured in self.of(name))

    @property
    def conditions(self) -> list[Conditions | None]:
        """Those around each of its timings."""
        return [measured.conditions for _, measured in self.timings]

    def measurement(self, name: str) -> LatencyMeasurement:
        """One network's timings as those of one round."""
        joined = combine(self.of(name))
        return joined.model_copy(update={"rounds": 1, "round_medians_ms": (joined.median_ms,)})


class PairedRounds:
    """Whole rounds only: one that was cut off is measured again, so that a round is one moment.

    A round times each network ``timings`` times, in turn and in random order: what grows during it strikes
    all, now the one harder and now the other. The ``anchor``, one of ``requests``, comes first and last: it
    shows the device's speed, by which a round may not count (:meth:`dropped`). ``max_thermal_status``: the
    highest at which a phone may be measured.
    """

    def __init__(
        self,
        scratch: Scratch,
        device: Device,
        requests: Mapping[str, BenchmarkRequest],
        seed: int,
        *,
        anchor: str | None = None,
        timings: int = 1,
        max_thermal_status: int = 0,
    ) -> None:
        self._scratch, self._device, self._requests = scratch, device, requests
        self._seed, self._anchor, self._timings = seed, anchor, timings
        self._max_thermal_status = max_thermal_status
        self.rounds = [_round(row) for row in scratch.rows(_LOG)]

    def __len__(self) -> int:
        return len(self.rounds)

    @property
    def seconds(self) -> float:
        """Time that the rounds took, earlier runs included."""
        return sum(one.seconds for one in self.rounds)

    def order(self, number: int) -> list[str]:
        """In which order round ``number`` times the networks."""
        names = [name for name in self._requests if name != self._anchor] * self._timings
        between = random_order(names, self._seed, number)
        return between if self._anchor is None else [self._anchor, *between, self._anchor]

    def measure(self) -> Round:
        """One round more; it is on the disk when this returns.

        Raises DeviceError where the device is lost or leaves a network out: the round is then measured anew.
        """
        started = time.monotonic()
        timings = tuple(time_each(self._device, self._requests, self.order(len(self))))
        self._device.renew()  # a process's memory layout is an effect of the round, not of a network
        one = Round(timings, time.monotonic() - started)
        self._scratch.append(
            _LOG,
            {
                "timings": [[name, measured.model_dump(mode="json")] for name, measured in timings],
                "seconds": one.seconds,
            },
        )
        self.rounds.append(one)
        return one

    def dropped(self, *, settled: bool = False) -> list[Dropped | None]:
        """Why each round does not count, by its conditions and its anchor; None: it does.

        ``settled``: no more are measured for those that were dropped (:func:`dropped`).
        """
        if self._anchor is None:
            return [None] * len(self)
        moments = [Moment.of(one, self._anchor) for one in self.rounds]
        return dropped(moments, self._max_thermal_status, settled=settled)

    def medians_ms(self, name: str, among: Sequence[int] | None = None) -> list[float]:
        """One network's median of every round, or of those ``among`` them."""
        return [one.median_ms(name) for one in self._some(among)]

    def combined(self, name: str, among: Sequence[int] | None = None) -> LatencyMeasurement:
        """One network's rounds joined: all of them, or those ``among`` them."""
        return combine([one.measurement(name) for one in self._some(among)])

    def conditions(self) -> tuple[Conditions, ...]:
        """The device's state beside the timings of all rounds, each moment once, in order of time."""
        seen = {
            conditions.at: conditions
            for one in self.rounds
            for conditions in one.conditions
            if conditions is not None
        }
        return tuple(seen[at] for at in sorted(seen))

    def _some(self, among: Sequence[int] | None) -> Sequence[Round]:
        return self.rounds if among is None else [self.rounds[index] for index in among]


def _round(row: Mapping[str, Any]) -> Round:
    if "timings" not in row:  # of version 0.2.0's beginnings: one timing of each network, by its name
        row = {**row, "timings": list(row["measured"].items())}
    timings = tuple((str(name), LatencyMeasurement.model_validate(it)) for name, it in row["timings"])
    return Round(timings, float(row["seconds"]))
