"""The whole chain on the virtual phone: the real command line, the real protocol, real LiteRT."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import TINY
from support.command_line import ProjectFolder

from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from stages.data.config import DataConfig, open_dataset
from stages.data.fashion_mnist import FILES, find_file

pytestmark = pytest.mark.needs("bubblewrap")


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualPhone]:
    """A phone of this test's own; no adb server, and keys in a home of its own."""
    with socket.socket() as nobody, running_phone() as phone:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.getsockname()[1]))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield phone


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    folder = tmp_path / "project"
    shutil.copytree(TINY, folder)
    (folder / "images").mkdir()
    for name in FILES:
        if find_file(name, None) is None:
            open_dataset(DataConfig()).load("test" if name.startswith("t10k") else "train")  # fetches it
        source = find_file(name, None)
        assert source is not None
        (folder / "images" / source.name).symlink_to(source)
    return ProjectFolder(folder)


def test_the_whole_chain_runs_on_the_virtual_phone(phone: VirtualPhone, project: ProjectFolder) -> None:
    # Each round is a job, of seconds; few of them could not tell whether a tight target is met.
    few = ("measurement.extra_rounds=0", "precheck.rounds=3", "prune.rounds=3", "prune.extra_rounds=0")
    options = [word for key in (*few, "target.ratio=2") for word in ("--set", key)]
    on_it = ("--device", f"android:{phone.address}", *options)
    answer = project.ask("run", *on_it)
    assert answer.exit_code == 0, answer.document
    result = json.loads((project.latest / "result.json").read_text())
    assert (result["device"]["kind"], result["device"]["virtual"]) == ("android", True)
    assert result["device"]["model"] == "Pixel 8 Pro"
    assert result["latency_model"]["blocks"] == 15
    assert all(network["median_ms"] > 0 for network in result["verification"]["networks"])
    assert "A simulated phone" in (project.latest / "report.html").read_text()
    assert not list(phone.storage("/data/local/tmp/nasflow").glob("*")), "nothing of ours stays on it"

    exported = project.ask("latency", "export", "shared.json", *on_it)
    assert exported.exit_code == 0, exported.document
    shared = [*project.latest.iterdir(), project.path / "shared.json"]
    assert {"report.html", "result.json", "shared.json"} <= {path.name for path in shared}
    assert not [path.name for path in shared if phone.address.encode() in path.read_bytes()], "no serial"
    assert json.loads((project.path / "shared.json").read_text())["table"]["device"]["virtual"] is True

    again = project.ask("run", *on_it)
    assert again.document["nothing_to_do"] is True
    serial = phone.address
    records = [path.read_text() for path in project.artifacts.glob("records/*/*")]
    assert records
    assert not any(serial in record.split('"settings"')[0] for record in records)


def test_a_phone_that_is_not_there_is_told_in_one_line(project: ProjectFolder, phone: VirtualPhone) -> None:
    phone.close()
    answer = project.ask("profile", "--device", f"android:{phone.address}")
    assert answer.exit_code == 4
    assert phone.address in answer.document["error"]["message"]
    assert answer.document["error"]["hint"]
