"""A job's stretches in turn: waited for, judged by the phone's own state, taken again if disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from android_bench.device import Conditions
from android_bench.phone.clocks import Clocks, Policies
from android_bench.phone.conditions import (
    DATE_COMMAND,
    UPTIME_COMMAND,
    Limits,
    Reading,
    clock_set,
    disturbance,
    read_conditions,
)
from android_bench.phone.job import PhoneJob, Progress
from android_bench.phone.link import PhoneLink
from android_bench.phone.lock import PhoneLock
from android_bench.runner.failure import KILLED
from android_bench.transport import Completed
from nasflow.base.errors import DeviceError

MAX_DROPS = 3
"""How often a stretch of timings is taken again before the phone is given up."""

MAX_KILLS = 2
"""How often a stretch is taken again because the phone killed a timing; the next time, that is an error."""

_POLL_S = (0.2, 2.0)


@dataclass(frozen=True)
class Timing:
    """What timing ``index`` of a job printed, its result file, and how the phone was.

    ``conditions`` are those at its stretch's end, ``policies`` its clocks right after the timing.
    """

    index: int
    completed: Completed
    result: bytes | None
    conditions: Conditions
    policies: Policies


@dataclass(frozen=True)
class _Seen:
    """The phone after a stretch, and the clocks in it (see :meth:`PhoneJob.clocks`)."""

    after: Reading
    clocks: Mapping[str, Policies]


@dataclass(frozen=True)
class Stretches:
    """The stretches of ``job`` from timing ``offset`` on.

    ``start`` starts the job where it does not run: on a phone that is ready, and again after a restart.
    ``clocks`` judges those of a stretch. ``silence_s`` is how long no timing may end.
    """

    job: PhoneJob
    offset: int
    link: PhoneLink
    lock: PhoneLock
    limits: Limits
    start: Callable[[], None]
    clocks: Clocks
    silence_s: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tell: Callable[[str], None]

    def timings(self) -> Iterator[Timing]:
        """Timings in order, after each stretch that nothing disturbed.

        Ends early where the job cannot be started and does not run: only another client's job does that.
        Raises DeviceError, DeviceLostError, NoUsableDeviceError.
        """
        for number, (first, end) in enumerate(self.job.stretches):
            if end <= self.offset:
                continue
            seen = self._undisturbed(number)
            if seen is None:
                return
            progress = self.link.do(self.job.poll)
            for index in range(max(first, self.offset), end):
                completed, result = self.link.do(self.job.output, index, progress)
                clocks = seen.clocks.get(f"{index:04d}") or seen.after.policies
                yield Timing(index, completed, result, seen.after.conditions(), clocks)

    def _undisturbed(self, number: int) -> _Seen | None:
        """What was seen of a stretch that counts; None: it cannot be started."""
        drops = kills = 0
        while self._finished(number):
            if kills < MAX_KILLS and self._was_killed(number):
                kills += 1
                self._take_again(number, "the phone killed benchmark_model, usually because of low memory")
                continue
            before, after = self.link.do(self.job.readings, number)
            clocks = self.link.do(self.job.clocks, number)
            reason = disturbance(before, after, self.limits)
            if reason is None:
                # Read under load; before and after a stretch the phone has had a moment of rest.
                reason = self.clocks.assess([*clocks.values()] or [before.policies, after.policies])
                if self.clocks.news:
                    self.tell(self.clocks.news)
            if reason is None:
                return _Seen(after, clocks)
            drops += 1
            self._drop(number, reason, drops)
        return None

    def _was_killed(self, number: int) -> bool:
        """Whether a timing of a finished stretch was ended by SIGKILL, which another try may escape."""
        first, end = self.job.stretches[number]
        codes = self.link.do(self.job.poll).codes
        return any(codes.get(index) == KILLED for index in range(max(first, self.offset), end))

    def _take_again(self, number: int, reason: str) -> None:
        first, end = self.job.stretches[number]
        self.link.do(self.job.stop)
        self.link.do(self.job.drop, number)
        self.tell(f"{end - first} timings are discarded and repeated: {reason}.")

    def _drop(self, number: int, reason: str, drops: int) -> None:
        """Throw a stretch away, so that it is taken again. Raises DeviceError."""
        first, end = self.job.stretches[number]
        self.link.do(self.job.stop)
        self.link.do(self.job.drop, number)
        if drops > MAX_DROPS:
            raise DeviceError(
                f"{end - first} timings were disturbed and abandoned after {drops} attempts: {reason}.",
                hint="Keep the phone cool and do not touch it, close all other apps, and start again.",
            )
        self.tell(f"{end - first} timings are discarded and repeated: {reason}.")

    def _finished(self, number: int) -> bool:
        """Wait for a stretch, starting the job where it does not run; False: it cannot be started."""
        starts, seen = 0, -1
        silent_until = 0.0
        pause_s = _POLL_S[0]
        while True:
            self.link.do(self.lock.renew)
            progress: Progress = self.link.do(self.job.poll)
            if number in progress.finished:
                return True
            if not progress.alive:
                if not self.job.commands:
                    return False
                if starts > MAX_DROPS:
                    raise DeviceError(
                        f"the phone ended a measurement {starts} times before it was complete.",
                        hint="Close other apps, check the phone's free memory, and start again.",
                    )
                self.start()
                starts += 1
                seen = -1
            if len(progress.codes) != seen:
                seen, silent_until = len(progress.codes), self.clock() + self.silence_s
            elif self.clock() > silent_until:
                self._end_silence(number)
                seen = -1
            self.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _POLL_S[1])

    def _end_silence(self, number: int) -> None:
        """End a job in which no timing ends, where starting it anew helps. Raises DeviceError.

        The tool counts its seconds by the phone's clock: set back by hours, it goes on for as long.
        """
        before = self.link.do(self.job.begun, number)
        now = self.link.do(read_conditions, of=(DATE_COMMAND, UPTIME_COMMAND))
        reason = clock_set(before, now) if before is not None else None
        if reason is None:
            raise DeviceError(
                f"benchmark_model has not finished a timing on the phone for more than {self.silence_s:.0f} "
                "s.",
                hint="Restart the phone and try again.",
            )
        first, end = self.job.stretches[number]
        self.tell(f"{end - first} timings are discarded and repeated: {reason}.")
        self.link.do(self.job.stop)
