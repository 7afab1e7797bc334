"""``status``, ``report`` and ``clean`` through the real engine and store; finding the configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.toy_pipeline import ToyPipeline

from nasflow.base.errors import ConfigError, UsageError
from nasflow.cli.app import main
from nasflow.cli.request import STAGE_NAMES, RunOptions, Selection
from nasflow.commands.clean import KEPT_LOGS, clean_store
from nasflow.commands.project import Project, open_project
from nasflow.commands.report import rewrite_report
from nasflow.commands.run import run_pipeline
from nasflow.commands.status import show_status
from pipeline.stage import Context

TOY = ToyPipeline()


def _project(folder: Path, *assignments: str, toy: ToyPipeline = TOY) -> Project:
    return open_project(Selection(folder / "pipeline.yaml", assignments), toy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text("seed: 5\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "pipeline.yaml").write_text("seed: 5\n", encoding="utf-8")
    run_pipeline(RunOptions(), _project(folder))
    return folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A copy of it, with which a test may do as it likes."""
    return shutil.copytree(finished_once, tmp_path / "copy")


# --- status ------------------------------------------------------------------------------------------


def test_status_of_a_new_folder_changes_nothing(folder: Path) -> None:
    outcome = show_status(Selection(), _project(folder))
    assert [stage["fresh"] for stage in outcome.document["stages"]] == [False] * len(STAGE_NAMES)
    assert outcome.document["usage_bytes"]["total"] == 0
    assert "9 stages to run, about 9 min 00 s: use 'nasflow run'." in outcome.text
    assert not (folder / "artifacts").exists()


def test_status_says_why_a_stage_is_stale_and_what_the_store_weighs(finished: Path) -> None:
    outcome = show_status(Selection(), _project(finished, "seed=6"))
    assert outcome.document["stages"][0]["why"] == "setting `seed` changed from 5 to 6"
    assert "setting `seed` changed from 5 to 6" in outcome.text
    assert outcome.document["usage_bytes"]["total"] > 0
    assert "uses" in outcome.text


def test_status_of_a_finished_run_is_all_fresh(finished: Path) -> None:
    outcome = show_status(Selection(), _project(finished))
    assert all(stage["fresh"] for stage in outcome.document["stages"])
    assert "Every stage is up to date" in outcome.text


# --- report ------------------------------------------------------------------------------------------


def test_report_writes_everything_again_without_running_anything(finished: Path) -> None:
    def fail(context: Context) -> None:
        raise AssertionError("nothing may run")

    latest = finished / "artifacts" / "latest"
    (latest / "report.html").write_text("changed", encoding="utf-8")
    (latest / "result.json").unlink()
    toy = ToyPipeline(work=dict.fromkeys(STAGE_NAMES, fail))
    outcome = rewrite_report(Selection(), _project(finished, toy=toy))
    assert "<html" in (latest / "report.html").read_text(encoding="utf-8")
    result = json.loads((latest / "result.json").read_bytes())
    assert outcome.document.items() >= result.items()


def test_report_names_the_stage_that_is_missing(folder: Path) -> None:
    run_pipeline(RunOptions(until="finetune"), _project(folder))
    with pytest.raises(UsageError, match="stage baseline has no result") as caught:
        rewrite_report(Selection(), _project(folder))
    assert "nasflow run" in caught.value.hint
    assert not (folder / "artifacts" / "latest").exists()


def test_report_refuses_results_of_another_configuration(finished: Path) -> None:
    with pytest.raises(UsageError, match="stage profile has no result for this configuration"):
        rewrite_report(Selection(), _project(finished, "seed=6"))


# --- clean -------------------------------------------------------------------------------------------


def _objects(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "artifacts" / "objects").rglob("*"))


def test_clean_frees_what_nothing_refers_to_and_keeps_the_rest(finished: Path) -> None:
    stray = finished / "artifacts" / "objects" / "ab" / f"{'ab' * 32}.tflite"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"nobody's")
    objects = _objects(finished)
    would = clean_store(Selection(), superseded=False, dry_run=True, project=_project(finished))
    assert (would.document["files"], would.document["bytes"], stray.exists()) == (1, 8, True)
    assert would.text.startswith("Would free 8 B in 1 file")
    clean_store(Selection(), superseded=False, dry_run=False, project=_project(finished))
    assert not stray.exists()
    assert _objects(finished) == objects - 1
    outcome = run_pipeline(RunOptions(), _project(finished))
    assert outcome.document["nothing_to_do"]


