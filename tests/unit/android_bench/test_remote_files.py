"""Our files on a phone, over the real transport, with a real shell behind it."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.adb.direct import DirectTransport
from android_bench.adb.keys import ensure_key
from android_bench.phone.remote_files import RemoteFiles, remote_path
from android_bench.transport import FOLDER, Completed
from nasflow.base.errors import DeviceError, DeviceLostError, IntegrityError
from tests.support.adb_peer import AdbPeer, Phone

CONTENT = b"a model" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "adbkey"
    ensure_key(path)
    return path


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    return Phone(tmp_path / "phone")


@pytest.fixture
def transport(phone: Phone, key: Path) -> Iterator[DirectTransport]:
    with AdbPeer(phone) as peer, DirectTransport(peer.name, key=key) as transport:
        yield transport


@pytest.fixture
def files(transport: DirectTransport) -> RemoteFiles:
    return RemoteFiles(transport, timeout_s=5)


def there(phone: Phone) -> list[str]:
    return sorted(path.name for path in phone.file(FOLDER).iterdir())


def test_a_file_is_named_by_its_content_and_is_whole(files: RemoteFiles, phone: Phone) -> None:
    path = files.put(CONTENT, suffix=".tflite")
    assert path == f"{FOLDER}/{DIGEST}.tflite"
    assert phone.file(path).read_bytes() == CONTENT
    assert there(phone) == [f"{DIGEST}.tflite"]
    assert files.read(f"{DIGEST}.tflite") == CONTENT
    assert files.has(f"{DIGEST}.tflite")
    assert not files.has("other")


def test_an_equal_file_is_not_pushed_again(
    files: RemoteFiles, transport: DirectTransport, phone: Phone
) -> None:
    files.put(CONTENT)
    files.put(CONTENT)
    commands = len(phone.commands)
    RemoteFiles(transport).put(CONTENT)
    assert len(phone.pushed) == 1
    assert len(phone.commands) == commands + 2  # mkdir and the hash
    files.forget()
    files.put(CONTENT, mode=0o755)
    assert len(phone.pushed) == 1
    assert stat.S_IMODE(phone.file(remote_path(DIGEST)).stat().st_mode) == 0o755


def test_a_different_file_of_equal_size_is_replaced(files: RemoteFiles, phone: Phone) -> None:
    place = phone.file(remote_path(DIGEST))
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x" * len(CONTENT))
    files.put(CONTENT)
    assert place.read_bytes() == CONTENT


def test_a_push_goes_to_another_name_first(files: RemoteFiles, phone: Phone) -> None:
    files.put(CONTENT)
    assert phone.pushed[0] != remote_path(DIGEST)
    assert phone.pushed[0].startswith(f"{FOLDER}/{DIGEST}.")


def test_an_interrupted_push_leaves_no_file_of_that_name(
    files: RemoteFiles, transport: DirectTransport, phone: Phone
) -> None:
    files.put(b"first")
    phone.drop_after_sent = 150
    transport.close()
    with pytest.raises(DeviceLostError):
        files.put(CONTENT)
    assert not phone.file(remote_path(DIGEST)).exists()
    phone.drop_after_sent = None
    transport.close()
    assert phone.file(files.put(CONTENT)).read_bytes() == CONTENT


def test_leftovers_of_interrupted_transfers_are_removed_and_nothing_else(
    files: RemoteFiles, phone: Phone
) -> None:
    files.put(CONTENT, suffix=".tflite")
    leftover = f"{DIGEST}.tflite.{'0' * 16}.part"
    for name in (leftover, "notes.part", "job.log"):
        phone.file(remote_path(name)).write_text("x")
    (phone.file(FOLDER) / "two words\x1b[31m").write_text("x")
    assert files.names() == tuple(sorted((f"{DIGEST}.tflite", leftover, "notes.part", "job.log")))
    assert files.remove_partial() == 1
    assert files.names() == tuple(sorted((f"{DIGEST}.tflite", "notes.part", "job.log")))
    assert (phone.file(FOLDER) / "two words\x1b[31m").exists()


def test_removed_files_are_gone_and_put_again_when_needed(files: RemoteFiles, phone: Phone) -> None:
    assert files.names() == ()
    files.put(CONTENT)
    files.remove([DIGEST, "never-there"])
    assert there(phone) == []
    files.put(CONTENT)
    assert there(phone) == [DIGEST]


def test_a_refused_push_gives_the_reason_and_leaves_nothing(files: RemoteFiles, phone: Phone) -> None:
    phone.push_refusal = b"No space left on device"
    with pytest.raises(DeviceError, match="No space left"):
        files.put(CONTENT)
    assert there(phone) == []


def test_a_folder_that_cannot_be_made_gives_the_reason(files: RemoteFiles, phone: Phone) -> None:
    phone.file("/data/local/tmp").mkdir(parents=True)
    phone.file(FOLDER).write_text("a file in its place")
    with pytest.raises(DeviceError, match=r"mkdir failed .* exit code 1: .*exists"):
        files.put(CONTENT)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a b", "a\n", "-rf", "$(id)", "x" * 201]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(files: RemoteFiles, name: str) -> None:
    with pytest.raises(ValueError, match="not a valid name for a file"):
        files.remove([name])
    with pytest.raises(ValueError, match="not a valid name for a file"):
        files.put(b"x", suffix=f"/{name}")


@given(st.text())
@settings(max_examples=1000)
def test_every_allowed_path_is_a_file_in_our_folder(name: str) -> None:
    try:
        path = remote_path(name)
    except ValueError:
        return
    assert path == f"{FOLDER}/{name}"
    assert "/" not in name
    assert name not in (".", "..")
    assert name.isascii()


class Scripted:
    """A transport that answers from a table: exit code and output by the first word."""

    serial = "R5CT0000"

    def __init__(self, answers: dict[str, Completed], pulled: bytes = b"") -> None:
        self.answers = answers
        self.pulled = pulled
        self.said: list[str] = []

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        self.said.append(argv[0])
        return self.answers.get(argv[0], Completed(b"", b"", 0))

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        self.said.append("push")

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        self.said.append("pull")
        return self.pulled

    def state(self) -> str:
        return "device"

    def reconnect(self, *, timeout_s: float) -> None: ...

    def close(self) -> None: ...


def test_a_file_that_arrives_damaged_twice_is_an_integrity_error() -> None:
    transport = Scripted({"sha256sum": Completed(b"0" * 64 + b"  x\n", b"", 0)})
    with pytest.raises(IntegrityError, match="arrived damaged") as caught:
        RemoteFiles(transport).put(CONTENT)
    assert caught.value.exit_code == 7
    assert transport.said.count("push") == 2
    assert "mv" not in transport.said


def test_a_phone_without_sha256sum_is_read_back() -> None:
    answers = {"sha256sum": Completed(b"", b"not found", 127)}
    transport = Scripted({**answers, "test": Completed(b"", b"", 0)}, pulled=CONTENT)
    RemoteFiles(transport).put(CONTENT)
    assert "push" not in transport.said
    missing = Scripted({**answers, "test": Completed(b"", b"", 1)}, pulled=CONTENT)
    with pytest.raises(IntegrityError):
        RemoteFiles(missing).put(CONTENT)
