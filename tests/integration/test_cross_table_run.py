"""``nasflow run --devices``: one search, a network for each device, each measured on each device."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from integration.conftest import TINY
from support.command_line import ProjectFolder

from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.phone import running_phone
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
    assert [target.runtime.threads for target in table.targets] == [1, 1]
    assert not list((project.artifacts / "scratch").glob("*")), "nothing is kept of what is finished"
    assert all(network.estimated_loss > 0 for network in table.networks)
    assert json.loads(json.dumps(answer.document))["written"] == str(project.artifacts / "cross_table.json")

    searches = list((project.artifacts / "records" / "search").glob("*.json"))
    assert len(searches) == 1, "one supernet serves both"
    again = project.call("run", "--devices", "local,onnxruntime", *HERE)
    assert again.returncode == 0
    assert "None of these networks is trained" in " ".join(again.stdout.split())
    assert len(list((project.artifacts / "records" / "search").glob("*.json"))) == 1
    assert 'id="cross-table"' in (project.artifacts / "cross_table.html").read_text()


SHORT = ("--set", "convert.precisions=[float32]", "--set", "prune.random_networks=0")


def test_trained_each_device_has_its_own_results_and_the_table_has_accuracies(project: ProjectFolder) -> None:
    answer = project.ask("run", "--devices", "local,onnxruntime", "--train", *HERE, *SHORT)
    assert answer.exit_code == 0
    table = CrossTable.model_validate_json((project.artifacts / "cross_table.json").read_text())
    assert table.test_images == 10_000
    for cell in table.cells:
        assert cell.accuracy is not None
        low, high = cell.accuracy.interval_95
        assert low < cell.accuracy.percent < high
    assert [network.folder for network in table.networks] == ["devices/local", "devices/onnxruntime"]

    here, there = (project.artifacts / network.folder for network in table.networks)
    for folder in (here, there, project.latest):
        assert 'id="cross-table"' in (folder / "report.html").read_text()
        assert (folder / "network.tflite").is_file()
        own = json.loads((folder / "result.json").read_text())
        assert own["cross_table"] == table.model_dump(mode="json")
    assert json.loads((there / "result.json").read_text())["device"]["runtime"].startswith("onnxruntime ")
    assert (project.latest / "network.tflite").read_bytes() == (here / "network.tflite").read_bytes()
    assert (there / "network.onnx").read_bytes()[:1] == b"\x08", "what ONNX Runtime was given"
    assert not (here / "network.onnx").exists()
    assert "The search was run for local" in (there / "report.html").read_text()

    records = {
        stage: list((project.artifacts / "records" / stage).glob("*.json"))
        for stage in ("search", "baseline")
    }
    assert len(records["search"]) == 2, "the search, and what the second device takes over of it"
    assert len(records["baseline"]) == 1, "MobileNetV2s depend on no device"
    shipped = project.ask("ship", str(here), "--version", "1.0.0")
    assert shipped.document["name"] == "project-local"
    refused = project.ask("ship", str(there), "--version", "1.0.0")
    assert "which does not run .tflite files" in refused.document["error"]["message"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--devices", "local"), "names 1 device"),
        (("--devices", "local,local@speed=2"), "is no setting of the section runtime"),
        (("--devices", "local,onnxruntime", "--until", "search"), "--devices compares devices"),
        (("--devices", "local,onnxruntime", "--device", "local"), "--devices compares devices"),
        (("--train",), "--train is for --devices"),
        (("--devices", "local,onnxruntime", "--force", "verify"), "--devices runs up to the search"),
        (("--devices", "local,onnxruntime@precision=int8"), "onnxruntime runs float32 models"),
        (("--devices", "onnxruntime,local@batch=8"), "computes one image after the other"),
        (("--devices", "onnxruntime,local@delegate=gpu"), "runtime.delegate is gpu"),
        (("--devices", "local,local@threads=1"), "local and local@threads=1 are of one kind"),
        (
            ("--devices", "local,onnxruntime", "--set", "search.estimator=two_path"),
            "by two_path keeps no evaluations",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    project: ProjectFolder, words: tuple[str, ...], said: str
) -> None:
    done = project.call("run", *words, *HERE)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(project.artifacts.glob("records/*/*"))


def test_a_precision_that_a_space_is_not_made_for_is_refused_without_training_too(
    project: ProjectFolder,
) -> None:
    space = (project.path / "tiny.yaml").read_text()
    with_hswish = space.replace("expansion: 4}", "expansion: 4, activation: hswish}")
    assert with_hswish != space
    (project.path / "tiny.yaml").write_text(with_hswish)
    done = project.call("run", "--devices", "local,local@precision=int8", *HERE)
    assert done.returncode == 2
    assert "XNNPACK does not take over h-swish in int8" in done.stderr
    assert not list(project.artifacts.glob("records/*/*"))


def test_a_phone_that_is_not_there_is_told_before_anything_is_measured(project: ProjectFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    done = project.call("run", "--devices", f"local,android:{address}", *HERE)
    assert done.returncode == 4
    assert address in done.stderr
    assert not list(project.artifacts.glob("records/*/*"))


@pytest.mark.needs("bubblewrap")
def test_two_phones_of_one_kind_are_refused_as_they_would_share_their_results(
    project: ProjectFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with (
        running_phone(description=PhoneDescription(serial="FIRST")) as first,
        running_phone(description=PhoneDescription(serial="SECOND")) as second,
    ):
        names = [f"android:{phone.address}" for phone in (first, second)]
        done = project.call("run", "--devices", f"local,{','.join(names)}", "--train", *HERE)
    assert done.returncode == 2
    assert f"{names[0]} and {names[1]} are of one kind" in done.stderr
    assert not list(project.artifacts.glob("records/*/*"))


def test_one_of_several_processes_compares_nothing(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``torchrun`` starts them: each would measure, and they would wait for each other for ever."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    done = project.call("run", "--devices", "local,onnxruntime", *HERE)
    assert done.returncode == 2
    assert "--devices runs in one process, and 2 were started" in done.stderr
    assert not list(project.artifacts.glob("records/*/*"))