def test_clean_keeps_other_configurations_unless_told_to_drop_them(finished: Path) -> None:
    run_pipeline(RunOptions(until="latency"), _project(finished, "seed=6"))
    kept = clean_store(Selection(), superseded=False, dry_run=False, project=_project(finished))
    assert kept.document["files"] == 0
    assert "--superseded" in kept.text
    dropped = clean_store(Selection(), superseded=True, dry_run=False, project=_project(finished))
    assert dropped.document["bytes_by_kind"]["records"] > 0
    assert run_pipeline(RunOptions(), _project(finished)).document["nothing_to_do"]
    assert not show_status(Selection(), _project(finished, "seed=6")).document["stages"][0]["fresh"]


def test_clean_keeps_the_logs_of_the_last_runs(folder: Path) -> None:
    runs = folder / "artifacts" / "runs"
    for number in range(KEPT_LOGS + 2):
        log = runs / f"2026-01-01T00-00-{number:02d}Z" / "run.log"
        log.parent.mkdir(parents=True)
        log.write_bytes(b"said")
    would = clean_store(Selection(), superseded=False, dry_run=True, project=_project(folder))
    assert would.document["bytes_by_kind"] == {"logs": 8}
    assert len(list(runs.iterdir())) == KEPT_LOGS + 2
    clean_store(Selection(), superseded=False, dry_run=False, project=_project(folder))
    assert sorted(path.name for path in runs.iterdir())[0] == "2026-01-01T00-00-02Z"
    assert len(list(runs.iterdir())) == KEPT_LOGS


def test_clean_keeps_unfinished_work_of_every_configuration(folder: Path) -> None:
    def stop(context: Context) -> None:
        context.scratch.save("half", b"work")
        raise UsageError("stop here")

    toy = ToyPipeline(work={"search": stop})
    with pytest.raises(UsageError):
        run_pipeline(RunOptions(), _project(folder, "seed=6", toy=toy))
    clean_store(Selection(), superseded=False, dry_run=False, project=_project(folder))
    assert list((folder / "artifacts" / "scratch").glob("search-*/half*"))
    clean_store(Selection(), superseded=True, dry_run=False, project=_project(folder))
    assert list((folder / "artifacts" / "scratch").glob("search-*/half*")), "its input may yet be the same"
    run_pipeline(RunOptions(until="latency"), _project(folder))
    clean_store(Selection(), superseded=True, dry_run=False, project=_project(folder))
    assert not list((folder / "artifacts" / "scratch").glob("search-*/half*"))


# --- the configuration -------------------------------------------------------------------------------


def test_the_configuration_is_found_upwards_and_paths_are_relative_to_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pipeline.yaml").write_text("artifacts: ../elsewhere\n", encoding="utf-8")
    (folder / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(folder / "a" / "b")
    project = open_project(Selection())
    assert project.path == folder / "pipeline.yaml"
    assert project.artifacts == folder.parent / "elsewhere"


def test_no_configuration_is_told_with_the_way_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/")
    assert main(["status", "--json"]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert "There is no pipeline.yaml in" in error["message"]
    assert "nasflow init" in error["hint"]


def test_a_mistyped_key_is_told_with_file_line_value_and_the_nearest_key(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "pipeline.yaml").write_text("seed: 1\nserach:\n  epochs: 3\n", encoding="utf-8")
    assert main(["run", "--config", str(folder / "pipeline.yaml"), "--json"]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert (error["type"], error["key"]) == ("ConfigError", "serach")
    assert "pipeline.yaml, line 2" in error["message"]
    assert "search" in error["hint"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "many"], "--seed many"),
        (["--device", "toaster"], "--device toaster"),
        (["--device", "127.0.0.1:6555"], "did you mean 'android:127.0.0.1:6555'?"),
        (["--set", "seed=many"], "--set seed=many"),
        (["--device", "local:0"], "there is no such device"),
    ],
)
def test_a_wrong_option_is_told_as_it_was_typed(
    folder: Path, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["status", "--config", str(folder / "pipeline.yaml"), *words]) == 2
    assert said in capfd.readouterr().err


def test_several_mistakes_are_told_at_once(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text("sed: 1\ndevise: local\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="2 problems"):
        open_project(Selection(folder / "pipeline.yaml"))
