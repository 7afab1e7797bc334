"""What tests need of the computer besides Python packages, and whether it is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache


def _bubblewrap() -> bool:
    from android_bench.virtual_phone.sandbox import find_bubblewrap

    return find_bubblewrap() is not None


_CHECKS: Mapping[str, Callable[[], bool]] = {
    "bubblewrap": _bubblewrap,
    "mksh": lambda: shutil.which("mksh") is not None,
    "bash": lambda: shutil.which("bash") is not None,
}


@cache
def is_here(requirement: str) -> bool:
    """Whether this computer has it. Raises KeyError for a name that is not in the table."""
    return _CHECKS[requirement]()
