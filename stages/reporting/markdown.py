"""``summary.md``: the outcome, the networks and all sentences, for a page that takes Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from nasflow.base.text import markdown_text
from stages.reporting.precisions import HEADINGS, precision_rows
from stages.reporting.result import ResultDocument
from stages.reporting.summary import network_columns, spoken_lines
from stages.reporting.text import headline


def summary_markdown(result: ResultDocument) -> str:
    """The report in short. Foreign text is escaped: it makes no link, picture, table or HTML."""
    columns = network_columns(result.verification.networks)
    lines = [f"# {markdown_text(headline(result))}", ""]
    lines += table_lines(
        [column.heading for column in columns],
        [[column.cell(network) for column in columns] for network in result.verification.networks],
        [column.left for column in columns],
    )
    if files := precision_rows(result.precisions):
        lines += ["", "The found network's files:", "", *table_lines(HEADINGS, files, [True])]
    lines.append("")
    lines += [f"- **{subject}**: {markdown_text(said)}" for subject, said in spoken_lines(result)]
    return "\n".join(lines) + "\n"


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[bool] = (True,)
) -> list[str]:
    """A table; columns are aligned to the right where not ``left``."""
    to_left = [*left, *[False] * (len(headings) - len(left))]
    marks = ["---" if at_left else "---:" for at_left in to_left]
    cells = [list(map(markdown_text, row)) for row in (headings, *rows)]
    return [f"| {' | '.join(row)} |" for row in (cells[0], marks, *cells[1:])]
