"""Networks of one space side by side: a column each, a row for each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.reporting.figures.architecture import kernel_class
from stages.reporting.figures.cross import name_lines
from stages.reporting.figures.svg import element, figure, group, rectangle, text, text_width, tooltip
from stages.reporting.notation import amount
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig

_ROW, _BOX, _LINE = 22.0, 18.0, 14.0


@dataclass(frozen=True)
class Drawn:
    """A network and what it is called; ``layers``: of the space, those that are skipped too."""

    name: str
    net: NetConfig
    layers: int


def side_by_side_figure(networks: Sequence[Drawn], *, width: float) -> Markup:
    """Boxes are coloured by kernel and as wide as their blocks have channels (square root)."""
    wide = width >= 600
    left = 76.0 if wide else 60.0
    most = max(1, int((width - left) // (116 if wide else 70)))
    layers = max((drawn.layers for drawn in networks), default=0)
    by_layer = [dict(zip(drawn.net.layers, drawn.net.blocks, strict=True)) for drawn in networks]
    widest = max((b.out_channels for found in by_layer for b in found.values() if b.searchable), default=1)
    parts: list[Markup] = []
    y = 0.0
    for start in range(0, len(networks), most):
        group_of = list(range(start, min(start + most, len(networks))))
        step = min(230.0, (width - left) / min(most, len(networks)))
        heads = {index: name_lines(networks[index].name, step - 6) for index in group_of}
        y += 8 + _LINE * max(map(len, heads.values()))
        for place, index in enumerate(group_of):
            for number, said in enumerate(heads[index]):
                at = y - 6 - _LINE * (len(heads[index]) - 1 - number)
                parts.append(text(left + step * (place + 0.5), at, said, class_="tick middle"))
        for layer in range(layers):
            channels = next((found[layer].out_channels for found in by_layer if layer in found), None)
            said = str(layer + 1) if channels is None else f"{layer + 1} · {channels}"
            parts.append(text(left - 8, y + 13, said, class_="tick end"))
            for place, index in enumerate(group_of):
                middle = left + step * (place + 0.5)
                parts.append(_block(by_layer[index].get(layer), middle, y, step - 8, widest, layer))
            y += _ROW
        for number, said in enumerate(("layers", "MACs")):
            parts.append(text(left - 8, y + 13 + _LINE * number, said, class_="title end"))
        for place, index in enumerate(group_of):
            net = networks[index].net
            depth = sum(block.searchable for block in net.blocks)
            for number, said in enumerate((f"{depth} of {networks[index].layers}", amount(net.macs))):
                at = y + 13 + _LINE * number
                parts.append(text(left + step * (place + 0.5), at, said, class_="tick middle"))
        y += 2 * _LINE + 12
    return figure(width, y, _spoken(networks), parts)


def _block(block: BlockSpec | None, middle: float, y: float, room: float, widest: int, layer: int) -> Markup:
    if block is None:
        half = min(room, 40.0) / 2
        return group(
            [
                rectangle(middle - half, y + 0.5, 2 * half, _BOX - 1, rx=3, class_="skipped"),
                text(middle, y + 13, "skip", class_="tick middle"),
            ]
        )
    name = _name(block, room)
    wanted = max(text_width(name, 12) + 8, room * math.sqrt(block.out_channels / widest))
    half = min(room, wanted) / 2
    style = kernel_class(block)
    box = {"x": middle - half, "y": y, "width": 2 * half, "height": _BOX, "rx": 3}
    return group(
        [
            element("rect", tooltip(f"layer {layer + 1}: {_words(block)}"), class_=f"block {style}", **box),
            text(middle, y + 13, name, class_=f"inblock {style} middle"),
        ]
    )


def _name(block: BlockSpec, room: float) -> str:
    """As much as fits: ``fused 5×5 e6 SE``, ``5×5 e6``, ``k5e6``."""
    size = f"{block.kernel}×{block.kernel} e{block.expansion}"
    fused = block.kind == "fused"
    code = f"{'f' if fused else 'k'}{block.kernel}e{block.expansion}"
    names = (" ".join([*(["fused"] if fused else []), size, *block.extras]), f"f {size}" if fused else size)
    return next((name for name in names if text_width(name, 12) + 4 <= room), code)


def _words(block: BlockSpec) -> str:
    stride = ", stride 2" if block.stride == 2 else ""
    return f"{block.short_name}{stride}, {block.out_channels} channels"


def _spoken(networks: Sequence[Drawn]) -> str:
    def one(drawn: Drawn) -> str:
        by_layer = dict(zip(drawn.net.layers, drawn.net.blocks, strict=True))
        rows = [
            f"layer {layer + 1} {_words(by_layer[layer]) if layer in by_layer else 'skipped'}"
            for layer in range(drawn.layers)
        ]
        return f"{drawn.name}: {'; '.join(rows)}"

    return "Networks side by side. " + ". ".join(map(one, networks)) + "."
