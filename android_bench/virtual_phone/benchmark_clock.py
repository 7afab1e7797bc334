"""Time as the virtual phone's ``benchmark_model`` sees it: a wall clock of whole microseconds.

The tools take ``gettimeofday`` before and after each run and subtract (``profiling/time.cc``): a run of
2.3 us reads 2 or 3, one of 0.4 us mostly 0.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from android_bench.virtual_phone.clocks import ToolLoad


@dataclass(frozen=True)
class Slowness:
    """How much longer everything takes: ``slowdown`` from the start, more with every minute, and asleep."""

    slowdown: float = 1.0
    drift_per_minute: float = 0.0
    since_s: float = 0.0
    asleep_from_s: float | None = None
    sleep_slowdown: float = 1.0

    def factor(self, now_s: float) -> float:
        """How much longer, at a reading of the clock that ``since_s`` and ``asleep_from_s`` are from."""
        drift = max(0.1, 1 + self.drift_per_minute * (now_s - self.since_s) / 60)
        asleep = self.asleep_from_s is not None and now_s >= self.asleep_from_s
        return self.slowdown * drift * (self.sleep_slowdown if asleep else 1.0)

    def ran(self, seconds: float) -> None:
        """Hear how long something has run: nothing follows from it, but for a phone that grows slow so."""


@dataclass(frozen=True)
class LoadedSlowness(Slowness):
    """The same for a phone whose clocks fall under the load of these very runs."""

    load: ToolLoad | None = None

    def factor(self, now_s: float) -> float:
        """See :meth:`Slowness.factor`."""
        return super().factor(now_s) * (1.0 if self.load is None else self.load.factor)

    def ran(self, seconds: float) -> None:
        """Count it as load."""
        if self.load is not None:
            self.load.ran(seconds)


class DescribedTime:
    """A clock in nanoseconds that each run moves on as the described phone says, whatever it takes here."""

    def __init__(self, invoke: Callable[[], object], model: bytes, run_us: int) -> None:
        self._invoke = invoke
        share = int.from_bytes(hashlib.sha256(model).digest()[:4]) / (1 << 32)
        self._run_ns = int(1000 * run_us * (1 + share))
        self._runs = 0
        # Every process begins at a whole second, so that equal runs are cut into equal microseconds.
        self._now_ns = 10**9 * (time.monotonic_ns() // 10**9)

    def clock(self) -> int:
        """Now."""
        return self._now_ns

    def invoke(self) -> None:
        """A run: up to 1 % longer than the shortest, in a pattern that repeats every eleven runs."""
        self._invoke()
        self._now_ns += self._run_ns + self._run_ns * (7 * self._runs % 11) // 1000
        self._runs += 1


class PhoneClock:
    """This phone's wall clock in nanoseconds: ahead of the real one by what throttling has cost."""

    def __init__(self, clock: Callable[[], int], slowness: Slowness) -> None:
        self._clock, self._slowness = clock, slowness
        self._ahead_ns = 0

    def now_us(self) -> int:
        """Now, in whole microseconds, as the tools see it (``profiling/time.cc``: gettimeofday)."""
        return (self._clock() + self._ahead_ns) // 1000

    def timed_us(self, action: Callable[[], object]) -> int:
        """How long something takes by this phone's clock: the difference of two readings."""
        before_ns = self._clock()
        action()
        took_ns = self._clock() - before_ns
        begin_ns = before_ns + self._ahead_ns
        slower_ns = int(took_ns * self._slowness.factor(time.monotonic()))
        self._slowness.ran(took_ns / 1e9)
        self._ahead_ns += slower_ns - took_ns
        return (begin_ns + slower_ns) // 1000 - begin_ns // 1000


def time_runs(
    invoke: Callable[[], object],
    least_runs: float,
    least_seconds: float,
    most_seconds: float,
    *,
    clock: PhoneClock,
) -> tuple[int, ...]:
    """Microseconds of each run: until both minima are reached or ``most_seconds`` are over.

    As ``BenchmarkModel::Run`` loops: with minima of 0 there is no run.
    """
    now_us = clock.now_us()
    enough_us, end_us = (now_us + int(seconds * 1e6) for seconds in (least_seconds, most_seconds))
    times: list[int] = []
    while (len(times) < least_runs or now_us < enough_us) and now_us <= end_us:
        times.append(clock.timed_us(invoke))
        now_us = clock.now_us()
    return tuple(times)
