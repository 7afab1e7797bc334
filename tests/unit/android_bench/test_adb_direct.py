"""The direct way to a phone, against a scripted daemon that fails in every way known."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import signal
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.adb.keys import ensure_key
from android_bench.adb.ways import open_transport
from android_bench.transport import PhoneNotReadyError, Transport
from nasflow.base.errors import DeviceError, DeviceLostError, MachineError, RunInterruptedError
from tests.support.adb_peer import REMOTE, V1_BANNER, V2_BANNER, AdbPeer, HungUp, Line, Phone

SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 3"]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "android" / "adbkey"
    assert ensure_key(path)
    return path


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    return Phone(tmp_path / "phone")


@pytest.fixture
def peer(phone: Phone) -> Iterator[AdbPeer]:
    with AdbPeer(phone) as peer:
        yield peer


@pytest.fixture
def transport(peer: AdbPeer, key: Path) -> Iterator[DirectTransport]:
    with DirectTransport(peer.name, key=key) as transport:
        yield transport


# Commands


def test_v2_keeps_both_streams_and_the_exit_code(transport: DirectTransport, phone: Phone) -> None:
    done = transport.run(SCRIPT, timeout_s=5)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 3)
    assert transport.features >= {"shell_v2"}
    assert phone.commands == ["sh -c 'echo out; echo err >&2; exit 3'"]


@pytest.mark.parametrize("terminal", [False, True])
def test_v1_tells_the_exit_code_too(transport: DirectTransport, phone: Phone, terminal: bool) -> None:
    phone.banner, phone.terminal = V1_BANNER, terminal
    done = transport.run(SCRIPT, timeout_s=5)
    assert (sorted(done.stdout.split()), done.stderr, done.exit_code) == ([b"err", b"out"], b"", 3)
    assert b"\r" not in done.stdout


def test_v1_survives_a_command_that_ends_the_shell_or_reads_input(
    transport: DirectTransport, phone: Phone
) -> None:
    phone.banner = V1_BANNER
    assert transport.run(["exit", "7"], timeout_s=5).exit_code == 7
    assert transport.run(["cat"], timeout_s=5).stdout == b""
    assert transport.run(["printf", "no newline"], timeout_s=5).stdout == b"no newline"


@pytest.mark.parametrize("banner", [V1_BANNER, V2_BANNER])
def test_output_cut_at_any_byte_is_a_lost_device_and_never_a_result(
    tmp_path: Path, key: Path, banner: bytes
) -> None:
    phone = Phone(tmp_path, banner=banner)
    with AdbPeer(phone) as peer, DirectTransport(peer.name, key=key) as transport:
        transport.run(["echo", "hello"], timeout_s=5)
        sent = peer.lines[0].sent
        for cut in range(sent - 24):  # the last 24 bytes close the stream: nothing is missing before them
            phone.drop_after_sent = cut
            transport.close()
            with pytest.raises(DeviceLostError):
                transport.run(["echo", "hello"], timeout_s=5)


def test_an_exit_code_without_its_packet_is_a_lost_device(key: Path) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.accept()
        line.hear()
        line.say(struct.pack("<BI", 1, 4) + b"12 m")
        line.end()
        line.receive()

    with (
        AdbPeer(script) as peer,
        DirectTransport(peer.name, key=key) as transport,
        pytest.raises(DeviceLostError, match="too early"),
    ):
        transport.run(["x"], timeout_s=5)


def test_silence_ends_at_the_time_out(key: Path) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.accept()
        while True:
            line.receive()

    begin = time.monotonic()
    with (
        AdbPeer(script) as peer,
        DirectTransport(peer.name, key=key) as transport,
        pytest.raises(DeviceLostError, match=r"no answer within 0\.3 s"),
    ):
        transport.run(["x"], timeout_s=0.3)
    assert time.monotonic() - begin >= 0.3


def test_bytes_that_trickle_do_not_stretch_the_time_out(key: Path) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.accept()
        pause = threading.Event()
        while not pause.wait(0.02):
            line.raw(b"W")

    with (
        AdbPeer(script) as peer,  # which never stops by itself
        DirectTransport(peer.name, key=key) as transport,
        pytest.raises(DeviceLostError),
    ):
        transport.run(["x"], timeout_s=0.4)


def test_a_killed_daemon_is_noticed_at_once(key: Path) -> None:
    waiting = threading.Event()

    def script(line: Line) -> None:
        line.greet()
        line.accept()
        line.hear()
        waiting.set()
        line.receive()

    with AdbPeer(script) as peer, DirectTransport(peer.name, key=key) as transport:

        def kill() -> None:
            waiting.wait()
            peer.stop()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(DeviceLostError, match="closed the connection"):  # and not: no answer within
            transport.run(["x"], timeout_s=60)
        killer.join()
        with pytest.raises(DeviceLostError, match="cannot be reached"):  # lost, for it was there before
            transport.reconnect(timeout_s=5)
        assert transport.state() == "missing"


@pytest.mark.parametrize("kind", [0, 5, 77])
def test_shell_packets_that_mean_nothing_are_an_error(key: Path, kind: int) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.accept()
        line.hear()
        line.say(struct.pack("<BI", kind, 4) + b"abcd")

    with (
        AdbPeer(script) as peer,
        DirectTransport(peer.name, key=key) as transport,
        pytest.raises(DeviceError, match="unknown"),
    ):
        transport.run(["x"], timeout_s=5)


@pytest.mark.parametrize("banner", [V1_BANNER, V2_BANNER])
def test_endless_output_is_refused(key: Path, banner: bytes) -> None:
    def script(line: Line) -> None:
        line.banner = banner
        line.greet()
        line.accept()
        if banner is V2_BANNER:
            line.hear()
            line.say(struct.pack("<BI", 1, 0xFFFF_FFFF))
        while True:
            line.say(b"x" * 500_000)

    with (
        AdbPeer(script) as peer,
        DirectTransport(peer.name, key=key) as transport,
        pytest.raises(DeviceError, match="more than 16 MB"),
    ):
        transport.run(["x"], timeout_s=20)


def test_a_command_that_is_too_long_is_never_cut(transport: DirectTransport, phone: Phone) -> None:
    with pytest.raises(ValueError, match="too long"):
        transport.run(["echo", "x" * 40_000], timeout_s=5)
    phone.payload_bytes = 4096
    transport.close()
    with pytest.raises(DeviceError, match="at most 4,096 bytes"):
        transport.run(["echo", "x" * 5_000], timeout_s=5)
    assert transport.run(["echo", "x" * 3_000], timeout_s=5).stdout == b"x" * 3000 + b"\n"


def test_what_an_older_stream_still_says_is_not_taken_for_an_answer(key: Path) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.accept()
        line.send(b"WRTE", 99, 7, b"stale")
        line.send(b"CLSE", 99, 7)
        line.send(b"OKAY", 99, 7)
        line.hear()
        line.say(struct.pack("<BI", 3, 1) + b"\x05")
        line.end()
        line.receive()

    with AdbPeer(script) as peer, DirectTransport(peer.name, key=key) as transport:
        assert transport.run(["x"], timeout_s=5).exit_code == 5


def test_an_interruption_in_the_middle_of_an_answer_leaves_no_half_of_it(
    transport: DirectTransport, peer: AdbPeer
) -> None:
    def on_alarm(_number: int, _frame: FrameType | None) -> None:
        raise RunInterruptedError("stop", signal_number=signal.SIGINT)

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(RunInterruptedError):
            transport.run(["sh", "-c", "echo early; sleep 0.5; echo late"], timeout_s=5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert transport.run(["echo", "next"], timeout_s=5).stdout == b"next\n"
    assert len(peer.lines) == 2


def test_threads_take_turns(transport: DirectTransport) -> None:
    answers: dict[int, bytes] = {}

    def ask(number: int) -> None:
        answers[number] = transport.run(["echo", str(number)], timeout_s=10).stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"{number}\n".encode() for number in range(8)}


# Files


def test_a_file_comes_back_as_it_went(transport: DirectTransport, phone: Phone) -> None:
    for size in (0, 1, 65535, 65536, 65537, 1_500_000):
        content = os.urandom(size)
        transport.push(content, f"{REMOTE}/file", mode=0o755, timeout_s=10)
        assert transport.pull(f"{REMOTE}/file", timeout_s=10) == content
    assert stat.S_IMODE(phone.file(f"{REMOTE}/file").stat().st_mode) == 0o755


def test_old_daemons_with_small_packets_and_checksums_are_served(
    transport: DirectTransport, phone: Phone
) -> None:
    phone.payload_bytes, phone.version = 4096, 0x01000000
    content = os.urandom(300_000)
    transport.push(content, f"{REMOTE}/file", timeout_s=10)
    assert transport.pull(f"{REMOTE}/file", timeout_s=10) == content


def test_a_slow_reader_with_a_small_window_gets_all_of_ten_megabytes(
    transport: DirectTransport, peer: AdbPeer, phone: Phone
) -> None:
    transport.run(["echo"], timeout_s=5)
    peer.lines[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    content = os.urandom(10_000_000)
    transport.push(content, f"{REMOTE}/big", timeout_s=30)
    assert hashlib.sha256(phone.file(f"{REMOTE}/big").read_bytes()).digest() == (
        hashlib.sha256(content).digest()
    )


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_a_refused_push_fails_at_once_with_the_devices_reason(
    transport: DirectTransport, phone: Phone, size: int
) -> None:
    phone.push_refusal = b"couldn't create file: \x1b[31mPermission denied"

    with pytest.raises(DeviceError, match="create file: Permission denied") as caught:
        transport.push(bytes(size), "/system/x", timeout_s=60)
    assert not isinstance(caught.value, DeviceLostError), "it waited for the time-out"
    phone.push_refusal = b""
    transport.push(b"x", f"{REMOTE}/x", timeout_s=5)


def test_a_full_phone_says_what_to_do(transport: DirectTransport, phone: Phone) -> None:
    phone.push_refusal = b"write failed: No space left on device"
    with pytest.raises(DeviceError, match="Free some space"):
        transport.push(b"x", f"{REMOTE}/x", timeout_s=5)


def test_a_missing_file_is_named(transport: DirectTransport) -> None:
    with pytest.raises(DeviceError, match=r"does not read /data/local/tmp/nasflow/none: No such file"):
        transport.pull(f"{REMOTE}/none", timeout_s=5)


def test_a_pull_cut_at_any_place_is_a_lost_device(tmp_path: Path, key: Path) -> None:
    phone = Phone(tmp_path)
    with AdbPeer(phone) as peer:
        with DirectTransport(peer.name, key=key) as transport:
            transport.push(os.urandom(200_000), f"{REMOTE}/file", timeout_s=5)
            before = peer.lines[0].sent
            transport.pull(f"{REMOTE}/file", timeout_s=5)
            sent = peer.lines[0].sent - before
        for cut in range(200, sent - 24, 7919):
            phone.drop_after_sent = cut
            with DirectTransport(peer.name, key=key) as fresh, pytest.raises(DeviceLostError):
                fresh.pull(f"{REMOTE}/file", timeout_s=5)


def test_a_push_cut_at_any_place_is_a_lost_device(tmp_path: Path, key: Path) -> None:
    for cut in (1, 24, 30, 100_000, 262_200, 999_999):

        def script(line: Line, cut: int = cut) -> None:
            line.greet()
            line.accept()
            taken = 0
            while taken < cut:
                taken += len(line.socket.recv(min(4096, cut - taken)))
            raise HungUp

        with (
            AdbPeer(script) as peer,
            DirectTransport(peer.name, key=key) as transport,
            pytest.raises(DeviceLostError),
        ):
            # The peer acknowledges nothing, so most cuts end in the first packets: silence, then the end.
            transport.push(os.urandom(1_000_000), f"{REMOTE}/file", timeout_s=0.5)


@pytest.mark.parametrize("answer", [b"WHAT\4\0\0\0", b"DATA\1\0\2\0", b"OKAY\0\0\0\0"])
def test_a_file_transfer_that_answers_nonsense_is_an_error(key: Path, answer: bytes) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.accept()
        line.hear()
        line.say(answer)

    with (
        AdbPeer(script) as peer,
        DirectTransport(peer.name, key=key) as transport,
        pytest.raises(DeviceError, match="unknown"),
    ):
        transport.pull(f"{REMOTE}/x", timeout_s=5)


# Connecting


def demand_key(
    line: Line, approved: bytes | None, *, prompt: str, asks: Callable[[], object] = lambda: None
) -> None:
    """The daemon's side of authentication; ``approved`` is a public key line that needs no prompt.

    ``asks`` is called when the owner is asked.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

    def verified(public_line: bytes, token: bytes, signature: bytes) -> bool:
        blob = base64.b64decode(public_line.split()[0])
        words, n0inv, modulus, rr, exponent = struct.unpack("<LL256s256sL", blob)
        n = int.from_bytes(modulus, "little")
        assert words == 64
        assert (n * n0inv + 1) % 2**32 == 0
        assert int.from_bytes(rr, "little") == 2**4096 % n
        public = rsa.RSAPublicNumbers(exponent, n).public_key()
        try:
            public.verify(signature, token, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))
        except InvalidSignature:
            return False
        return True

    assert line.receive()[0] == b"CNXN"
    token = os.urandom(20)
    line.send(b"AUTH", 1, 0, token)
    command, kind, _, signature = line.receive()
    assert (command, kind) == (b"AUTH", 2)
    if approved is None or not verified(approved, token, signature):
        line.send(b"AUTH", 1, 0, os.urandom(20))
        command, kind, _, offered = line.receive()
        assert (command, kind) == (b"AUTH", 3)
        assert verified(offered.rstrip(b"\0"), token, signature)
        asks()
        if prompt == "refuse":
            raise HungUp
        if prompt == "ignore":
            line.receive()
    line.send(b"CNXN", line.version, line.payload_bytes, line.banner)


