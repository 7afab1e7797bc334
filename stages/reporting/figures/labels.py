"""Names beside points and lines, without overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.reporting.figures.svg import text_width

_HEIGHT = 13.0


@dataclass(frozen=True)
class Label:
    """A placed label: baseline position and anchor (``start``, ``middle``, ``end``)."""

    x: float
    y: float
    anchor: str


Box = tuple[float, float, float, float]


def beside_points(
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    taken: Sequence[Box],
    bounds: Box,
    *,
    size: float = 12,
) -> list[Label]:
    """A place for each name beside its point: the first free one of eight, else the least bad.

    ``taken`` are boxes (left, top, right, bottom) that must stay visible, ``bounds`` where names may be.
    """
    blocked = [*taken, *((x - 6, y - 6, x + 6, y + 6) for x, y in points)]
    labels = []
    for (x, y), name in zip(points, names, strict=True):
        candidates = [
            Label(x + 11, y + 4, "start"),
            Label(x - 11, y + 4, "end"),
            Label(x + 9, y - 9, "start"),
            Label(x - 9, y - 9, "end"),
            Label(x + 9, y + 17, "start"),
            Label(x - 9, y + 17, "end"),
            Label(x, y - 16, "middle"),
            Label(x, y + 24, "middle"),
        ]
        width = text_width(name, size)
        best = min(candidates, key=lambda c: _cost(_box(c, width), blocked, bounds))
        blocked.append(_box(best, width))
        labels.append(best)
    return labels


def _box(label: Label, width: float) -> Box:
    left = {"start": label.x, "middle": label.x - width / 2, "end": label.x - width}[label.anchor]
    return (left, label.y - _HEIGHT + 3, left + width, label.y + 3)


def _cost(box: Box, blocked: Sequence[Box], bounds: Box) -> float:
    covered = sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in blocked
    )
    outside = (
        max(0.0, bounds[0] - box[0])
        + max(0.0, bounds[1] - box[1])
        + max(0.0, box[2] - bounds[2])
        + max(0.0, box[3] - bounds[3])
    )
    return covered + 1000 * outside


def spread(wanted: Sequence[float], low: float, high: float, gap: float = _HEIGHT) -> list[float]:
    """Heights as near to the wanted ones as a minimal gap allows, within low..high if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    last = low - gap
    for i in order:
        last = placed[i] = max(wanted[i], last + gap)
    last = high + gap
    for i in reversed(order):
        last = placed[i] = min(placed[i], last - gap)
    return placed
