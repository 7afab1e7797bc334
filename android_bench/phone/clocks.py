"""The clocks of a phone's cores: settled, held back, and lower under load than at rest.

Many phones allow their peak for a second or two and then hold a lower clock for as long as the load lasts,
with no thermal status at all; at rest the peak is back. That clock is what an app gets, so that it is what is
measured: every stretch of timings begins under load, and is judged by what its cores may run at right
after each timing. Only a phone that is lower at rest, too, throttles, and is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from android_bench.phone.text import CpuPolicy

CAP_SLACK = 0.98
"""Clocks closer than that are the same."""

LOAD_S = 1.0
"""How long a piece of the load lasts that brings a phone to the clock that it sustains."""

_SHORT_SHARE = 0.3  # of a piece: the governor raises a clock within some 0.1 s
_PIECES = 2  # Snapdragon 845 and Samsung's DVFS lower theirs after 1.5 s of load (assumed of others, too)
_MOST_PIECES = 8
_FURTHER_PIECES = 4
_PIECE_FLAGS = {"--warmup_min_secs": "0", "--num_runs": "1", "--max_secs": "5"}
_LEFT_OUT = ("--result_file_path", "--min_secs")

Policies = tuple[CpuPolicy, ...]


@dataclass(frozen=True)
class WarmUp:
    """The load right before a stretch's timings.

    Pieces of ``seconds``, at least ``least`` and a few more until what the cores may run at is the same after
    two of them. 0: one short piece, for a phone that is known to keep its clocks under load.
    """

    words: tuple[str, ...]
    least: int
    seconds: float

    @property
    def most(self) -> int:
        """Pieces at most."""
        return self.least + _FURTHER_PIECES

    @property
    def long_words(self) -> tuple[str, ...]:
        """The command line of a piece."""
        return (*self.words, f"--min_secs={self.seconds:g}")

    @property
    def short_words(self) -> tuple[str, ...]:
        """The command line of a short piece."""
        return (*self.words, f"--min_secs={_SHORT_SHARE * self.seconds:g}")


def load_words(command: Sequence[str]) -> tuple[str, ...]:
    """A timing's command line as mere load: no result file, no warm-up; ``--min_secs`` is to be added."""
    words = []
    for word in command:
        name = word.partition("=")[0]
        if name in _PIECE_FLAGS:
            words.append(f"{name}={_PIECE_FLAGS[name]}")
        elif name not in _LEFT_OUT:
            words.append(word)
    return tuple(words)


def held_back(fastest: Sequence[CpuPolicy], now: Sequence[CpuPolicy]) -> str | None:
    """Which cores may no longer run as fast as in ``fastest``, or None."""
    return _difference(fastest, now, lambda earlier, present: present < CAP_SLACK * earlier)


def _raised(before: Sequence[CpuPolicy], now: Sequence[CpuPolicy]) -> str | None:
    return _difference(before, now, lambda earlier, present: earlier < CAP_SLACK * present)


def _difference(
    before: Sequence[CpuPolicy], now: Sequence[CpuPolicy], is_other: Callable[[int, int], bool]
) -> str | None:
    allowed = {policy.number: policy.allowed_max_khz for policy in before}
    for policy in now:
        earlier, present = allowed.get(policy.number), policy.allowed_max_khz
        if earlier is not None and present is not None and is_other(earlier, present):
            return f"{_name(policy)} may run at {present / 1000:.0f} MHz, before it was {earlier / 1000:.0f}"
    return None


def fastest_of(known: Sequence[CpuPolicy], now: Sequence[CpuPolicy]) -> Policies:
    """Each cluster as it might run fastest so far."""
    found = {policy.number: policy for policy in known}
    for policy in now:
        before = found.get(policy.number)
        if before is None or (policy.allowed_max_khz or 0) > (before.allowed_max_khz or 0):
            found[policy.number] = policy
    return tuple(found.values())


def with_cores(policies: Sequence[CpuPolicy], cores: Collection[int] | None) -> Policies:
    """The clusters that have one of these cores; all where ``cores`` is None."""
    return tuple(policy for policy in policies if cores is None or not set(cores).isdisjoint(policy.cores))


