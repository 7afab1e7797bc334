"""How figures and names are written, the same on the terminal and in the report."""

from __future__ import annotations

from stages.documents import Role
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig

ROLES: dict[Role, str] = {
    "found": "found by this search",
    "random": "random, matched latency",
    "front": "found for other targets",
    "full": "full network, pretrained",
    "baseline": "MobileNetV2, same strides",
    "baseline_published": "MobileNetV2, published",
}

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def milliseconds(value: float) -> str:
    """Three significant digits: ``0.466``, ``12.3``, ``140``."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3f}" if 0.1 <= value < 1 else f"{value:.2f}" if 1 <= value < 10 else _short(value)


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.4f}" if value >= 0.01 else f"{value:.5f}"


def amount(value: float) -> str:
    """``338 k``, ``11.6 M``, ``1.2 G``, ``2.2·10¹⁷``."""
    if value >= 1e12:
        mantissa, exponent = f"{value:.1e}".split("e+")
        return f"{mantissa}·10{exponent.translate(_SUPERSCRIPTS)}"
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            scaled = value / factor
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.3g}{unit}"
    return f"{value:.0f}"


def signed(value: float) -> str:
    """``+0.14`` and ``−0.32``; a negative zero has no sign."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("-0.00", "+0.00") else text.replace("-", "−")


def display_name(name: str, *, short: bool = False) -> str:
    """A network's name in a sentence or a drawing: ``MobileNetV2 0.5`` for ``mobilenet_v2_0.5``.

    ``full EfficientNet-Lite0`` for ``lite0_full``, the whole network of a pretrained space.
    """
    if name.endswith("_full"):
        name = f"full_{name.removesuffix('_full')}"
    words = name.replace("mobilenet_v2", "MNv2" if short else "MobileNetV2")
    words = words.replace("efficientnet_lite0", "lite0")
    return words.replace("lite0", "Lite0" if short else "EfficientNet-Lite0").replace("_", " ")


def architecture_line(net: NetConfig) -> str:
    """A network in one line: ``stem16/2 | k3e1 16 | k3e6 f3e1 24/2 | head256 | 10``.

    Blocks between two bars have the same width; ``/2`` is the stride of the first of them; ``k`` is an
    MBConv's kernel, ``f`` a fused one's; ``+se`` is squeeze-and-excite, ``+hs`` h-swish.
    """
    groups: list[list[BlockSpec]] = []
    for block in net.blocks:
        last = groups[-1][-1] if groups else None
        joins = (
            last is not None
            and block.searchable
            and last.searchable
            and block.stride == 1
            and block.out_channels == last.out_channels
        )
        groups[-1].append(block) if joins else groups.append([block])
    return " | ".join(_group(group) for group in groups)


def _group(blocks: list[BlockSpec]) -> str:
    first = blocks[0]
    width = f"{first.out_channels}{'/2' if first.stride == 2 else ''}"
    if first.searchable:
        return f"{' '.join(_code(b) for b in blocks)} {width}"
    return {"stem": f"stem{width}", "head": f"head{width}"}.get(first.kind, width)


def _code(block: BlockSpec) -> str:
    size = f"{'f' if block.kind == 'fused' else 'k'}{block.kernel}e{block.expansion}"
    return "+".join([size, *(extra.lower() for extra in block.extras)])


def hours(value: float | None) -> str:
    """``0.027``, ``1.850``, ``166``; ``<0.001``; a dash where it is not known."""
    if value is None:
        return "–"
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
