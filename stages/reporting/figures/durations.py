"""What the time of a run went into, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from nasflow.base.text import human_duration
from stages.reporting.figures.svg import figure, rectangle, text, text_width

_ROW, _BAR = 27.0, 17.0


def durations_figure(seconds: Mapping[str, float], *, width: float) -> Markup:
    """A bar for each stage, as long as its work took, with its share of the whole."""
    whole = sum(seconds.values()) or 1.0
    longest = max(seconds.values(), default=0.0) or 1.0
    left = max((text_width(name) for name in seconds), default=0.0) + 16
    said = {name: f"{human_duration(took)}, {100 * took / whole:.0f} %" for name, took in seconds.items()}
    room = width - left - max((text_width(words) for words in said.values()), default=0.0) - 14
    parts = []
    for row, (name, took) in enumerate(seconds.items()):
        y = 4 + _ROW * row
        long = room * took / longest
        parts += [
            text(left - 9, y + 13, name, class_="tick end"),
            rectangle(left, y, max(1.0, long), _BAR, rx=2, class_="bar k5"),
            text(left + long + 7, y + 13, said[name], class_="value start"),
        ]
    spoken = f"{human_duration(whole)} of work in all: " + "; ".join(f"{n} {w}" for n, w in said.items())
    return figure(width, _ROW * len(seconds) + 6, spoken, parts)
