"""A run as its events show it while it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from nasflow.base.text import Remaining
from pipeline.events import (
    Distribution,
    Event,
    Message,
    Metric,
    Planned,
    Progress,
    StageFailed,
    StageFinished,
    StageSkipped,
    StageStarted,
)

State = Literal["waiting", "at work", "done", "up to date", "stopped"]
MOST_MESSAGES = 12
MOST_CURVES, MOST_POINTS = 64, 5_000
"""Of one run, at most: the page must stay one that a phone can show."""


@dataclass
class StageView:
    """A stage as it stands. ``left_seconds``: until it is done; None: not known."""

    name: str
    state: State = "waiting"
    estimate_seconds: float = 0.0
    seconds: float | None = None
    began: datetime | None = None
    progress: Progress | None = None
    left_seconds: float | None = None
    reason: str = ""
    _pace: Remaining = field(default_factory=Remaining)

    def advance(self, progress: Progress, at: datetime) -> None:
        """Take a report of progress."""
        self.progress = progress
        self.left_seconds = self._pace.after(progress.done, progress.total, progress.unit, at.timestamp())


@dataclass
class LiveRun:
    """What is known of a run so far. ``curves``: by what they show and by whose they are, (step, value)."""

    stages: dict[str, StageView] = field(default_factory=dict)
    curves: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    distributions: dict[str, Distribution] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    began: datetime | None = None
    last_at: datetime | None = None
    reading: Progress | None = None
    """What is read before the first stage, as images are."""

    def take(self, at: datetime, event: Event) -> None:
        """Heed one more event."""
        self.began = self.began or at
        self.last_at = at
        match event:
            case Planned():
                for name, seconds in zip(event.stages, event.seconds, strict=False):
                    stage = self._stage(name)
                    stage.estimate_seconds = seconds
                    if seconds and stage.state in ("done", "up to date"):  # in the next fold it comes again
                        stage.state, stage.progress = "waiting", None
            case StageStarted():
                stage = self._stage(event.stage)
                stage.state, stage.reason, stage.began = "at work", event.reason, at
            case StageSkipped():
                self._stage(event.stage).state = "up to date"
            case StageFinished():
                stage = self._stage(event.stage)
                stage.state, stage.seconds, stage.left_seconds = "done", event.seconds, None
            case StageFailed():
                stage = self._stage(event.stage)
                stage.state, stage.seconds, stage.reason = "stopped", event.seconds, event.reason
            case Progress() if event.stage:
                self._stage(event.stage).advance(event, at)
            case Progress():
                self.reading = event if event.done < event.total else None
            case Metric():
                self._point(event)
            case Distribution():
                self.distributions[event.name] = event
            case Message():
                self.messages = [*self.messages, event][-MOST_MESSAGES:]

    @property
    def at_work(self) -> StageView | None:
        """The stage that is at work."""
        return next((stage for stage in self.stages.values() if stage.state == "at work"), None)

    def left_seconds(self) -> float | None:
        """Until the run is done: the stage at work by its pace, those behind it by their guesses."""
        stage = self.at_work
        if stage is None:
            return None
        waiting = sum(other.estimate_seconds for other in self.stages.values() if other.state == "waiting")
        left = stage.left_seconds
        if left is None and stage.estimate_seconds and stage.began and self.last_at:
            left = max(0.0, stage.estimate_seconds - (self.last_at - stage.began).total_seconds())
        return None if left is None else left + waiting

    def _stage(self, name: str) -> StageView:
        return self.stages.setdefault(name, StageView(name))

    def _point(self, event: Metric) -> None:
        # "found training loss" is a curve of "found" among others, "search expected ms" the search's alone.
        series, _, title = event.name.partition(" ")
        title = event.name if series == event.stage else title
        curves: Mapping[str, dict[str, list[tuple[int, float]]]] = self.curves
        known = title in curves and series in curves[title]
        if not known and sum(map(len, curves.values())) >= MOST_CURVES:
            return
        points = self.curves.setdefault(title or series, {}).setdefault(series, [])
        if len(points) < MOST_POINTS:
            points.append((event.step, event.value))
