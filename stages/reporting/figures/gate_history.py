"""Gates over time: ratio or latency and its interval, one mark for each, one chart for each series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.reporting.figures.axes import Frame, Scale, fitted
from stages.reporting.figures.svg import element, figure, group, line, polyline, text, tooltip

_STYLE = (
    "text{font:12px sans-serif;fill:#333}.small{font-size:11px}.start{text-anchor:start}"
    ".middle{text-anchor:middle}.end{text-anchor:end}line,polyline{stroke:#999;fill:none}"
    ".grid{stroke:#e4e4e4}.limit{stroke:#b3261e;stroke-dasharray:5 4}.whisker{stroke:#1f4e9c;stroke-width:2}"
    ".pass{fill:#1f4e9c}.fail{fill:#b3261e}.inconclusive{fill:#fff;stroke:#1f4e9c;stroke-width:2}"
    "@media (prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.whisker{stroke:#8ab4f8}"
    ".pass{fill:#8ab4f8}.limit{stroke:#f2b8b5}.fail{fill:#f2b8b5}.inconclusive{fill:#111}}"
)
_HEAD = 50.0  # above a chart, for its title and that of its axis


@dataclass(frozen=True)
class GatePoint:
    """One gate of the drawing. ``title`` is shown over its mark."""

    value: float
    low: float
    high: float
    verdict: str
    limit: float | None
    title: str


@dataclass(frozen=True)
class GateSeries:
    """Gates that can be compared, in order of time: one at least. ``unit``: of their values."""

    title: str
    unit: str
    points: tuple[GatePoint, ...]

    @property
    def words(self) -> str:
        """What a screen reader says."""
        first, last = self.points[0], self.points[-1]
        return (
            f"{self.title}: {len(self.points)} gates, {self.unit} from {first.value:.4g} to "
            f"{last.value:.4g}; the last one's interval is {last.low:.4g} to {last.high:.4g}."
        )


def history_figure(series: Sequence[GateSeries], *, width: float = 760) -> Markup:
    """Each gate's value with its interval, and the limit, where there was one; a chart for each series.

    The drawing stands alone: it brings its own style.
    """
    height = 0.5 * width
    parts = [element("style", Markup(_STYLE))]
    parts += [_chart(one, number * height, width, height) for number, one in enumerate(series)]
    return figure(width, len(series) * height, " ".join(one.words for one in series), parts)


def _chart(one: GateSeries, top: float, width: float, height: float) -> Markup:
    limits = [point.limit for point in one.points if point.limit is not None]
    values = [end for point in one.points for end in (point.low, point.high)] + limits
    across = Scale(0.5, len(one.points) + 0.5, 60, width - 20)
    frame = Frame(across, fitted(values, top + height - 50, top + _HEAD))
    parts = [
        text(60, top + 20, one.title, class_="start"),
        frame.axes("gate", one.unit, x_ticks=8, y_ticks=6, whole_x=True),
        polyline(
            [frame.at(index, point.value) for index, point in enumerate(one.points, 1)], class_="connection"
        ),
    ]
    for index, point in enumerate(one.points, 1):
        x, y = frame.at(index, point.value)
        parts.append(line(x, frame.y(point.low), x, frame.y(point.high), class_="whisker"))
        if point.limit is not None:
            limit = frame.y(point.limit)
            parts.append(line(x - 9, limit, x + 9, limit, class_="limit"))
        parts.append(element("circle", tooltip(point.title), cx=x, cy=y, r=5, class_=point.verdict))
    return group(parts)
