"""The cross table as a part of a page, and as a page of its own that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.documents import CrossCell, CrossTable, HardwareNetwork
from stages.reporting.cross_text import (
    LIKES,
    Liked,
    accuracy_words,
    cross_sentences,
    liked,
    likes_rows,
    times_as_long,
)
from stages.reporting.figures.cross import cross_figure, heat_legend
from stages.reporting.figures.likes import expansions_figure, kernels_figure
from stages.reporting.figures.side_by_side import Drawn, side_by_side_figure
from stages.reporting.html import FULL_WIDTH, HALF_WIDTH, kernel_legend, page_templates, twice
from stages.reporting.notation import architecture_line, milliseconds
from stages.space.search_space import NetConfig

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class LikesView:
    """Networks side by side and what devices like: what the template ``likes.html.j2`` shows."""

    drawings: Markup
    kernels: list[tuple[str, str]]
    liked_kernels: Markup
    liked_expansions: Markup
    rows: list[tuple[str, ...]]
    architectures: list[tuple[str, str]]


@dataclass(frozen=True)
class CrossView:
    """What the template ``cross.html.j2`` shows."""

    table: CrossTable
    heat: Markup
    legend: list[tuple[Markup, str]]
    rows: list[tuple[HardwareNetwork, list[tuple[str, ...]]]]
    sentences: list[tuple[str, str]]
    likes: LikesView


def likes_view(networks: Sequence[tuple[NetConfig, Liked]]) -> LikesView:
    """Networks and what they are made of; equal ones give equal views."""
    drawn = [Drawn(one.name, net, one.network.layers) for net, one in networks]
    made_of = [one for _, one in networks]
    return LikesView(
        drawings=twice(lambda width: side_by_side_figure(drawn, width=width), FULL_WIDTH),
        kernels=kernel_legend(block for net, _ in networks for block in net.blocks),
        liked_kernels=twice(lambda width: kernels_figure(made_of, width=width), HALF_WIDTH),
        liked_expansions=twice(lambda width: expansions_figure(made_of, width=width), HALF_WIDTH),
        rows=[LIKES, *likes_rows(made_of)],
        architectures=[(one.name, architecture_line(net)) for net, one in networks],
    )


def cross_view(table: CrossTable) -> CrossView:
    """The table with its drawings; equal tables give equal views."""
    return CrossView(
        table=table,
        heat=twice(lambda width: cross_figure(table, width=width), FULL_WIDTH),
        legend=heat_legend(),
        rows=[
            (network, [_shown(table.cell(network.target, target.name)) for target in table.targets])
            for network in table.networks
        ],
        sentences=cross_sentences(table),
        likes=likes_view([(n.net, one) for n, one in zip(table.networks, liked(table), strict=True)]),
    )


def _shown(cell: CrossCell) -> tuple[str, ...]:
    lines = (f"{milliseconds(cell.measurement.median_ms)} ms", times_as_long(cell))
    return lines if cell.accuracy is None else (*lines, f"{accuracy_words(cell)} %")


def render_cross_table(table: CrossTable) -> str:
    """The page as HTML."""
    names = ", ".join(target.name for target in table.targets)
    return (
        page_templates()
        .get_template("cross_page.html.j2")
        .render(title=f"{len(table.targets)} devices: {names}", cross=cross_view(table))
    )
