"""What tests need of the computer besides Python packages, and whether it is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
"""Android's own resources, which an APK is linked against (Debian's package android-framework-res)."""


def _bubblewrap() -> bool:
    from android_bench.virtual_phone.sandbox import find_bubblewrap

    return find_bubblewrap() is not None


def _android_packaging() -> bool:
    return FRAMEWORK.is_file() and None not in (shutil.which("aapt"), shutil.which("aapt2"))


_CHECKS: Mapping[str, Callable[[], bool]] = {
    "aapt and android-framework-res": _android_packaging,
    "bubblewrap": _bubblewrap,
    "chromium": lambda: shutil.which("chromium") is not None,
    "mksh": lambda: shutil.which("mksh") is not None,
    "bash": lambda: shutil.which("bash") is not None,
}


@cache
def is_here(requirement: str) -> bool:
    """Whether this computer has it. Raises KeyError for a name that is not in the table."""
    return _CHECKS[requirement]()
