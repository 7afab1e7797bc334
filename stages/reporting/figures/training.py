"""Training curves of all networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from stages.documents import EpochPoint, TrainedNetwork
from stages.reporting.figures.axes import Frame, Scale, fitted
from stages.reporting.figures.labels import spread
from stages.reporting.figures.series import CLASSES
from stages.reporting.figures.svg import element, figure, polyline, text, text_width, tooltip
from stages.reporting.notation import display_name

_SIZE = 11.5


def loss_figure(networks: Sequence[TrainedNetwork], *, width: float) -> Markup:
    """Mean training loss of every epoch."""
    return _curves(networks, lambda point: point.train_loss, "training loss", width, mark_best=False)


def accuracy_figure(networks: Sequence[TrainedNetwork], *, width: float) -> Markup:
    """Validation accuracy after every epoch; the dot is the checkpoint that was kept."""
    return _curves(
        networks,
        lambda point: point.validation_accuracy_percent,
        "validation accuracy, %",
        width,
        mark_best=True,
    )


def _curves(
    networks: Sequence[TrainedNetwork],
    figure_of: Callable[[EpochPoint], float],
    title: str,
    width: float,
    *,
    mark_best: bool,
) -> Markup:
    height = 0.72 * width if width >= 420 else 0.95 * width
    names = [display_name(network.name, short=True) for network in networks]
    right = width - 20 - max(text_width(name, _SIZE) for name in names)
    epochs = max(point.epoch for network in networks for point in network.curve) + 1
    bottom, top = height - 50, 26.0
    # A first epoch far below the others would leave no room for what tells them apart.
    shown = [figure_of(p) for n in networks for p in n.curve[len(n.curve) // 4 if mark_best else 0 :]]
    frame = Frame(Scale(1, max(2, epochs), 52, right), fitted(shown, bottom, top))
    parts = [frame.axes("epoch", title, x_ticks=6, whole_x=True)]
    ends = [frame.y(figure_of(network.curve[-1])) for network in networks]
    for network, name, end, at in zip(networks, names, ends, spread(ends, top, bottom, 13), strict=True):
        style = CLASSES[network.role]
        points = [frame.at(point.epoch + 1, figure_of(point)) for point in network.curve]
        parts.append(polyline(_above(points, bottom), class_=f"trainline {style}"))
        parts.append(polyline([(points[-1][0] + 2, end), (right + 10, at)], class_=f"leader {style}"))
        parts.append(text(right + 13, at + 4, name, class_=f"name small {style} start"))
        if mark_best and 0 <= network.best_epoch < len(points):
            x, best = points[network.best_epoch]
            tip = f"{network.name}: kept epoch {network.best_epoch + 1}"
            if network.kept_share is not None:
                tip += f", {network.kept_share:.0%} of the way to it"
            parts.append(element("circle", tooltip(tip), cx=x, cy=best, r=3.5, class_=f"dot {style}"))
    last = "; ".join(f"{n.name}: {figure_of(n.curve[-1]):.2f}" for n in networks)
    return figure(width, height, f"{title} by epoch. In the last epoch: {last}.", parts)


def _above(points: Sequence[tuple[float, float]], bottom: float) -> list[tuple[float, float]]:
    """The part of a curve from where it last rises into the frame."""
    below = [index for index, (_, y) in enumerate(points) if y > bottom]
    if not below or below[-1] + 1 == len(points):
        return list(points)
    (x, y), (to_x, to_y) = points[below[-1]], points[below[-1] + 1]
    crossing = x + (to_x - x) * (y - bottom) / (y - to_y)
    return [(crossing, bottom), *points[below[-1] + 1 :]]
