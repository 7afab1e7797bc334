"""The terminal's table."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console
from support.sample_documents import sample_documents

from android_bench.device import DeviceInfo
from stages.documents import Verification
from stages.reporting.result import ResultDocument
from stages.reporting.run_result import build_result
from stages.reporting.summary import summary_renderable, summary_text

NASTY = DeviceInfo(
    kind="android",
    model="\x1b[2J[bold red]Phone[/] <b>\u202e",
    soc="soc\x1b]0;owned\x07",
    os_build="b",
    runtime="r\n\nr",
)


@pytest.fixture(scope="module")
def result() -> ResultDocument:
    return build_result(sample_documents())


def on_rich(result: ResultDocument, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(summary_renderable(result, width=width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_network_has_a_row_with_its_figures(result: ResultDocument) -> None:
    lines = summary_text(result, width=200).splitlines()
    for network in result.verification.networks:
        [row] = [line for line in lines if line.startswith(f"{network.name} ")]
        assert f"{network.accuracy_percent:.2f} (" in row
        assert network.origin in row
    [found] = [line for line in lines if line.startswith("found ")]
    for cell in ("91.84 (91.3-92.4)", "0.466 ±", "0.457", "11.6 M", "338 k", "1.36 MB", "inherited", "440 k"):
        assert cell in found
    [reference] = [line for line in lines if line.startswith("mobilenet_v2_0.5 ")]
    assert " 1.57 " in reference
    assert "MobileNetV2, same strides" in reference


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_no_figure_is_lost_on_a_narrow_terminal(result: ResultDocument, width: int) -> None:
    for text in (summary_text(result, width=width), on_rich(result, width)):
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        assert "…" not in text
        for cell in ("91.84 (91.3-92.4)", "0.466 ±2.0 %", "11.6 M", "1.36 MB", "inherited", "440 k", "1.57"):
            assert cell in text


def test_rich_and_plain_say_the_same(result: ResultDocument) -> None:
    plain, rich = (" ".join(text.split()) for text in (summary_text(result), on_rich(result, 140)))
    assert plain.replace("-", "").replace(" ", "") == rich.replace("-", "").replace(" ", "")


def test_the_sentences_follow(result: ResultDocument) -> None:
    text = " ".join(summary_text(result).split())
    for words in (
        "stem16/2 | k3e1 16 | k3e3 24 |",
        "(98 % of the target)",
        "is the fastest MobileNetV2 that is not significantly less accurate",
        "1.57 at equal accuracy (95 % interval 1.55 to 1.60, 12 interleaved rounds)",
        f"Off by {result.latency_model.held_out.mape_percent:.1f} % on average over 24 held-out networks",
        "Verdict Ungated.",
        "Measured on Sample Computer",
    ):
        assert words in text


def test_a_foreign_name_steers_neither_terminal_nor_rich() -> None:
    result = build_result(sample_documents(device=NASTY))
    for text in (summary_text(result), on_rich(result, 140)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[bold red]Phone[/] <b>" in text


def test_the_module_imports_neither_rich_nor_numpy() -> None:
    code = "import sys, stages.reporting.summary as s; print({'rich', 'numpy', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_disturbed_round_does_not_widen_what_is_known_of_a_latency() -> None:
    documents = sample_documents()
    known = build_result(documents).verification.networks[0].half_interval_percent
    verification = documents["verify"]
    assert isinstance(verification, Verification)
    [found, *others] = verification.networks
    rounds = found.measurement.round_medians_ms
    disturbed = found.measurement.model_copy(
        update={"round_medians_ms": (*rounds[:-1], 10 * found.measurement.median_ms)}
    )
    verified = verification.model_copy(
        update={"networks": (found.model_copy(update={"measurement": disturbed}), *others)}
    )
    result = build_result({**documents, "verify": verified})
    assert result.verification.networks[0].half_interval_percent == pytest.approx(known, rel=0.5)
    assert found.measurement.spread < disturbed.spread / 10
