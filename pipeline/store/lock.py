"""One run at a time in one artifacts folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nasflow.base.errors import MachineError, StoreLockedError
from nasflow.base.files import delete, disk_faults, make_folder, read_or_none, write_atomic
from nasflow.base.processes import process_exists

if TYPE_CHECKING:
    from filelock import FileLock


class FolderLock:
    """A lock file in ``folder``, held through the operating system: it ends with its process.

    ``lock.owner`` beside it says who holds it, for the message alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = folder / "lock.owner"
        self._lock: FileLock | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; may be nested. Raises StoreLockedError, MachineError."""
        from filelock import FileLock, Timeout

        if self._lock is None:
            with disk_faults(self._folder, "write"):
                make_folder(self._folder)
            self._lock = FileLock(self._folder / "lock", timeout=0, thread_local=False)
        outermost = not self._lock.is_locked
        with disk_faults(self._folder / "lock", "lock"):
            try:
                self._lock.acquire()
            except Timeout:
                raise StoreLockedError(
                    f"Another run uses {self._folder}: {self._holder()}.",
                    hint="Wait until it is done, stop it, or give this run its own folder (key `artifacts`).",
                ) from None
        try:
            if outermost:
                write_atomic(self._owner, json.dumps(_identity()).encode())
            yield
        finally:
            try:
                if outermost:
                    with suppress(MachineError):  # only words for others depend on it
                        delete(self._owner)
            finally:
                self._lock.release()

    def _holder(self) -> str:
        """Who holds the lock, in words. The file may be missing, old or damaged: nothing depends on it."""
        try:
            owner = json.loads(read_or_none(self._owner) or b"")
            pid, host, since = int(owner["pid"]), str(owner["host"]), str(owner["since"])
        except (ValueError, TypeError, KeyError):
            return "the process is unknown"
        if host == socket.gethostname() and not process_exists(pid):
            return f"the process is unknown; process {pid}, the last known one, has ended"
        return f"process {pid} on {host} has held it since {since}"


def _identity() -> dict[str, object]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
