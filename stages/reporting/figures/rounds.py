"""Measurement noise: every round of the verification."""

from __future__ import annotations

from markupsafe import Markup

from stages.documents import VerifiedNetwork
from stages.reporting.figures.axes import Frame, Scale, fitted
from stages.reporting.figures.series import CLASSES
from stages.reporting.figures.svg import figure, line, polyline


def rounds_figure(networks: tuple[VerifiedNetwork, ...], *, width: float) -> Markup:
    """Each network's latency in every round, relative to its own median."""
    height = 0.9 * width if width >= 420 else 0.75 * width
    deviations = {
        n.name: [100 * (ms / n.measurement.median_ms - 1) for ms in n.measurement.round_medians_ms]
        for n in networks
    }
    count = max(len(row) for row in deviations.values())
    flat = [value for row in deviations.values() for value in row]
    y = fitted([*flat, -2.0, 2.0], height - 50, 26)
    frame = Frame(Scale(1, max(2, count), 52, width - 14), y)
    parts = [
        frame.axes("round", "off the network's median, %", x_ticks=6, y_ticks=5, whole_x=True),
        line(frame.x.start, y(0), frame.x.end, y(0), class_="diagonal"),
    ]
    for network in sorted(networks, key=lambda n: n.role == "found"):
        points = [frame.at(index + 1, value) for index, value in enumerate(deviations[network.name])]
        parts.append(polyline(points, class_=f"roundline {CLASSES[network.role]}"))
    label = (
        f"Deviation of every network's latency from its median in {count} interleaved rounds: "
        f"{min(flat):+.1f} % to {max(flat):+.1f} %."
    )
    return figure(width, height, label, parts)
