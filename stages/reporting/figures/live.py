"""Curves and probabilities of a run that goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from nasflow.base.text import plain_line
from pipeline.events import Distribution
from stages.reporting.figures.axes import Frame, Scale, fitted
from stages.reporting.figures.classes import shortened
from stages.reporting.figures.heat import heat_tone
from stages.reporting.figures.labels import spread
from stages.reporting.figures.svg import figure, polyline, rectangle, text, text_width
from stages.reporting.notation import display_name

_SIZE, _CELL, _TOP = 11.5, 24.0, 34.0
Points = Sequence[tuple[int, float]]


def curves_figure(title: str, curves: Mapping[str, Points], *, width: float) -> Markup:
    """A line for each series, with its name at its end. Steps are counted from 1."""
    height = 0.66 * width if width >= 420 else 0.9 * width
    names = {series: shortened(display_name(plain_line(series), short=True), 110) for series in curves}
    right = width - 20 - max(text_width(name, _SIZE) for name in names.values())
    values = [value for points in curves.values() for _, value in points]
    steps = [step + 1 for points in curves.values() for step, _ in points]
    bottom, top = height - 50, 26.0
    frame = Frame(Scale(min(steps), max(min(steps) + 1, *steps), 56, right), fitted(values, bottom, top))
    parts = [frame.axes("epoch", plain_line(title), x_ticks=5, whole_x=True)]
    ends = [frame.y(points[-1][1]) for points in curves.values()]
    for (series, points), end, at in zip(curves.items(), ends, spread(ends, top, bottom, 13), strict=True):
        style = _style(series)
        drawn = [frame.at(step + 1, value) for step, value in points]
        drawn = drawn if len(drawn) > 1 else [drawn[0], (drawn[0][0] + 2, drawn[0][1])]
        parts.append(polyline(drawn, class_=f"trainline {style}"))
        parts.append(polyline([(drawn[-1][0] + 2, end), (right + 6, at)], class_=f"leader {style}"))
        parts.append(text(right + 9, at + 4, names[series], class_=f"name small {style} start"))
    last = "; ".join(f"{plain_line(series)} {points[-1][1]:.4g}" for series, points in curves.items())
    return figure(width, height, f"{plain_line(title)} by epoch. Now: {last}.", parts)


def _style(series: str) -> str:
    for start, style in (("found", "found"), ("search", "found"), ("random", "random"), ("front", "front")):
        if series.startswith(start):
            return style
    return "published" if series.endswith("_published") else "baseline"


def distributions_figure(layers: Sequence[Distribution], *, width: float) -> Markup:
    """A row for each layer, a column for each candidate; the tone grows with the probability."""
    labels = list(dict.fromkeys(label for layer in layers for label in layer.labels))
    labels.sort(key=lambda label: label == "skip")
    left = 76.0
    step = (width - left - 4) / max(1, len(labels))
    parts = [
        text(left + step * (i + 0.5), _TOP - 10, shortened(plain_line(label), step - 2), class_="tick middle")
        for i, label in enumerate(labels)
    ]
    for row, layer in enumerate(layers):
        y = _TOP + _CELL * row
        parts.append(
            text(left - 9, y + 15.5, shortened(plain_line(layer.name), left - 12), class_="tick end")
        )
        for label, value in zip(layer.labels, layer.values, strict=False):
            x = left + step * labels.index(label)
            opacity, ink = heat_tone(min(1.0, max(0.0, value)))
            parts += [
                rectangle(x + 1, y + 1, step - 2, _CELL - 2, rx=2, class_="heatground"),
                rectangle(x + 1, y + 1, step - 2, _CELL - 2, rx=2, class_="heat", fill_opacity=opacity),
                text(x + step / 2, y + 16, f"{value:.2f}", class_=f"heattext {ink} middle"),
            ]
    spoken = "Most probable candidates: " + "; ".join(map(_most_probable, layers))
    return figure(width, _TOP + _CELL * len(layers) + 6, spoken, parts)


def _most_probable(layer: Distribution) -> str:
    value, label = max(zip(layer.values, layer.labels, strict=False), default=(0.0, "none"))
    return f"{plain_line(layer.name)} {plain_line(label)} {value:.2f}"
