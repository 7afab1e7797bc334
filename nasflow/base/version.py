"""Which version of a package is installed, and which code this is; nothing is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("android_bench", "nasflow", "pipeline", "stages")
"""Ours, which lie beside each other."""


def package_version(name: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def nasflow_version() -> str:
    """Our own; ``not installed`` where nasflow runs from its source."""
    return package_version("nasflow") or "not installed"


@cache
def code_sha256() -> str:
    """One hash of the source files of all our packages: two versions of one number can be told apart."""
    here = Path(__file__).resolve().parents[2]
    return sources_sha256(here / name for name in PACKAGES)


def sources_sha256(packages: Iterable[Path]) -> str:
    """One hash of the Python files in folders, by their paths within them and their content."""
    found = hashlib.sha256()
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.update(f"{content}  {package.name}/{path.relative_to(package).as_posix()}\n".encode())
    return found.hexdigest()
