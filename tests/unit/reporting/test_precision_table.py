"""The found network's files in result.json, on the terminal and in the report."""

from __future__ import annotations

from support.sample_documents import sample_documents

from stages.reporting.html import render_report
from stages.reporting.precisions import precision_rows
from stages.reporting.result import ResultDocument
from stages.reporting.run_result import build_result
from stages.reporting.summary import summary_text


def result() -> ResultDocument:
    return build_result(sample_documents())


def test_every_file_is_in_the_result_with_what_it_costs_against_float32() -> None:
    plain, half, int8 = result().precisions
    assert [f.precision for f in (plain, half, int8)] == ["float32", "float16", "int8"]
    assert plain.accuracy_points is None
    assert int8.accuracy_points == -0.24
    assert int8.input_type == "uint8"
    assert int8.size_bytes < half.size_bytes < plain.size_bytes


def test_the_terminal_shows_one_line_for_each_file() -> None:
    lines = summary_text(result(), width=160).splitlines()
    (int8,) = [line for line in lines if line.startswith("int8")]
    for cell in ("uint8", "−0.24 (−0.44 to −0.04)", "0.52 (0.51 to 0.53)", "2.1"):
        assert cell in int8
    assert any(line.startswith("float32  float32") for line in lines)


def test_a_narrow_terminal_gets_several_tables_of_files() -> None:
    text = summary_text(result(), width=80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.count("\nint8 ") > 1


def test_the_report_has_the_same_table() -> None:
    documents = sample_documents()
    page = render_report(documents, build_result(documents))
    assert 'id="precisions"' in page
    assert "−0.24 (−0.44 to −0.04)" in page


def test_one_file_alone_makes_no_table() -> None:
    alone = result().model_copy(update={"precisions": result().precisions[:1]})
    assert precision_rows(alone.precisions) == []
    assert "time/float32" not in summary_text(alone, width=160)
