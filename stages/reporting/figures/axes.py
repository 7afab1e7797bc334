"""Scales, ticks and the frame that a chart's data are drawn in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from stages.reporting.figures.svg import group, line, text


@dataclass(frozen=True)
class Scale:
    """From a figure to pixels; linear, or logarithmic in base 10."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where ``value`` lies."""
        low, high, at = (
            (math.log(self.low), math.log(self.high), math.log(value))
            if self.log
            else (self.low, self.high, value)
        )
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About ``count`` round figures within the scale."""
        return log_ticks(self.low, self.high, count) if self.log else nice_ticks(self.low, self.high, count)


def fitted(
    values: Iterable[float], start: float, end: float, *, margin: float = 0.06, log: bool = False
) -> Scale:
    """A scale that holds all values with a margin on both sides."""
    seen = list(values)
    low, high = min(seen), max(seen)
    if log:
        stretch = (high / low) ** margin if high > low else 1.1
        return Scale(low / stretch, high * stretch, start, end, log=True)
    pad = (high - low) * margin or abs(high) * 0.1 or 1.0
    return Scale(low - pad, high + pad, start, end)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(1, count)
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """1, 2, 5 of each decade; fewer where there are many decades, linear ones where there is no room."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [round(f * 10.0**d, 12) for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(ticks) <= count:
            break
    return ticks if len(ticks) > 1 else nice_ticks(low, high, count)


def tick_label(value: float) -> str:
    """A tick's figure, as short as it is exact."""
    return f"{value:.10g}".replace("-", "−")


@dataclass(frozen=True)
class Frame:
    """The plane of a chart: two scales; y grows upwards."""

    x: Scale
    y: Scale

    def axes(
        self, x_title: str, y_title: str, *, x_ticks: int = 6, y_ticks: int = 5, whole_x: bool = False
    ) -> Markup:
        """Grid lines, tick figures and titles; no ticks where their number is 0."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = []
        for tick in self.y.ticks(y_ticks):
            y = self.y(tick)
            parts += [
                line(left, y, right, y, class_="grid"),
                text(left - 7, y + 4, tick_label(tick), class_="tick end"),
            ]
        for tick in self.x.ticks(x_ticks) if x_ticks else ():
            if whole_x and tick != round(tick):
                continue
            x = self.x(tick)
            parts += [
                line(x, bottom, x, bottom + 4, class_="axis"),
                text(x, bottom + 17, tick_label(tick), class_="tick middle"),
            ]
        parts += [
            line(left, bottom, right, bottom, class_="axis"),
            text((left + right) / 2, bottom + 34, x_title, class_="title middle"),
            text(left, top - 10, y_title, class_="title start"),
        ]
        return group(parts)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point in pixels."""
        return self.x(x), self.y(y)
