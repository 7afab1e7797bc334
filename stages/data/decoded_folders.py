"""Which folders of decoded images the cache keeps: they may take gigabytes each, and nobody deletes them."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

_DAY_SECONDS = 86_400.0
UNUSED_DAYS, UNFINISHED_DAYS = 30, 1
"""A finished folder is deleted when it was not used for so long, one that a killed run left after a day."""


def mark_used(folder: Path) -> None:
    """Note that a folder is used now; a cache that may only be read stays as it is."""
    with suppress(OSError):
        os.utime(folder)


def delete_old(cache: Path) -> None:
    """Delete what was left over or not used for long. ``cache`` holds folders of decoded images alone.

    A folder that is being filled has a dot in its name.
    """
    with suppress(OSError):
        for folder in list(cache.iterdir()):
            unfinished = "." in folder.name
            days = UNFINISHED_DAYS if unfinished else UNUSED_DAYS
            paths = (folder, *folder.iterdir()) if unfinished else (folder,)
            changed = max(path.stat().st_mtime for path in paths)
            if time.time() - changed > days * _DAY_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
