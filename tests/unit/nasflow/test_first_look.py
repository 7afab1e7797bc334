"""The first lines of a command in a project whose images are a person's own."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from support.photo_folder import contents, photo_folder, settle
from support.toy_pipeline import ToyPipeline

from nasflow.base.errors import UsageError
from nasflow.cli.perform import perform
from nasflow.cli.request import Outcome, RunOptions, Selection
from nasflow.commands import first_look
from nasflow.commands.project import open_project
from nasflow.commands.run import run_pipeline
from nasflow.commands.status import show_status
from nasflow.config import PipelineConfig
from pipeline.events import Event, Message, Progress
from pipeline.reporters.rich_reporter import RichReporter
from stages.data import catalogue


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with images, one of them broken and one a copy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = photo_folder(tmp_path / "photos", {"ape": 40, "bee": 40})
    shutil.copy(root / "ape" / "000.png", root / "ape" / "again.png")
    (root / "bee" / "torn.png").write_bytes((root / "bee" / "001.png").read_bytes()[:60])
    (root / "bee" / "IMG_1.heic").write_bytes(b"ftypheic")
    settle(root)
    (tmp_path / "pipeline.yaml").write_text("data: {source: folder, path: photos}\n", encoding="utf-8")
    return tmp_path


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process would begin."""
    monkeypatch.setattr(catalogue, "_KNOWN", {})


def _run(project: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    options = RunOptions(Selection(project / "pipeline.yaml"))

    def action() -> Outcome:
        return run_pipeline(options, open_project(options.selection, ToyPipeline()))

    assert perform(lambda: action, "nasflow run", as_json=False) == 0
    return capfd.readouterr().err.splitlines()


def test_a_run_first_says_what_it_reads_and_what_is_left_out(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _forget(monkeypatch)
    first, *more = _run(project, capfd)
    assert "Reading 82 images of" in first
    said = "\n".join(more[:3])
    assert "1 of 82 images cannot be read" in said
    assert "bee/torn.png" in said
    assert "IMG_1.heic" in said
    assert "1 image is" in said
    assert "'nasflow data check' shows them" in said
    (log,) = (project / "artifacts" / "runs").glob("*/run.log")
    assert "Reading 82 images of" in log.read_text(encoding="utf-8")
    assert "bee/torn.png" in log.read_text(encoding="utf-8")


def test_a_run_says_how_the_folder_was_read(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("ape", "bee"):
        (project / "photos" / "train").mkdir(exist_ok=True)
        (project / "photos" / name).rename(project / "photos" / "train" / name)
    assert [line for line in _run(project, capfd) if "82 images in 2 classes: train/ with a folder" in line]


def test_a_second_run_reads_no_image(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _forget(monkeypatch)
    _run(project, capfd)
    _forget(monkeypatch)
    lines = _run(project, capfd)
    assert not [line for line in lines if "Reading" in line]
    assert "1 of 82 images cannot be read" in lines[0]
    (known,) = catalogue._KNOWN.values()
    assert known.inventory.read == 0


def test_status_says_it_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(monkeypatch)
    outcome = show_status(
        Selection(project / "pipeline.yaml"),
        open_project(Selection(project / "pipeline.yaml"), ToyPipeline()),
    )
    assert "bee/torn.png" in outcome.text


@pytest.mark.parametrize("artifacts", ["photos/results", "photos", "linked"])
def test_results_are_never_written_among_the_images(
    project: Path, artifacts: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _forget(monkeypatch)
    (project / "linked").symlink_to("photos/ape")
    before = contents(project / "photos")
    with (project / "pipeline.yaml").open("a", encoding="utf-8") as file:
        file.write(f"artifacts: {artifacts}\n")
    options = RunOptions(Selection(project / "pipeline.yaml"))
    with pytest.raises(UsageError, match="nothing is written there") as caught:
        run_pipeline(options, open_project(options.selection, ToyPipeline()))
    assert "artifacts" in caught.value.hint
    assert contents(project / "photos") == before


def test_only_what_changed_is_read_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PipelineConfig.model_validate({"data": {"source": "folder", "path": "photos"}})
    _forget(monkeypatch)
    first_look.look_at_images(config, project, lambda _event: None)
    photo_folder(project / "photos" / "more", {"ape": 1})
    (project / "photos" / "more" / "ape" / "000.png").rename(project / "photos" / "ape" / "new.png")
    (project / "photos" / "more" / "ape").rmdir()
    (project / "photos" / "more").rmdir()
    _forget(monkeypatch)
    events: list[Event] = []
    first_look.look_at_images(config, project, events.append)
    assert isinstance(events[0], Message)
    assert "Reading 1 image of" in events[0].text
    assert "(82 are known)" in events[0].text
    assert [event for event in events if isinstance(event, Progress) and event.unit == "images"][
        -1
    ].done == 83


def test_fashion_mnist_is_not_looked_at(tmp_path: Path) -> None:
    events: list[Event] = []
    first_look.look_at_images(PipelineConfig(), tmp_path, events.append)
    assert events == []


def test_a_terminal_shows_the_bar_of_what_no_stage_does() -> None:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, legacy_windows=False)
    reporter = RichReporter(out, clock=lambda: 0.0, animate=False, console=console)
    reporter(Progress("", 5, 10, "images", note="reading"))
    assert "5/10 images, reading" in out.getvalue()
    reporter(Progress("", 10, 10, "images", note="reading"))
    reporter(Message("", "done"))
    assert "done" in out.getvalue()
    reporter.close()
