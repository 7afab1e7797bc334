"""``nasflow run --devices``: one search, a network for each device, each measured on each device."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from integration.conftest import TINY
from support.command_line import ProjectFolder

from stages.documents import CrossTable

HERE = ("--set", "data.path=null")


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    folder = tmp_path / "project"
    shutil.copytree(TINY, folder)
    return ProjectFolder(folder)


def test_each_device_gets_a_network_and_each_network_a_time_on_each_device(project: ProjectFolder) -> None:
    answer = project.ask("run", "--devices", "local,onnxruntime", *HERE)
    assert answer.exit_code == 0
    table = CrossTable.model_validate_json((project.artifacts / "cross_table.json").read_text())
    names = ["local", "onnxruntime"]
    assert [target.name for target in table.targets] == names
    assert [network.target for network in table.networks] == names
    assert [(cell.network, cell.target) for cell in table.cells] == [
        (network, target) for target in names for network in names
    ]
    runtimes = [target.device.runtime for target in table.targets]
    assert runtimes[0].startswith("ai-edge-litert ")
    assert runtimes[1].startswith("onnxruntime ")
    for name in names:
        assert table.cell(name, name).ratio_to_own == 1
    assert all(network.estimated_loss > 0 for network in table.networks)
    assert json.loads(json.dumps(answer.document))["written"] == str(project.artifacts / "cross_table.json")

    searches = list((project.artifacts / "records" / "search").glob("*.json"))
    assert len(searches) == 1, "one supernet serves both"
    again = project.call("run", "--devices", "local,onnxruntime", *HERE)
    assert again.returncode == 0
    assert "none of these networks is trained yet" in again.stdout
    assert len(list((project.artifacts / "records" / "search").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--devices", "local"), "names 1 device"),
        (("--devices", "local,local@speed=2"), "is no setting of the section runtime"),
        (("--devices", "local,onnxruntime", "--until", "search"), "--devices compares devices"),
        (("--devices", "local,onnxruntime", "--device", "local"), "--devices compares devices"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    project: ProjectFolder, words: tuple[str, ...], said: str
) -> None:
    done = project.call("run", *words, *HERE)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(project.artifacts.glob("records/*/*"))
