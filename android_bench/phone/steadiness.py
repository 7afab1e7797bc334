"""A phone made steady for a measurement: at rest, with the settings and the mode that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from android_bench.phone.clocks import Clocks, wait_for_clocks
from android_bench.phone.conditions import Limits, Reading, read_clocks, wait_until_ready
from android_bench.phone.link import PhoneLink, twice
from android_bench.phone.lock import PhoneLock
from android_bench.phone.performance_mode import forget_answer, has_fixed_performance, note_answer
from android_bench.phone.settings import make_steady, repair
from nasflow.base.errors import NasflowError

_SETTLED_READINGS = 4  # over 1.5 s: fixed-performance mode takes hold some 0.3 s after the command


class Steadiness:
    """Of the phone behind ``link``, which is changed only while ``lock`` is held."""

    def __init__(
        self,
        link: PhoneLink,
        lock: PhoneLock,
        clocks: Clocks,
        limits: Limits,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> None:
        self._link, self._lock, self._clocks, self._limits = link, lock, clocks, limits
        self._clock, self._sleep, self._tell = clock, sleep, tell
        self.has_mode: bool | None = None
        """Whether the phone has fixed-performance mode; None: it was not asked yet."""
        self._is_steady = False
        self._reported: set[str] = set()

    def ask_for_mode(self) -> None:
        """Find out whether the phone has fixed-performance mode; switches nothing."""
        self.has_mode, words = self._link.do(has_fixed_performance)
        if words:
            self._tell_once([f"The phone has no fixed-performance mode; it sets its own clocks: {words}"])

    def ready(self) -> Reading:
        """The phone at rest and ready, with its settings made steady."""
        if not self._is_steady:
            self._is_steady = True  # a part of it may be done when it fails
            self._link.do(note_answer, bool(self.has_mode))
            answers: list[str] = []
            refused = self._link.do(make_steady, sleep=self._pause, mode_answered=answers.append)
            self._tell_once(refused)
            self._mode_answered(answers[-1])
            self._await_clocks(_SETTLED_READINGS)
        else:
            self._await_clocks(1)
        reading = self._link.do(
            wait_until_ready,
            self._limits,
            clock=self._clock,
            sleep=self._pause,
            tell=self._tell,
            fastest=self._clocks.expected,
        )
        self._clocks.rested(reading.policies)
        return reading

    def put_back(self, *, away: bool = False) -> None:
        """Put the settings back; a phone that is away keeps its note, and the next run does it.

        Another run that has taken the phone meanwhile has done so already, and made its own.
        """
        was_steady, self._is_steady = self._is_steady, False
        if not was_steady or not self._lock.held:
            return
        reason = "the phone is disconnected."
        if not away:
            try:
                twice(lambda: self._tell_once(repair(self._link.transport)))
                twice(lambda: forget_answer(self._link.transport))
                return
            except NasflowError as error:
                reason = error.message
        self._tell(f"The phone's settings are not restored yet; the next run restores them: {reason}")

    def _pause(self, seconds: float) -> None:
        """Sleep while the phone is ours."""
        self._sleep(seconds)
        self._lock.renew(self._link.transport)

    def _mode_answered(self, reason: str) -> None:
        """What the phone said when the measurement switched its mode on is what its latencies are of."""
        if self.has_mode == (not reason):
            return
        self.has_mode = not reason
        self._link.do(note_answer, self.has_mode)
        self._tell_once(
            [f"The phone now refuses fixed-performance mode; it sets its own clocks: {reason}"]
            if reason
            else ["The phone is now in fixed-performance mode, which it refused before."]
        )

    def _await_clocks(self, agreeing: int) -> None:
        wait_for_clocks(
            lambda: self._link.do(read_clocks),
            sleep=self._pause,
            agreeing=agreeing,
            expected=self._clocks.expected,
        )

    def _tell_once(self, sentences: Sequence[str]) -> None:
        """Tell what a person should know; not again with the next measurement."""
        for sentence in sentences:
            if sentence not in self._reported:
                self._reported.add(sentence)
                self._tell(sentence)
