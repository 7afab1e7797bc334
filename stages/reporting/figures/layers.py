"""What every candidate of every layer costs on the device."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stages.documents import LatencyModel
from stages.reporting.figures.architecture import kernel_class
from stages.reporting.figures.axes import Frame, Scale
from stages.reporting.figures.svg import element, figure, text, tooltip
from stages.reporting.notation import milliseconds
from stages.space.search_space import SearchSpace


def layers_figure(
    space: SearchSpace, latency: LatencyModel, choices: Sequence[int], *, width: float
) -> Markup:
    """A group of bars for each searched layer, a bar for each candidate; the outlined one was taken."""
    layers = space.layers()
    searched = [index for index, layer in enumerate(layers) if len(layer.blocks) > 1]
    costs = {
        (index, i): latency.block_latency_ms(block)
        for index in searched
        for i, block in enumerate(layers[index].blocks)
        if block is not None
    }
    height, left, right = 0.32 * width if width >= 600 else 0.7 * width, 52.0, width - 6
    slowest = max(costs.values(), default=1.0) or 1.0
    # Only the y axis has figures; what stands below a group is its layer's number.
    frame = Frame(Scale(0, 1, left, right), Scale(0, 1.06 * slowest, height - 46, 26))
    parts = [frame.axes("layer", "predicted latency, ms", x_ticks=0, y_ticks=4)]
    step = (right - left) / max(1, len(searched))
    for group, index in enumerate(searched):
        blocks = [(i, block) for i, block in enumerate(layers[index].blocks) if block is not None]
        room = step * 0.82 / len(blocks)
        for slot, (i, block) in enumerate(blocks):
            ms = costs[index, i]
            top = frame.y(ms)
            taken = i == choices[index]
            split = latency.implementations.get(block.key) == "split"
            title = (
                f"layer {index + 1}, {layers[index].label(i)}: {milliseconds(ms)} ms"
                f"{', computed in four parts' if split else ''}{', taken' if taken else ''}"
            )
            parts.append(
                element(
                    "rect",
                    tooltip(title),
                    x=left + step * (group + 0.09) + slot * room,
                    y=top,
                    width=max(1.0, room - 0.8),
                    height=max(0.5, frame.y(0) - top),
                    class_=f"bar {kernel_class(block)}{' chosen' if taken else ''}",
                )
            )
        if len(searched) <= 12 or width >= 600 or group % 3 == 0:
            parts.append(
                text(left + step * (group + 0.5), frame.y(0) + 15, str(index + 1), class_="tick middle")
            )
    fastest = min(costs.values(), default=0.0)
    spoken = (
        f"Predicted latency of {len(costs)} candidates in {len(searched)} layers: {milliseconds(fastest)} to "
        f"{milliseconds(slowest)} ms."
    )
    return figure(width, height, spoken, parts)
