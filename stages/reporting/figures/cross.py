"""Every device's network on every device, as a heat map."""

from __future__ import annotations

import math
import re

from markupsafe import Markup

from nasflow.base.text import plain_line
from stages.documents import CrossCell, CrossTable
from stages.reporting.cross_text import accuracy_words, times_as_long
from stages.reporting.figures.classes import shortened
from stages.reporting.figures.heat import heat_tone
from stages.reporting.figures.svg import element, figure, group, rectangle, text, text_width, tooltip
from stages.reporting.notation import milliseconds

STRONGEST = 2.0
"""Times as long, or as fast, as the device's own network: the strongest tone."""
_SIZE, _TINY, _LINE = 11.5, 9.5, 14.0


def cross_figure(table: CrossTable, *, width: float) -> Markup:
    """A row for each network, a column for each device; the tone is the time beside the device's own."""
    names = [plain_line(target.name) for target in table.targets]
    left = min(176.0 if width >= 600 else 84.0, 16 + 1.1 * max(text_width(n, _SIZE) for n in names))
    step = min(220.0, (width - left - 2) / len(names))
    heads = [name_lines(name, step - 2) for name in names]
    top = 22 + _LINE * max(map(len, heads))
    height = 16 + _LINE * (4 if table.trained else 3)
    parts = [
        text(left - 8, 12, "network of", class_="title end"),
        text(left + 2, 12, "on", class_="title start"),
    ]
    for column, lines in enumerate(heads):
        for number, said in enumerate(lines):
            y = top - 6 - _LINE * (len(lines) - 1 - number)
            parts.append(text(left + step * (column + 0.5), y, said, class_="tick middle"))
    for row, network in enumerate(table.networks):
        y = top + height * row
        lines = name_lines(plain_line(network.target), left - 20)
        for number, said in enumerate(lines):
            middle = y + height / 2 + 4 - _LINE * (len(lines) - 1) / 2 + _LINE * number
            parts.append(text(left - 8, middle, said, class_="tick end"))
        for column, target in enumerate(table.targets):
            cell = table.cell(network.target, target.name)
            parts.append(_cell(cell, left + step * column, y, step, height, trained=table.trained))
    return figure(width, top + height * len(table.networks) + 4, _spoken(table), parts)


def name_lines(name: str, room: float) -> list[str]:
    """A target's name in lines: it is broken before ``@``, ``=`` and ``:`` where it is too long."""
    lines = [""]
    for part in re.split(r"(?=[@=:])", name):
        if lines[-1] and text_width(lines[-1] + part, _SIZE) > room:
            lines.append(part)
        else:
            lines[-1] += part
    return [shortened(line, room) for line in lines]


def _cell(cell: CrossCell, x: float, y: float, width: float, height: float, *, trained: bool) -> Markup:
    own = cell.network == cell.target
    share = min(1.0, abs(math.log(cell.ratio_to_own)) / math.log(STRONGEST))
    opacity, ink = heat_tone(share)
    tone = "wrong" if cell.ratio_to_own > 1 else "heat"
    box = {"x": x + 1, "y": y + 1, "width": width - 2, "height": height - 2, "rx": 2}
    parts = [
        element("rect", class_="heatground", **box),
        element("rect", class_=tone, fill_opacity=opacity, **box),
    ]
    said = _said(cell, width - 6, trained=trained)
    start = y + height / 2 + 4 - _LINE * (len(said) - 1) / 2
    for number, (words, size) in enumerate(said):
        style = f"heattext {ink} middle{' tiny' if size < _SIZE else ''}"
        parts.append(text(x + width / 2, start + _LINE * number, words, class_=style))
    frame = "heatframe chosen" if own else "heatframe"
    parts.append(
        element(
            "rect",
            tooltip(_words(cell)),
            x=x + 2,
            y=y + 2,
            width=width - 4,
            height=height - 4,
            rx=2,
            class_=frame,
        )
    )
    return group(parts)


def _said(cell: CrossCell, room: float, *, trained: bool) -> list[tuple[str, float]]:
    """The lines in a cell with their sizes; what does not fit stands in the table beside it alone."""
    low, high = cell.ratio_to_own_interval_95
    beside = "own" if cell.network == cell.target else f"× {cell.ratio_to_own:.2f}"
    lines = [f"{milliseconds(cell.measurement.median_ms)} ms", beside]
    if cell.network != cell.target:
        lines.append(f"{low:.2f}–{high:.2f}")
    if trained and cell.accuracy is not None:
        lines.append(f"{cell.accuracy.percent:.1f} %")
    sized = [(line, _SIZE if text_width(line, _SIZE) <= room else _TINY) for line in lines]
    return [(line, size) for line, size in sized if text_width(line, size) <= room]


def _words(cell: CrossCell) -> str:
    accuracy = f", accuracy {accuracy_words(cell)} %" if cell.accuracy is not None else ""
    time = f"{milliseconds(cell.measurement.median_ms)} ms"
    if cell.network == cell.target:
        return f"{cell.target}: its own network takes {time}{accuracy}"
    return (
        f"on {cell.target} the network of {cell.network} takes {time}, {times_as_long(cell)} times as long "
        f"as its own{accuracy}"
    )


def _spoken(table: CrossTable) -> str:
    return (
        f"Times of {len(table.networks)} networks on {len(table.targets)} devices. "
        + "; ".join(_words(cell) for cell in table.cells)
        + "."
    )


def heat_legend() -> list[tuple[Markup, str]]:
    """What the tones mean."""

    def swatch(tone: str, share: float) -> Markup:
        opacity, _ = heat_tone(share)
        return element(
            "svg",
            rectangle(0, 0, 15, 11, rx=2, class_="heatground"),
            rectangle(0, 0, 15, 11, rx=2, class_=tone, fill_opacity=opacity),
            width=15,
            height=11,
            viewBox="0 0 15 11",
            aria_hidden="true",
        )

    return [
        (swatch("wrong", 1.0), f"{STRONGEST:g} times as long as the device’s own network, or longer"),
        (swatch("wrong", 0.26), "1.2 times as long"),
        (swatch("heat", 0.26), "1.2 times as fast"),
    ]
