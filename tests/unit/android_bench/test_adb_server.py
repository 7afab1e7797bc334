"""The way through an adb server: Google's own, on a port of its own, in front of a scripted phone."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.adb.server import ServerTransport, server_devices
from android_bench.adb.ways import open_transport
from android_bench.discover import find_phones
from android_bench.transport import PhoneNotReadyError
from nasflow.base.errors import DeviceError, DeviceLostError
from tests.support.adb_peer import REMOTE, V1_BANNER, AdbPeer, HungUp, Line, Phone

SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 3"]


def unused_port() -> int:
    """A free port outside 5555-5585, which adb servers scan."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Server:
    """Google's adb server as a process of ours."""

    port: int
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def adb(self, *words: str) -> str:
        done = subprocess.run(
            [adb_binary(), "-P", str(self.port), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout + done.stderr

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def adb_binary() -> str:
    import adbutils

    return str(Path(adbutils.__file__).parent / "binaries" / "adb")


def start(home: Path) -> Server:
    port = unused_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",  # looks for no emulators
        "ADB_MDNS_OPENSCREEN": "0",
        "ADB_USB": "0",
    }
    process = subprocess.Popen(
        [adb_binary(), "-P", str(port), "server", "nodaemon"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(port, process, environment)
    end = time.monotonic() + 15
    pause = threading.Event()
    while server_devices(port) is None:
        assert process.poll() is None, "adb's server ended at once"
        assert time.monotonic() < end, "adb's server does not answer"
        pause.wait(0.05)
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(tmp_path_factory.mktemp("home"))
    yield server
    server.stop()


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    return Phone(tmp_path / "phone")


@pytest.fixture
def transport(server: Server, phone: Phone) -> Iterator[ServerTransport]:
    with AdbPeer(phone) as peer:
        with ServerTransport(peer.name, server=server.port) as transport:
            yield transport
        server.adb("disconnect", peer.name)


def test_a_phone_by_host_and_port_is_connected_and_answers(transport: ServerTransport) -> None:
    done = transport.run(SCRIPT, timeout_s=10)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 3)
    assert "shell_v2" in transport.features
    assert transport.state() == "device"


def test_a_phone_without_shell_v2_still_tells_exit_codes(transport: ServerTransport, phone: Phone) -> None:
    phone.banner = V1_BANNER
    done = transport.run(SCRIPT, timeout_s=10)
    assert (sorted(done.stdout.split()), done.stderr, done.exit_code) == ([b"err", b"out"], b"", 3)
    assert phone.commands[0].startswith("(sh -c ")


def test_files_go_and_come_back(transport: ServerTransport) -> None:
    for size in (0, 70_000, 20_000_000):
        content = os.urandom(size)
        transport.push(content, f"{REMOTE}/file", timeout_s=30)
        assert transport.pull(f"{REMOTE}/file", timeout_s=30) == content


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_a_refused_push_fails_at_once_with_the_devices_reason(
    transport: ServerTransport, phone: Phone, size: int
) -> None:
    transport.run(["echo"], timeout_s=10)
    phone.push_refusal = b"couldn't create file: Permission denied"
    with pytest.raises(DeviceError, match="Permission denied") as caught:
        transport.push(bytes(size), "/system/x", timeout_s=60)
    assert not isinstance(caught.value, DeviceLostError), "it waited for the time-out"


def test_a_missing_file_is_named(transport: ServerTransport) -> None:
    with pytest.raises(DeviceError, match="No such file"):
        transport.pull(f"{REMOTE}/none", timeout_s=10)


def test_a_phone_that_breaks_off_in_an_answer_is_lost(server: Server) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.accept()
        line.hear()
        line.say(struct.pack("<BI", 1, 4) + b"12 m")
        raise HungUp

    with AdbPeer(script) as peer, ServerTransport(peer.name, server=server.port) as transport:
        with pytest.raises(DeviceLostError):
            transport.run(["x"], timeout_s=10)
        server.adb("disconnect", peer.name)


def test_silence_ends_at_the_time_out(server: Server) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.accept()
        while True:
            line.receive()

    with AdbPeer(script) as peer, ServerTransport(peer.name, server=server.port) as transport:
        transport.reconnect(timeout_s=10)
        with pytest.raises(DeviceLostError, match=r"no answer within 0\.5 s"):
            transport.run(["x"], timeout_s=0.5)
        server.adb("disconnect", peer.name)


def test_a_phone_that_the_server_does_not_know_is_missing(server: Server) -> None:
    transport = ServerTransport("R5CT0000", server=server.port)
    assert transport.state() == "missing"
    with pytest.raises(PhoneNotReadyError, match="missing") as caught:
        transport.run(["x"], timeout_s=5)
    assert caught.value.state == "missing"


def test_an_unapproved_key_says_to_accept_the_prompt(server: Server) -> None:
    def script(line: Line) -> None:
        line.receive()
        while True:
            line.send(b"AUTH", 1, 0, bytes(20))
            line.receive()

    with AdbPeer(script) as peer, ServerTransport(peer.name, server=server.port) as transport:
        with pytest.raises(PhoneNotReadyError, match="accept the prompt"):
            transport.run(["x"], timeout_s=10)
        server.adb("disconnect", peer.name)


def test_auto_takes_the_server_that_knows_the_phone_and_else_goes_directly(
    server: Server, tmp_path: Path
) -> None:
    with AdbPeer(Phone(tmp_path)) as peer:
        key = tmp_path / "adbkey"
        assert isinstance(open_transport(peer.name, key=key, server=server.port), DirectTransport)
        server.adb("connect", peer.name)
        assert isinstance(open_transport(peer.name, key=key, server=server.port), ServerTransport)
        found = server_devices(server.port)
        assert found is not None
        assert [(f.serial, f.state, f.model) for f in found if f.serial == peer.name] == [
            (peer.name, "device", "Peer")
        ]
        phones = find_phones("server", server=server.port)
        assert [(p.way, p.state) for p in phones if p.serial == peer.name] == [("server", "device")]
        server.adb("disconnect", peer.name)
    assert not key.exists()


def test_a_server_that_ends_is_a_lost_phone_and_is_not_started_again(tmp_path: Path) -> None:
    server = start(tmp_path)
    with AdbPeer(Phone(tmp_path / "phone")) as peer:
        transport = ServerTransport(peer.name, server=server.port)
        transport.run(["echo"], timeout_s=10)
        server.stop()
        with pytest.raises(DeviceLostError):
            transport.run(["echo"], timeout_s=5)
        with pytest.raises(DeviceLostError, match="no adb server answers"):
            transport.reconnect(timeout_s=5)
        assert transport.state() == "missing"
        assert server_devices(server.port) is None


def test_without_a_server_the_user_is_told_how_to_start_one() -> None:
    port = unused_port()
    transport = open_transport("R5CT0000", "server", server=port)
    with pytest.raises(PhoneNotReadyError, match="adb start-server"):
        transport.run(["x"], timeout_s=5)
    assert server_devices(port) is None
