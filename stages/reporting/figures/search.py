"""What the search did: latency against its target, certainty, pressure, and the final choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from stages.documents import SearchEpoch, SearchResult
from stages.reporting.figures.axes import Frame, Scale, fitted
from stages.reporting.figures.heat import heat_tone
from stages.reporting.figures.svg import (
    element,
    figure,
    group,
    line,
    polyline,
    rectangle,
    text,
    text_width,
    tooltip,
)
from stages.reporting.notation import milliseconds


def expected_latency_figure(search: SearchResult, *, width: float) -> Markup:
    """The supernet's expected latency by epoch, and the target."""
    return _panel(
        search.history,
        lambda e: e.expected_ms,
        "expected latency, ms",
        width,
        level=("target", search.target_ms),
    )


def entropy_figure(search: SearchResult, *, width: float) -> Markup:
    """How undecided the layers are on average: 1 is uniform, 0 decided."""
    return _panel(search.history, lambda e: e.entropy, "entropy, 0 to 1", width, bounds=(0.0, 1.0))


def multiplier_figure(search: SearchResult, *, width: float) -> Markup:
    """How hard the latency constraint presses; of a search in which latency has a price."""
    return _panel(search.history, lambda e: e.multiplier or 0.0, "latency multiplier", width)


def supernet_accuracy_figure(search: SearchResult, *, width: float) -> Markup:
    """Validation accuracy of the sampled paths."""
    return _panel(
        search.history, lambda e: e.validation_accuracy_percent, "supernet validation accuracy, %", width
    )


def _panel(
    history: Sequence[SearchEpoch],
    figure_of: Callable[[SearchEpoch], float],
    title: str,
    width: float,
    *,
    level: tuple[str, float] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Markup:
    height = 210.0
    values = [figure_of(epoch) for epoch in history]
    top, bottom = 26.0, height - 44
    held = [*values, *(bounds or ()), *([level[1]] if level else [])]
    frame = Frame(Scale(1, max(2, len(history)), 52, width - 12), fitted(held, bottom, top))
    warm_up = sum(epoch.phase == "warm-up" for epoch in history)
    parts = []
    if warm_up:
        edge = frame.x(min(warm_up + 0.5, frame.x.high))
        parts.append(rectangle(frame.x.start, top, edge - frame.x.start, bottom - top, class_="phase"))
        drawn = [frame.y(value) for value in (*values[:warm_up], *([level[1]] if level else []))]
        free = max(
            (top + 14, (top + bottom) / 2, bottom - 6), key=lambda y: min(abs(y - 4 - d) for d in drawn)
        )
    parts.append(frame.axes("epoch", title, x_ticks=5, y_ticks=4, whole_x=True))
    if warm_up:
        parts.append(text(frame.x.start + 5, free, "warm-up", class_="tick start phasetext"))
    if level:
        y = frame.y(level[1])
        parts.append(line(frame.x.start, y, frame.x.end, y, class_="target"))
        said = f"{level[0]} {milliseconds(level[1])}"
        parts.append(text(frame.x.end - 2, y - 5, said, class_="tick end targettext"))
    points = [frame.at(index + 1, value) for index, value in enumerate(values)]
    parts.append(polyline(points, class_="trainline found"))
    label = f"{title} by epoch: from {values[0]:.3g} to {values[-1]:.3g}."
    return figure(width, height, label, parts)


_CELL, _TOP, _LINE = 24.0, 44.0, 13.0


def probabilities_figure(search: SearchResult, choices: Sequence[int], *, width: float) -> Markup:
    """The probability of every candidate in every searched layer at the end; the outlined one was taken."""
    layers = search.space.layers()
    searched = [index for index, layer in enumerate(layers) if len(layer.blocks) > 1]
    labels = list(dict.fromkeys(layers[p].label(i) for p in searched for i in range(len(layers[p].blocks))))
    labels.sort(key=lambda label: label == "skip")
    left = 118.0 if width >= 600 else 76.0
    step = (width - left - 4) / max(1, len(labels))
    wrapped = [_wrapped(label, step - 4) for label in labels]
    top = _TOP + _LINE * (max(map(len, wrapped), default=1) - 1)
    parts = [
        text(left + step * (i + 0.5), top - 12 - _LINE * above, words, class_="tick middle")
        for i, said in enumerate(wrapped)
        for above, words in enumerate(reversed(said))
    ]
    for row, index in enumerate(searched):
        layer, y = layers[index], top + _CELL * row
        block = next(b for b in layer.blocks if b is not None)
        name = f"layer {index + 1}" if width >= 600 else str(index + 1)
        said = f"{name} · {block.out_channels} ch"
        parts.append(text(left - 10, y + 15.5, said, class_="tick end"))
        for i, log_probability in enumerate(search.log_probabilities[index]):
            label = layer.label(i)
            x = left + step * labels.index(label)
            tip = f"layer {index + 1}, {label}"
            parts.append(_cell(x, y, step, math.exp(log_probability), i == choices[index], tip))
    spoken = f"Final probabilities in {len(searched)} searched layers. Taken: " + ", ".join(
        layers[p].label(choices[p]) for p in searched
    )
    return figure(width, top + _CELL * len(searched) + 8, spoken, parts)


def _wrapped(label: str, room: float) -> list[str]:
    """A label in as few lines as its words need; a word that is too long stands alone."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, 11.5) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _cell(x: float, y: float, step: float, probability: float, chosen: bool, name: str) -> Markup:
    title = f"{name}: {probability:.3f}{', taken' if chosen else ''}"
    opacity, ink = heat_tone(probability)
    return group(
        [
            rectangle(x + 1, y + 1, step - 2, _CELL - 2, rx=2, class_="heatground"),
            rectangle(x + 1, y + 1, step - 2, _CELL - 2, rx=2, class_="heat", fill_opacity=opacity),
            text(x + step / 2, y + 16, f"{probability:.2f}", class_=f"heattext {ink} middle"),
            element(
                "rect",
                tooltip(title),
                x=x + 1.5,
                y=y + 1.5,
                width=step - 3,
                height=_CELL - 3,
                rx=2,
                class_="heatframe chosen" if chosen else "heatframe",
            ),
        ]
    )
