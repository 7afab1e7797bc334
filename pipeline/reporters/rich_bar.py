"""The live bar of one running stage. Imports rich: :mod:`pipeline.reporters.rich_reporter` alone uses it."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.table import Column
from rich.text import Text

from nasflow.base.text import Remaining, clock_time, human_count, human_duration, share
from pipeline import events

_PER_SECOND = 2.0  # the machine may be busy measuring itself: draw seldom


class StageBar:
    """Spinner, name, bar, share, time so far, time left and a note, on the terminal's last line."""

    def __init__(
        self,
        console: Console,
        label: str,
        reason: str,
        clock: Callable[[], float],
        *,
        animate: bool,
        redirect_stderr: bool,
    ) -> None:
        self._clock = clock
        self._started = clock()
        self._remaining = Remaining()
        self._ends_at: float | None = None
        self._counts = reason
        self._percent = ""
        self._progress = Progress(
            SpinnerColumn("dots" if console.encoding.startswith("utf") else "line"),
            _Live(lambda: Text(label, style="bold"), min_width=len(label)),
            BarColumn(bar_width=24),
            _Live(lambda: Text(self._percent), min_width=5),
            _Live(lambda: Text(clock_time(self._clock() - self._started), style="cyan")),
            _Live(self._left),
            _Live(lambda: Text(self._counts, style="dim"), ratio=1),
            console=console,
            transient=True,
            expand=True,
            auto_refresh=animate,
            refresh_per_second=_PER_SECOND,
            get_time=clock,
            redirect_stdout=False,
            redirect_stderr=redirect_stderr,
        )
        self._task = self._progress.add_task(label, total=None)
        self._progress.start()

    def advance(self, event: events.Progress) -> None:
        """Show how far the stage is."""
        now = self._clock()
        left = self._remaining.after(event.done, event.total, event.unit, now)
        self._ends_at = None if left is None else now + left
        self._percent = f"{100 * share(event.done, event.total):.0f} %" if event.total > 0 else ""
        counts = f"{human_count(event.done)}/{human_count(event.total)} {event.unit}"
        self._counts = f"{counts}, {event.note}" if event.note else counts
        total = event.total if event.total > 0 else None
        self._progress.update(self._task, completed=event.done, total=total)

    def refresh(self) -> None:
        """Draw now."""
        self._progress.refresh()

    def remove(self) -> None:
        """Leave the terminal as if the bar had never been there."""
        self._progress.stop()

    def _left(self) -> Text:
        if self._ends_at is None:
            return Text("")
        return Text(f"{human_duration(max(0.0, self._ends_at - self._clock()))} left", style="cyan")


class _Live(ProgressColumn):
    """A column that asks for its text each time the bar is drawn."""

    max_refresh = None

    def __init__(self, text: Callable[[], Text], *, min_width: int = 0, ratio: int | None = None) -> None:
        self._text = text
        column = Column(no_wrap=True, overflow="ellipsis", min_width=min_width or None, ratio=ratio)
        super().__init__(table_column=column)

    def render(self, task: Task) -> Text:
        """The column's text."""
        return self._text()
