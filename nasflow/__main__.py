"""Where ``nasflow`` and ``python -m nasflow`` start."""

from __future__ import annotations

import sys
from pathlib import Path


def forget_working_directory() -> None:
    """Take the working directory off the import path, unless nasflow itself was loaded from there.

    Somebody's folder may well hold a ``pipeline`` or ``stages`` of its own; ``python -m`` and an empty
    entry of PYTHONPATH would put it before ours.
    """
    own_root = Path(__file__).resolve().parent.parent
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:  # the folder was removed under our feet: nothing can be imported from it
        return
    if here != own_root:
        sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() != here]


def main() -> int:
    """Run the command line; its exit code."""
    forget_working_directory()
    from nasflow.cli import main as run_command_line

    return run_command_line()


if __name__ == "__main__":
    sys.exit(main())
