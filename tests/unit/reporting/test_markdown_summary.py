"""``summary.md``: figures, sentences and tables as Markdown, in which foreign text is text."""

from __future__ import annotations

from pathlib import Path

from support.finished_run import finish
from support.sample_documents import sample_documents
from support.sample_variants import of_few_photos

from android_bench.device import DeviceInfo
from stages.reporting.markdown import summary_markdown
from stages.reporting.run_result import build_result
from stages.reporting.text import sentences

HOSTILE = DeviceInfo(
    kind="local", model="<img src=x> | ![a](http://x) \n# `b`", soc="s", os_build="o", runtime="r"
)


def test_the_outcome_the_tables_and_every_sentence_are_there() -> None:
    result = build_result(of_few_photos(sample_documents()))
    said = summary_markdown(result)
    assert said.startswith("# The found network is 1.57 times as fast as EfficientNet-Lite0;")
    assert "| network | role | accuracy % (95 %) | balanced % |" in said
    assert "| file | takes | size |" in said
    assert all(f"- **{subject}**: " in said for subject, _ in sentences(result))


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    lines = summary_markdown(build_result(sample_documents())).splitlines()
    rows = [line.replace(r"\|", "") for line in lines if line.startswith("|")]
    assert len(rows) == (2 + 8) + (2 + 3)
    assert {row.count("|") for row in rows[:10]} == {rows[0].count("|")}
    assert {row.count("|") for row in rows[10:]} == {rows[10].count("|")}


def test_a_device_name_makes_no_picture_table_or_heading() -> None:
    said = summary_markdown(build_result(sample_documents(device=HOSTILE)))
    assert r"\<img src=x\> \| \!\[a\](http://x) \# \`b\`" in said


def test_a_finished_run_leaves_it_beside_the_report(tmp_path: Path) -> None:
    latest = finish(tmp_path / "p") / "artifacts" / "latest"
    assert (latest / "summary.md").read_text(encoding="utf-8").startswith("# The found network is 1.57 times")
