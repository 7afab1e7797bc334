"""The found network, layer by layer, with what every block costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from stages.documents import LatencyModel
from stages.reporting.figures.svg import element, figure, group, line, rectangle, text, text_width, tooltip
from stages.reporting.notation import milliseconds
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig, SearchSpace

_ROW, _BOX, _HEAD = 27.0, 19.0, 34.0


@dataclass(frozen=True)
class Place:
    """One row of the drawing; ``block`` is None where the search chose to skip."""

    label: str
    block: BlockSpec | None
    ms: float


@dataclass(frozen=True)
class _Columns:
    """Where things stand: layer labels, resolutions, boxes, widths, latency bars."""

    layer: float
    resolution: float
    box_left: float
    box_right: float
    channels: float
    bar_left: float
    bar_right: float

    @classmethod
    def of(cls, width: float) -> _Columns:
        if width < 600:
            return cls(32, 76, 90, width - 158, width - 128, width - 118, width - 48)
        return cls(50, 112, 150, 0.52 * width, 0.52 * width + 48, 0.52 * width + 76, width - 62)


def indices(net: NetConfig, space: SearchSpace, latency: LatencyModel) -> list[Place]:
    """All rows in order: stem, every layer of the space (skipped ones too), head, classifier."""
    by_layer = dict(zip(net.layers, net.blocks, strict=True))
    inner = [
        Place(str(layer + 1), by_layer.get(layer), _ms(by_layer.get(layer), latency))
        for layer in range(len(space.layers()))
    ]
    outer = [
        Place({"stem": "stem", "head": "head"}.get(b.kind, "out"), b, _ms(b, latency))
        for b in net.blocks
        if not b.searchable
    ]
    return [outer[0], *inner, *outer[1:]]


def _ms(block: BlockSpec | None, latency: LatencyModel) -> float:
    return 0.0 if block is None else latency.block_latency_ms(block)


def architecture_figure(net: NetConfig, space: SearchSpace, latency: LatencyModel, *, width: float) -> Markup:
    """One box for each block, coloured by kernel.

    A box is as wide as its block's output has channels (square root), at most as the widest layer's: a
    head of 1280 channels would leave no room to tell layers apart.
    """
    rows = indices(net, space, latency)
    columns = _Columns.of(width)
    height = _HEAD + _ROW * len(rows) + 34
    label = f"The found network: {len(net.blocks)} blocks. " + "; ".join(_spoken(row) for row in rows)
    parts = [_header(columns, width), _spine(rows, columns), *_resolutions(rows, columns)]
    widest = max(block.out_channels for block in net.blocks if block.kind == "stem" or block.searchable)
    slowest = max(row.ms for row in rows) or 1.0
    for index, row in enumerate(rows):
        y = _HEAD + _ROW * index
        parts.append(text(columns.layer, y + 14, row.label, class_="tick end"))
        parts += _row(row, y, columns, widest, slowest)
    parts.append(_total(net, latency, columns, _HEAD + _ROW * len(rows)))
    return figure(width, height, label, parts, links=True)


def _row(row: Place, y: float, columns: _Columns, widest: int, slowest: float) -> Iterator[Markup]:
    centre, room = (columns.box_left + columns.box_right) / 2, columns.box_right - columns.box_left
    block = row.block
    if block is None:
        half = max(27.0, 0.17 * room)
        yield rectangle(centre - half, y + 0.5, 2 * half, _BOX - 1, rx=3, class_="skipped")
        yield text(centre, y + 13, "skipped", class_="tick middle")
        return
    name = _name(block)
    wanted = max(text_width(name, 12) + 14, room * math.sqrt(block.out_channels / widest))
    half = min(room, wanted) / 2
    if block.residual:
        yield _residual(centre - half, y)
    box = group(
        [
            rectangle(centre - half, y, 2 * half, _BOX, rx=3, class_=f"block {kernel_class(block)}"),
            text(centre, y + 13.5, name, class_=f"inblock {kernel_class(block)} middle"),
        ]
    )
    yield element("a", tooltip(_spoken(row)), box, href=f"#row-{block.key}")
    if block.stride == 2:
        yield text(centre + half + 5, y + 13, "/2", class_="tick start")
    yield text(columns.channels, y + 13.5, str(block.out_channels), class_="value end")
    length = (columns.bar_right - columns.bar_left) * row.ms / slowest
    yield rectangle(
        columns.bar_left, y + 3, max(1.0, length), _BOX - 6, rx=2, class_=f"bar {kernel_class(block)}"
    )
    yield text(columns.bar_left + length + 6, y + 13.5, milliseconds(row.ms), class_="value start")


def _name(block: BlockSpec) -> str:
    size = f"{block.kernel}×{block.kernel}"
    # With more to say, a telephone's width has no room for the dot.
    said = " ".join([f"e{block.expansion}", *block.extras])
    size = f"{size}{' ' if block.extras else ' · '}{said}"
    return {
        "mbconv": size,
        "fused": f"fused {size}",
        "stem": f"conv {block.kernel}×{block.kernel}",
        "head": "conv 1×1",
        "classifier": "pool, dense",
    }[block.kind]


def kernel_class(block: BlockSpec) -> str:
    """The style class of a block's colour: by its kernel, ``k1`` for blocks of no layer."""
    if not block.searchable:
        return "k1"
    return "k3" if block.kernel <= 3 else "k5" if block.kernel <= 5 else "k7"


