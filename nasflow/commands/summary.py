"""A finished run's figures and files, as a terminal shows them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from nasflow.publish import REPORT, Published
from stages.reporting.result import ResultDocument
from stages.reporting.summary import summary_renderable, summary_text

_WIDTH_ELSEWHERE = 140


def summary(result: ResultDocument) -> str:
    """The table and the sentences: in colour on a terminal, plain elsewhere."""
    if not _colour_is_welcome():
        return summary_text(result, width=width_here())
    from rich.console import Console

    console = Console(width=width_here())
    with console.capture() as capture:
        console.print(summary_renderable(result, width=console.width))
    return capture.get().rstrip()


def file_lines(published: Published) -> list[str]:
    """Where the results lie, the report first."""
    names = sorted(published.files, key=lambda name: name != REPORT)
    return [
        f"{'Results' if index == 0 else '':<9}{short(published.files[name])}"
        for index, name in enumerate(names)
    ]


def _colour_is_welcome() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def width_here() -> int:
    """Characters of a line: the terminal's, or what fits most pages."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_ELSEWHERE


def short(path: Path) -> str:
    """A path relative to here where it lies below, so that it can be clicked and copied."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
