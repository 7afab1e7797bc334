"""Accuracy against latency, all networks."""

from __future__ import annotations

from itertools import pairwise
from math import isfinite

from markupsafe import Markup

from stages.documents import Role, Verification, VerifiedNetwork
from stages.measurement.interval import interval_percent
from stages.reporting.figures.axes import Frame, Scale, fitted
from stages.reporting.figures.labels import Box, beside_points
from stages.reporting.figures.series import CLASSES, marker
from stages.reporting.figures.svg import figure, group, line, polyline, text
from stages.reporting.notation import display_name, milliseconds

CURVES: tuple[Role, ...] = ("baseline", "baseline_published", "front")
"""Roles whose networks are joined by a line."""


def _curve_of(role: Role) -> Role:
    return "front" if role == "found" else role


def tradeoff_figure(verification: Verification, *, width: float) -> Markup:
    """Up is more accurate, left is faster. Bars: 95 % intervals of both."""
    height = 400.0 if width >= 600 else 340.0
    networks = verification.networks
    frame = Frame(_latencies(networks, 52, width - 16), _accuracies(networks, height - 52, 26))
    parts = [frame.axes("measured latency, ms", "test accuracy, %", x_ticks=8 if width >= 600 else 4)]
    for role in CURVES:
        curve = sorted(
            (n.measurement.median_ms, n.accuracy_percent) for n in networks if _curve_of(n.role) == role
        )
        if len(curve) > 1:
            points = [frame.at(*point) for point in curve]
            parts.append(polyline(points, class_=f"curve {CLASSES[role]}"))
    parts.append(_comparison(verification, frame))
    parts += [_error_bars(network, frame) for network in networks]
    parts += [
        marker(n.role, *frame.at(n.measurement.median_ms, n.accuracy_percent), title=_tooltip(n))
        for n in networks
    ]
    parts.append(_names(verification, frame, width))
    label = "Test accuracy against measured latency. " + "; ".join(_tooltip(n) for n in networks)
    return figure(width, height, label, parts)


def _latencies(networks: tuple[VerifiedNetwork, ...], start: float, end: float) -> Scale:
    values = [ms for n in networks for ms in _interval_ms(n)]
    return fitted(values, start, end, margin=0.08, log=max(values) > 5 * min(values))


def _interval_ms(network: VerifiedNetwork) -> tuple[float, float]:
    """The 95 % interval of a latency, as wide to both sides by its ratio; of a single round the latency."""
    ms, width = network.measurement.median_ms, interval_percent(network.measurement.round_medians_ms)
    factor = 1 + width / 200 if isfinite(width) else 1.0
    return ms / factor, ms * factor


def _accuracies(networks: tuple[VerifiedNetwork, ...], start: float, end: float) -> Scale:
    return fitted([bound for n in networks for bound in n.accuracy_interval_95], start, end, margin=0.08)


def _error_bars(network: VerifiedNetwork, frame: Frame) -> Markup:
    x, y = frame.at(network.measurement.median_ms, network.accuracy_percent)
    low, high = network.accuracy_interval_95
    fast_ms, slow_ms = _interval_ms(network)
    style = f"errorbar {CLASSES[network.role]}"
    return group(
        [
            line(x, frame.y(low), x, frame.y(high), class_=style),
            line(frame.x(fast_ms), y, frame.x(slow_ms), y, class_=style),
        ]
    )


def _corners(verification: Verification, frame: Frame) -> tuple[float, float, float, float]:
    by_name = {n.name: n for n in verification.networks}
    found = next(n for n in verification.networks if n.role == "found")
    reference = by_name[verification.reference]
    x, y = frame.at(found.measurement.median_ms, found.accuracy_percent)
    return x, y, *frame.at(reference.measurement.median_ms, reference.accuracy_percent)


def _comparison(verification: Verification, frame: Frame) -> Markup:
    """A dotted level from the found network to its reference: the speed-up as a distance."""
    x, y, to_x, to_y = _corners(verification, frame)
    return group([line(x, y, to_x, y, class_="compare"), line(to_x, y, to_x, to_y, class_="compare")])


def _names(verification: Verification, frame: Frame, width: float) -> Markup:
    networks = verification.networks
    points = [frame.at(n.measurement.median_ms, n.accuracy_percent) for n in networks]
    names = [display_name(n.name, short=width < 600) for n in networks]
    bounds = (frame.x.start + 2, frame.y.end - 8, width - 4, frame.y.start - 4)
    x, y, to_x, _ = _corners(verification, frame)
    dotted = [(min(x, to_x), y - 3, max(x, to_x), y + 3)]
    placed = beside_points(points, names, [*_drawn(networks, frame), *dotted], bounds)
    return group(
        text(p.x, p.y, name, class_=f"name {CLASSES[n.role]} {p.anchor}")
        for p, name, n in zip(placed, names, networks, strict=True)
    )


def _drawn(networks: tuple[VerifiedNetwork, ...], frame: Frame) -> list[Box]:
    """What names should not cover: error bars, and the curves in small steps."""
    taken: list[Box] = []
    for n in networks:
        x, y = frame.at(n.measurement.median_ms, n.accuracy_percent)
        low, high = n.accuracy_interval_95
        fast_ms, slow_ms = _interval_ms(n)
        taken.append((x - 2, frame.y(high), x + 2, frame.y(low)))
        taken.append((frame.x(fast_ms), y - 2, frame.x(slow_ms), y + 2))
    for role in CURVES:
        curve = sorted(
            frame.at(n.measurement.median_ms, n.accuracy_percent)
            for n in networks
            if _curve_of(n.role) == role
        )
        for (x, y), (to_x, to_y) in pairwise(curve):
            steps = 1 + int(abs(to_x - x) / 6)
            along = [(x + (to_x - x) * i / steps, y + (to_y - y) * i / steps) for i in range(steps + 1)]
            taken += [(a - 3, b - 3, a + 3, b + 3) for a, b in along]
    return taken


def _tooltip(network: VerifiedNetwork) -> str:
    low, high = network.accuracy_interval_95
    return (
        f"{network.name}: {network.accuracy_percent:.2f} % ({low:.2f} to {high:.2f}), "
        f"{milliseconds(network.measurement.median_ms)} ms"
    )
