"""``--device onnxruntime`` through the command line: a latency table and a model of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from integration.conftest import TINY
from support.command_line import ProjectFolder

HERE = ("--set", "data.path=null")
ONNX = ("--device", "onnxruntime", *HERE)


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    folder = tmp_path / "project"
    shutil.copytree(TINY, folder)
    return ProjectFolder(folder)


def test_each_engine_has_a_latency_model_of_its_own(project: ProjectFolder) -> None:
    assert project.ask("latency", *ONNX).exit_code == 0
    assert project.ask("latency", *ONNX).document["nothing_to_do"] is True
    stages = {stage["name"]: stage for stage in project.ask("status", *HERE).document["stages"]}
    assert not stages["profile"]["fresh"], "LiteRT was not measured"
    written = Path(project.ask("latency", "export", "onnx.json", *ONNX).document["written"])
    model = json.loads(written.read_text())["model"]
    assert model["device"]["runtime"].startswith("onnxruntime ")
    refused = project.ask("latency", "import", str(written), *HERE)
    assert refused.exit_code == 2
    assert "runtime: onnxruntime" in refused.document["error"]["message"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [("runtime.precision=int8", "runs float32 models"), ("runtime.delegate=gpu", "runtime.delegate is gpu")],
)
def test_what_the_engine_cannot_do_is_refused_before_anything_is_measured(
    project: ProjectFolder, setting: str, words: str
) -> None:
    answer = project.ask("profile", "--set", setting, *ONNX)
    assert answer.exit_code == 2
    assert words in answer.document["error"]["message"]
    assert not list(project.artifacts.glob("scratch/*"))
