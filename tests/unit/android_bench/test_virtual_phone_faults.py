"""Each fault does what it says, once, and a client that comes again goes on."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.transport import PhoneNotReadyError
from android_bench.virtual_phone.faults import FaultPlan, Faults, read_plan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from android_bench.virtual_phone.protocol import Command, Disconnected, Message
from android_bench.virtual_phone.stream import Stream, StreamClosed
from android_bench.virtual_phone.wire import Wire
from nasflow.base.errors import DeviceError, DeviceLostError, UsageError

pytestmark = pytest.mark.needs("bubblewrap")

TIMEOUT_S = 20
REMOTE = "/data/local/tmp/nasflow/file"


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


@pytest.fixture
def transport(phone: VirtualPhone, tmp_path: Path) -> Iterator[DirectTransport]:
    with closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport:
        transport.run(["true"], timeout_s=TIMEOUT_S)
        yield transport
    phone.faults.clear()


@pytest.mark.parametrize("at", [0, 1, 23, 24, 1000, 300_000])
def test_a_connection_dropped_in_a_push_is_lost_once(
    phone: VirtualPhone, transport: DirectTransport, at: int
) -> None:
    content = bytes(range(256)) * 4000
    phone.faults.set(FaultPlan(drop_after_received_bytes=at))
    with pytest.raises(DeviceLostError):
        transport.push(content, REMOTE, timeout_s=TIMEOUT_S)
    assert phone.faults.plan == FaultPlan()
    transport.reconnect(timeout_s=TIMEOUT_S)
    transport.push(content, REMOTE, timeout_s=TIMEOUT_S)
    assert phone.storage(REMOTE).read_bytes() == content


@pytest.mark.parametrize("at", [0, 5, 100, 200_000])
def test_a_connection_dropped_in_a_pull_is_lost_once(
    phone: VirtualPhone, transport: DirectTransport, at: int
) -> None:
    content = bytes(range(256)) * 4000
    phone.storage("/data/local/tmp/large").write_bytes(content)
    phone.faults.set(FaultPlan(drop_after_sent_bytes=at))
    with pytest.raises(DeviceLostError):
        transport.pull("/data/local/tmp/large", timeout_s=TIMEOUT_S)
    transport.reconnect(timeout_s=TIMEOUT_S)
    assert transport.pull("/data/local/tmp/large", timeout_s=TIMEOUT_S) == content


def test_a_push_that_is_cut_leaves_no_half_file(phone: VirtualPhone, transport: DirectTransport) -> None:
    phone.faults.set(FaultPlan(drop_after_received_bytes=200_000))
    with pytest.raises(DeviceLostError):
        transport.push(bytes(1_000_000), "/data/local/tmp/cut", timeout_s=TIMEOUT_S)
    transport.reconnect(timeout_s=TIMEOUT_S)
    watch = "for i in 1 2 3 4 5 6 7 8 9; do [ -e /data/local/tmp/cut ] || break; sleep 0.1; done"
    gone = transport.run(["sh", "-c", f"{watch}; ls /data/local/tmp/cut"], timeout_s=TIMEOUT_S)
    assert gone.exit_code != 0


def test_a_frozen_phone_answers_again_when_it_thaws(phone: VirtualPhone, transport: DirectTransport) -> None:
    phone.faults.set(FaultPlan(freeze_after_received_bytes=10))
    thaw = threading.Timer(0.2, phone.faults.clear)
    thaw.start()
    assert transport.run(["echo", "awake"], timeout_s=TIMEOUT_S).stdout == b"awake\n"
    thaw.join()
    assert phone.faults.fired >= 1


def test_a_phone_that_stays_frozen_is_lost(phone: VirtualPhone, transport: DirectTransport) -> None:
    phone.faults.set(FaultPlan(freeze_after_sent_bytes=0))
    with pytest.raises(DeviceLostError):
        transport.run(["echo", "never"], timeout_s=0.5)


def test_a_full_phone_and_a_refused_push_say_why(phone: VirtualPhone, transport: DirectTransport) -> None:
    phone.faults.set(FaultPlan(free_bytes=1000))
    with pytest.raises(DeviceError, match="No space left on device"):
        transport.push(bytes(100_000), REMOTE, timeout_s=TIMEOUT_S)
    phone.faults.set(FaultPlan(push_failure="couldn't create file: Permission denied"))
    with pytest.raises(DeviceError, match="Permission denied"):
        transport.push(bytes(100_000), REMOTE, timeout_s=TIMEOUT_S)
    phone.faults.clear()
    transport.push(b"fits", REMOTE, timeout_s=TIMEOUT_S)


def test_a_phone_that_took_its_approval_back_is_not_ready(phone: VirtualPhone, tmp_path: Path) -> None:
    phone.faults.set(FaultPlan(authorisation="ignore"))
    with closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport:
        with pytest.raises((PhoneNotReadyError, DeviceLostError)):
            transport.run(["true"], timeout_s=0.5)
        phone.faults.clear()
        assert transport.run(["true"], timeout_s=TIMEOUT_S).exit_code == 0


def test_a_phone_that_is_offline_never_answers(phone: VirtualPhone, tmp_path: Path) -> None:
    phone.faults.set(FaultPlan(offline=True))
    client = socket.create_connection(("127.0.0.1", phone.port), timeout=0.3)
    with closing(client):
        client.sendall(Message(Command.CNXN, 0x01000001, 4096, b"host::\0").encode(checksum=True))
        with pytest.raises(TimeoutError):
            client.recv(1)
    phone.faults.clear()


def test_small_pieces_change_nothing(phone: VirtualPhone, transport: DirectTransport) -> None:
    content = bytes(range(256)) * 2000
    phone.faults.set(FaultPlan(segment_bytes=1448, short_read_bytes=100))
    transport.push(content, REMOTE, timeout_s=TIMEOUT_S)
    assert transport.pull(REMOTE, timeout_s=TIMEOUT_S) == content


def test_a_phone_without_shell_v2_merges_its_streams(tmp_path: Path) -> None:
    with (
        running_phone(features=("stat_v2",)) as phone,
        closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport,
    ):
        done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=TIMEOUT_S)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\nerr\n", b"", 3)


def test_bytes_count_exactly_from_when_the_plan_was_set() -> None:
    faults = Faults(FaultPlan(drop_after_sent_bytes=10))
    assert faults.allow("sent", 7) == 7
    faults.count("sent", 7)
    assert faults.allow("received", 100) == 100
    assert faults.allow("sent", 100) == 3
    faults.count("sent", 3)
    with pytest.raises(Disconnected):
        faults.allow("sent", 1)
    assert faults.allow("sent", 100) == 100  # once only


def test_the_client_sees_exactly_as_many_bytes_as_the_plan_says() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with closing(listener), closing(socket.create_connection(listener.getsockname(), timeout=10)) as client:
        accepted, _ = listener.accept()
        wire = Wire(accepted, Faults(FaultPlan(drop_after_sent_bytes=30)))
        with pytest.raises(Disconnected):
            wire.send(Message(Command.WRTE, 1, 1, bytes(1000)))
        content = b""
        while piece := client.recv(1000):
            content += piece
    assert len(content) == 30


def test_a_closed_phone_lets_go_of_what_is_frozen() -> None:
    faults = Faults(FaultPlan(freeze_after_sent_bytes=0))
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(Disconnected):
            faults.allow("sent", 1)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    faults.close()
    assert ended.wait(TIMEOUT_S)
    thread.join()


def test_a_killed_daemon_refuses_and_what_is_detached_goes_on(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    job = "setsid nohup sh -c 'sleep 0.3; echo done >/data/local/tmp/detached' >/dev/null 2>&1 &"
    transport.run(["sh", "-c", job], timeout_s=TIMEOUT_S)
    for _ in range(2):
        phone.kill_daemon()
        with pytest.raises(DeviceLostError):
            transport.run(["true"], timeout_s=TIMEOUT_S)
        with pytest.raises(DeviceLostError, match="refused"):
            transport.reconnect(timeout_s=TIMEOUT_S)
        phone.start_daemon()
        phone.start_daemon()
        assert transport.run(["true"], timeout_s=TIMEOUT_S).exit_code == 0
    watch = "until [ -f /data/local/tmp/detached ]; do sleep 0.05; done; cat /data/local/tmp/detached"
    assert transport.run(["sh", "-c", watch], timeout_s=TIMEOUT_S).stdout == b"done\n"


def test_a_silent_phone_is_known_as_such(phone: VirtualPhone, transport: DirectTransport) -> None:
    assert not phone.faults.is_silent
    phone.faults.set(FaultPlan(freeze_after_sent_bytes=0))
    with pytest.raises(DeviceLostError):
        transport.run(["true"], timeout_s=0.3)
    assert phone.faults.is_silent
    for plan in (FaultPlan(offline=True), FaultPlan(authorisation="ignore")):
        phone.faults.set(plan)
        assert phone.faults.is_silent
    phone.faults.clear()
    assert not phone.faults.is_silent


def test_a_plan_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text(json.dumps({"slowdown": 2.5, "free_bytes": 0}))
    assert read_plan(file) == FaultPlan(slowdown=2.5, free_bytes=0)


@pytest.mark.parametrize("text", ["", "[]", '{"nosuch": 1}', '{"slowdown": 0.5}', '{"slowdown": NaN}'])
def test_a_plan_that_cannot_be_used_is_told_with_its_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "faults.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"faults\.json"):
        read_plan(file)


def test_a_changed_control_file_is_put_in_force(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    changed = threading.Event()
    with running_phone(tmp_path / "phone", control_file=file) as phone:
        before = phone.faults.on_change

        def on_change() -> None:
            before()
            changed.set()

        phone.faults.on_change = on_change
        file.write_text('{"thermal_status": 4}')
        assert changed.wait(TIMEOUT_S)
        assert phone.faults.plan.thermal_status == 4
        assert "Thermal Status: 4" in (phone.folder.phone / "thermalservice").read_text()


def test_a_closed_stream_wakes_who_reads_and_who_writes() -> None:
    sent: list[Message] = []
    stream = Stream(1, 2, 10, sent.append)
    stream.write(bytes(10))
    closer = threading.Timer(0.05, stream.close)
    closer.start()
    with pytest.raises(StreamClosed):
        stream.write(bytes(10))
    with pytest.raises(StreamClosed):
        stream.read()
    closer.join()
    assert [message.command for message in sent] == [Command.WRTE]
