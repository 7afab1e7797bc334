"""Gates over time: the ratio and its interval, one mark for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.reporting.figures.axes import Frame, Scale, fitted
from stages.reporting.figures.svg import element, figure, line, polyline, tooltip

_STYLE = (
    "text{font:12px sans-serif;fill:#333}.small{font-size:11px}.start{text-anchor:start}"
    ".middle{text-anchor:middle}.end{text-anchor:end}line,polyline{stroke:#999;fill:none}"
    ".grid{stroke:#e4e4e4}.limit{stroke:#b3261e;stroke-dasharray:5 4}.whisker{stroke:#1f4e9c;stroke-width:2}"
    ".pass{fill:#1f4e9c}.fail{fill:#b3261e}.inconclusive{fill:#fff;stroke:#1f4e9c;stroke-width:2}"
    "@media (prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.whisker{stroke:#8ab4f8}"
    ".pass{fill:#8ab4f8}.limit{stroke:#f2b8b5}.fail{fill:#f2b8b5}.inconclusive{fill:#111}}"
)


@dataclass(frozen=True)
class GatePoint:
    """One gate of the drawing. ``title`` is shown over its mark."""

    ratio: float
    low: float
    high: float
    verdict: str
    max_ratio: float | None
    title: str


def history_figure(points: Sequence[GatePoint], *, width: float = 760) -> Markup:
    """Each gate's ratio with its interval, in order of time; the limit, where there was one.

    The drawing stands alone: it brings its own style.
    """
    height = 0.5 * width
    limits = [point.max_ratio for point in points if point.max_ratio is not None]
    values = [end for point in points for end in (point.low, point.high)] + limits
    frame = Frame(Scale(0.5, len(points) + 0.5, 60, width - 20), fitted(values, height - 50, 26))
    parts = [
        element("style", Markup(_STYLE)),
        frame.axes("gate", "latency over the baseline's", x_ticks=8, y_ticks=6, whole_x=True),
        polyline(
            [frame.at(index, point.ratio) for index, point in enumerate(points, 1)], class_="connection"
        ),
    ]
    for index, point in enumerate(points, 1):
        x, y = frame.at(index, point.ratio)
        parts.append(line(x, frame.y(point.low), x, frame.y(point.high), class_="whisker"))
        if point.max_ratio is not None:
            limit = frame.y(point.max_ratio)
            parts.append(line(x - 9, limit, x + 9, limit, class_="limit"))
        parts.append(element("circle", tooltip(point.title), cx=x, cy=y, r=5, class_=point.verdict))
    first, last = points[0], points[-1]
    label = (
        f"{len(points)} gates: the ratio went from {first.ratio:.3f} to {last.ratio:.3f}; the last one's "
        f"interval is {last.low:.3f} to {last.high:.3f}."
    )
    return figure(width, height, label, parts)
