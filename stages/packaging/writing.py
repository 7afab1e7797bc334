"""Folders that are whole or not there, and never change."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from nasflow.base.errors import UsageError
from nasflow.base.files import (
    TEMPORARY_SUFFIX,
    disk_faults,
    files_below,
    is_temporary,
    make_folder,
    read_or_none,
    sync_folder,
)


def is_up_to_date(folder: Path, files: Mapping[str, bytes], *, hint: str) -> bool:
    """Whether the folder holds these files and no others; false where there is no such folder.

    Raises UsageError where it holds something else: what others may already use is not changed.
    """
    if not folder.exists():
        return False
    there = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    differing = sorted(
        name
        for name in files.keys() | there.keys()
        if name not in there or read_or_none(there[name]) != files.get(name)
    )
    if not differing:
        return True
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise UsageError(
        f"{folder} was shipped before with other content (different: {', '.join(differing[:3])}{more}).",
        hint=hint,
    )


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder with these files, whole or not at all; names may have folders. Raises MachineError.

    What an interrupted write has left beside it is deleted.
    """
    with disk_faults(folder, "write"):
        make_folder(folder.parent)
        for left in folder.parent.iterdir():
            if left.name.startswith(f".{folder.name}.") and is_temporary(left.name):
                shutil.rmtree(left)
        temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
        try:
            temporary.mkdir()
            for name, content in sorted(files.items()):
                _write(temporary / name, content)
            for inner in sorted({(temporary / name).parent for name in files}):
                sync_folder(inner)
            temporary.replace(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                shutil.rmtree(temporary)
            raise
        sync_folder(folder.parent)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
