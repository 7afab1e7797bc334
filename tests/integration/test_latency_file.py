"""``nasflow latency export|import|predict|check`` on a project that has been measured for real."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from integration.conftest import TINY
from support.command_line import ProjectFolder


@pytest.fixture
def exported(project: ProjectFolder) -> Path:
    answer = project.ask("latency", "export", "phone.json")
    assert answer.exit_code == 0
    return Path(answer.document["written"])


@pytest.fixture
def other(tmp_path: Path) -> ProjectFolder:
    """A project of the same configuration in which nothing has run."""
    folder = tmp_path / "other"
    shutil.copytree(TINY, folder)
    return ProjectFolder(folder)


def altered(source: Path, **device: Any) -> Path:
    content = json.loads(source.read_text())
    for part in ("table", "model"):
        content[part]["device"].update(device)
    target = source.with_name("altered.json")
    target.write_text(json.dumps(content))
    return target


def test_an_imported_table_stands_in_for_measuring(exported: Path, other: ProjectFolder) -> None:
    answer = other.ask("latency", "import", str(exported))
    assert (answer.exit_code, answer.document["foreign"]) == (0, [])
    assert other.ask("latency").document["nothing_to_do"] is True
    stages = {stage["name"]: stage for stage in other.ask("status").document["stages"]}
    assert stages["profile"]["fresh"]
    assert stages["latency"]["fresh"]
    assert stages["search"]["why"] == "never ran"
    differing = other.ask("status", "--set", "profile.rounds=4").document["stages"]
    assert not differing[0]["fresh"], "what is measured otherwise is measured anew"


def test_a_foreign_table_is_refused_by_name_and_marked_where_it_is_accepted(
    exported: Path, other: ProjectFolder
) -> None:
    foreign = altered(exported, os_build="Android 99", model="Their Phone")
    refused = other.ask("latency", "import", str(foreign))
    assert refused.exit_code == 2
    message = refused.document["error"]["message"]
    assert "OS build: Android 99 in the table" in message
    assert "device: Their Phone in the table" in message
    assert "--accept-foreign-table" in refused.document["error"]["hint"]
    assert not list(other.artifacts.glob("records/*/*")), "nothing was written"

    accepted = other.ask("latency", "import", str(foreign), "--accept-foreign-table")
    assert accepted.exit_code == 0
    assert len(accepted.document["foreign"]) == 2
    again = other.ask("latency", "export", "again.json")
    assert json.loads(Path(again.document["written"]).read_text())["model"]["foreign"]


def test_a_damaged_file_leaves_what_was_measured_alone(project: ProjectFolder, exported: Path) -> None:
    before = {path: path.read_bytes() for path in project.artifacts.glob("records/*/*")}
    exported.write_bytes(exported.read_bytes()[:-100])
    answer = project.ask("latency", "import", str(exported), "--force")
    assert answer.exit_code == 7
    assert "cut off" in answer.document["error"]["message"]
    assert {path: path.read_bytes() for path in project.artifacts.glob("records/*/*")} == before
    assert project.ask("latency").document["nothing_to_do"] is True


def test_a_table_of_another_space_is_refused(exported: Path, other: ProjectFolder) -> None:
    answer = other.ask("latency", "import", str(exported), "--set", "space.width_multiplier=2")
    assert answer.exit_code == 2
    message = answer.document["error"]["message"]
    assert "for space tiny, which is not this configuration's: width_multiplier is 1.0 there" in message


def test_what_was_measured_here_is_not_replaced_unasked(project: ProjectFolder, exported: Path) -> None:
    refused = project.ask("latency", "import", str(exported))
    assert refused.exit_code == 2
    assert "--force" in refused.document["error"]["hint"]
    assert project.ask("latency", "import", str(exported), "--force").exit_code == 0
    assert project.ask("latency", "import", str(exported)).exit_code == 0, "an import may be replaced"


def test_a_model_of_another_space_is_not_checked(project: ProjectFolder) -> None:
    answer = project.ask("latency", "check", "--set", "space.width_multiplier=2")
    assert answer.exit_code == 2
    assert "Space tiny has not been measured" in answer.document["error"]["message"]


def test_a_file_that_is_there_is_not_overwritten(project: ProjectFolder, exported: Path) -> None:
    assert project.ask("latency", "export", str(exported)).exit_code == 2
    assert project.ask("latency", "export", str(exported), "--force").exit_code == 0


def test_the_found_network_is_predicted_as_in_the_report(project: ProjectFolder) -> None:
    answer = project.ask("latency", "predict", "artifacts/latest/network.json")
    result = json.loads((project.latest / "result.json").read_text())
    document = answer.document
    assert document["ms"] == pytest.approx(result["network"]["predicted_ms"])
    assert document["low_ms"] < document["ms"] < document["high_ms"]
    total = document["overhead_ms"] + sum(block["ms"] for block in document["blocks"])
    assert total == pytest.approx(document["ms"])
    text = project.call("latency", "predict", "artifacts/latest/network.json").stdout
    assert "95 % interval" in text
    assert all(block["block"] in text for block in document["blocks"])


def test_a_network_with_a_block_that_was_not_measured_is_not_guessed(project: ProjectFolder) -> None:
    net = json.loads((project.latest / "network.json").read_text())
    net["blocks"][-2]["out_channels"] += 8
    net["blocks"][-1]["in_channels"] += 8
    (project.path / "net.json").write_text(json.dumps(net))
    error = project.ask("latency", "predict", "net.json")
    assert error.exit_code == 2
    assert f"head_{net['blocks'][-2]['in_channels']}-" in error.document["error"]["message"]
    (project.path / "net.json").write_text('{"resolution": 32}')
    assert "is not a network" in project.ask("latency", "predict", "net.json").document["error"]["message"]


def test_the_check_measures_again_and_its_exit_code_is_its_verdict(project: ProjectFolder) -> None:
    answer = project.ask("latency", "check", "--networks", "3")
    assert answer.exit_code == {"holds": 0, "fails": 1, "inconclusive": 3}[answer.document["outcome"]]
    assert [e for e in answer.events if e["event"] == "progress"], "it tells how far it is"
    assert len(answer.document["networks"]) == 3
    assert answer.document["changed"] == []
    for network in answer.document["networks"]:
        assert network["measured_now_ms"] == pytest.approx(network["measured_then_ms"], rel=0.8)


def test_a_model_that_is_far_off_is_said_not_to_hold(
    project: ProjectFolder, exported: Path, other: ProjectFolder
) -> None:
    content = json.loads(exported.read_text())
    for part in ("calibration", "held_out"):
        for point in content["model"][part]:
            for name in ("median_ms", "p5_ms", "p95_ms", "min_ms"):
                point["measurement"][name] *= 3
    exported.write_text(json.dumps(content))
    assert other.ask("latency", "import", str(exported)).exit_code == 0
    answer = other.ask("latency", "check", "--networks", "3")
    assert answer.document["outcome"] in ("fails", "inconclusive")
    assert answer.document["change_percent"] < -40


def test_before_anything_was_measured_the_way_is_said(other: ProjectFolder) -> None:
    for words in (("export",), ("check",), ("predict", "tiny.yaml")):
        answer = other.ask("latency", *words)
        assert answer.exit_code == 2
        assert "nasflow latency" in answer.document["error"]["hint"]


def test_options_stand_behind_the_sub_command(project: ProjectFolder) -> None:
    done = project.call("latency", "--seed", "2", "export")
    assert done.returncode == 2
    assert "after 'export'" in done.stderr
