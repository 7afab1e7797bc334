"""``nasflow verify --all``: simulated phones behind Google's adb server, and a scripted server."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.adb_server_peer import AdbServerPeer, Connected
from support.command_line import ProjectFolder

from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import running_phone
from benchmarks.adb_push import free_port, google_program
from stages.conversion.flatbuffer import network_model
from stages.space.mobilenet_v2 import mobilenet_v2

WORDS = ("verify", "small.tflite", "--against", "large.tflite", "--max-ratio", "0.9", "--max-blocks", "6")
ALL = ("--device", "android", "--all", "--junit", "j.xml", "--summary", "s.md", "--history", "h.jsonl")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    """A quick and a slow model."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    for name, width in (("small", 0.35), ("large", 1.0)):
        model = network_model(mobilenet_v2(resolution=64, classes=10, width=width))
        (tmp_path / f"{name}.tflite").write_bytes(model)
    return ProjectFolder(tmp_path)


@contextmanager
def adb_server(home: Path, *addresses: str) -> Iterator[int]:
    """Google's, connected to these addresses; it looks for no phones by itself."""
    (home / ".android").mkdir(parents=True)
    port = free_port()
    ready, told = os.pipe()
    settings = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": os.defpath,
        "ADB_MDNS_OPENSCREEN": "0",
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",
        "ADB_USB": "0",
    }
    server = subprocess.Popen(
        [google_program(), "-P", str(port), "--reply-fd", str(told), "nodaemon", "server"],
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[told],
    )
    os.close(told)
    try:
        with os.fdopen(ready, "rb") as reply:
            assert reply.read(3) == b"OK\n"
        for address in addresses:  # connected at once, and a device when its owner has accepted the key
            for words in (("connect", address), ("-s", address, "wait-for-device")):
                subprocess.run(
                    [google_program(), "-P", str(port), *words],
                    env=settings,
                    capture_output=True,
                    check=True,
                    timeout=60,
                )
        yield port
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize("how", [(), ("--side-by-side",)], ids=["one by one", "side by side"])
def test_every_phone_has_a_row_and_a_case_whatever_becomes_of_the_others(
    folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    good, bad = PhoneDescription(serial="GOOD1"), PhoneDescription(model="Galaxy S24", serial="BAD2")
    with (
        running_phone(description=good) as first,
        running_phone(description=bad) as second,
        adb_server(folder.path / "adb", first.address, second.address) as port,
    ):
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        second.faults.set(FaultPlan(tool_signal=11))
        gone = folder.path / "gate-7-phone-of-yesterday.json"
        gone.write_text('{\n "plan": "of a phone that is not attached any more"\n}')
        answer = folder.ask(*WORDS, *ALL, *how)
        left = [
            path for phone in (first, second) for path in phone.storage("/data/local/tmp/nasflow").glob("*")
        ]
    assert answer.exit_code == 5, answer.document
    by_name = {phone["name"]: phone for phone in answer.document["phones"]}
    (passed,) = (name for name in by_name if "Pixel" in name)
    (failed,) = (name for name in by_name if "Galaxy" in name)
    assert by_name[passed]["gate"]["verdict"] == "pass"
    assert by_name[passed]["gate"]["outputs"]["inputs"] == 4
    assert "SIGSEGV" in by_name[failed]["error"]["message"]
    assert (answer.document["host_load"] is not None) == bool(how)
    cases = {
        str(case.get("name")): case for case in ElementTree.parse(folder.path / "j.xml").iter("testcase")
    }
    tags = {name.partition(" on ")[2]: {child.tag for child in case} for name, case in cases.items()}
    assert tags == {passed: {"system-out"}, failed: {"error"}}
    (suite,) = ElementTree.parse(folder.path / "j.xml").iter("testsuite")
    assert f"{passed}: ratio" in {one.get("name") for one in suite.iter("property")}
    summary = (folder.path / "s.md").read_text()
    assert "| PASS |" in summary
    assert "ERROR" in summary
    assert len((folder.path / "h.jsonl").read_text().splitlines()) == 1
    assert not gone.exists()
    unfinished = json.loads((folder.path / by_name[failed]["result"]).read_text())
    assert "SIGSEGV" in unfinished["error"]["message"]
    file = Path(by_name[passed]["result"])
    assert folder.ask("verify", "--recompute", str(file)).exit_code == 0
    serials = ("GOOD1", "BAD2", first.address)
    assert not any(serial in str(file) or serial in summary for serial in serials), "no serial in names"
    assert not left, "both phones are left as they were"


def test_phones_that_cannot_be_used_are_errors_that_say_what_to_do(
    folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = [Connected("ONE", "unauthorized"), Connected("TWO", "offline", number=2)]
    with AdbServerPeer(connected) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        answer = folder.ask(*WORDS, *ALL)
    assert answer.exit_code == 4
    assert [phone["error"]["reference"] for phone in answer.document["phones"]] == ["no-usable-device"] * 2
    assert "USB debugging" in answer.document["phones"][0]["error"]["hint"]
    assert len(list(ElementTree.parse(folder.path / "j.xml").iter("error"))) == 2


def test_no_phone_at_all_and_one_phone_by_name_are_refused(
    folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AdbServerPeer([]) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        nobody = folder.ask(*WORDS, *ALL)
        named = folder.ask(*WORDS, "--device", "android:ONE", "--all")
        here = folder.ask(*WORDS, "--all")
        of_none = folder.ask(*WORDS, "--side-by-side")
    assert nobody.exit_code == 4
    assert "no phone is connected" in nobody.document["error"]["message"]
    assert (named.exit_code, here.exit_code) == (2, 2)
    assert of_none.exit_code == 2
    assert "--side-by-side needs --all" in of_none.document["error"]["message"]
    assert "--all is for all phones" in named.document["error"]["message"]
