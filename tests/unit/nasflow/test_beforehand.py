"""What a run refuses, or warns of, before any stage works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from android_bench.local_host import usable_cores
from nasflow.cli import main
from nasflow.commands.beforehand import check_images, doubtful_settings
from nasflow.commands.options import Selection
from nasflow.commands.project import open_project


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text("seed: 1\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("words", [["run"], ["run", "--dry-run"], ["search"], ["verify", "--dry-run"]])
def test_a_mistyped_folder_of_images_is_told_before_anything_is_measured(
    config: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    code = main([*words, "--config", str(config), "--set", "data.folder=imagse"])
    error, hint = [line for line in capfd.readouterr().err.splitlines() if line][-2:]
    assert code == 8
    assert error == f"error: data.folder: {config.parent / 'imagse'} does not exist."
    assert "Correct data.folder" in hint
    assert not list(config.parent.glob("artifacts/records/*"))


def test_what_reads_no_images_needs_no_folder_of_them(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["latency", "--dry-run", "--config", str(config), "--set", "data.folder=nowhere"]
    assert main(words) == 0
    assert "profile" in capfd.readouterr().out


def test_stages_that_have_run_need_their_folder_no_more(config: Path) -> None:
    project = open_project(Selection(config, ("data.folder=nowhere",)))
    check_images(project, project.pipeline(lambda _event: None), [])


def test_more_threads_than_cores_are_warned_of(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--dry-run", "--config", str(config), "--set"]
    assert main([*words, "runtime.threads=64"]) == 0
    told = " ".join(capfd.readouterr().out.split())
    assert f"runtime.threads is 64, and this computer has {usable_cores()} core" in told
    assert main([*words, f"runtime.threads={usable_cores()}", "--json"]) == 0
    assert "runtime.threads is" not in json.dumps(capfd.readouterr().out)


@pytest.mark.parametrize("device", ["android", "android:R5CT1"])
def test_a_phones_cores_are_not_this_computers(config: Path, device: str) -> None:
    project = open_project(Selection(config, ("runtime.threads=64", f"device={device}")))
    pipeline = project.pipeline(lambda _event: None)
    stages = pipeline.status(environment=lambda _stage: {})
    assert doubtful_settings(project.config, pipeline, stages) == []
