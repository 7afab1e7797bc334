"""A figure with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval: 95 %, where nothing else is said."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound."""
        return (self.low, self.high)

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies in the interval: then nothing may be claimed against it."""
        return self.low <= value <= self.high

    def widened(self, logarithm: float) -> Estimate:
        """The same figure with an interval that is longer at both ends by so much of its logarithm."""
        factor = math.exp(logarithm)
        return Estimate(self.value, self.low / factor, self.high * factor)

    def inverse(self) -> Estimate:
        """The same statement about 1 / value."""
        return Estimate(1 / self.value, 1 / self.high, 1 / self.low)
