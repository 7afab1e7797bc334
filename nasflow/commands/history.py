"""``nasflow history``: the gates of a history file, as a table and as a drawing."""

from __future__ import annotations

from collections.abc import Sequence
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

Series = tuple[str, str, str]
"""What gates must have in common to be compared: device, runtime, and the baseline's hash."""


def history(path: Path, plot: Path | None) -> Outcome:
    """All entries, and for each device and baseline what became of the ratio.

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
        by_series.setdefault((entry.device, entry.runtime, entry.baseline.sha256), []).append(entry)
    changes = [_change(series) for series in by_series.values()]
    text = ["time              verdict       ratio (interval)           candidate, device", *lines, ""]
    text += [change for change in changes if change]
    if plot is not None:
        write_atomic(plot, _drawing(max(by_series.values(), key=len)).encode())
        text.append(f"Drawing  {plot}")
    document = {
        "entries": [entry.model_dump(mode="json") for entry in found.entries],
        "torn": found.torn,
        "plot": None if plot is None else str(plot),
    }
    return Outcome(document, "\n".join(text).rstrip())


def _line(entry: HistoryEntry) -> str:
    ratio = "unknown"
    if entry.ratio is not None and entry.ratio_interval is not None:
        low, high = entry.ratio_interval
        ratio = f"{entry.ratio:.3f} ({low:.3f} to {high:.3f})"
    return (
        f"{entry.at:%Y-%m-%d %H:%M}  {entry.verdict:<12}  {ratio:<25}  {plain_line(entry.candidate.name)}, "
        f"{plain_line(entry.device)}"
    )


def _change(entries: Sequence[HistoryEntry]) -> str:
    """Whether the last gate's ratio differs from the first one's, by their intervals."""
    known = [e for e in entries if e.ratio is not None and e.ratio_interval is not None]
    if len(known) < 2:
        return ""
    first, last = known[0], known[-1]
    assert first.ratio and last.ratio and first.ratio_interval and last.ratio_interval  # chosen so
    where = f"On {plain_line(last.device)}, against {plain_line(last.baseline.name)}: the ratio went from "
    figures = f"{first.ratio:.3f} to {last.ratio:.3f} in {len(known)} gates"
    if last.ratio_interval[0] > first.ratio_interval[1]:
        return f"{where}{figures}: slower, and their intervals do not overlap."
    if last.ratio_interval[1] < first.ratio_interval[0]:
        return f"{where}{figures}: faster, and their intervals do not overlap."
    return f"{where}{figures}; their intervals overlap, so no change is shown."


def _drawing(entries: Sequence[HistoryEntry]) -> str:
    from stages.reporting.figures.gate_history import GatePoint, history_figure

    points = [
        GatePoint(
            entry.ratio,
            *entry.ratio_interval,
            entry.verdict,
            entry.max_ratio,
            f"{entry.at:%Y-%m-%d %H:%M}: {entry.ratio:.3f}, {entry.verdict}",
        )
        for entry in entries
        if entry.ratio is not None and entry.ratio_interval is not None
    ]
    if not points:
        raise UsageError("no gate of this history has a ratio to draw.", hint="Leave --plot out.")
    return f"{history_figure(points)}\n"


def command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What 'nasflow verify --history' wrote.")],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="SVG", help="Draw the ratio over time.")
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """Show gates over time, and draw them."""
    del as_json  # the outcome has both
    return lambda: history(path, plot)