def _spoken(row: Place) -> str:
    name = row.label if row.label in ("stem", "head", "out") else f"layer {row.label}"
    block = row.block
    if block is None:
        return f"{name}: skipped"
    stride = ", stride 2" if block.stride == 2 else ""
    added = ", input added" if block.residual else ""
    return (
        f"{name}: {block.short_name}{stride}{added}, {block.in_channels} to {block.out_channels} channels "
        f"at {block.resolution}x{block.resolution}, predicted {milliseconds(row.ms)} ms"
    )


def _residual(left: float, y: float) -> Markup:
    """The short cut around a block that adds its input."""
    top, bottom = y - (_ROW - _BOX) / 2, y + _BOX + (_ROW - _BOX) / 2
    start, out = f"{left + 9:.1f}", f"{left - 11:.1f}"
    path = f"M{start},{top:.1f} C{out},{top:.1f} {out},{bottom:.1f} {start},{bottom:.1f}"
    return element("path", d=path, class_="shortcut", fill="none")


def _spine(rows: list[Place], columns: _Columns) -> Markup:
    centre = (columns.box_left + columns.box_right) / 2
    return line(centre, _HEAD - 6, centre, _HEAD + _ROW * len(rows) - 6, class_="spine")


def _resolutions(rows: list[Place], columns: _Columns) -> Iterator[Markup]:
    """A bracket for each run of blocks with inputs of one size."""
    sizes: list[int] = []
    for row in rows:
        before = sizes[-1] if sizes else 0
        sizes.append(row.block.resolution if row.block else _last_out(rows, len(sizes)) or before)
    start = 0
    for index in range(1, len(rows) + 1):
        if index == len(rows) or sizes[index] != sizes[start]:
            top, bottom = _HEAD + _ROW * start + 1, _HEAD + _ROW * (index - 1) + _BOX - 1
            x = columns.resolution
            yield line(x, top, x, bottom, class_="bracket")
            size = f"{sizes[start]}×{sizes[start]}" if x > 100 else str(sizes[start])
            yield text(x - 6, (top + bottom) / 2 + 4, size, class_="tick end")
            start = index


def _last_out(rows: list[Place], index: int) -> int:
    return next((row.block.out_resolution for row in reversed(rows[:index]) if row.block), 0)


def _header(columns: _Columns, width: float) -> Markup:
    centre = (columns.box_left + columns.box_right) / 2
    last = "ms, predicted" if width < 600 else "predicted latency, ms"
    return group(
        [
            text(columns.layer, 14, "layer" if width >= 600 else "", class_="title end"),
            text(columns.resolution - 6, 14, "input", class_="title end"),
            text(centre, 14, "block", class_="title middle"),
            text(columns.channels, 14, "out", class_="title end"),
            text(columns.bar_left, 14, last, class_="title start"),
        ]
    )


def _total(net: NetConfig, latency: LatencyModel, columns: _Columns, y: float) -> Markup:
    total = milliseconds(latency.predict_ms(net))
    beside = "in all"
    if columns.bar_left > 300:
        sign = "−" if latency.overhead_ms < 0 else "+"
        offset = f"{sign}{milliseconds(abs(latency.overhead_ms))}"
        beside = f"in all, with the model's offset of {offset}"
    return group(
        [
            line(columns.bar_left, y - 1, columns.bar_right + 44, y - 1, class_="axis"),
            text(columns.bar_left, y + 16, f"{total} {beside}", class_="value strong start"),
        ]
    )
