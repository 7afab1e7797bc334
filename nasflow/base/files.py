"""Files that are whole or not there, an account's folders, and the system's refusals in plain words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nasflow.base.errors import MachineError, UsageError

TEMPORARY_SUFFIX = ".tmp"

_AGAIN = "Then run the same command again: finished work is kept."
_REFUSALS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: (
        "no space is left on the disk",
        f"Free some space (`nasflow clean` removes unreferenced files). {_AGAIN}",
    ),
    errno.EDQUOT: ("the disk quota is used up", f"Free some space or ask for a larger quota. {_AGAIN}"),
    errno.EFBIG: ("the file would be larger than allowed here", f"Raise the limit (`ulimit -f`). {_AGAIN}"),
    errno.EACCES: (
        "permission is denied",
        f"Give your account permission, or choose another folder (key `artifacts`). {_AGAIN}",
    ),
    errno.EPERM: (
        "the operation is not permitted",
        f"Give your account permission, or choose another folder (key `artifacts`). {_AGAIN}",
    ),
    errno.EROFS: (
        "the file system is read-only",
        f"Choose a folder that can be written to (key `artifacts`). {_AGAIN}",
    ),
    errno.EIO: ("the disk reports an input/output error", "Check the disk before anything else."),
    errno.ENOENT: ("it does not exist (any more)", f"It may have been deleted during the run. {_AGAIN}"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another folder (key `artifacts`)."),
    errno.EEXIST: ("there is a file where a folder is needed", "Choose another folder (key `artifacts`)."),
    errno.EMFILE: ("too many files are open", f"Raise the limit (`ulimit -n`). {_AGAIN}"),
    errno.ENAMETOOLONG: ("the path is too long", "Choose a folder with a shorter path (key `artifacts`)."),
}


def fault(error: OSError, path: Path, action: str) -> MachineError:
    """One clear line for an OSError; ``action`` reads ``write``, ``read``, ``delete``."""
    reason, hint = _REFUSALS.get(error.errno or 0, (error.strerror or str(error), _AGAIN))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason += _free_space(path)
    return MachineError(f"Cannot {action} {path}: {reason}.", hint=hint, raw=str(error))


def free_bytes(path: Path) -> int | None:
    """Free space where ``path`` is or will be; None where the system does not say."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def _free_space(path: Path) -> str:
    free = free_bytes(path)
    return "" if free is None else f" ({free / 1e6:.1f} MB are free)"


@contextmanager
def disk_faults(path: Path, action: str) -> Iterator[None]:
    """Turn any OSError of the block into MachineError (exit code 8)."""
    try:
        yield
    except OSError as error:
        raise fault(error, path, action) from error


def home_folder() -> Path:
    """This account's home. Raises MachineError where it has none, as a bare number in a container."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise _homeless("HOME") from error


def cache_folder() -> Path:
    """Where this account keeps nasflow's downloads. Raises MachineError where it has no home."""
    from platformdirs import user_cache_path

    try:
        return user_cache_path("nasflow")
    except RuntimeError as error:
        raise _homeless("HOME or XDG_CACHE_HOME") from error


def _homeless(variables: str) -> MachineError:
    return MachineError(
        "This account has no home folder: HOME is not set, and the system does not know the account.",
        hint=f"Set {variables} to a folder that you may write to.",
    )


def expand_home(path: str) -> Path:
    """A path whose leading ``~`` or ``~name`` is a home. Raises UsageError where that is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"The path {path} begins with a home folder that this computer does not know.",
            hint="Write the full path of the folder instead of the '~'.",
        ) from error


def sync_folder(folder: Path) -> None:
    """Put the folder's list of names on the disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot do it
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents, durably. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def write_atomic(path: Path, *chunks: bytes) -> None:
    """As :func:`write_atomic_from`, from a few pieces that are in memory."""
    write_atomic_from(path, chunks)


def write_atomic_from(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a whole file or none: temporary file, fsync, rename, fsync of the folder.

    Raises MachineError. After a power cut or SIGKILL ``path`` holds either all of the old or all of
    the new content; at worst a temporary file is left over (see :func:`is_temporary`).
    """
    with disk_faults(path, "write"):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
        try:
            with temporary.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name was left over by an interrupted write or deletion."""
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


def read_or_none(path: Path) -> bytes | None:
    """The file's content, None where there is no such file. Raises MachineError."""
    with disk_faults(path, "read"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def hash_or_none(path: Path) -> str | None:
    """The file's SHA-256, None where there is no such file. Raises MachineError."""
    with disk_faults(path, "read"):
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None


def size_or_zero(path: Path) -> int:
    """The file's size in bytes; 0 where it is gone."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def files_below(folder: Path) -> Iterator[Path]:
    """All files below ``folder``, in a fixed order; nothing where there is no folder."""
    with disk_faults(folder, "read"):
        for parent, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                yield Path(parent, name)


def delete(path: Path) -> None:
    """Delete a file; it may be gone already. Raises MachineError."""
    with disk_faults(path, "delete"):
        path.unlink(missing_ok=True)


def delete_folder(folder: Path) -> None:
    """Delete a folder and all in it, from the view of others at once; it may be gone already.

    Raises MachineError.
    """
    doomed = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
    with disk_faults(folder, "delete"):
        try:
            folder.replace(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)
