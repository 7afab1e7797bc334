"""Predicted against measured latency."""

from __future__ import annotations

from markupsafe import Markup

from stages.documents import LatencyModel, PredictionPoint, VerifiedNetwork
from stages.reporting.figures.axes import Frame, fitted
from stages.reporting.figures.labels import beside_points
from stages.reporting.figures.series import CLASSES, marker
from stages.reporting.figures.svg import element, figure, line, polygon, text, tooltip
from stages.reporting.notation import milliseconds


def prediction_figure(
    latency: LatencyModel, verified: tuple[VerifiedNetwork, ...], *, width: float
) -> Markup:
    """Calibration networks hollow, held-out ones filled, verified ones with their role's shape.

    The band is ±5 %; on the diagonal a prediction is exact.
    """
    height = 0.9 * width
    shown = [n for n in verified if n.predicted_ms is not None]
    shown.sort(key=lambda n: n.role == "found")
    points = [*latency.calibration, *latency.held_out]
    values = [ms for p in points for ms in (p.predicted_ms, p.measurement.median_ms)]
    values += [ms for n in shown for ms in (n.predicted_ms or 0.0, n.measurement.median_ms)]
    x = fitted(values, 52, width - 14)
    frame = Frame(x, fitted(values, height - 50, 26))
    low, high = max(x.low, 1e-6), x.high
    corners = [(low, 0.95 * low), (high, 0.95 * high), (high, 1.05 * high), (low, 1.05 * low)]
    band = [frame.at(a, min(max(b, x.low), high)) for a, b in corners]
    parts = [
        polygon(band, title="predictions that are at most 5 % off", class_="band"),
        frame.axes("predicted, ms", "measured, ms", x_ticks=5),
        line(*frame.at(low, low), *frame.at(high, high), class_="diagonal"),
        *(_point(p, frame, "calibration") for p in latency.calibration),
        *(_point(p, frame, "held-out") for p in latency.held_out),
    ]
    indices = [frame.at(n.predicted_ms or 0.0, n.measurement.median_ms) for n in shown]
    others = [frame.at(p.predicted_ms, p.measurement.median_ms) for p in points]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in others]
    bounds = (frame.x.start, frame.y.end, width, frame.y.start)
    labels = beside_points(indices, [n.name for n in shown], taken, bounds)
    for network, at, label in zip(shown, indices, labels, strict=True):
        title = _title(network.name, network.predicted_ms or 0.0, network.measurement.median_ms)
        parts.append(marker(network.role, *at, title=title))
        style = f"name {CLASSES[network.role]} {label.anchor}"
        parts.append(text(label.x, label.y, network.name, class_=style))
    error = latency.held_out_error
    spoken = (
        f"Measured against predicted latency of {len(points)} random networks: {error.mape_percent:.1f} % "
        f"mean error on {error.networks} held-out ones."
    )
    return figure(width, height, spoken, parts)


def _point(point: PredictionPoint, frame: Frame, kind: str) -> Markup:
    x, y = frame.at(point.predicted_ms, point.measurement.median_ms)
    title = _title(f"{kind} network", point.predicted_ms, point.measurement.median_ms)
    return element("circle", tooltip(title), cx=x, cy=y, r=4, class_=f"point {kind}")


def _title(name: str, predicted_ms: float, measured_ms: float) -> str:
    off = 100 * (predicted_ms / measured_ms - 1)
    return (
        f"{name}: predicted {milliseconds(predicted_ms)} ms, measured {milliseconds(measured_ms)} ms, "
        f"{off:+.1f} %"
    )
