"""Architecture probabilities by epoch: every layer's probabilities, epoch by epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from stages.documents import SearchResult
from stages.reporting.figures.architecture import kernel_class
from stages.reporting.figures.axes import Scale
from stages.reporting.figures.svg import element, figure, group, line, polygon, rectangle, text
from stages.space.block_spec import BlockSpec
from stages.space.search_space import SearchSpace

_HEAD, _FOOT, _GAP, _LEFT = 20.0, 26.0, 14.0, 14.0
_MOST_MOMENTS = 40
"""More than a panel has room for; a long search would make a page of megabytes."""
_HATCH, _PALEST = 5.0, 0.55

Point = tuple[float, float]


@dataclass(frozen=True)
class CandidateMark:
    """How a candidate looks: colour by kernel, tone by expansion, empty for the skip.

    Stripes are fused blocks, dots squeeze-and-excite, a line along the middle h-swish.
    """

    style: str
    opacity: float
    striped: bool = False
    dotted: bool = False
    lined: bool = False

    @classmethod
    def of(cls, block: BlockSpec | None, expansions: Sequence[int]) -> CandidateMark:
        """``expansions``: all of the same kind and colour, ascending; the largest has the full tone."""
        if block is None:
            return cls("skip", 1.0)
        rank = expansions.index(block.expansion) / (len(expansions) - 1) if len(expansions) > 1 else 1.0
        return cls(
            kernel_class(block),
            _PALEST + (1 - _PALEST) * rank,
            striped=block.kind == "fused",
            dotted=block.squeeze_excite,
            lined=block.hswish,
        )

    def drawn(self, below: Sequence[Point], above: Sequence[Point], title: str, *, taken: bool) -> Markup:
        """A band between two lines."""
        band = polygon(
            [*below, *reversed(above)],
            title=title,
            class_=f"share {self.style}{' chosen' if taken else ''}",
            fill_opacity=round(self.opacity, 2),
        )
        textures = [
            *([_stripes(below, above, "stripes")] if self.striped else []),
            *([_stripes(below, above, "dots")] if self.dotted else []),
            *([_middle(below, above)] if self.lined else []),
        ]
        return group([band, *textures]) if textures else band


def candidate_marks(space: SearchSpace) -> dict[str, CandidateMark]:
    """The mark of every candidate of the searched layers, by its label; the skip comes last."""
    by_label = {
        layer.label(i): block
        for layer in space.layers()
        if len(layer.blocks) > 1
        for i, block in enumerate(layer.blocks)
    }
    alike: dict[tuple[str, str], set[int]] = defaultdict(set)
    for block in filter(None, by_label.values()):
        alike[block.kind, kernel_class(block)].add(block.expansion)
    return {
        label: CandidateMark.of(block, sorted(alike[block.kind, kernel_class(block)]) if block else ())
        for label, block in sorted(by_label.items(), key=lambda pair: pair[1] is None)
    }


def candidate_legend(space: SearchSpace) -> list[tuple[Markup, str]]:
    """A swatch and the words for each candidate, in the order in which panels stack them."""
    below, above = [(1.0, 11.0), (19.0, 11.0)], [(1.0, 1.0), (19.0, 1.0)]
    return [
        (
            element(
                "svg",
                mark.drawn(below, above, "", taken=False),
                viewBox="0 0 20 12",
                width=20,
                height=12,
                aria_hidden="true",
            ),
            label,
        )
        for label, mark in candidate_marks(space).items()
    ]


def evolution_figure(search: SearchResult, choices: Sequence[int], *, width: float) -> Markup:
    """A panel for each searched layer: stacked shares from the start, where all are alike, to the end."""
    layers = search.space.layers()
    searched = [index for index, layer in enumerate(layers) if len(layer.blocks) > 1]
    few, wide = len(searched) <= 12, width >= 600
    columns = (5 if few else 7) if wide else (2 if few else 3)
    tall = 104.0 if few or not wide else 84.0
    step = (width - _LEFT + _GAP) / columns
    marks = candidate_marks(search.space)
    parts: list[Markup] = []
    for number, index in enumerate(searched):
        row, column = divmod(number, columns)
        left, top = _LEFT + step * column, _HEAD + (_HEAD + tall + _FOOT) * row
        panel = _Panel(search, index, choices[index], left, left + step - _GAP, top, top + tall)
        parts += panel.drawn(marks, first=column == 0, wide=wide)
    rows = -(-len(searched) // columns)
    return figure(width, max(1, rows) * (_HEAD + tall + _FOOT), _spoken(search, searched, choices), parts)


@dataclass(frozen=True)
class _Panel:
    search: SearchResult
    index: int
    taken: int
    left: float
    right: float
    top: float
    bottom: float

    def drawn(self, marks: Mapping[str, CandidateMark], *, first: bool, wide: bool) -> Iterator[Markup]:
        layer, epochs = self.search.space.layers()[self.index], len(self.search.history)
        x, y = Scale(0, max(1, epochs), self.left, self.right), Scale(0, 1, self.bottom, self.top)
        name = f"layer {self.index + 1}" if wide else str(self.index + 1)
        yield text(self.left, self.top - 6, name, class_="tick start")
        yield text(self.right, self.top - 6, layer.label(self.taken), class_="tick end taken")
        yield rectangle(self.left, self.top, self.right - self.left, self.bottom - self.top, class_="ground")
        shares = _moments(self.search, self.index)
        below = [(x(moment), self.bottom) for moment, _ in shares]
        outlined = Markup("")
        heights = [0.0] * len(shares)
        # Stacked in the legend's order; the taken one's outline must not be drawn over.
        for i in sorted(range(len(layer.blocks)), key=lambda i: list(marks).index(layer.label(i))):
            heights = [height + row[i] for height, (_, row) in zip(heights, shares, strict=True)]
            above = [(x(moment), y(min(1.0, h))) for (moment, _), h in zip(shares, heights, strict=True)]
            title = (
                f"layer {self.index + 1}, {layer.label(i)}: {shares[0][1][i]:.2f} at the start, "
                f"{shares[-1][1][i]:.2f} at the end{', taken' if i == self.taken else ''}"
            )
            band = marks[layer.label(i)].drawn(below, above, title, taken=i == self.taken)
            if i == self.taken:
                outlined = band
            else:
                yield band
            below = above
        yield outlined
        warm_up = sum(epoch.phase == "warm-up" for epoch in self.search.history)
        if warm_up:
            yield line(x(warm_up), self.top, x(warm_up), self.bottom, class_="warmline")
        yield text(self.left, self.bottom + 14, "0", class_="tick start")
        yield text(self.right, self.bottom + 14, str(epochs), class_="tick end")
        if first:
            yield text(self.left - 4, self.top + 8, "1", class_="tick end")
            yield text(self.left - 4, self.bottom, "0", class_="tick end")


def _moments(search: SearchResult, index: int) -> list[tuple[int, Sequence[float]]]:
    """The epochs that are drawn and a layer's probabilities at their ends; 0 is the start: all alike."""
    history = search.history
    uniform = [1 / len(search.log_probabilities[index])] * len(search.log_probabilities[index])
    every = -(-len(history) // _MOST_MOMENTS)
    drawn = sorted({*range(len(history) - 1, -1, -max(1, every))})
    return [(0, uniform), *((i + 1, history[i].probabilities[index]) for i in drawn)]


def _stripes(below: Sequence[Point], above: Sequence[Point], style: str) -> Markup:
    """Upright stripes within a band. Patterns would need identifiers, and figures stand in a page twice."""
    strokes, at = [], below[0][0] + _HATCH / 2
    for (x0, low0), (x1, low1), (_, high0), (_, high1) in zip(
        below, below[1:], above, above[1:], strict=False
    ):
        while at < x1:
            share = (at - x0) / (x1 - x0)
            low, high = low0 + share * (low1 - low0), high0 + share * (high1 - high0)
            if low - high > 2:
                strokes.append(f"M{at:.1f},{low - 0.5:.1f}V{high + 0.5:.1f}")
            at += _HATCH
    return element("path", d="".join(strokes) or "M0,0", class_=style)


def _middle(below: Sequence[Point], above: Sequence[Point]) -> Markup:
    """A line along the middle of a band, where there is room for one."""
    middles = [
        (x, (low + high) / 2, low - high > 3) for (x, low), (_, high) in zip(below, above, strict=True)
    ]
    pieces = [
        f"M{x0:.1f},{y0:.1f}L{x1:.1f},{y1:.1f}"
        for (x0, y0, room0), (x1, y1, room1) in pairwise(middles)
        if room0 and room1
    ]
    return element("path", d="".join(pieces) or "M0,0", class_="level")


def _spoken(search: SearchResult, searched: Sequence[int], choices: Sequence[int]) -> str:
    layers, ends = search.space.layers(), []
    for index in searched:
        row = search.history[-1].probabilities[index]
        best = max(range(len(row)), key=row.__getitem__)
        taken = "" if best == choices[index] else f", taken {layers[index].label(choices[index])}"
        ends.append(f"layer {index + 1} {layers[index].label(best)} {row[best]:.2f}{taken}")
    return (
        f"Probabilities of the candidates of {len(searched)} searched layers over {len(search.history)} "
        f"epochs, from all alike. Most probable at the end: {'; '.join(ends)}."
    )
