"""Runs that are stopped, killed or kept out, in the midst of real work."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
from support.command_line import ProjectFolder, progress_in

from nasflow.cli.request import STAGE_NAMES
from pipeline.store.store import Store


def test_an_interrupted_search_prints_the_command_that_goes_on(project: ProjectFolder) -> None:
    with project.started("run", "--set", "search.epochs=2", "--until", "search") as running:
        running.wait_for(progress_in("search", after=1.0))
        running.process.send_signal(signal.SIGINT)
        stopped = running.ends()
    error = stopped.document["error"]
    assert (stopped.exit_code, error["type"]) == (130, "RunInterruptedError")

    resumed = project.ask_shell(error["hint"].partition("Continue with: ")[2])
    assert resumed.exit_code == 0
    assert resumed.actions == {"profile": "fresh", "latency": "fresh", "precheck": "fresh", "search": "run"}
    assert "partly done" in resumed.document["stages"][-1]["reason"]
    assert any("resuming at epoch 1" in text for text in resumed.texts), resumed.texts


@pytest.mark.parametrize(("stage", "after"), [("finetune", 1.0), ("convert", 0.0)])
def test_a_killed_stage_goes_on_and_makes_the_very_same_files(
    project: ProjectFolder, stage: str, after: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = _files_made_by(project, stage)
    with project.started("run", "--force", stage, "--until", stage) as running:
        running.wait_for(progress_in(stage, after=after))
        children = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        running.process.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == [], "nothing stays behind"
    assert list(tmp_path.glob("nasflow-*")) == []
    planned = {stage["name"]: stage for stage in project.ask("run", "--dry-run").document["stages"]}
    assert planned[stage]["partly_done"]

    resumed = project.ask("run", "--until", stage)
    assert resumed.exit_code == 0
    assert resumed.ran == [stage]
    assert _files_made_by(project, stage) == before
    assert project.ask("status").document["usage_bytes"]["scratch"] == 0


def _files_made_by(project: ProjectFolder, stage: str) -> set[str]:
    """Hashes of the weights or models that the stage's last run made, all verified."""
    store = Store(project.artifacts, lambda event: None)
    record = store.latest(stage)
    assert record is not None
    return {store.path(blob).name for blob in record.blobs}


def test_a_second_run_in_the_same_folder_is_kept_out(project: ProjectFolder) -> None:
    with project.started("run", "--set", "search.epochs=500", "--until", "search") as running:
        running.wait_for(progress_in("search"))
        second = project.ask("run")
        error = second.document["error"]
        assert (second.exit_code, error["type"]) == (8, "StoreLockedError")
        assert str(running.process.pid) in error["message"]
        assert str(project.artifacts) in error["message"]
        assert project.ask("status").exit_code == 0, "looking is allowed"
        running.process.terminate()
        assert running.ends().exit_code == 143
    third = project.ask("run")
    assert third.exit_code == 0
    assert third.actions == dict.fromkeys(STAGE_NAMES, "fresh")
