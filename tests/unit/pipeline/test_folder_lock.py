from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from toy_pipeline import Toy

from nasflow.base.errors import MachineError, StoreLockedError
from pipeline.store.lock import FolderLock

HOLDER = """
import os, sys
from pathlib import Path
from pipeline.store.lock import FolderLock
with FolderLock(Path(sys.argv[1])).held():
    os.write(1, b"held\\n")
    os.read(0, 1)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_second_run_in_the_same_folder_is_told_who_holds_it_and_harms_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert line_of(process) == b"held"
        toy = Toy(tmp_path)
        with pytest.raises(StoreLockedError) as caught:
            toy.run()
        assert caught.value.exit_code == 8
        assert f"process {process.pid} on " in caught.value.message
        assert str(tmp_path) in caught.value.message
        assert toy.notes.ran == []
        with pytest.raises(StoreLockedError):
            toy.pipeline.sweep()
        assert list(toy.stale()) == ["draw", "double", "alone", "sum", "show"]
        assert toy.pipeline.sweep(dry_run=True).files == 0


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert line_of(process) == b"held"
        process.kill()
        process.wait(10)
        Toy(tmp_path).run()


def test_a_holder_that_is_no_more_is_not_blamed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(10)
    with FolderLock(tmp_path).held():
        owner = {"pid": ended.pid, "host": socket.gethostname(), "since": "noon"}
        (tmp_path / "lock.owner").write_text(json.dumps(owner))
        with pytest.raises(StoreLockedError, match=f"process {ended.pid}, the last known one, has ended"):
            Toy(tmp_path).run()


def test_the_lock_may_be_nested_and_is_free_afterwards(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with lock.held():
        with lock.held():
            pass
        with pytest.raises(StoreLockedError), FolderLock(tmp_path).held():
            pass
    with FolderLock(tmp_path).held():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("owner", [b"", b"nonsense", b"[]", b'{"pid": "x"}', b"\xff", None])
def test_without_a_readable_owner_the_lock_is_still_told_of(tmp_path: Path, owner: bytes | None) -> None:
    with FolderLock(tmp_path).held():
        if owner is None:
            (tmp_path / "lock.owner").unlink()
        else:
            (tmp_path / "lock.owner").write_bytes(owner)
        with (
            pytest.raises(StoreLockedError, match="the process is unknown"),
            FolderLock(tmp_path).held(),
        ):
            pass


def test_an_owner_on_another_computer_is_named(tmp_path: Path) -> None:
    with FolderLock(tmp_path).held():
        (tmp_path / "lock.owner").write_bytes(b'{"pid": 1, "host": "elsewhere", "since": "noon"}')
        with (
            pytest.raises(StoreLockedError, match="process 1 on elsewhere has held it since noon"),
            FolderLock(tmp_path).held(),
        ):
            pass


FORBIDDEN = """
import os, sys
from pathlib import Path
import filelock
from nasflow.base.errors import MachineError
from pipeline.store.lock import FolderLock
from pipeline.store.store import Store
folder = Path(sys.argv[1])
if os.geteuid() == 0:  # root may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for attempt in (FolderLock(folder).held().__enter__, lambda: Store(folder, print).put_bytes(b"x", ".bin")):
    try:
        attempt()
    except MachineError as error:
        print(error.exit_code, error.message)
"""


def test_a_folder_without_write_permission_is_one_clear_line(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_mode & stat.S_ISVTX:  # the system's folder of temporary files
            break
        part.chmod(0o755)
    folder.chmod(0o555)
    answer = subprocess.run(
        [sys.executable, "-c", FORBIDDEN, str(folder)], capture_output=True, text=True, check=False
    )
    assert answer.stderr == ""
    first, second = answer.stdout.splitlines()
    assert first == f"8 Cannot lock {folder / 'lock'}: permission is denied."
    assert second.startswith(f"8 Cannot write {folder / 'objects'}")
    assert second.endswith(": permission is denied.")
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(MachineError, match="there is a file where a folder is needed"),
        FolderLock(tmp_path / "file" / "artifacts").held(),
    ):
        pass
