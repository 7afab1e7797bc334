"""The latency multiplier: a Lagrange multiplier that is learned (LightNAS, arXiv 2208.14446).

A target in milliseconds replaces the paper's fixed weight of the latency term.
"""

from __future__ import annotations

from collections.abc import Mapping


class LatencyMultiplier:
    """The multiplier of the constraint E[latency] = target, and the target's way down (or up) to it.

    A proportional-integral controller of the relative excess over the *momentary* target, which moves in
    a straight line from the first expectation to the real one over ``anneal_steps``. The integral alone
    (dual ascent) winds up while the expectation is on its way and keeps pushing when the target is met;
    the proportional part (``damping``) takes that push away at once.
    Two-sided: below the target the multiplier falls and may become a bonus, because budget that is not
    used is accuracy that is given away.
    """

    def __init__(
        self, target_ms: float, *, rate: float, damping: float, anneal_steps: int, limit: float
    ) -> None:
        self.target_ms = target_ms
        self.rate = rate
        self.damping = damping
        self.anneal_steps = anneal_steps
        self.limit = limit
        self.integral = 0.0
        self.excess = 0.0
        self.steps = 0
        self.first_ms: float | None = None

    @property
    def value(self) -> float:
        """The present value: what one target's worth of latency costs, in units of the loss."""
        return self.integral + self.damping * self.excess

    def momentary_target_ms(self) -> float:
        """Where the expectation should be now."""
        if self.first_ms is None or self.steps >= self.anneal_steps:
            return self.target_ms
        done = self.steps / self.anneal_steps
        return self.first_ms + done * (self.target_ms - self.first_ms)

    def update(self, expected_ms: float) -> None:
        """One step of the controller."""
        if self.first_ms is None:
            self.first_ms = expected_ms
        self.steps += 1
        self.excess = expected_ms / self.momentary_target_ms() - 1.0
        self.integral = min(self.limit, max(-self.limit, self.integral + self.rate * self.excess))

    def state(self) -> dict[str, float | None]:
        """For a checkpoint."""
        return {
            "integral": self.integral,
            "excess": self.excess,
            "steps": self.steps,
            "first_ms": self.first_ms,
        }

    def restore(self, state: Mapping[str, float | None]) -> None:
        """From a checkpoint."""
        self.integral, self.excess = float(state["integral"] or 0.0), float(state["excess"] or 0.0)
        self.steps, self.first_ms = int(state["steps"] or 0), state["first_ms"]
