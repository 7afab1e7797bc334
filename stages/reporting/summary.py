"""The terminal's table: plain text, and the same for rich."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasflow.base.text import plain_line
from stages.reporting.accuracy_text import balance_matters
from stages.reporting.notation import ROLES, amount, milliseconds
from stages.reporting.precisions import HEADINGS, precision_rows
from stages.reporting.result import NetworkResult, ResultDocument
from stages.reporting.text import headline, sentences

if TYPE_CHECKING:
    from rich.console import RenderableType

_LABEL_WIDTH = 13


@dataclass(frozen=True)
class Column:
    """A heading, and how a network fills the column."""

    heading: str
    cell: Callable[[NetworkResult], str]
    left: bool = False


def _accuracy(network: NetworkResult) -> str:
    low, high = network.accuracy_interval_95
    return f"{network.accuracy_percent:.2f} ({low:.1f}-{high:.1f})"


def _measured(network: NetworkResult) -> str:
    return f"{milliseconds(network.median_ms)} ±{network.half_interval_percent:.1f} %"


def _against(network: NetworkResult) -> str:
    against = network.against_found
    return "1" if against is None else f"{against.latency_ratio:.2f}"


def _balanced(network: NetworkResult) -> str:
    percent = network.balanced_accuracy_percent
    return "-" if percent is None else f"{percent:.2f}"


_NAME = Column("network", lambda n: plain_line(n.name), left=True)
_FIGURES = (
    Column("role", lambda n: ROLES[n.role], left=True),
    Column("accuracy % (95 %)", _accuracy),
    Column("measured ms", _measured),
    Column("predicted", lambda n: "-" if n.predicted_ms is None else milliseconds(n.predicted_ms)),
    Column("time/found", _against),
)
_COSTS = (
    Column("MACs", lambda n: amount(n.macs)),
    Column("params", lambda n: amount(n.parameters)),
    Column("file", lambda n: f"{amount(n.size_bytes)}B"),
    Column("weights", lambda n: n.origin, left=True),
    Column("images", lambda n: amount(n.images_seen)),
)


def network_columns(networks: tuple[NetworkResult, ...]) -> tuple[Column, ...]:
    """Everything that a table of the networks can show."""
    return (_NAME, *_figures(networks), *_COSTS)


def _figures(networks: tuple[NetworkResult, ...]) -> tuple[Column, ...]:
    if not balance_matters(networks):
        return _FIGURES
    return (*_FIGURES[:2], Column("balanced %", _balanced), *_FIGURES[2:])


def _tables(width: int, networks: tuple[NetworkResult, ...]) -> list[tuple[Column, ...]]:
    """One table where it fits; else figures and costs apart, and each cut where the line ends."""
    figures = _figures(networks)

    def needed(column: Column) -> int:
        return max(len(column.heading), *(len(column.cell(n)) for n in networks)) + 2

    if sum(map(needed, (_NAME, *figures, *_COSTS))) <= width:
        return [(_NAME, *figures, *_COSTS)]
    tables: list[list[Column]] = []
    for group in (figures, _COSTS):
        tables.append([_NAME])
        for column in group:
            if sum(map(needed, tables[-1])) + needed(column) > width and len(tables[-1]) > 1:
                tables.append([_NAME])
            tables[-1].append(column)
    return [tuple(table) for table in tables]


def summary_text(result: ResultDocument, *, width: int = 140) -> str:
    """The table and the sentences as plain text, without colour, in lines of ``width`` characters."""
    parts = [textwrap.fill(plain_line(headline(result)), width), ""]
    networks = result.verification.networks
    for columns in _tables(width, networks):
        parts += [*_plain_table(columns, networks), ""]
    for of_files in _file_tables(width, result):
        parts += [*aligned(of_files), ""]
    for subject, sentence in spoken_lines(result):
        parts.append(wrapped(subject, sentence, width))
    return "\n".join(parts)


def wrapped(subject: str, sentence: str, width: int) -> str:
    """A sentence behind its subject, in lines of ``width`` characters."""
    return textwrap.fill(
        f"{subject:<{_LABEL_WIDTH}}{sentence}",
        width,
        subsequent_indent=" " * _LABEL_WIDTH,
        break_on_hyphens=False,
    )


def spoken_lines(result: ResultDocument) -> list[tuple[str, str]]:
    """(subject, sentence): all that the tables do not say, on one line each."""
    device = result.device
    measured_on = f"{device.model}, {device.soc}, {device.runtime}, {device.run_with}."
    said = [*sentences(result), ("Measured on", measured_on)]
    return [(subject, plain_line(sentence)) for subject, sentence in said]


def _plain_table(columns: tuple[Column, ...], networks: tuple[NetworkResult, ...]) -> list[str]:
    rows = [[c.heading for c in columns], *([c.cell(n) for c in columns] for n in networks)]
    return aligned(rows, [column.left for column in columns])


def aligned(rows: Sequence[Sequence[str]], left: Sequence[bool] = (True,)) -> list[str]:
    """Rows as lines, the first of them headings; columns are aligned to the right where not ``left``."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    to_left = [*left, *[False] * (len(widths) - len(left))]
    lines = [
        "  ".join(
            cell.ljust(width) if at_left else cell.rjust(width)
            for cell, width, at_left in zip(row, widths, to_left, strict=True)
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _file_tables(width: int, result: ResultDocument) -> list[list[tuple[str, ...]]]:
    """The found network's files, headings first, in as many tables as the width takes."""
    if not (rows := precision_rows(result.precisions)):
        return []
    whole = [HEADINGS, *rows]
    needed = [max(len(row[index]) for row in whole) + 2 for index in range(len(HEADINGS))]
    groups = [[0]]
    for index in range(1, len(HEADINGS)):
        if sum(needed[i] for i in groups[-1]) + needed[index] > width and len(groups[-1]) > 1:
            groups.append([0])
        groups[-1].append(index)
    return [[tuple(row[index] for index in group) for row in whole] for group in groups]


def summary_renderable(result: ResultDocument, *, width: int = 140) -> RenderableType:
    """The same for a rich console: ``console.print(summary_renderable(result, width=console.width))``."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    networks = result.verification.networks
    parts: list[RenderableType] = [Padding(Text(plain_line(headline(result)), style="bold"), (1, 0))]
    for columns in _tables(width, networks):
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for column in columns:
            table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
        for network in networks:
            style = (
                "bold green"
                if network.role == "found"
                else "cyan"
                if network.name == result.verification.reference
                else ""
            )
            table.add_row(*(Text(column.cell(network)) for column in columns), style=style)
        parts.append(Padding(table, (0, 0, 1, 0)))
    for headings, *rows in _file_tables(width, result):
        files = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for index, heading in enumerate(headings):
            files.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
        for row in rows:
            files.add_row(*map(Text, row))
        parts.append(Padding(files, (0, 0, 1, 0)))
    listing = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    listing.add_column(style="dim", no_wrap=True)
    listing.add_column(overflow="fold")
    for subject, sentence in spoken_lines(result):
        listing.add_row(Text(subject), Text(sentence))
    return Group(*parts, listing)
