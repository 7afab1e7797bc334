"""Which version of a package is installed; none of them is loaded."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version(name: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def nasflow_version() -> str:
    """Our own; ``not installed`` where nasflow runs from its source."""
    return package_version("nasflow") or "not installed"
