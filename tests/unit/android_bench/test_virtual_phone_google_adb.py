"""Google's own adb against the virtual phone: a client that is not ours must be satisfied."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone

pytestmark = pytest.mark.needs("bubblewrap")

Run = Callable[..., subprocess.CompletedProcess[bytes]]
TIMEOUT_S = 30


def adb_program() -> str:
    found = importlib.util.find_spec("adbutils")
    assert found is not None and found.origin is not None, "the package adbutils brings Google's adb"
    return str(Path(found.origin).parent / "binaries" / "adb")


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in range(5555, 5586):
            return port


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


@pytest.fixture(scope="module")
def adb(phone: VirtualPhone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """adb's client with a server of its own, connected to the phone."""
    home = tmp_path_factory.mktemp("home")
    (home / ".android").mkdir()
    program, port = adb_program(), str(free_port())
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": os.defpath,
        "ADB_MDNS_OPENSCREEN": "0",
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",
    }

    def run(*arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, "-P", port, *arguments],
            env=environment,
            input=content,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def on_phone(*arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return run("-s", phone.address, *arguments, content=content)

    ready, told = os.pipe()
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [program, "-P", port, "--reply-fd", str(told), "nodaemon", "server"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[told],
        )
    os.close(told)
    try:
        with os.fdopen(ready, "rb") as reply:
            assert reply.read(3) == b"OK\n", (home / "server.log").read_text()
        run("connect", phone.address)
        assert run("-s", phone.address, "wait-for-device").returncode == 0
        yield on_phone
    finally:
        run("kill-server")
        server.wait(TIMEOUT_S)


def test_the_phone_is_listed_with_its_model(adb: Run, phone: VirtualPhone) -> None:
    listed = adb("devices", "-l").stdout.decode()
    line = next(line for line in listed.splitlines() if line.startswith(phone.address))
    assert " device " in line
    assert "product:husky model:Pixel_8_Pro device:husky" in line
    assert adb("get-state").stdout == b"device\n"


def test_exit_code_and_both_streams_come_back(adb: Run) -> None:
    done = adb("shell", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_an_unknown_command_fails_as_on_a_phone(adb: Run) -> None:
    done = adb("shell", "nosuchcommand")
    assert done.returncode == 127
    assert b"nosuchcommand" in done.stderr


def test_a_killed_command_tells_its_signal(adb: Run) -> None:
    assert adb("shell", "kill -9 $$").returncode == 137


def test_standard_input_reaches_the_command_and_ends(adb: Run) -> None:
    content = random.Random(1).randbytes(300_000)
    assert adb("shell", "cat", content=content).stdout == content


def test_bytes_come_back_unchanged_by_exec_out(adb: Run) -> None:
    assert adb("exec-out", "printf 'a\\r\\n\\000b'").stdout == b"a\r\n\0b"


def test_20_mb_go_there_and_back(adb: Run, phone: VirtualPhone, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(20_000_000)
    (tmp_path / "there").write_bytes(content)
    pushed = adb("push", str(tmp_path / "there"), "/data/local/tmp/new/folder/file")
    assert pushed.returncode == 0, pushed.stderr
    told = adb("shell", "sha256sum", "/data/local/tmp/new/folder/file").stdout.split()[0]
    assert told.decode() == hashlib.sha256(content).hexdigest()
    pulled = adb("pull", "/data/local/tmp/new/folder/file", str(tmp_path / "back"))
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "back").read_bytes() == content


def test_a_folder_is_pushed_listed_and_pulled(adb: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    for name in ("a", "b", "inner/c"):
        (source / name).write_text(name)
    assert adb("push", str(source), "/sdcard/").returncode == 0
    assert {line.split()[-1] for line in adb("ls", "/sdcard/source").stdout.splitlines()} == {
        b".",
        b"..",
        b"a",
        b"b",
        b"inner",
    }
    assert adb("pull", "/sdcard/source", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back" / "inner" / "c").read_text() == "inner/c"


def test_mode_and_time_of_a_pushed_file_are_kept(adb: Run, tmp_path: Path) -> None:
    file = tmp_path / "tool"
    file.write_text("#!/system/bin/sh\necho ran\n")
    file.chmod(0o755)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert adb("push", str(file), "/data/local/tmp/tool").returncode == 0
    done = adb("shell", "/data/local/tmp/tool; stat -c '%a %Y' /data/local/tmp/tool")
    assert done.stdout == b"ran\n755 1700000000\n"


def test_a_push_to_a_read_only_place_says_why(adb: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    done = adb("push", str(tmp_path / "file"), "/system/bin/file")
    assert done.returncode != 0
    assert b"Read-only file system" in done.stdout + done.stderr


def test_a_pull_of_nothing_says_why(adb: Run, tmp_path: Path) -> None:
    done = adb("pull", "/data/local/tmp/nothing", str(tmp_path / "file"))
    assert done.returncode != 0
    assert b"No such file or directory" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (FaultPlan(push_failure="couldn't create file: Permission denied"), b"Permission denied"),
        (FaultPlan(free_bytes=500_000), b"No space left on device"),
    ],
)
def test_a_push_that_fails_leaves_the_connection_usable(
    adb: Run, phone: VirtualPhone, tmp_path: Path, plan: FaultPlan, words: bytes
) -> None:
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    phone.faults.set(plan)
    try:
        done = adb("push", str(tmp_path / "file"), "/data/local/tmp/failing")
    finally:
        phone.faults.clear()
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
    assert adb("shell", "ls /data/local/tmp/failing").returncode != 0


def test_small_segments_and_short_reads_change_nothing(adb: Run, phone: VirtualPhone, tmp_path: Path) -> None:
    content = random.Random(2).randbytes(1_000_000)
    (tmp_path / "there").write_bytes(content)
    phone.faults.set(FaultPlan(segment_bytes=1448, short_read_bytes=1448))
    try:
        assert adb("push", str(tmp_path / "there"), "/data/local/tmp/pieces").returncode == 0
        assert adb("pull", "/data/local/tmp/pieces", str(tmp_path / "back")).returncode == 0
    finally:
        phone.faults.clear()
    assert (tmp_path / "back").read_bytes() == content


def test_a_key_that_nobody_accepts_shows_as_unauthorized(adb: Run, tmp_path: Path) -> None:
    with running_phone(tmp_path, answer="ignore") as other:
        adb("connect", other.address)
        listed = adb("devices").stdout.decode().splitlines()
        assert f"{other.address}\tunauthorized" in listed
        adb("disconnect", other.address)


def test_a_reboot_by_adb_ends_the_connection_and_changes_the_boot_id(adb: Run, phone: VirtualPhone) -> None:
    boot_id = adb("shell", "cat /proc/sys/kernel/random/boot_id").stdout.decode().strip()
    assert boot_id == phone.folder.boot_id
    adb("reboot")
    adb("wait-for-disconnect")
    adb("disconnect", phone.address)  # its server would try again by itself only after 10 s
    adb("connect", phone.address)
    assert adb("wait-for-device").returncode == 0
    after = adb("shell", "cat /proc/sys/kernel/random/boot_id").stdout.decode().strip()
    assert after == phone.folder.boot_id != boot_id


def test_many_streams_at_once_keep_apart(adb: Run) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do echo {n}; done; exit {n}"
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: adb("shell", script.format(n=n)), range(8)))
    assert [one.returncode for one in done] == list(range(8))
    assert [set(one.stdout.split()) for one in done] == [{str(n).encode()} for n in range(8)]
