"""``nasflow latency adapt FILE`` and ``check FILE``: one device's model on another, through the command line.

Both devices are this computer, one of them under another name.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from integration.conftest import TINY
from support.command_line import ProjectFolder

HERE = ("--set", "data.path=null")


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was measured of another phone: blocks and networks that took three times as long there."""
    folder = tmp_path_factory.mktemp("measured") / "project"
    shutil.copytree(TINY, folder)
    project = ProjectFolder(folder)
    assert project.ask("latency", *HERE).exit_code == 0
    written = Path(project.ask("latency", "export", "phone.json", *HERE).document["written"])
    content = json.loads(written.read_text())
    rows = content["table"]["rows"]
    points = [*content["model"]["calibration"], *content["model"]["held_out"]]
    for measured in [row["measurement"] for row in (*rows, *points)]:
        for name in ("median_ms", "p5_ms", "p95_ms", "min_ms"):
            measured[name] *= 3
        measured["round_medians_ms"] = [3 * ms for ms in measured["round_medians_ms"]]
    for part in ("table", "model"):
        content[part]["device"] |= {"model": "Their Phone", "soc": "Their chip"}
        content[part]["timings"] = []
    target = written.with_name("slow_phone.json")
    target.write_text(json.dumps(content))
    return target


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    """A project of the same configuration in which nothing has run."""
    folder = tmp_path / "project"
    shutil.copytree(TINY, folder)
    return ProjectFolder(folder)


def test_an_adapted_model_is_used_and_says_where_it_came_from(phone: Path, project: ProjectFolder) -> None:
    answer = project.ask("latency", "adapt", str(phone), "--networks", "6", "--held-out", "4", *HERE)
    assert answer.exit_code == 0
    document = answer.document
    assert (document["networks"], len(document["held_out"])) == (6, 4)
    assert document["device"] != "Their Phone" == document["unadapted"]["device"]["model"]
    assert document["error"]["mape_percent"] < document["unadapted"]["error"]["mape_percent"]
    assert all(kind["ratio"] < 0.8 for kind in document["kinds"]), "the other phone is three times as slow"
    assert any("device: Their Phone in the table" in difference for difference in document["differs"])
    assert [event for event in answer.events if event["event"] == "progress"], "it tells how far it is"

    assert project.ask("latency", *HERE).document["nothing_to_do"] is True
    refused = project.ask("latency", "export", "again.json", *HERE)
    assert refused.exit_code == 2
    assert "was adapted from one of Their Phone by 6 networks" in refused.document["error"]["message"]
    again = project.call(
        "latency", "adapt", str(phone), "--networks", "3", "--held-out", "3", "--seed", "5", *HERE
    )
    assert again.returncode == 0, "what an adaptation made may be replaced"
    assert "as it was, it is" in again.stdout


def test_what_was_measured_in_full_is_not_replaced_unasked(phone: Path, project: ProjectFolder) -> None:
    assert project.ask("profile", *HERE).exit_code == 0
    refused = project.ask("latency", "adapt", str(phone), *HERE)
    assert refused.exit_code == 2
    assert "--force" in refused.document["error"]["hint"]


def test_a_model_of_another_precision_or_space_is_refused(phone: Path, project: ProjectFolder) -> None:
    other = project.ask("latency", "adapt", str(phone), "--set", "runtime.precision=int8", *HERE)
    assert other.exit_code == 2
    assert "float32 models" in other.document["error"]["message"]
    wide = project.ask("latency", "adapt", str(phone), "--set", "space.width_multiplier=2", *HERE)
    assert wide.exit_code == 2
    assert "width_multiplier" in wide.document["error"]["message"]
    few = project.call("latency", "adapt", str(phone), "--networks", "2", *HERE)
    assert few.returncode == 2


def test_another_phones_model_is_checked_on_this_device(phone: Path, project: ProjectFolder) -> None:
    answer = project.ask("latency", "check", str(phone), "--networks", "3", *HERE)
    assert answer.exit_code in (1, 3), "a model three times too slow does not hold"
    assert answer.document["change_percent"] < -40
    assert any("device: Their Phone in the table" in change for change in answer.document["changed"])
    text = project.call("latency", "check", str(phone), "--networks", "3", *HERE).stdout
    assert "Differs: device: Their Phone in the table" in text
    assert not list(project.artifacts.glob("records/*/*")), "a check keeps nothing"
