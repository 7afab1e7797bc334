"""Which moments of a measurement count: those in which the device was as fast as it usually is.

Judged by the conditions around the timings and by the anchor alone, never by the models that are compared:
what is left then says the same of their ratio.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from android_bench.device import Conditions
from stages.documents.gate import Dropped

SLOWED = 1.15
"""A moment counts unless its anchor takes so many times what it usually takes."""
MOST_MEASURED = 3  # times those that may count: a device that throttles on and on ends there


class TimedMoment(Protocol):
    """A block of a gate, or a round of a stage."""

    def median_ms(self, model: str, /) -> float:
        """The median of one model's timings."""

    @property
    def conditions(self) -> Iterable[Conditions | None]:
        """Those around each of its timings."""


@dataclass(frozen=True)
class Moment:
    """One block or round: the anchor's median in it, and the conditions around its timings."""

    anchor_ms: float
    conditions: Sequence[Conditions | None] = ()

    @classmethod
    def of(cls, timed: TimedMoment, anchor: str) -> Moment:
        """``anchor``: the name of the model that shows the device's speed."""
        return cls(timed.median_ms(anchor), tuple(timed.conditions))

    def seen(self, max_thermal_status: int) -> Dropped | None:
        """What its conditions say against it: a status above the highest allowed, or one that changed."""
        known = [conditions for conditions in self.conditions if conditions is not None]
        if any(conditions.throttled_by for conditions in known):
            return "throttled"
        statuses = {one.thermal_status for one in known if one.thermal_status is not None}
        if len(statuses) > 1 or max(statuses, default=0) > max_thermal_status:
            return "throttled"
        return "asleep" if any(conditions.awake is False for conditions in known) else None


def dropped(
    moments: Sequence[Moment], max_thermal_status: int = 0, *, settled: bool = False
) -> list[Dropped | None]:
    """Why each does not count; None: it does. ``max_thermal_status``: at which a phone may be measured.

    All moments are judged anew with each new one, for a device that has been slow from the beginning shows it
    only when it recovers. ``settled``: no more are measured for those that were dropped. The last one is then
    like any other, and a third of the moments count, but for what their conditions say: a computer beside
    other programs is never as fast twice.
    """
    seen = [moment.seen(max_thermal_status) for moment in moments]
    anchors_ms = [moment.anchor_ms for moment, why in zip(moments, seen, strict=True) if not why]
    usual_ms = _usual_ms(anchors_ms, settled=settled)
    return [
        why or ("disturbed" if moment.anchor_ms > SLOWED * usual_ms else None)
        for moment, why in zip(moments, seen, strict=True)
    ]


def _usual_ms(anchors_ms: Sequence[float], *, settled: bool) -> float:
    """The anchor's time at the fastest speed that a third of the moments reach, or the last one.

    A third: of as many moments as are measured at most, those that count are then enough, however long a
    device is fast at first. The last one: a device that recovers is noticed at once.
    """
    if not anchors_ms:
        return math.inf
    of_a_third = sorted(anchors_ms)[(len(anchors_ms) - 1) // MOST_MEASURED]
    return of_a_third if settled else min(of_a_third, anchors_ms[-1])
