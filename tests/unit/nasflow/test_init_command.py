"""``nasflow init``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasflow.cli.app import main
from nasflow.reference import pipeline_yaml


def test_it_writes_the_template_into_a_new_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "a" / "b"), "--json"]) == 0
    written = tmp_path / "a" / "b" / "pipeline.yaml"
    assert json.loads(capfd.readouterr().out)["written"] == str(written)
    assert written.read_text(encoding="utf-8") == pipeline_yaml()
    assert [path.name for path in written.parent.iterdir()] == ["pipeline.yaml"]


def test_it_refuses_to_overwrite_unless_told_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("seed: 3\n", encoding="utf-8")
    assert main(["init", str(tmp_path)]) == 2
    assert "--force" in capfd.readouterr().err
    assert file.read_text(encoding="utf-8") == "seed: 3\n"
    assert main(["init", str(tmp_path), "--force"]) == 0
    assert file.read_text(encoding="utf-8") == pipeline_yaml()


def test_a_folder_that_is_a_file_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["init", str(tmp_path / "file")]) == 2
    assert "is a file, not a folder" in capfd.readouterr().err


def test_it_says_how_to_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert capfd.readouterr().out.endswith("Next: nasflow run\n")
    assert main(["init", "my project"]) == 0
    assert capfd.readouterr().out.endswith("Next: cd 'my project' && nasflow run\n")
