"""What keeps the virtual phone's ``benchmark_model`` from running: the phone refuses it, a signal ends it.

The words of the refusals are those of Android's shell (mksh) and of bionic's linker:

- ``not executable: 64-bit ELF file``, exit code 1: tensorflow/tensorflow#42956 (its prompt shows the code);
- ``can't execute: Permission denied``, 126: Cartucho/android-touch-record-replay#19, mksh ``exec.c``;
- ``CANNOT LINK EXECUTABLE "...": ...``, 1: bionic ``linker/linker_main.cpp``.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Storage that stays, outside of what a client may delete. The command table says where that is.
COUNT_FILE = Path(os.environ.get("NASFLOW_TOOL_COUNT", "/data/system/tool-signals"))

_SHELL = "/system/bin/sh"


def refused(program: str, state: Mapping[str, Any]) -> tuple[int, str] | None:
    """Exit code and words of a phone that does not run the tool; None: it does."""
    if state.get("link_error"):
        return 1, f'CANNOT LINK EXECUTABLE "{program}": {state["link_error"]}\n'
    if state.get("abi"):
        return 1, f"{_SHELL}: {program}: not executable: 64-bit ELF file\n"
    if state.get("forbidden"):
        return 126, f"{_SHELL}: {program}: can't execute: Permission denied\n"
    return None


def strike(state: Mapping[str, Any], moment: str, count_file: Path = COUNT_FILE) -> None:
    """End this process by the signal that the state names for this moment, as often as it says."""
    number, times = state.get("signal"), state.get("signal_times")
    if number is None or state.get("signal_at") != moment:
        return
    if times is not None:
        plan = str(state.get("since_monotonic_s"))  # a plan that is set anew counts anew
        counted = count_file.read_text(encoding="ascii").split() if count_file.exists() else []
        struck = int(counted[1]) if counted[:1] == [plan] else 0
        if struck >= times:
            return
        count_file.write_text(f"{plan} {struck + 1}", encoding="ascii")
    sys.stdout.flush()
    sys.stderr.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
