"""What all benchmarks share: the command line, the JSON document, the exit code.

A benchmark is a module with one line at its end: ``sys.exit(main("name", run))``. ``run(full)`` returns an
:class:`Outcome`; whatever it wants to say meanwhile goes to standard error through :func:`say`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from android_bench.local.host import local_conditions, local_info
from nasflow.base.errors import NasflowError
from nasflow.base.version import package_version

_PACKAGES = ("nasflow", "torch", "tensorflow-cpu", "tensorflow", "ai-edge-litert", "numpy")


@dataclass(frozen=True)
class Bar:
    """One figure against what it must reach."""

    name: str
    value: float
    limit: float
    holds: bool


def at_most(name: str, value: float, limit: float) -> Bar:
    """A figure that must not exceed its limit."""
    return Bar(name, value, limit, value <= limit)


def at_least(name: str, value: float, limit: float) -> Bar:
    """A figure that must reach its limit."""
    return Bar(name, value, limit, value >= limit)


def above(name: str, value: float, limit: float) -> Bar:
    """A figure that must exceed its limit."""
    return Bar(name, value, limit, value > limit)


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found."""

    figures: Mapping[str, Any]
    bars: Sequence[Bar] = ()


def say(text: str) -> None:
    """Tell whoever waits; standard output belongs to the document."""
    print(text, file=sys.stderr, flush=True)


def main(
    name: str,
    run: Callable[..., Outcome],
    argv: Sequence[str] | None = None,
    *,
    counts: Mapping[str, str] | None = None,
) -> int:
    """Run a benchmark and print its document. Returns 1 where a bar does not hold, else 0.

    ``counts``: further options that take a whole number, with their help; ``run`` is given them by name, 0
    where they are left out. An error that the user can mend gives its own exit code and one line on standard
    error.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="minutes at most (the default)")
    depth.add_argument("--full", action="store_true", help="the figures that the documentation shows")
    for option, words in (counts or {}).items():
        parser.add_argument(f"--{option}", type=int, default=0, metavar="N", help=words)
    given = parser.parse_args(argv)
    full = given.full
    environment = describe_environment()
    try:
        outcome = run(full, **{option: getattr(given, option) for option in counts or {}})
    except NasflowError as error:
        say(f"{name}: {error}")
        return error.exit_code
    document = {
        "benchmark": name,
        "depth": "full" if full else "quick",
        "figures": outcome.figures,
        "bars": [asdict(bar) for bar in outcome.bars],
        "environment": environment,
        "commit": commit(),
    }
    print(json.dumps(document, indent=2, allow_nan=False))
    return 0 if all(bar.holds for bar in outcome.bars) else 1


def describe_environment() -> dict[str, Any]:
    """This computer, its load when the benchmark began, and the packages that matter."""
    versions = {package: package_version(package) for package in _PACKAGES}
    packages = {package: version for package, version in versions.items() if version is not None}
    return {
        **local_info().identity(),
        "cores": os.cpu_count(),
        "load_1min": local_conditions().load_1min,
        "python": platform.python_version(),
        "packages": packages,
    }


def commit() -> str:
    """The commit of this working copy, ``-dirty`` where tracked files differ; empty outside git."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
