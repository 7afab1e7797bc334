"""The direct way against the virtual phone's faults: in time, with the right error, and nothing lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.phone.remote_files import RemoteFiles
from android_bench.transport import PhoneNotReadyError
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.base.errors import DeviceError, DeviceLostError
from tests.support.adb_peer import AdbPeer, HungUp, Line

pytestmark = pytest.mark.needs("bubblewrap")

CONTENT = os.urandom(3_000_000)
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


@pytest.fixture
def transport(phone: VirtualPhone, tmp_path: Path) -> Iterator[DirectTransport]:
    with DirectTransport(phone.address, key=tmp_path / "adbkey") as transport:
        transport.run(["echo"], timeout_s=10)
        yield transport
    phone.faults.clear()


def test_commands_files_and_exit_codes(transport: DirectTransport) -> None:
    done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=10)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 3)
    path = RemoteFiles(transport).put(CONTENT)
    assert transport.pull(path, timeout_s=10) == CONTENT


@pytest.mark.parametrize("plan", [FaultPlan(segment_bytes=1448), FaultPlan(short_read_bytes=1448)])
def test_ten_megabytes_go_through_small_segments(
    transport: DirectTransport, phone: VirtualPhone, plan: FaultPlan
) -> None:
    phone.faults.set(plan)
    content = os.urandom(10_000_000)
    path = RemoteFiles(transport).put(content)
    assert phone.storage(path).read_bytes() == content


@pytest.mark.parametrize("cut", [0, 1, 30, 70_000, 1_500_000])
@pytest.mark.parametrize("fault", ["drop_after_received_bytes", "freeze_after_received_bytes"])
def test_a_push_broken_off_anywhere_is_lost_in_time_and_done_when_the_phone_is_back(
    transport: DirectTransport, phone: VirtualPhone, fault: str, cut: int
) -> None:
    files = RemoteFiles(transport, timeout_s=10)
    kept = files.put(b"measured before")
    phone.faults.set(FaultPlan.model_validate({fault: cut}))
    with pytest.raises(DeviceLostError):
        transport.push(CONTENT, "/data/local/tmp/nasflow/half", timeout_s=TIMEOUT_S)
    phone.faults.clear()
    transport.push(CONTENT, "/data/local/tmp/nasflow/half", timeout_s=10)
    assert phone.storage("/data/local/tmp/nasflow/half").read_bytes() == CONTENT
    assert phone.storage(kept).read_bytes() == b"measured before"


@pytest.mark.parametrize("cut", [0, 10, 24, 50, 1000])
@pytest.mark.parametrize("fault", ["drop_after_sent_bytes", "freeze_after_sent_bytes"])
def test_an_answer_broken_off_anywhere_is_never_a_result(
    transport: DirectTransport, phone: VirtualPhone, fault: str, cut: int
) -> None:
    command = ["sh", "-c", "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done"]
    whole = transport.run(command, timeout_s=10)
    assert whole.stdout.endswith(b"line 199\n")
    phone.faults.set(FaultPlan.model_validate({fault: cut}))
    with pytest.raises(DeviceLostError):
        transport.run(command, timeout_s=TIMEOUT_S)
    phone.faults.clear()
    assert transport.run(command, timeout_s=10) == whole


def test_a_refused_push_and_a_full_phone_say_so_at_once(
    transport: DirectTransport, phone: VirtualPhone
) -> None:
    for plan, words in (
        (FaultPlan(push_failure="couldn't create file: Permission denied"), "Permission denied"),
        (FaultPlan(free_bytes=100_000), "Free some space"),
    ):
        phone.faults.set(plan)
        with pytest.raises(DeviceError, match=words) as caught:
            RemoteFiles(transport, timeout_s=60).put(os.urandom(3_000_000))
        assert not isinstance(caught.value, DeviceLostError), "it waited for the time-out"
    phone.faults.clear()
    assert RemoteFiles(transport).remove_partial() == 0


@pytest.mark.parametrize("answer", ["refuse", "ignore"])
def test_an_unapproved_key_says_to_accept_the_prompt(
    transport: DirectTransport, phone: VirtualPhone, answer: str
) -> None:
    phone.faults.set(FaultPlan.model_validate({"authorisation": answer}))
    with pytest.raises(PhoneNotReadyError, match="accept the prompt"):
        transport.reconnect(timeout_s=3)  # the prompt has to come within it


@pytest.mark.parametrize("cut", [0, 5, 24, 30])
@pytest.mark.parametrize("fault", ["drop_after_received_bytes", "drop_after_sent_bytes"])
def test_a_handshake_broken_off_anywhere_is_tried_once_more(tmp_path: Path, fault: str, cut: int) -> None:
    with (
        running_phone(plan=FaultPlan.model_validate({fault: cut})) as phone,
        DirectTransport(phone.address, key=tmp_path / "adbkey") as transport,
    ):
        assert transport.run(["echo", "there"], timeout_s=10).stdout == b"there\n"
        assert phone.faults.fired == 1


def test_a_daemon_that_always_breaks_off_is_offline(tmp_path: Path) -> None:
    def rude(line: Line) -> None:
        line.receive()
        raise HungUp

    with (
        AdbPeer(rude) as peer,
        DirectTransport(peer.name, key=tmp_path / "adbkey") as transport,
        pytest.raises(PhoneNotReadyError, match="does not answer") as caught,
    ):
        transport.run(["echo"], timeout_s=10)
    assert caught.value.state == "offline"
    assert len(peer.lines) == 2


def test_a_phone_that_restarts_is_lost_and_found_again(
    transport: DirectTransport, phone: VirtualPhone
) -> None:
    phone.reboot()
    with pytest.raises(DeviceLostError):
        transport.run(["echo"], timeout_s=5)
    assert transport.run(["echo", "back"], timeout_s=10).stdout == b"back\n"


def test_a_phone_that_goes_offline_is_told_so(transport: DirectTransport, phone: VirtualPhone) -> None:
    phone.faults.set(FaultPlan(offline=True))
    with pytest.raises(DeviceLostError, match="does not answer"):
        transport.reconnect(timeout_s=0.3)


def test_a_phone_without_shell_v2_and_with_small_packets_is_served(tmp_path: Path) -> None:
    with (
        running_phone(features=(), max_payload_bytes=4096, version=0x01000000) as phone,
        DirectTransport(phone.address, key=tmp_path / "adbkey") as transport,
    ):
        done = transport.run(["sh", "-c", "echo out; exit 9"], timeout_s=10)
        assert (done.stdout, done.exit_code) == (b"out\n", 9)
        assert transport.pull(RemoteFiles(transport).put(CONTENT), timeout_s=20) == CONTENT
