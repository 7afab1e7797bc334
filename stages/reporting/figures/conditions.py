"""The device's state over time: a row for each thing that it tells."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from stages.reporting.conditions import Phase, Quantity
from stages.reporting.figures.axes import Scale, fitted, tick_label
from stages.reporting.figures.svg import figure, line, polyline, rectangle, text

_ROW, _TOP, _LEFT, _RIGHT = 74.0, 24.0, 46.0, 12.0
_MOST_POINTS = 240


def conditions_figure(phase: Phase, *, width: float) -> Markup:
    """Time from left to right, long pauses cut short; grey where a phone's screen was off."""
    minutes, pauses = phase.minutes()
    x = Scale(0.0, max(minutes[-1], 1e-3), _LEFT, width - _RIGHT)
    known = phase.known()
    bottom = _ROW * len(known)
    parts = [
        rectangle(x(start), _TOP - 2, max(1.5, x(end) - x(start)), bottom - _TOP + 2, class_="phase")
        for start, end in _screen_off(phase, minutes)
    ]
    parts += [line(x(minutes[i]), _TOP - 2, x(minutes[i]), bottom, class_="warmline") for i in pauses]
    for row, quantity in enumerate(known):
        parts += _row(phase, quantity, minutes, pauses, x, _ROW * row)
    for tick in x.ticks(6 if width >= 400 else 4):
        parts.append(text(x(tick), bottom + 17, tick_label(tick), class_="tick middle"))
    parts.append(text((_LEFT + width - _RIGHT) / 2, bottom + 34, "minutes", class_="title middle"))
    return figure(width, bottom + 42, f"{phase.words}: {phase.sentence()}", parts)


def _row(
    phase: Phase, quantity: Quantity, minutes: Sequence[float], pauses: Sequence[int], x: Scale, top: float
) -> list[Markup]:
    points = [
        (i, at, value)
        for i, (at, state) in enumerate(zip(minutes, phase.states, strict=True))
        if (value := quantity.value(state)) is not None
    ]
    y = fitted([value for _, _, value in points], top + _ROW - 4, top + _TOP, margin=0.1)
    parts = [text(_LEFT, top + 16, quantity.title, class_="title start")]
    for tick in y.ticks(3):
        parts += [
            line(_LEFT, y(tick), x.end, y(tick), class_="grid"),
            text(_LEFT - 7, y(tick) + 4, tick_label(tick), class_="tick end"),
        ]
    parts.append(line(_LEFT, top + _ROW, x.end, top + _ROW, class_="axis"))
    for _, stretch in groupby(points, key=lambda point: sum(pause <= point[0] for pause in pauses)):
        drawn = [(x(at), y(value)) for _, at, value in stretch]
        drawn = drawn if len(drawn) > 1 else [drawn[0], (drawn[0][0] + 1, drawn[0][1])]
        parts.append(polyline(_thinned(drawn), class_="trainline baseline"))
    return parts


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of many points the least and the greatest of each short stretch: no dip is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    step = -(-2 * len(points) // _MOST_POINTS)
    kept = []
    for start in range(0, len(points), step):
        part = points[start : start + step]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def _screen_off(phase: Phase, minutes: Sequence[float]) -> list[tuple[float, float]]:
    """From the first reading with the screen off to the next with it on."""
    spans: list[tuple[float, float]] = []
    began: float | None = None
    for at, state in zip(minutes, phase.states, strict=True):
        if state.awake is False and began is None:
            began = at
        elif state.awake and began is not None:
            spans.append((began, at))
            began = None
    return spans if began is None else [*spans, (began, minutes[-1])]
