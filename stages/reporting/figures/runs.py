"""The found networks of several runs: accuracy against latency, for one device."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from nasflow.base.text import plain_line
from stages.reporting.comparison import RunFigures
from stages.reporting.figures.axes import Frame, fitted
from stages.reporting.figures.labels import Box, beside_points
from stages.reporting.figures.series import marker
from stages.reporting.figures.svg import figure, line, text
from stages.reporting.notation import milliseconds


def runs_figure(runs: Sequence[RunFigures], *, width: float) -> Markup:
    """Up is more accurate, left is faster. Bars: 95 % intervals of the accuracies."""
    height = 340.0
    values = [run.median_ms for run in runs]
    bounds = [bound for run in runs for bound in run.accuracy_interval_95]
    frame = Frame(
        fitted(values, 52, width - 16, margin=0.2, log=max(values) > 5 * min(values)),
        fitted(bounds, height - 52, 26, margin=0.08),
    )
    parts = [frame.axes("measured latency, ms", "test accuracy, %", x_ticks=6 if width >= 600 else 4)]
    points, taken = [], list[Box]()
    for run in runs:
        x, y = frame.at(run.median_ms, run.accuracy_percent)
        low, high = (frame.y(bound) for bound in run.accuracy_interval_95)
        parts += [line(x, low, x, high, class_="errorbar found"), marker("found", x, y, title=_words(run))]
        points.append((x, y))
        taken.append((x - 2, high, x + 2, low))
    names = [plain_line(run.name)[:28] for run in runs]
    inside = (frame.x.start + 2, frame.y.end - 8, width - 4, frame.y.start - 4)
    for place, name in zip(beside_points(points, names, taken, inside), names, strict=True):
        parts.append(text(place.x, place.y, name, class_=f"name found {place.anchor}"))
    spoken = "Test accuracy against measured latency of each run's found network. " + "; ".join(
        map(_words, runs)
    )
    return figure(width, height, spoken, parts)


def _words(run: RunFigures) -> str:
    low, high = run.accuracy_interval_95
    return (
        f"{plain_line(run.name)}: {run.accuracy_percent:.2f} % ({low:.2f} to {high:.2f}), "
        f"{milliseconds(run.median_ms)} ms"
    )
