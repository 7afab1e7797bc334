"""The cross table as people see it: the heat map's words, the sentences, the page, the report."""

from __future__ import annotations

import re

import pytest
from support.cross_tables import sample_cross_table, shared_with
from support.report_pages import FACTS
from support.sample_documents import sample_documents

from stages.documents import CrossCell, CrossTable
from stages.reporting.cross_page import render_cross_table
from stages.reporting.cross_text import cross_lines, cross_sentences
from stages.reporting.figures.cross import cross_figure, name_lines
from stages.reporting.figures.side_by_side import Drawn, side_by_side_figure
from stages.reporting.html import render_report
from stages.reporting.result import ResultDocument
from stages.reporting.run_result import build_result


def with_cell(table: CrossTable, network: str, target: str, **changed: object) -> CrossTable:
    def one(cell: CrossCell) -> CrossCell:
        return cell.model_copy(update=changed) if (cell.network, cell.target) == (network, target) else cell

    return table.model_copy(update={"cells": tuple(map(one, table.cells))})


@pytest.mark.parametrize("width", [960.0, 344.0])
def test_the_heat_map_says_in_words_what_its_tones_show(width: float) -> None:
    drawn = str(cross_figure(sample_cross_table(), width=width))
    spoken = re.findall(r'aria-label="([^"]*)"', drawn)[0]
    assert "local: its own network takes 0.643 ms, accuracy 91.84 (91.3 to 92.4) %" in spoken
    assert (
        "on local the network of local@threads=2 takes 0.720 ms, 1.12 (1.10 to 1.14) times as long as its own"
        in spoken
    )
    assert drawn.count("heatframe chosen") == 4, "one of each device is its own"


def test_a_long_name_is_broken_where_its_parts_begin() -> None:
    assert name_lines("local@precision=int8", 200) == ["local@precision=int8"]
    assert name_lines("local@precision=int8", 80) == ["local", "@precision", "=int8"]


def test_many_networks_stand_in_several_rows_of_columns() -> None:
    table = sample_cross_table()
    some = [Drawn(str(i), table.networks[0].net, 12) for i in range(6)]
    one_row, several = (side_by_side_figure(some, width=width) for width in (960.0, 344.0))
    heights = [float(re.findall(r'height="([\d.]+)"', str(drawn))[0]) for drawn in (one_row, several)]
    assert heights[1] > 1.9 * heights[0]
    assert str(several).count("skip</text>") == str(one_row).count("skip</text>")
    assert "0: layer 1 " in str(one_row)


def test_no_network_is_called_better_by_what_an_interval_leaves_open() -> None:
    table = sample_cross_table(count=2)
    said = dict(cross_sentences(table))
    # Faster there, and not shown to be less accurate, but not shown to be as accurate, either.
    assert (
        "takes 0.91 (0.89 to 0.93) times as long, accuracy +0.25 points (−0.05 to +0.55)"
        in (said["local@threads=2"])
    )
    assert said["local@threads=2"].endswith("No other is shown to be better here.")
    cell = table.cell("local", "local@threads=2")
    assert cell.accuracy is not None
    surely = cell.accuracy.model_copy(update={"points_interval_95": (0.1, 0.4)})
    changed = with_cell(table, "local", "local@threads=2", accuracy=surely)
    assert dict(cross_sentences(changed))["local@threads=2"].endswith(
        "Better here than its own: that of local."
    )


def test_equal_networks_are_said_to_be_equal() -> None:
    table = sample_cross_table(count=2)
    first, second = table.networks
    same = second.model_copy(update={"choices": first.choices, "net": first.net})
    said = dict(cross_sentences(table.model_copy(update={"networks": (first, same)})))
    assert "The same network was found for local@threads=2." in said["local"]
    assert "times as long" not in said["local"]


def test_untrained_networks_are_said_to_be_untrained() -> None:
    table = sample_cross_table(trained=False, count=2)
    said = dict(cross_sentences(table))
    assert "estimated loss −0.020" in said["local@threads=2"]
    assert "None of these networks is trained" in said["Measured"]
    assert "est. loss" in cross_lines(table, 140)[0]
    assert "Estimated<br>loss" in render_cross_table(table)


def test_a_cell_without_accuracy_has_a_time_alone() -> None:
    table = sample_cross_table()
    assert table.cell("android:127.0.0.1:5555", "local@precision=int8").accuracy is None
    sentence = dict(cross_sentences(table))["local@precision=int8"]
    assert "That of android:127.0.0.1:5555 takes 0.84 (0.82 to 0.85) times as long." in sentence


def test_names_are_escaped_on_the_page() -> None:
    table = sample_cross_table(count=2)
    text = table.model_dump_json().replace("local@threads=2", "<b>x</b>\\u001b[2J")
    html = render_cross_table(CrossTable.model_validate_json(text))
    assert "<b>" not in html
    assert "\x1b" not in html
    assert "&lt;b&gt;x" in html


def test_the_report_shows_the_table_and_that_another_devices_search_was_used() -> None:
    documents, table = shared_with(sample_documents()), sample_cross_table()
    result = build_result(documents, FACTS, cross=table)
    html = render_report(documents, result)
    assert '<section id="cross-table">' in html
    assert "The search was run for local@threads=2" in html
    assert ResultDocument.model_validate_json(result.model_dump_json()).cross_table == table
    alone = build_result(sample_documents(), FACTS)
    assert "cross_table" not in alone.model_dump(mode="json")
    assert 'id="cross-table"' not in render_report(sample_documents(), alone)
