"""Where ``nasflow`` and ``python -m nasflow`` start: makes sure that our own packages are imported."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

_OWN_ROOT = Path(__file__).resolve().parent.parent
_ENVIRONMENT_FAULT = 8  # MachineError.exit_code, before anything of ours may be imported


def forget_working_directory() -> None:
    """Take the working directory off the import path, unless nasflow itself was loaded from there.

    Somebody's folder may well hold a ``pipeline`` or ``stages`` of its own; ``python -m`` and an empty
    entry of PYTHONPATH would put it before ours.
    """
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:  # the folder was removed under our feet: nothing can be imported from it
        return
    if here != _OWN_ROOT:
        sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() != here]


def hidden_package() -> tuple[str, str] | None:
    """The first of our packages that another one hides, and where that one lies; None if there is none."""
    for name in ("pipeline", "stages", "android_bench"):
        spec = find_spec(name)
        listed = spec.submodule_search_locations if spec else None
        origins = [Path(origin).resolve() for origin in listed or ()]
        if origins != [_OWN_ROOT / name]:
            found = spec.origin if spec and spec.origin else "nowhere"
            return name, str(origins[0] if origins else found)
    return None


def main() -> int:
    """Run the command line; its exit code."""
    forget_working_directory()
    hidden = hidden_package()
    if hidden is not None:
        return _refuse(*hidden)
    from nasflow.cli.app import main as run_command_line

    return run_command_line()


def _refuse(name: str, origin: str) -> int:
    message = f"Another package named {name!r} hides nasflow's own: it comes from {origin}."
    hint = "Install nasflow in an environment of its own, and remove that folder from PYTHONPATH."
    sys.stderr.write(f"error: {message}\nhint: {hint}\n")
    if "--json" in sys.argv[1:]:
        details = {"reference": "machine", "type": "MachineError", "message": message, "hint": hint}
        sys.stdout.write(json.dumps({"error": {**details, "exit_code": _ENVIRONMENT_FAULT}}) + "\n")
    return _ENVIRONMENT_FAULT


if __name__ == "__main__":
    sys.exit(main())
