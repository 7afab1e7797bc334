"""Which moments of a measurement count: those in which the device was as fast as it usually is.

Judged by the conditions around the timings and by the anchor alone, never by the models that are compared:
what is left then says the same of their ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from android_bench.device import Conditions
from stages.documents.gate import Dropped

SLOWED = 1.15
"""A moment counts unless its anchor takes so many times what it takes in the fastest one."""
MOST_MEASURED = 3  # times those that may count: a device that throttles on and on ends there


@dataclass(frozen=True)
class Moment:
    """One block or round: the anchor's median in it, and the conditions around its timings."""

    anchor_ms: float
    conditions: Sequence[Conditions | None] = ()

    @property
    def seen(self) -> Dropped | None:
        """What its conditions say against it."""
        for conditions in self.conditions:
            if conditions is not None and ((conditions.thermal_status or 0) > 0 or conditions.throttled_by):
                return "throttled"
            if conditions is not None and conditions.awake is False:
                return "asleep"
        return None


def dropped(moments: Sequence[Moment]) -> list[Dropped | None]:
    """Why each does not count; None: it does.

    All moments are judged anew with each new one, for a device that has been slow from the beginning shows it
    only when it recovers.
    """
    fastest_ms = min((moment.anchor_ms for moment in moments), default=math.inf)
    return [
        moment.seen or ("disturbed" if moment.anchor_ms > SLOWED * fastest_ms else None) for moment in moments
    ]
