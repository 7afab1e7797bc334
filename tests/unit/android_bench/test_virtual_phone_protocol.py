"""The daemon's protocol by a client written from its description alone: authorisation, flow, limits."""

from __future__ import annotations

import hashlib
import io
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.adb.keys import public_line
from android_bench.virtual_phone.auth import KnownKeys, PublicKey, fingerprint, parse_public_key
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from android_bench.virtual_phone.protocol import Command, Disconnected, Message, ProtocolError, read_message
from android_bench.virtual_phone.services import take_packets
from android_bench.virtual_phone.sync import SyncOptions, serve_sync

pytestmark = pytest.mark.needs("bubblewrap")

NEW, OLD = 0x01000001, 0x01000000

requests = st.builds(
    lambda name, path: name + struct.pack("<I", len(path)) + path,
    st.sampled_from(
        [b"STAT", b"STA2", b"LST2", b"LIST", b"LIS2", b"RECV", b"SEND", b"DATA", b"DONE", b"QUIT"]
    ),
    st.binary(max_size=20) | st.just(b"a,33188"),
)


def make_key() -> object:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


KEY, STRANGER = make_key(), make_key()


def sign(key: object, token: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, utils
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    assert isinstance(key, RSAPrivateKey)
    return key.sign(token, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))


def public(key: object) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    assert isinstance(key, RSAPrivateKey)
    return public_line(key)


