"""Time as the virtual phone's tool sees it: by a clock that may be set at any moment, on a phone that sleeps.

The real tool takes its times, and counts its seconds, by the phone's clock (``gettimeofday``).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

CLOCK_FILE = "clock_offset_s"
CLOCK_FILE_BYTES = 16


class WallClock:
    """A clock in nanoseconds that is ahead of another by what the phone's file says at that very moment.

    The file is looked at in memory, which takes less than a microsecond.
    """

    def __init__(self, file: Path, clock: Callable[[], int]) -> None:
        self._clock = clock
        with file.open("rb") as opened:
            self._offset = mmap.mmap(opened.fileno(), CLOCK_FILE_BYTES, access=mmap.ACCESS_READ)

    def __call__(self) -> int:
        """Now."""
        return self._clock() + 1_000_000_000 * int(self._offset[:])


def asleep_from_s(awake_cs: str, now_s: float) -> float | None:
    """When the phone is asleep, by a clock that says ``now_s``; None: it stays awake.

    ``awake_cs`` is for how many hundredths of a second it stays awake; nothing: for good.
    """
    return now_s + int(awake_cs) / 100 if awake_cs else None