def wait_for_clocks(
    read: Callable[[], Policies],
    *,
    sleep: Callable[[float], None],
    agreeing: int,
    expected: Sequence[CpuPolicy] = (),
    pause_s: float = 0.5,
    longest_s: float = 5.0,
) -> None:
    """Read until the last ``agreeing`` readings are alike and nothing ``expected`` is held back.

    Ends after ``longest_s`` in any case. A mode that was just switched on takes hold some tenths of a second
    later, and a clock that fell under load comes back about a second after it.
    """
    seen: list[tuple[int | None, ...]] = []
    spent_s = 0.0
    while True:
        policies = read()
        seen.append(tuple(policy.allowed_max_khz for policy in policies))
        alike = len(seen) >= agreeing and len(set(seen[-agreeing:])) == 1
        if not policies or (alike and held_back(expected, policies) is None) or spent_s >= longest_s:
            return
        sleep(pause_s)
        spent_s += pause_s


@dataclass
class Clocks:
    """What one client has learned of a phone's clocks, and what it expects of the next stretch.

    ``at_rest`` is how its cores might run fastest when nothing ran; ``under_load`` how they may run while it
    measures, where that is another state and was seen twice. ``cores`` are those that are used (None: all):
    only their clusters count.
    """

    at_rest: Policies = ()
    under_load: Policies = ()
    cores: frozenset[int] | None = None
    news: str = ""
    _candidate: Policies = field(default=(), repr=False)
    _pieces: int = field(default=_PIECES, repr=False)
    _is_known: bool = field(default=False, repr=False)

    @property
    def expected(self) -> Policies:
        """What the clusters in use may run at in a stretch that counts."""
        return with_cores(self.under_load or self.at_rest, self.cores)

    def rested(self, policies: Policies) -> None:
        """Take note of a phone that was waited for; one that is still held back is so now."""
        if held_back(self.expected, policies):
            self.at_rest, self.under_load, self._candidate = policies, (), ()
        else:
            self.at_rest = fastest_of(self.at_rest, policies)

    def warm_up(self, command: Sequence[str], *, seconds: float) -> WarmUp:
        """The load for a job that times ``command``: a short one where it is known that nothing changes."""
        is_short = self._is_known and not self.under_load
        return WarmUp(load_words(command), 0 if is_short else self._pieces, seconds)

    def judge(self, readings: Sequence[Policies]) -> str | None:
        """Why a stretch of these readings must be taken again, or None; ``news`` is what to tell of it.

        All must be of one state. Another state than expected counts where it shows a second time, after the
        phone was at rest: then that is what it sustains.
        """
        self.news = ""
        seen = [with_cores(policies, self.cores) for policies in readings]
        low, high = _lowest(seen), fastest_of((), [policy for policies in seen for policy in policies])
        if difference := held_back(high, low):
            self._pieces = min(2 * self._pieces, _MOST_PIECES)
            self._candidate = seen[-1]
            self._is_known = False
            return f"the phone throttles: {difference}, within one stretch of timings"
        expected = self.expected
        slower, faster = held_back(expected, low), _raised(expected, low) if self.under_load else None
        if slower is None and faster is None:
            self.at_rest = self.at_rest if self.under_load else fastest_of(self.at_rest, low)
            self._candidate, self._is_known = (), True
            return None
        if self._candidate and not held_back(self._candidate, low) and not _raised(self._candidate, low):
            self._accept(low)
            return None
        self._candidate, self._is_known = low, False
        return f"the phone throttles: {slower}" if slower else f"the phone's clocks have risen: {faster}"

    def _accept(self, policies: Policies) -> None:
        self._candidate, self._is_known = (), True
        if held_back(self.at_rest, policies) is None:
            self.under_load = ()
            self.news = "The phone keeps its peak clock under load now, and is measured at it."
            return
        levels = {policy.number: policy for policy in policies}
        self.under_load = tuple(levels.get(policy.number, policy) for policy in self.at_rest)
        rest = {policy.number: policy.allowed_max_khz for policy in self.at_rest}
        held = [
            f"{_name(policy)} at {policy.allowed_max_khz / 1000:.0f} of {peak / 1000:.0f} MHz"
            for policy in policies
            if policy.allowed_max_khz is not None and (peak := rest.get(policy.number)) is not None
        ]
        self.news = (
            f"Under load this phone holds {', '.join(held)}, without heat and again after a rest: "
            "that is the clock that it sustains, and what is measured."
        )


def _lowest(readings: Sequence[Policies]) -> Policies:
    found: dict[int, CpuPolicy] = {}
    for policies in readings:
        for policy in policies:
            before = found.setdefault(policy.number, policy)
            khz = [p.allowed_max_khz for p in (before, policy) if p.allowed_max_khz is not None]
            found[policy.number] = replace(before, allowed_max_khz=min(khz, default=None))
    return tuple(found.values())


def _name(policy: CpuPolicy) -> str:
    if len(policy.cores) == 1:
        return f"core {policy.cores[0]}"
    return f"cores {policy.cores[0]} to {policy.cores[-1]}"
