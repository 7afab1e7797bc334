"""Files of ours on a phone: in one folder, named by their content, whole or not there."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress

from android_bench.transport import FOLDER, Completed, Transport
from nasflow.base.errors import DeviceError, DeviceLostError, IntegrityError
from nasflow.base.text import plain_text

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_PARTIAL = re.compile(r"[0-9a-f]{64}(?:\.[A-Za-z0-9]{1,16})?\.[0-9a-f]{16}\.part")
_SHA256 = re.compile(r"\\?([0-9a-f]{64})\b")
_SLOWEST_BYTES_PER_S = 500_000
_WORDS_AT_ONCE = 20
_COMMAND_NOT_FOUND = 127


def remote_path(name: str) -> str:
    """The place of one of our files. Raises ValueError for a name that is not a plain one."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name for a file on the phone")
    return f"{FOLDER}/{name}"


class RemoteFiles:
    """Our files on one phone. ``timeout_s`` is for each command; a transfer gets more by its size.

    What was found or put is remembered and not looked at again: call :meth:`forget` after the phone was
    away. Methods raise DeviceLostError, DeviceError (with the phone's reason) and NoUsableDeviceError.
    """

    def __init__(self, transport: Transport, *, timeout_s: float = 30.0) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._known: set[str] = set()
        self._has_folder = False

    def put(self, content: bytes, *, suffix: str = "", mode: int = 0o644) -> str:
        """Have this content on the phone; its path there, which is named by its SHA-256.

        A file that is there with this very content is not sent again. Otherwise it goes to a name of its
        own, is hashed on the phone, and renamed. Raises IntegrityError if it arrives damaged twice.
        """
        digest = hashlib.sha256(content).hexdigest()
        path = remote_path(digest + suffix)
        if path in self._known:
            return path
        self._make_folder()
        if self._sha256(path) != digest:
            self._send(content, digest, path, mode)
        elif mode & 0o111:  # it may have come here as a plain file
            self._do("chmod", f"{mode:o}", path)
        self._known.add(path)
        return path

    def has(self, name: str) -> bool:
        """Is there a file of ours with this name?"""
        return self._run("test", "-f", remote_path(name)).exit_code == 0

    def read(self, name: str, *, size_bytes: int = 0) -> bytes:
        """The content of one of our files; ``size_bytes``, where known, lengthens the time-out."""
        timeout_s = self._timeout_s + size_bytes / _SLOWEST_BYTES_PER_S
        return self._transport.pull(remote_path(name), timeout_s=timeout_s)

    def names(self) -> tuple[str, ...]:
        """The names in our folder, sorted; none where it does not exist. Foreign names are left out."""
        listed = self._run("ls", "-1", FOLDER)
        lines = plain_text(listed.stdout, limit=1_000_000).splitlines() if listed.exit_code == 0 else []
        return tuple(sorted(line for line in lines if _NAME.fullmatch(line)))

    def remove(self, names: Iterable[str]) -> None:
        """Delete files of ours by name; one that is not there is no error."""
        paths = [remote_path(name) for name in names]
        for start in range(0, len(paths), _WORDS_AT_ONCE):
            some = paths[start : start + _WORDS_AT_ONCE]
            self._do("rm", "-f", *some)
            self._known.difference_update(some)

    def remove_partial(self) -> int:
        """Delete what interrupted transfers have left behind; how many there were."""
        partial = [name for name in self.names() if _PARTIAL.fullmatch(name)]
        self.remove(partial)
        return len(partial)

    def forget(self) -> None:
        """Look again at every file: the phone was away, or started anew."""
        self._known.clear()
        self._has_folder = False

    def _make_folder(self) -> None:
        if not self._has_folder:
            self._do("mkdir", "-p", FOLDER)
            self._has_folder = True

    def _send(self, content: bytes, digest: str, path: str, mode: int) -> None:
        timeout_s = self._timeout_s + len(content) / _SLOWEST_BYTES_PER_S
        arrived = ""
        for _ in range(2):
            partial = f"{path}.{secrets.token_hex(8)}.part"
            try:
                self._transport.push(content, partial, mode=mode, timeout_s=timeout_s)
                arrived = self._sha256(partial, size_bytes=len(content)) or "nothing"
                if arrived == digest:
                    self._do("mv", "-f", partial, path)
                    return
                self._do("rm", "-f", partial)
            except DeviceLostError:
                raise
            except DeviceError:
                with suppress(DeviceError):  # half a file would fill the phone; the first reason counts
                    self._run("rm", "-f", partial)
                raise
        raise IntegrityError(
            f"a file of {len(content):,} bytes arrived damaged on {self._transport.serial}: SHA-256 "
            f"{digest[:12]} was sent, {arrived[:12]} was received.",
            hint="Try another cable or port.",
        )

    def _sha256(self, path: str, *, size_bytes: int = 0) -> str | None:
        """The hash of a file on the phone, computed there; None where there is no such file."""
        done = self._run("sha256sum", path, extra_s=size_bytes / _SLOWEST_BYTES_PER_S)
        if done.exit_code == _COMMAND_NOT_FOUND:  # before Android 8: read it back instead
            if self._run("test", "-f", path).exit_code != 0:
                return None
            timeout_s = self._timeout_s + size_bytes / _SLOWEST_BYTES_PER_S
            return hashlib.sha256(self._transport.pull(path, timeout_s=timeout_s)).hexdigest()
        match = _SHA256.match(done.stdout.decode("ascii", "replace"))
        return match[1] if match and done.exit_code == 0 else None

    def _do(self, *argv: str) -> None:
        """Run a command that has to succeed. Raises DeviceError with the phone's reason."""
        done = self._run(*argv)
        if done.exit_code != 0:
            reason = plain_text(done.stderr or done.stdout, limit=300) or "no reason given"
            raise DeviceError(
                f"{argv[0]} failed on {self._transport.serial} with exit code {done.exit_code}: {reason}.",
                hint=f"Check {FOLDER} on the phone: is there free space, and can the shell write to it?",
                raw=reason,
            )

    def _run(self, *argv: str, extra_s: float = 0.0) -> Completed:
        return self._transport.run(argv, timeout_s=self._timeout_s + extra_s)
