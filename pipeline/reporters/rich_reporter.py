"""What a run looks like on a terminal: a live bar for the stage at work, one line for every other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO, cast

from nasflow.base.text import human_duration
from pipeline.events import (
    Event,
    Message,
    Progress,
    StageFailed,
    StageFinished,
    StageSkipped,
    StageStarted,
)
from pipeline.reporters.streams import QuietStream

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.reporters.rich_bar import StageBar

_MARKS = {"done": "✓", "fresh": "·", "failed": "✗", "warning": "!", "info": " "}
_ASCII_MARKS = {**_MARKS, "done": "+", "fresh": "-", "failed": "x"}


class RichReporter:
    """Live progress with the time left, a line with its time for each stage, warnings in yellow.

    ``names`` are the stages' names, for their alignment. Without ``animate`` the bar is drawn only when
    an event comes: no thread is started.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        names: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        animate: bool = True,
        console: Console | None = None,
    ) -> None:
        self._stream = stream
        self._quiet = QuietStream(stream)
        self._clock = clock
        self._animate = animate
        self._width = max(map(len, names), default=8)
        self._console = console
        self._bar: StageBar | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StageStarted():
                self._start_bar(event.stage, event.reason)
            case Progress():
                if not self._bar and not event.stage:  # before any stage, as the reading of images
                    self._start_bar(event.unit, event.note)
                if self._bar:
                    self._bar.advance(event)
                    if not self._animate:
                        self._bar.refresh()
                    if not event.stage and event.done >= event.total:
                        self.close()
            case StageFinished():
                self.close()
                self._line("done", event.stage, human_duration(event.seconds), "green")
            case StageSkipped():
                self._line("fresh", event.stage, "up to date", "dim")
            case StageFailed():
                self.close()
                text = f"stopped after {human_duration(event.seconds)}: {event.reason}"
                self._line("failed", event.stage, text, "red")
            case Message():
                warning = event.level == "warning"
                self._line(
                    "warning" if warning else "info", event.stage, event.text, "yellow" if warning else ""
                )

    def close(self) -> None:
        """Take the bar away and give the cursor back."""
        bar, self._bar = self._bar, None
        if bar:
            bar.remove()

    def _start_bar(self, label: str, reason: str) -> None:
        from pipeline.reporters.rich_bar import StageBar

        self.close()
        self._bar = StageBar(
            self._opened(),
            f"{label:<{self._width}}",
            reason,
            self._clock,
            animate=self._animate,
            redirect_stderr=self._stream is sys.stderr,
        )

    def _line(self, mark: str, stage: str, text: str, style: str) -> None:
        from rich.text import Text

        console = self._opened()
        marks = _MARKS if console.encoding.startswith("utf") else _ASCII_MARKS
        line = Text(f"{marks[mark]} ", style=style)
        line.append(
            f"{stage:<{self._width}}", style="dim" if mark == "fresh" else "bold" if not style else ""
        )
        line.append(f"  {text}")
        console.print(line, soft_wrap=True, highlight=False)

    def _opened(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=cast(TextIO, self._quiet))
        return self._console