class Client:
    """Sends and receives packets; every wait ends after 10 s."""

    def __init__(self, port: int, version: int = NEW, payload: int = 1 << 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.version, self.payload = version, payload
        self.checksum = True

    def send(self, command: bytes, arg0: int, arg1: int, payload: bytes = b"") -> None:
        word = int.from_bytes(command, "little")
        total = sum(payload) if self.checksum else 0
        header = struct.pack("<6I", word, arg0, arg1, len(payload), total, word ^ 0xFFFFFFFF)
        self.socket.sendall(header + payload)

    def receive(self) -> tuple[bytes, int, int, bytes]:
        command, arg0, arg1, length, total, _ = struct.unpack("<4s5I", self._exactly(24))
        payload = self._exactly(length)
        assert total == (sum(payload) if self.checksum else 0)
        return command, arg0, arg1, payload

    def ended(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def _exactly(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            piece = self.socket.recv(size - len(content))
            if not piece:
                raise EOFError
            content += piece
        return content

    def connect(self) -> tuple[bytes, int, int, bytes]:
        self.send(b"CNXN", self.version, self.payload, b"host::\0")
        return self.receive()

    def online(self, key: object = KEY) -> bytes:
        """Connect with a key that is offered if it is not known; returns the banner."""
        command, _, _, token = self.connect()
        assert command == b"AUTH"
        self.send(b"AUTH", 2, 0, sign(key, token))
        command, _, _, payload = self.receive()
        if command == b"AUTH":
            self.send(b"AUTH", 3, 0, public(key) + b"\0")
            command, _, _, payload = self.receive()
        assert command == b"CNXN"
        self.checksum = self.version == OLD
        return payload

    def open(self, service: str, local: int = 1) -> int:
        self.send(b"OPEN", local, 0, service.encode() + b"\0")
        command, remote, mine, _ = self.receive()
        assert (command, mine) == (b"OKAY", local)
        return remote

    def read_to_end(self, local: int, remote: int) -> list[bytes]:
        pieces = []
        while True:
            command, _, mine, payload = self.receive()
            assert mine == local
            if command == b"CLSE":
                return pieces
            if command == b"WRTE":
                pieces.append(payload)
                self.send(b"OKAY", local, remote)


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


@pytest.fixture
def client(phone: VirtualPhone) -> Iterator[Client]:
    client = Client(phone.port)
    with closing(client.socket):
        client.online()
        yield client


def test_a_new_key_is_asked_about_once_and_known_from_then_on(tmp_path: Path) -> None:
    asked = []
    with running_phone(tmp_path) as phone:
        for _ in range(2):
            client = Client(phone.port)
            with closing(client.socket):
                _, _, _, token = client.connect()
                client.send(b"AUTH", 2, 0, sign(KEY, token))
                command, _, _, _ = client.receive()
                asked.append(command)
                if command == b"AUTH":
                    client.send(b"AUTH", 3, 0, public(KEY) + b"\0")
                    assert client.receive()[0] == b"CNXN"
    assert asked == [b"AUTH", b"CNXN"]
    with running_phone(tmp_path, answer="refuse") as phone:  # kept over a restart
        client = Client(phone.port)
        with closing(client.socket):
            client.online()


def test_each_token_is_another(phone: VirtualPhone) -> None:
    tokens = set()
    for _ in range(3):
        client = Client(phone.port)
        with closing(client.socket):
            tokens.add(client.connect()[3])
    assert len(tokens) == 3
    assert {len(token) for token in tokens} == {20}


def test_a_refused_key_ends_the_connection(tmp_path: Path) -> None:
    with running_phone(tmp_path, answer="refuse") as phone:
        client = Client(phone.port)
        with closing(client.socket):
            client.connect()
            client.send(b"AUTH", 3, 0, public(STRANGER) + b"\0")
            assert client.ended()


def test_an_owner_who_does_not_look_leaves_the_client_waiting(tmp_path: Path) -> None:
    with running_phone(tmp_path, answer="ignore") as phone:
        client = Client(phone.port)
        with closing(client.socket):
            client.connect()
            client.send(b"AUTH", 3, 0, public(STRANGER) + b"\0")
            client.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.receive()
            phone.answer = "accept"
            client.socket.settimeout(10)
            client.send(b"AUTH", 3, 0, public(STRANGER) + b"\0")
            assert client.receive()[0] == b"CNXN"


def test_a_revoked_authorisation_holds_for_known_keys_too(phone: VirtualPhone, client: Client) -> None:
    phone.faults.set(FaultPlan(authorisation="refuse"))
    try:
        other = Client(phone.port)
        with closing(other.socket):
            _, _, _, token = other.connect()
            other.send(b"AUTH", 2, 0, sign(KEY, token))
            assert other.receive()[0] == b"AUTH"
    finally:
        phone.faults.clear()


def test_a_signature_of_another_token_is_not_taken() -> None:
    key = parse_public_key(public(KEY))
    assert key is not None
    token = bytes(range(20))
    assert key.verifies(sign(KEY, token), token)
    assert not key.verifies(sign(KEY, token), bytes(20))
    assert not key.verifies(sign(STRANGER, token), token)
    assert not key.verifies(b"", token)
    assert not PublicKey(key.modulus, 3).verifies(b"\0" * 256, token)


def test_a_fingerprint_is_shown_as_phones_show_it() -> None:
    line = public(KEY)
    expected = hashlib.md5(line.split()[0]).hexdigest().upper()
    assert fingerprint(line).replace(":", "") == expected


@given(st.binary(max_size=800))
@settings(max_examples=1000)
def test_any_bytes_are_a_key_or_none(content: bytes) -> None:
    key = parse_public_key(content)
    assert key is None or key.modulus.bit_length() == 2048


def test_a_damaged_line_among_the_known_keys_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "adb_keys"
    file.write_bytes(b"damaged\n" + public(KEY) + b"\n")
    keys = KnownKeys(file)
    assert keys.verify(sign(KEY, bytes(20)), bytes(20))
    keys.forget()
    assert not keys.verify(sign(KEY, bytes(20)), bytes(20))
    assert not file.exists()


def test_nothing_is_served_before_authorisation(phone: VirtualPhone) -> None:
    client = Client(phone.port)
    with closing(client.socket):
        client.connect()
        client.send(b"OPEN", 1, 0, b"shell:id\0")
        assert client.ended()


def test_the_banner_names_the_phone_and_only_what_is_served(phone: VirtualPhone) -> None:
    client = Client(phone.port)
    with closing(client.socket):
        banner = client.online()
    assert banner.startswith(b"device::ro.product.name=husky;ro.product.model=Pixel 8 Pro;")
    assert banner.endswith(b"features=shell_v2,stat_v2,ls_v2,fixed_push_mkdir")


@pytest.mark.parametrize("version", [OLD, NEW])
def test_both_versions_of_the_checksum_are_spoken(phone: VirtualPhone, version: int) -> None:
    client = Client(phone.port, version)
    with closing(client.socket):
        client.online()
        remote = client.open("shell:echo hello")
        assert b"".join(client.read_to_end(1, remote)) == b"hello\n"


def test_a_wrong_checksum_ends_an_old_connection(phone: VirtualPhone) -> None:
    client = Client(phone.port, OLD)
    with closing(client.socket):
        client.online()
        client.checksum = False
        client.send(b"OPEN", 1, 0, b"shell:id\0")
        assert client.ended()


def test_no_payload_is_larger_than_the_client_takes(phone: VirtualPhone) -> None:
    client = Client(phone.port, payload=4096)
    with closing(client.socket):
        client.online()
        for service in ("shell:head -c 50000 /dev/zero", "shell,v2,raw:head -c 50000 /dev/zero"):
            pieces = client.read_to_end(1, client.open(service))
            assert max(map(len, pieces)) <= 4096
            assert sum(map(len, pieces)) >= 50_000


def test_the_next_piece_waits_for_the_okay(client: Client) -> None:
    client.open("shell:head -c 3000000 /dev/zero")
    assert client.receive()[0] == b"WRTE"
    client.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.receive()


def test_a_second_piece_before_the_okay_closes_the_stream(client: Client) -> None:
    remote = client.open("shell:sleep 100")
    # The service takes the first, so that only what comes faster than it reads is too much.
    for _ in range(200):
        client.send(b"WRTE", 1, remote, bytes(100_000))
    commands = set()
    while b"CLSE" not in commands:
        commands.add(client.receive()[0])
    other = client.open("shell:echo well", 2)
    assert b"".join(client.read_to_end(2, other)) == b"well\n"


def test_two_streams_run_at_once(client: Client) -> None:
    slow = client.open("shell:cat", 1)
    quick = client.open("shell:echo quick", 2)
    assert client.read_to_end(2, quick) == [b"quick\n"]
    client.send(b"WRTE", 1, slow, b"slow")
    assert {client.receive()[0], client.receive()[0]} == {b"OKAY", b"WRTE"}


def test_an_unknown_service_is_refused(client: Client) -> None:
    client.send(b"OPEN", 7, 0, b"nosuch:\0")
    assert client.receive() == (b"CLSE", 0, 7, b"")


def test_a_command_that_is_too_long_is_refused(client: Client) -> None:
    told = b"".join(client.read_to_end(1, client.open("shell:echo " + "x" * 200_000)))
    assert told == b"sh: argument list too long\n"


@given(st.binary(max_size=60))
@settings(max_examples=1000)
def test_any_bytes_are_shell_packets_or_an_error(content: bytes) -> None:
    buffer = bytearray(content)
    try:
        packets = take_packets(buffer)
    except ProtocolError:
        return
    assert sum(5 + len(packet) for _, packet in packets) + len(buffer) == len(content)


@given(st.binary(max_size=300) | st.lists(requests, max_size=4).map(b"".join))
@settings(max_examples=1000)
def test_any_bytes_are_answered_by_the_file_service(content: bytes) -> None:
    answers = io.BytesIO()
    options = SyncOptions(locate=lambda path: "/dev/null/nowhere")
    serve_sync(io.BytesIO(content), answers, options)
    assert answers.getvalue()[:4] in (b"", b"FAIL", b"STAT", b"STA2", b"LST2", b"DONE")


@pytest.mark.parametrize("again", [True, False])
def test_a_transfer_that_breaks_off_takes_its_own_file_away_and_no_other(tmp_path: Path, again: bool) -> None:
    """The next transfer of the same file may have begun before the end of the last was noticed."""
    file = tmp_path / "file"

    class Broken(io.BytesIO):
        """Ends in the middle, after the file was begun and another has come in its place."""

        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            if again and size is not None and len(content) < size:
                file.unlink()
                file.write_bytes(b"another's")
            return content

    target = f"{file},33188".encode()
    half = struct.pack("<4sI", b"SEND", len(target)) + target + struct.pack("<4sI", b"DATA", 10) + b"half"
    serve_sync(Broken(half), io.BytesIO(), SyncOptions())
    assert file.exists() == again
    assert not again or file.read_bytes() == b"another's"


def test_a_client_that_leaves_hangs_up_the_command(client: Client) -> None:
    see_a_hang_up(client)


def test_under_nohup_a_phones_commands_are_hung_up_all_the_same() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running_phone() as phone:
            client = Client(phone.port)
            with closing(client.socket):
                client.online()
                see_a_hang_up(client)
    finally:
        signal.signal(signal.SIGHUP, before)


def see_a_hang_up(client: Client) -> None:
    command = "trap 'echo hung up >/data/local/tmp/hup; exit' HUP; echo ready; while :; do sleep 0.05; done"
    remote = client.open(f"shell,v2,raw:{command}")
    assert client.receive()[0] == b"WRTE"
    client.send(b"CLSE", 1, remote)
    watch = "until [ -s /data/local/tmp/hup ]; do sleep 0.05; done; cat /data/local/tmp/hup"
    while client.receive()[0] != b"CLSE":
        pass  # what was under way when the client left
    other = client.open(f"shell:{watch}", 2)
    assert b"".join(client.read_to_end(2, other)) == b"hung up\n"


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<6I", 1, 0, 0, 0, 0, 0xFFFFFFFE),  # no command
        struct.pack("<6I", Command.CNXN, NEW, 4096, 0, 0, 0),  # no complement
        struct.pack("<6I", Command.CNXN, NEW, 4096, 1 << 30, 0, Command.CNXN ^ 0xFFFFFFFF),  # too long
        struct.pack("<6I", Command.CNXN, 1, 4096, 0, 0, Command.CNXN ^ 0xFFFFFFFF),  # no version
        struct.pack("<6I", Command.CNXN, NEW, 1, 0, 0, Command.CNXN ^ 0xFFFFFFFF),  # no room
    ],
)
def test_what_no_client_sends_ends_the_connection(phone: VirtualPhone, content: bytes) -> None:
    client = Client(phone.port)
    with closing(client.socket):
        client.socket.sendall(content)
        assert client.ended()


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=1000)
def test_any_bytes_are_a_message_or_an_error(content: bytes, checksum: bool) -> None:
    left = memoryview(content)

    def receive(size: int) -> bytes:
        nonlocal left
        if size > len(left):
            raise Disconnected
        piece, left = bytes(left[:size]), left[size:]
        return piece

    try:
        message = read_message(receive, checksum=checksum)
    except (ProtocolError, Disconnected):
        return
    assert isinstance(message, Message)


@given(
    st.sampled_from(Command),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
    st.booleans(),
)
@settings(max_examples=1000)
def test_a_message_is_read_as_it_was_sent(
    command: Command, arg0: int, arg1: int, payload: bytes, checksum: bool
) -> None:
    import io

    message = Message(command, arg0, arg1, payload)
    assert read_message(io.BytesIO(message.encode(checksum=checksum)).read, checksum=checksum) == message