def test_a_key_that_the_phone_knows_opens_it_and_is_never_logged(
    key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    public = Path(f"{key}.pub").read_bytes()
    with (
        caplog.at_level(logging.DEBUG),
        AdbPeer(lambda line: demand_key(line, public, prompt="refuse")) as peer,
        DirectTransport(peer.name, key=key) as transport,
    ):
        transport.reconnect(timeout_s=5)
    text = caplog.text
    assert "AUTH" not in text
    assert public[:40].decode() not in text
    assert "PRIVATE KEY" not in text


def test_a_key_that_is_accepted_on_the_phone_opens_it(key: Path) -> None:
    with (
        AdbPeer(lambda line: demand_key(line, None, prompt="accept")) as peer,
        DirectTransport(peer.name, key=key) as transport,
    ):
        transport.reconnect(timeout_s=5)


@pytest.mark.parametrize("prompt", ["ignore", "refuse"])
def test_an_unapproved_key_says_to_accept_the_prompt(key: Path, prompt: str) -> None:
    asked = threading.Event()  # the time-out comes then, however long it took
    with (
        AdbPeer(lambda line: demand_key(line, None, prompt=prompt, asks=asked.set)) as peer,
        DirectTransport(peer.name, key=key, clock=lambda: 60.0 if asked.is_set() else 0.0) as transport,
    ):
        with pytest.raises(PhoneNotReadyError, match="accept the prompt") as caught:
            transport.run(["x"], timeout_s=30)
        assert caught.value.exit_code == 4
        assert caught.value.state == "unauthorized"


def test_nothing_that_listens_is_a_missing_phone(key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        name = f"127.0.0.1:{probe.getsockname()[1]}"
    transport = DirectTransport(name, key=key)
    with pytest.raises(PhoneNotReadyError, match="cannot be reached") as caught:
        transport.run(["x"], timeout_s=5)
    assert caught.value.state == transport.state() == "missing"


def test_a_phone_that_never_answers_is_offline_in_time(key: Path) -> None:
    def script(line: Line) -> None:
        while True:
            line.receive()

    with AdbPeer(script) as peer:
        transport = DirectTransport(peer.name, key=key)
        with pytest.raises(PhoneNotReadyError, match="does not answer") as caught:
            transport.run(["x"], timeout_s=0.3)
        assert caught.value.state == "offline"


@pytest.mark.parametrize("first", [b"SSH-2.0-OpenSSH_9.2\r\n" + bytes(30), bytes(24), b"\xff" * 24])
def test_a_port_that_does_not_speak_adb_is_told_so(key: Path, first: bytes) -> None:
    def script(line: Line) -> None:
        line.raw(first)
        line.receive()

    with AdbPeer(script) as peer, pytest.raises(PhoneNotReadyError, match="not in the ADB protocol"):
        DirectTransport(peer.name, key=key).run(["x"], timeout_s=5)


def test_a_phone_that_wants_tls_is_sent_to_the_server(key: Path) -> None:
    def script(line: Line) -> None:
        line.receive()
        line.send(b"STLS", 0x01000000, 0)
        line.receive()

    with AdbPeer(script) as peer, pytest.raises(PhoneNotReadyError, match="adb pair"):
        DirectTransport(peer.name, key=key).run(["x"], timeout_s=5)


def test_a_phone_in_recovery_is_not_used(tmp_path: Path, key: Path) -> None:
    with AdbPeer(Phone(tmp_path, banner=b"recovery::")) as peer:
        transport = DirectTransport(peer.name, key=key)
        assert transport.state() == "recovery"
        with pytest.raises(PhoneNotReadyError, match="Restart the phone into Android"):
            transport.run(["x"], timeout_s=5)


def test_a_service_that_is_refused_is_said(key: Path) -> None:
    def script(line: Line) -> None:
        line.greet()
        line.send(b"CLSE", 0, line.receive()[1])
        line.receive()

    with AdbPeer(script) as peer, pytest.raises(DeviceLostError, match="refused the service"):
        DirectTransport(peer.name, key=key).run(["x"], timeout_s=5)


def test_a_packet_damaged_on_the_way_is_noticed(key: Path) -> None:
    def script(line: Line) -> None:
        line.version = 0x01000000
        line.greet()
        line.accept()
        line.hear()
        magic = int.from_bytes(b"WRTE", "little") ^ 0xFFFFFFFF
        head = struct.pack("<4s5I", b"WRTE", line.local_id, line.peer_id, 6, 1, magic)
        line.raw(head + struct.pack("<BI", 3, 1) + b"\0")

    with AdbPeer(script) as peer, pytest.raises(DeviceLostError, match="damaged"):
        DirectTransport(peer.name, key=key).run(["x"], timeout_s=5)


def test_the_state_is_asked_anew_and_a_lost_connection_made_again(
    transport: DirectTransport, peer: AdbPeer
) -> None:
    assert transport.state() == "device"
    peer.lines[0].socket.shutdown(socket.SHUT_RDWR)
    assert transport.state() == "device"
    assert len(peer.lines) == 2
    transport.close()
    transport.close()
    assert transport.run(["echo", "again"], timeout_s=5).stdout == b"again\n"


def test_the_way_is_chosen_by_name(key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        unused = probe.getsockname()[1]
    transport: Transport = open_transport("127.0.0.1:6555", "auto", key=key, server=unused)
    assert isinstance(transport, DirectTransport)
    assert transport.serial == "127.0.0.1:6555"


# Keys


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "home" / ".android" / "adbkey"
    assert ensure_key(path)
    made = path.read_bytes()
    assert not ensure_key(path)
    assert path.read_bytes() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in path.parent.iterdir()) == ["adbkey", "adbkey.pub"]


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_is_none_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "adbkey"
    path.write_bytes(content)
    with pytest.raises(MachineError, match="unencrypted RSA key"):
        DirectTransport("127.0.0.1:1", key=path).run(["x"], timeout_s=5)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MachineError, match="cannot be created"):
        ensure_key(tmp_path / "file" / "adbkey")
