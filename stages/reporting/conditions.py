"""The device's state while it was measured: what is known of it, and in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

from android_bench.device import Conditions
from nasflow.base.text import human_duration
from stages.reporting.run_documents import RunDocuments

LONGEST_PAUSE = timedelta(minutes=5)
"""Of a longer one (a run that was stopped and continued) only so much is drawn."""


class Quantity(NamedTuple):
    """Something that a device tells of its state: ``value`` in ``unit``, None where it could not be read."""

    name: str
    unit: str
    value: Callable[[Conditions], float | None]

    @property
    def title(self) -> str:
        """Above its curve."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


QUANTITIES = (
    Quantity("clock", "MHz", lambda c: next(filter(None, (c.gpu_mhz, c.core_mhz, c.cpu_mhz)), None)),
    Quantity("GPU temperature", "°C", lambda c: c.gpu_celsius),
    Quantity("skin temperature", "°C", lambda c: c.skin_celsius),
    Quantity("thermal status", "", lambda c: c.thermal_status),
    Quantity("battery", "%", lambda c: c.battery_percent),
    Quantity("load, 1 min", "", lambda c: c.load_1min),
)


class Phase(NamedTuple):
    """A stage that measured, and the device's state meanwhile, in order of time."""

    words: str
    states: tuple[Conditions, ...]

    def known(self) -> list[Quantity]:
        """What could be read at least twice."""
        return [q for q in QUANTITIES if sum(q.value(state) is not None for state in self.states) > 1]

    def minutes(self) -> tuple[list[float], list[int]]:
        """When each state was read, in minutes since the first; and before which there was a long pause."""
        at, pauses = 0.0, []
        placed = [0.0]
        for index in range(1, len(self.states)):
            apart = self.states[index].at - self.states[index - 1].at
            if apart > LONGEST_PAUSE:
                pauses.append(index)
            at += min(apart, LONGEST_PAUSE) / timedelta(minutes=1)
            placed.append(at)
        return placed, pauses

    def sentence(self) -> str:
        """Ranges of all that is known, for those who do not see the curves."""
        first, last = self.states[0].at, self.states[-1].at
        said = [f"{human_duration((last - first).total_seconds())}, {len(self.states):,} readings"]
        for quantity in self.known():
            seen = [value for state in self.states if (value := quantity.value(state)) is not None]
            low, high = f"{min(seen):.4g}", f"{max(seen):.4g}"
            span = low if low == high else f"{low} to {high}"
            said.append(f"{quantity.name} {span} {quantity.unit}".rstrip())
        screen = [state.awake for state in self.states if state.awake is not None]
        if screen:
            off = screen.count(False)
            said.append(f"screen off at {off:,} readings" if off else "screen on throughout")
        return "; ".join(said) + "."


def phases(run: RunDocuments) -> list[Phase]:
    """The stages whose measurements tell the device's state at two moments or more."""
    found = (
        ("Blocks timed for the latency table", [t.measurement.conditions for t in run.profile.timings]),
        ("Networks timed side by side", list(run.verify.conditions)),
    )
    made = [Phase(words, _each_moment_once(states)) for words, states in found]
    return [phase for phase in made if len(phase.states) > 1 and phase.known()]


def _each_moment_once(states: Sequence[Conditions | None]) -> tuple[Conditions, ...]:
    by_moment = {state.at: state for state in states if state is not None}
    return tuple(by_moment[at] for at in sorted(by_moment))
