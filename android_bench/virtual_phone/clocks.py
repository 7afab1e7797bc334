"""Clocks that a virtual phone lowers while it measures, with no thermal status.

Sustained clocks: what a core may run at falls under load and comes back at rest, as people report it of
Snapdragon 845 phones that do not throttle (github.com/Rem01Gaming/encore issue 26) and of Samsung's DVFS. Its
shape (one step, after 1.5 s of load; back 1 s after) is assumed. Fixed-performance mode: "a lower, more
sustainable operating point" (developer.android.com/games/optimize/adpf/fixed-performance-mode); that it takes
hold 0.3 s after the command is assumed.

The tool counts its load by its own clock, in a file; that it runs, it says by a lock on another, which is
free again however it ended. The daemon, outside of the sandbox, writes what follows into the phone's files.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not in the sandbox, whose Python has few packages
    from android_bench.virtual_phone.faults import FaultPlan

POWER_FOLDER = "/data/system/power"
BUSY, LOAD, MODE = "busy", "load", "fixed_performance"
CPUFREQ = Path("/sys/devices/system/cpu/cpufreq")

_PERSISTED_S = 0.05
_LONGEST_WAIT_S = 30.0  # the daemon looks every 0.05 s, but on a busy computer it may not get to it
_PAUSE_S = 0.005


class PhoneClocks:
    """The daemon's side: which share of their peak the phone's clocks have now.

    ``rest_clock`` tells seconds, by which a rest is as long as the plan wants it.
    """

    def __init__(self, folder: Path, rest_clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._rest_clock = rest_clock
        self._busy_at = 0.0
        self.sustained = 1.0
        self.mode = 1.0

    @property
    def share(self) -> float:
        """Of what the silicon can do."""
        return self.sustained * self.mode

    def create(self) -> None:
        """Make the files that the tool writes to."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / BUSY).touch()

    def update(self, plan: FaultPlan) -> bool:
        """Look at the load and at the mode; whether the clocks have changed."""
        before = self.sustained, self.mode
        self.mode = plan.fixed_performance_share if self._is_in_mode(plan.fixed_performance_after_s) else 1.0
        self.sustained = plan.sustained_share if self._is_loaded(plan) else 1.0
        return before != (self.sustained, self.mode)

    def _is_in_mode(self, after_s: float) -> bool:
        file = self._folder / MODE
        try:
            is_on = file.read_text(encoding="ascii").strip() == "true"
            return is_on and time.time() - file.stat().st_mtime >= after_s
        except OSError:
            return False

    def _is_loaded(self, plan: FaultPlan) -> bool:
        with (self._folder / BUSY).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._busy_at = self._rest_clock()
            if self._rest_clock() - self._busy_at > plan.sustained_back_s:
                (self._folder / LOAD).unlink(missing_ok=True)
        return read_load_s(self._folder / LOAD) >= plan.sustained_after_s


class ToolLoad:
    """The tool's side: counts what it computes, and computes as slowly as the clock that follows from it."""

    def __init__(self, share: float, after_s: float, folder: Path, cpufreq: Path = CPUFREQ) -> None:
        self._share, self._after_s = share, after_s
        self._file, self._cpufreq = folder / LOAD, cpufreq
        self._load_s = self._written_s = read_load_s(self._file)

    @property
    def factor(self) -> float:
        """How much longer everything takes now."""
        return 1 / self._share if self._load_s >= self._after_s else 1.0

    def ran(self, seconds: float) -> None:
        """Count so much load. Returns when the phone's files show the clock that follows from it."""
        was_below = self._load_s < self._after_s
        self._load_s += seconds
        falls = was_below and self._load_s >= self._after_s
        if falls or self._load_s - self._written_s >= _PERSISTED_S:
            before = self._allowed()
            self._written_s = self._load_s
            beside = self._file.with_name(f"{LOAD}.new")
            beside.write_text(f"{self._load_s:.6f}\n", encoding="ascii")
            beside.replace(self._file)
            until = time.monotonic() + _LONGEST_WAIT_S
            while falls and self._allowed() == before and time.monotonic() < until:
                time.sleep(_PAUSE_S)

    def _allowed(self) -> list[str]:
        return [file.read_text() for file in sorted(self._cpufreq.glob("policy*/scaling_max_freq"))]


def read_load_s(file: Path) -> float:
    """Seconds of load; 0 where none is noted."""
    with suppress(OSError, ValueError):
        return float(file.read_text(encoding="ascii"))
    return 0.0
