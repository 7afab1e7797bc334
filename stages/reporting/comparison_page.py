"""Runs side by side as a page that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.reporting.comparison import RunComparison, RunFigures
from stages.reporting.comparison_text import (
    HEADINGS,
    comparison_sentences,
    differing_rows,
    liked_by_runs,
    run_rows,
)
from stages.reporting.cross_page import cross_view, likes_view
from stages.reporting.html import FULL_WIDTH, page_templates, twice

if TYPE_CHECKING:
    from markupsafe import Markup


def render_comparison(comparison: RunComparison) -> str:
    """The page as HTML; equal comparisons give equal text."""
    return (
        page_templates()
        .get_template("compare.html.j2")
        .render(
            comparison=comparison,
            title=f"{len(comparison.runs)} runs: {', '.join(run.name for run in comparison.runs)}",
            headings=HEADINGS,
            rows=run_rows(comparison),
            sentences=comparison_sentences(comparison),
            drawings=list(map(_drawn, _by_device(comparison))),
            differing=differing_rows(comparison),
            cross=cross_view(comparison.cross_table) if comparison.cross_table else None,
            likes=likes_view(
                [(run.net, one) for run, one in zip(comparison.runs, liked_by_runs(comparison), strict=True)]
            ),
        )
    )


def _by_device(comparison: RunComparison) -> list[list[RunFigures]]:
    """Latencies of different devices do not belong on one axis."""
    groups: dict[tuple[str, ...], list[RunFigures]] = {}
    for run in comparison.runs:
        device = run.device
        key = (device.model, device.soc, device.runtime, str(device.virtual))
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _drawn(runs: list[RunFigures]) -> tuple[str, Markup]:
    from stages.reporting.figures.runs import runs_figure

    return runs[0].device.model, twice(lambda width: runs_figure(runs, width=width), FULL_WIDTH)
