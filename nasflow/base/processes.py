"""Other processes of this computer."""

from __future__ import annotations

import os
from contextlib import suppress


def process_exists(pid: int) -> bool:
    """Whether there is a process of that number; True where that cannot be known (Windows)."""
    if os.name == "nt":  # there, signal 0 is not a question
        return True
    with suppress(PermissionError):  # it is alive and someone else's
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


def usable_cores() -> int:
    """How many logical cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
