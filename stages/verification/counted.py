"""The rounds of a stage that count at a look, and how many are measured: by the rules of the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from android_bench.device import LatencyMeasurement
from stages.measurement.disturbed import MOST_MEASURED
from stages.measurement.paired import PairedRounds
from stages.verification.estimate import Estimate
from stages.verification.sequential import Look
from stages.verification.statistics import latency_ratio


@dataclass(frozen=True)
class Counted:
    """Which rounds are shown, and with what probability an interval from them may miss the truth.

    ``enough``: as many count as were planned; else the device was disturbed so often that all are shown, and
    nothing may be decided by them. ``disturbed``: how many of all do not count.
    """

    rounds: PairedRounds
    among: Sequence[int]
    error: float
    enough: bool
    disturbed: int

    def __len__(self) -> int:
        return len(self.among)

    def medians_ms(self, name: str) -> list[float]:
        """One network's median of each round."""
        return self.rounds.medians_ms(name, self.among)

    def combined(self, name: str) -> LatencyMeasurement:
        """One network's rounds joined."""
        return self.rounds.combined(name, self.among)

    def ratio(self, above: str, below: str) -> Estimate:
        """How many times as long one network takes as another."""
        steps_ms = self.resolution_ms(above), self.resolution_ms(below)
        return latency_ratio(self.medians_ms(above), self.medians_ms(below), self.error, steps_ms)

    def resolution_ms(self, name: str) -> float:
        """The step of the clock behind one network's times."""
        return self.combined(name).resolution_ms


def counting_at(rounds: PairedRounds, look: Look) -> Counted | None:
    """The rounds that count at a look; None: more are to be measured first.

    Rounds that are dropped are measured again, up to a limit: a device that is disturbed on and on is then
    shown as it is, without a verdict.
    """
    settled = len(rounds) >= MOST_MEASURED * look.blocks
    reasons = rounds.dropped(settled=settled)
    among = [index for index, reason in enumerate(reasons) if reason is None]
    disturbed = len(rounds) - len(among)
    if len(among) >= look.blocks:
        return Counted(rounds, among[: look.blocks], look.error, enough=True, disturbed=disturbed)
    if settled:
        return Counted(rounds, range(len(rounds)), look.error, enough=False, disturbed=disturbed)
    return None


def measured_until(
    rounds: PairedRounds, look: Look, tell: Callable[[int, int], None] = lambda _done, _of: None
) -> Counted:
    """Measure until enough rounds count at a look. ``tell``: how many there are, of how many at least.

    Raises DeviceError, BadMeasurementError.
    """
    while (counted := counting_at(rounds, look)) is None:
        rounds.measure()
        tell(min(len(rounds), look.blocks), look.blocks)
    return counted
