"""Where the adb server is looked for: as Google's adb reads its environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.adb.address import ServerAddress, server_address
from android_bench.adb.server import ServerTransport, server_devices
from android_bench.discover import find_phones
from benchmarks.adb_push import google_program
from nasflow.base.errors import NasflowError, UsageError
from tests.support.adb_server_peer import AdbServerPeer, Connected, phone_answers


def address(**variables: str) -> ServerAddress:
    return server_address(variables)


def test_without_variables_it_is_port_5037_of_this_computer() -> None:
    assert address() == ServerAddress("", 5037)
    assert address(ANDROID_ADB_SERVER_PORT="") == ServerAddress("", 5037)
    assert address().describe() == "port 5037"


def test_the_older_variables_name_host_and_port() -> None:
    assert address(ANDROID_ADB_SERVER_PORT="6037") == ServerAddress("", 6037)
    both = address(ANDROID_ADB_SERVER_PORT="6037", ANDROID_ADB_SERVER_ADDRESS="10.0.0.2")
    assert both == ServerAddress("10.0.0.2", 6037)
    assert both.spec() == "tcp:10.0.0.2:6037"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp:6037", ServerAddress("", 6037)),
        ("tcp:localhost:6037", ServerAddress("localhost", 6037)),
        ("tcp:10.0.0.2:6037", ServerAddress("10.0.0.2", 6037)),
        ("tcp:lab.example:6037", ServerAddress("lab.example", 6037)),
        ("tcp:[fe80::1]:6037", ServerAddress("fe80::1", 6037)),
        ("tcp:lab.example", ServerAddress("lab.example", 5555)),
        ("tcp:[::1]:6037", ServerAddress("::1", 6037)),
        ("tcp:[fe80::1%eth0]:6037", ServerAddress("fe80::1%eth0", 6037)),
        ("tcp:fe80::1", ServerAddress("fe80::1", 5555)),
        ("local:/run/adb", ServerAddress(path="/run/adb")),
        ("localfilesystem:/run/a b:c", ServerAddress(path="/run/a b:c")),
    ],
)
def test_adb_server_socket_goes_before_the_others(text: str, expected: ServerAddress) -> None:
    found = address(ADB_SERVER_SOCKET=text, ANDROID_ADB_SERVER_PORT="x", ANDROID_ADB_SERVER_ADDRESS="y")
    assert found == expected
    if not text.startswith("local:") and found.port != 5555:
        assert found.spec() == text


@pytest.mark.parametrize("text", ["tcp:+5037", "tcp:0x13ad", "tcp:0X13AD", "tcp:05037", "tcp:*:+5037"])
def test_a_port_of_this_computer_may_be_written_in_each_way_that_adb_reads(text: str) -> None:
    """Each was tried with adb 36 and its server (the last on Linux)."""
    assert address(ADB_SERVER_SOCKET=text) == ServerAddress("", 5037)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *(
            (f"tcp:{port}", "does not name a port from 1 to 65535")
            for port in ("-1", "+0", "0x10000", "9" * 12)
        ),
        *((f"tcp:lab:{port}", "does not name a port from 1 to 65535") for port in ("-1", "0x13ad", "")),
        *(
            (f"tcp:{rest}", "is not of the form tcp:PORT")
            for rest in ("*.lab:5037", "-lab:1", "+lab", "[1::2::3]:1")
        ),
    ],
)
def test_what_is_no_host_is_not_taken_for_one(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        address(ADB_SERVER_SOCKET=text)
    assert f"{text!r}, which {reason}" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        *("", "5037", "tcp:", "tcp:0", "tcp:65536", "tcp:host:0", "tcp:host:99999", "tcp:a b:1", "tcp::1:5"),
        *("udp:5037", "localreserved:adb", "vsock:2:5037", "acceptfd:3", "localfilesystem:", "http://x"),
    ],
)
def test_what_is_no_address_or_cannot_be_connected_to_is_refused_with_what_could_be(text: str) -> None:
    with pytest.raises(UsageError, match="ADB_SERVER_SOCKET") as caught:
        address(ADB_SERVER_SOCKET=text)
    assert repr(text) in caught.value.message
    assert "localfilesystem:PATH" in caught.value.hint


@pytest.mark.parametrize("text", ["x", "0", "65536", "-1", "5037 ", "５０３７"])
def test_a_server_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="ANDROID_ADB_SERVER_PORT"):
        address(ANDROID_ADB_SERVER_PORT=text)


@given(st.text(st.characters(exclude_characters="\0"), max_size=40))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    for begin in ("", "tcp:", "local"):
        try:
            found = address(ADB_SERVER_SOCKET=begin + text)
        except NasflowError as error:
            assert isinstance(error, UsageError)
        else:
            assert found.path or 0 < found.port < 65536


def test_a_server_behind_a_socket_file_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    monkeypatch.setenv("ADB_SERVER_SOCKET", "localfilesystem:adb server")
    phone = Connected("R5CT1", usb_path="usb:1-1", answers=phone_answers("R5CT1", "b1"))
    with AdbServerPeer([phone], path="adb server"):
        (found,) = find_phones("server")
        with ServerTransport(found.serial) as transport:
            assert transport.run(["echo", "hello"], timeout_s=5).stdout == b"hello\n"
    assert (found.serial, found.model) == ("R5CT1", "Pixel 7a")


def test_an_abstract_socket_is_connected_to_where_the_system_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"nasflow-test-{os.getpid()}"
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"localabstract:{name}")
    if sys.platform != "linux":
        with pytest.raises(UsageError):
            server_address()
        return
    with AdbServerPeer([Connected("A", "offline")], path=f"\0{name}"):
        found = server_devices(server_address())
    assert found is not None
    assert [one.serial for one in found] == ["A"]


def test_the_error_for_a_silent_server_names_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        server = ServerAddress("127.0.0.1", probe.getsockname()[1])
    with pytest.raises(NasflowError, match=f"no adb server answers on tcp:127.0.0.1:{server.port}"):
        ServerTransport("x", server=server).run(["x"], timeout_s=5)


@pytest.mark.parametrize("kind", ["tcp", "localfilesystem"])
def test_googles_adb_finds_a_server_at_the_same_address(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client and ours read one variable, and meet the same server."""
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    spec = f"tcp:{port}" if kind == "tcp" else "localfilesystem:adb"
    variables = {"ADB_SERVER_SOCKET": spec, "ANDROID_ADB_SERVER_PORT": "1"}
    environment = {
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PATH": os.defpath,
        "ADB_MDNS_OPENSCREEN": "0",
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",
        "ADB_USB": "0",
        **variables,
    }

    def adb(*words: str) -> str:
        done = subprocess.run(
            [google_program(), *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        return done.stdout + done.stderr

    ready, told = os.pipe()
    server = subprocess.Popen(
        [google_program(), "-L", spec, "--reply-fd", str(told), "nodaemon", "server"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[told],
    )
    os.close(told)
    try:
        with os.fdopen(ready, "rb") as reply:
            assert reply.read(3) == b"OK\n"
        assert adb("devices").startswith("List of devices attached")
        assert server_devices(server_address(variables)) == ()
    finally:
        server.terminate()
        server.wait(20)
