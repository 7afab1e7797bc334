"""What a run tells whoever listens. Library code never prints: it emits these."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Base of all events; ``stage`` is the stage's name, or empty for the run as a whole."""

    stage: str


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage begins to work; ``reason`` says why it is stale."""

    reason: str


@dataclass(frozen=True)
class StageSkipped(Event):
    """A stage is fresh: its output of an earlier run is used."""


@dataclass(frozen=True)
class StageFinished(Event):
    """A stage is done and its output is stored."""

    seconds: float


@dataclass(frozen=True)
class StageFailed(Event):
    """A stage ended early, by an error or a signal; what it has done so far is kept."""

    seconds: float
    reason: str


@dataclass(frozen=True)
class Progress(Event):
    """``done`` of ``total`` units of work; ``note`` is a short figure to show beside the bar."""

    done: float
    total: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Metric(Event):
    """One point of a curve."""

    name: str
    value: float
    step: int


@dataclass(frozen=True)
class Planned(Event):
    """What is ahead of a run: its stages in order, and for each a guess of its seconds, 0 if it is fresh."""

    stages: tuple[str, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Distribution(Event):
    """The probabilities of the candidates ``labels`` at one step: of a layer, say, which is its ``name``."""

    name: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    step: int


@dataclass(frozen=True)
class Message(Event):
    """A sentence for the user. ``level``: info or warning."""

    text: str
    level: str = "info"


Emit = Callable[[Event], None]


def event_name(kind: type[Event]) -> str:
    """What a kind of event is called in JSON: ``stage_started``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


EVENTS: dict[str, type[Event]] = {event_name(kind): kind for kind in Event.__subclasses__()}
"""Every kind, by its name in JSON; its fields are those of the class."""
CLOSED = "closed"
"""What stands in JSON where an event's name else does, when nothing more will come."""
