"""``nasflow virtual-phone``: served until somebody stops it, and honest about what it is."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.virtual_phone import phone as virtual
from nasflow.cli.app import main
from nasflow.commands.virtual_phone import serve_virtual_phone

pytestmark = pytest.mark.needs("bubblewrap")

TIMEOUT_S = 60


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The command in a process of its own: it, its address, and what it said. Gone when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nasflow", "virtual-phone", "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "Ctrl-C" in line:
                break
        else:
            raise AssertionError(f"ended with {process.wait()}: {''.join(told)}")
        address = next(line for line in told if "listens on" in line).split("listens on ")[1].split(",")[0]
        yield process, address, told
    finally:
        process.terminate()  # it clears its folder away
        try:
            process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_a_signal_and_says_what_it_is(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with started("--folder", str(tmp_path / "phone")) as (process, address, told):
        with closing(DirectTransport(address, key=tmp_path / "adbkey")) as transport:
            assert transport.run(["getprop", "ro.product.model"], timeout_s=TIMEOUT_S).stdout.strip()
            transport.push(b"kept", "/data/local/tmp/kept", timeout_s=TIMEOUT_S)
        process.send_signal(number)
        out, rest = process.communicate(timeout=TIMEOUT_S)
    text = "".join(told)
    assert f"devices --address {address}" in text
    assert "This is not a real phone" in text
    assert "confined" in text
    assert (process.returncode, out) == (code, "")
    assert "error: The simulated phone was switched off." in rest
    assert f"Its storage is in {tmp_path / 'phone'}" in rest
    assert [path.read_bytes() for path in (tmp_path / "phone").rglob("kept")] == [b"kept"]


def test_with_json_it_tells_events_and_ends_with_one_document() -> None:
    with started("--json") as (process, address, told):
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=TIMEOUT_S)
    events = [json.loads(line) for line in told]
    assert {event["event"] for event in events} == {"message"}
    assert any(address in event["text"] for event in events)
    error = json.loads(out)["error"]
    assert (error["type"], error["exit_code"]) == ("RunInterruptedError", 130)


def test_it_says_how_commands_are_run(capfd: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()
    stop.set()
    outcome = serve_virtual_phone(port=0, folder=None, faults=None, as_json=False, stop=stop)
    assert "shell that is confined" in capfd.readouterr().err
    assert outcome.document["served"].startswith("127.0.0.1:")


def test_without_bubblewrap_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(virtual, "find_bubblewrap", lambda: None)
    assert main(["virtual-phone", "--port", "0"]) == 8
    assert "Install the package bubblewrap" in capfd.readouterr().err


def test_a_port_that_adb_servers_scan_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["virtual-phone", "--port", "5555"]) == 2
    assert "5555 to 5585" in capfd.readouterr().err


def test_a_port_in_use_is_the_environments_fault(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["virtual-phone", "--port", str(taken.getsockname()[1])]) == 8
    assert "--port" in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["virtual-phone", "--port", "0", "--folder", str(tmp_path / "file")]) == 8
    assert "Choose a folder that you may write to" in capfd.readouterr().err


@pytest.mark.parametrize("content", [None, "{", '{"no_such_fault": 1}', "[]"])
def test_a_fault_file_that_cannot_be_used_is_told_before_anything_starts(
    content: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "faults.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert main(["virtual-phone", "--port", "0", "--faults", str(file)]) == 2
    err = capfd.readouterr().err
    assert f"The fault file {file} cannot be used" in err
    assert "listens" not in err


def test_the_faults_of_the_file_are_in_force_from_the_start(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('{"battery_percent": 7}', encoding="utf-8")
    with (
        started("--faults", str(file)) as (_, address, _told),
        closing(DirectTransport(address, key=tmp_path / "adbkey")) as transport,
    ):
        told = transport.run(["dumpsys", "battery"], timeout_s=TIMEOUT_S).stdout
    assert b"level: 7\n" in told
