"""``nasflow history``: the gates of a history file, as a table and as a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasflow.base.errors import UsageError
from nasflow.base.files import write_atomic
from nasflow.base.text import plain_line
from nasflow.cli.options import AsJson
from nasflow.cli.request import Action, Outcome

if TYPE_CHECKING:
    from nasflow.gate.history import HistoryEntry

Series = tuple[str | None, ...]
"""What gates must have in common to be compared: model by name, device, runtime, its options, baseline."""


def _series_of(entry: HistoryEntry) -> Series:
    baseline = None if entry.baseline is None else entry.baseline.sha256
    return (entry.candidate.name, entry.device, entry.runtime, entry.options, baseline)


def history(path: Path, plot: Path | None) -> Outcome:
    """All entries, and for each series of gates that can be compared what became of it.

    Raises UsageError where the file holds none, or lines that are none.
    """
    from nasflow.gate.history import read_history

    found = read_history(path)
    if not found.entries:
        raise UsageError(
            f"{plain_line(str(path))} holds no gates.",
            hint="'nasflow verify MODEL --against BASELINE --max-ratio R --history FILE' adds one.",
        )
    lines = [_line(entry) for entry in found.entries]
    if found.torn:
        lines.append("The last line of the file was cut off and is left out.")
    by_series: dict[Series, list[HistoryEntry]] = {}
    for entry in found.entries:
        by_series.setdefault(_series_of(entry), []).append(entry)
    changes = [_change(series) for series in by_series.values()]
    text = [_HEADINGS, *lines, ""]
    text += [change for change in changes if change]
    if plot is not None:
        write_atomic(plot, _drawing(list(by_series.values())).encode())
        text.append(f"Drawing  {plot}")
    document = {
        "entries": [entry.model_dump(mode="json") for entry in found.entries],
        "torn": found.torn,
        "plot": None if plot is None else str(plot),
    }
    return Outcome(document, "\n".join(text).rstrip())


_HEADINGS = (
    "time              verdict       ms (interval)               ratio (interval)           candidate, device"
)


@dataclass(frozen=True)
class _Figure:
    """What a series is about: the ratio, or without a baseline the latency itself."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float | None, interval: tuple[float, float] | None) -> _Figure | None:
        return None if value is None or interval is None else cls(value, *interval)

    def words(self, digits: str) -> str:
        return f"{self.value:{digits}} ({self.low:{digits}} to {self.high:{digits}})"


def _ratio(entry: HistoryEntry) -> _Figure | None:
    return _Figure.of(entry.ratio, entry.ratio_interval)


def _ms(entry: HistoryEntry) -> _Figure | None:
    return _Figure.of(entry.candidate_ms, entry.candidate_ms_interval)


def _line(entry: HistoryEntry) -> str:
    ms, ratio = _ms(entry), _ratio(entry)
    return (
        f"{entry.at:%Y-%m-%d %H:%M}  {entry.verdict:<12}  {ms.words('.4g') if ms else '':<26}  "
        f"{ratio.words('.3f') if ratio else '':<25}  {plain_line(entry.candidate.name)}, {_where(entry)}"
    )


def _where(entry: HistoryEntry) -> str:
    options = "" if entry.options is None else f" ({plain_line(entry.options)})"
    return f"{plain_line(entry.device)}{options}"


def _title(entry: HistoryEntry) -> str:
    against = "" if entry.baseline is None else f", against {plain_line(entry.baseline.name)}"
    return f"{plain_line(entry.candidate.name)} on {_where(entry)}{against}"


def _change(entries: Sequence[HistoryEntry]) -> str:
    """Whether the last gate's figure differs from the first one's, by their intervals."""
    what, figure, digits = ("ratio", _ratio, ".3f") if entries[0].baseline else ("latency", _ms, ".4g")
    known = [found for found in map(figure, entries) if found is not None]
    if len(known) < 2:
        return ""
    first, last = known[0], known[-1]
    unit = " ms" if figure is _ms else ""
    said = (
        f"{_title(entries[-1])}: the {what} went from {first.value:{digits}} to {last.value:{digits}}{unit} "
        f"in {len(known)} gates"
    )
    if last.low > first.high:
        return f"{said}: slower, and their intervals do not overlap."
    if last.high < first.low:
        return f"{said}: faster, and their intervals do not overlap."
    return f"{said}; their intervals overlap, so no change is shown."


def _drawing(series: Sequence[Sequence[HistoryEntry]]) -> str:
    from stages.reporting.figures.gate_history import GatePoint, GateSeries, history_figure

    drawn = []
    for entries in series:
        compared = entries[0].baseline is not None
        points = [
            GatePoint(
                found.value,
                found.low,
                found.high,
                entry.verdict,
                entry.max_ratio if compared else entry.max_ms,
                f"{entry.at:%Y-%m-%d %H:%M}: {found.value:.4g}, {entry.verdict}",
            )
            for entry in entries
            if (found := (_ratio if compared else _ms)(entry)) is not None
        ]
        if points:
            unit = "latency over the baseline's" if compared else "ms"
            drawn.append(GateSeries(_title(entries[-1]), unit, tuple(points)))
    if not drawn:
        raise UsageError("no gate of this history has a figure to draw.", hint="Leave --plot out.")
    return f"{history_figure(drawn)}\n"


def command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What 'nasflow verify --history' wrote.")],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="SVG", help="Draw all series over time.")
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """Show gates over time, and draw them."""
    del as_json  # the outcome has both
    return lambda: history(path, plot)
