"""``nasflow doctor --bundle`` on the virtual phone: recorded, read, replayed."""

from __future__ import annotations

import os
import platform
import pty
import re
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.adb_server_peer import AdbServerPeer, Connected
from support.command_line import ProjectFolder

from android_bench.android import AndroidDevice
from android_bench.bundle.archive import CONTENTS, EXCHANGES, read_bundle
from android_bench.bundle.replay import ReplayTransport
from android_bench.phone.lock import Owner
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.base.errors import UsageError
from nasflow.doctor.bundle import MEASUREMENT, requests

pytestmark = pytest.mark.needs("bubblewrap")

SERIAL = "VRTL35121JEHN2"


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualPhone]:
    description = PhoneDescription(serial=SERIAL)
    with socket.socket() as nobody, running_phone(description=description) as phone:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.getsockname()[1]))
        monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home of anna"))
        yield phone


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    (tmp_path / "here").mkdir()
    return ProjectFolder(tmp_path / "here")


def no_runner(abi: str) -> object:
    raise UsageError(f"one for {abi} was asked for")


def test_a_bundle_tells_no_names_and_replays_the_same_phone_and_measurements(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    answer = folder.ask("doctor", "--device", f"android:{phone.address}", "--bundle", "phone.zip", "--yes")
    assert answer.exit_code == 0, answer.document
    path = folder.path / "phone.zip"
    told = answer.document["bundle"]
    assert told["path"] == "phone.zip"
    assert told["size_bytes"] == path.stat().st_size < 2_000_000

    with zipfile.ZipFile(path) as file:
        contents, exchanges = (file.read(name).decode() for name in (CONTENTS, EXCHANGES))
    secrets = [SERIAL, phone.address, "home of anna", phone.folder.boot_id]
    secrets += [platform.node()] if len(platform.node()) >= 4 else []
    for data in (path.read_bytes(), contents.encode(), exchanges.encode()):
        for secret in secrets:
            assert secret.lower().encode() not in data.lower(), secret
    owners = re.findall(r"run [0-9a-f]{16} [0-9]+ [0-9]+ [A-Za-z0-9._-]+", exchanges)
    assert {owner.split()[-1] for owner in owners} == {"computer"}, "the lock's line names the host"
    assert Owner.of_this_process().computer not in exchanges
    assert "Pixel 8 Pro" in contents
    assert "ro.product.model" in contents
    assert "dumpsys thermalservice" in contents

    bundle = read_bundle(path)
    assert {one.part for one in bundle.exchanges} >= {"phone", "space", "tool", "trial", "state", MEASUREMENT}
    models = {one.sha256 for one in bundle.exchanges if one.kind == "push" and one.text is None}
    assert models, "a model is told by its hash"
    assert all(one.took_s >= 0 and one.exit_code is not None for one in bundle.exchanges if one.kind == "run")

    device = AndroidDevice(
        ReplayTransport(bundle, part=MEASUREMENT),
        runner=no_runner,  # type: ignore[arg-type]
        clock=lambda: 0.0,
        sleep=lambda _: None,
    )
    asked = requests(bundle.header.runtime)
    with closing(device):
        info = device.info().model_copy(update={"serial": ""})
        found = list(device.benchmark_many(asked))
    assert info == bundle.header.info
    assert [index for index, _ in found] == [0, 1, 2, 3]
    (finding,) = [one for one in bundle.header.findings if one.name == "phone measurement"]
    assert finding.found == "; ".join(f"{asked[i].name}: {one.median_ms:.3f} ms" for i, one in found)


def test_a_phone_that_cannot_be_used_is_recorded_too(phone: VirtualPhone, folder: ProjectFolder) -> None:
    phone.faults.set(FaultPlan(battery_percent=5))
    answer = folder.ask("doctor", "--device", f"android:{phone.address}", "--bundle", "phone.zip", "--yes")
    assert answer.exit_code == 4
    bundle = read_bundle(folder.path / "phone.zip")
    (trial,) = [one for one in bundle.header.findings if one.name == "phone trial"]
    assert trial.state == "failed"
    assert any(b"level: 5" in one.stdout for one in bundle.exchanges)


def test_the_owner_of_the_phones_lock_is_not_named(phone: VirtualPhone, folder: ProjectFolder) -> None:
    lock = phone.storage("/data/local/tmp/nasflow/lock")
    lock.mkdir(parents=True)
    owner = Owner("0123456789abcdef", 4711, 99, "annas-laptop")
    (lock / "owner").write_text(f"{owner.line()}\n")
    phone.folder.tick()
    uptime_s = phone.folder.uptime_file.read_text().split(".")[0]
    (lock / "seen").write_text(f"{phone.folder.boot_id} {uptime_s} abcdef\n")
    answer = folder.ask("doctor", "--device", f"android:{phone.address}", "--bundle", "phone.zip", "--yes")
    assert answer.exit_code == 4, answer.document
    assert "annas-laptop" in str(answer.document["checks"]), "here, the person is told"
    told = everything_in(folder.path / "phone.zip")
    assert "process 1 on computer" in told
    assert "annas" not in told
    assert not re.search(r"\b(process|run \w+) 4711\b", told), "digits alone may be part of a time"


def test_a_person_called_like_a_word_of_a_command_has_a_bundle_that_replays(
    phone: VirtualPhone, folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "data")
    answer = folder.ask("doctor", "--device", f"android:{phone.address}", "--bundle", "phone.zip", "--yes")
    assert answer.exit_code == 0, answer.document
    bundle = read_bundle(folder.path / "phone.zip")
    device = AndroidDevice(
        ReplayTransport(bundle, part=MEASUREMENT),
        runner=no_runner,  # type: ignore[arg-type]
        clock=lambda: 0.0,
        sleep=lambda _: None,
    )
    with closing(device):
        found = list(device.benchmark_many(requests(bundle.header.runtime)))
    assert len(found) == 4


def test_a_phone_that_is_not_reached_leaves_a_bundle_of_what_was_tried(
    phone: VirtualPhone, folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone.kill_daemon()
    peer = AdbServerPeer([Connected("R5CTSECRET9", "unauthorized", "usb:1-4")])
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(peer.port))
    words = ("doctor", "--device", f"android:{phone.address}", "--bundle", "lost.zip", "--yes")
    with peer:
        answer = folder.ask(*words)
        shown = folder.call(*words[:-2], "other.zip", "--yes")
    assert answer.exit_code == 4
    assert answer.document["bundle"]["reached"] is False
    assert "The phone was not reached: the bundle contains the attempts" in shown.stdout
    bundle = read_bundle(folder.path / "lost.zip")
    failures = [one.failure.message for one in bundle.exchanges if one.failure]
    assert any("no phone answers" in message for message in failures), failures
    assert any(one.kind == "connect" and b"unauthorized" in one.stdout for one in bundle.exchanges)
    assert any("host:version" in " ".join(one.words) for one in bundle.exchanges)
    told = everything_in(folder.path / "lost.zip")
    assert "R5CTSECRET9" not in told
    assert phone.address not in told
    (finding,) = [one for one in bundle.header.findings if one.name == "phone"]
    assert finding.state == "failed"


def test_a_target_that_cannot_be_written_is_refused_before_the_phone_is_asked(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    answer = folder.ask("doctor", "--device", f"android:{phone.address}", "--bundle", "/proc/x.zip", "--yes")
    assert answer.exit_code == 8
    message = answer.document["error"]["message"]
    assert "/proc/x.zip cannot be written" in message
    assert "Nothing was recorded" in message
    assert "finished work" not in answer.document["error"]["hint"]
    assert phone.clients == 0


def test_a_home_is_found_in_the_bundles_path(
    phone: VirtualPhone, folder: ProjectFolder, tmp_path: Path
) -> None:
    phone.kill_daemon()
    (tmp_path / "home of anna").mkdir(exist_ok=True)
    answer = folder.ask("doctor", "--device", f"android:{phone.address}", "--bundle=~/x.zip", "--yes")
    assert answer.exit_code == 4
    assert read_bundle(tmp_path / "home of anna" / "x.zip").exchanges


def everything_in(path: Path) -> str:
    with zipfile.ZipFile(path) as file:
        return "".join(file.read(name).decode() for name in (CONTENTS, EXCHANGES))


def test_without_leave_nothing_is_recorded(phone: VirtualPhone, folder: ProjectFolder) -> None:
    words = ("doctor", "--device", f"android:{phone.address}", "--bundle", "phone.zip")
    answer = folder.ask(*words)
    assert answer.exit_code == 2
    assert "your permission" in answer.document["error"]["message"]
    assert "--yes" in answer.document["error"]["hint"]
    assert not (folder.path / "phone.zip").exists()
    assert phone.clients == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bundle", "phone.zip", "--yes"), "records a phone"),
        (("--device", "android", "--bundle", "there.zip", "--yes"), "already exists"),
        (("--device", "android", "--bundle", "no/phone.zip", "--yes"), "does not exist"),
        (("--device", "android", "--yes"), "--yes"),
    ],
)
def test_a_bundle_that_cannot_be_made_is_refused_before_anything_is_asked(
    folder: ProjectFolder, words: tuple[str, ...], said: str
) -> None:
    (folder.path / "there.zip").write_text("kept")
    answer = folder.ask("doctor", *words)
    assert answer.exit_code == 2
    assert said in answer.document["error"]["message"]
    assert (folder.path / "there.zip").read_text() == "kept"


@pytest.mark.parametrize(("typed", "exit_code"), [(b"y\n", 0), (b"\n", 2), (b"n\n", 2)])
def test_on_a_terminal_the_person_is_told_what_is_recorded_and_asked(
    phone: VirtualPhone, folder: ProjectFolder, typed: bytes, exit_code: int
) -> None:
    ours, theirs = pty.openpty()
    words = ["doctor", "--device", f"android:{phone.address}", "--bundle", "phone.zip"]
    running = subprocess.Popen(
        [sys.executable, "-m", "nasflow", *words],
        cwd=folder.path,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, typed)
    out, err = running.communicate(timeout=200)
    os.close(ours)
    assert running.returncode == exit_code, err.decode()
    assert b"Serial numbers" in err
    assert b"Record it? [y/N]" in err
    assert (folder.path / "phone.zip").exists() == (exit_code == 0)
    assert (b"CONTENTS.txt" in out) == (exit_code == 0)
