"""The clocks of a phone's cores: settled, held back, and lower under load than at rest.

Many phones allow their peak for a second or two and then hold a lower clock for as long as the load lasts,
with no thermal status at all; at rest the peak is back. That clock is what an app gets, so that it is what is
measured: every stretch of timings begins under load, and is judged by what its cores may run at right
after each timing. Only a phone that is lower at rest, too, throttles, and is waited for.

Some settle only after many seconds, or in several steps: a stretch in which that happened is taken again
under a load that first lasts until the clock is as low. Some never settle, and go to and fro between two
near clocks: after two such tries that is their state, told and recorded as a range.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from android_bench.device import CpuPolicy

CAP_SLACK = 0.98
"""Clocks closer than that are the same."""

LOAD_S = 1.0
"""How long a piece of the load lasts that brings a phone to the clock that it sustains."""

_SHORT_SHARE = 0.3  # of a piece: the governor raises a clock within some 0.1 s
_PIECES = 2  # Snapdragon 845 and Samsung's DVFS lower theirs after 1.5 s of load (assumed of others, too)
_FURTHER_PIECES = 4
MOST_PIECES = 60  # until a clock that was seen is reached; one that falls later is another state by then

UNSTEADY_SHARE = 0.8
"""A phone whose clock goes to and fro counts as unsteady down to this share of the higher one; below,
it throttles."""
_TRIES = 2  # stretches that are dropped before a clock that goes to and fro is accepted
_PIECE_FLAGS = {"--warmup_min_secs": "0", "--num_runs": "1", "--max_secs": "5"}
_LEFT_OUT = ("--result_file_path", "--min_secs")

Policies = tuple[CpuPolicy, ...]


@dataclass(frozen=True)
class WarmUp:
    """The load right before a stretch's timings.

    Pieces of ``seconds``, at least ``least`` and a few more until what the cores may run at is the same after
    two of them; or until it is down to ``target``, where that is known: kHz by cluster. ``least`` 0: one
    short piece, for a phone that is known to keep its clocks under load.
    """

    words: tuple[str, ...]
    least: int
    seconds: float
    target: tuple[tuple[int, int], ...] = ()

    @property
    def most(self) -> int:
        """Pieces at most."""
        return MOST_PIECES if self.target else self.least + _FURTHER_PIECES

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


def _is_other(earlier: int, present: int) -> bool:
    return present < CAP_SLACK * earlier or earlier < CAP_SLACK * present


def _difference(
    before: Sequence[CpuPolicy], now: Sequence[CpuPolicy], is_other: Callable[[int, int], bool]
) -> str | None:
    allowed = {policy.number: policy.allowed_max_khz for policy in before}
    for policy in now:
        earlier, present = allowed.get(policy.number), policy.allowed_max_khz
        if earlier is not None and present is not None and is_other(earlier, present):
            return (
                f"the clock limit of {_name(policy)} is {present / 1000:.0f} MHz, before it was "
                f"{earlier / 1000:.0f} MHz"
            )
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
    measures, where that is another state and was seen twice. ``highest`` is up to where they go then, where
    they do not hold still. ``cores`` are those that are used (None: all): only their clusters count.
    """

    at_rest: Policies = ()
    under_load: Policies = ()
    highest: Policies = ()
    cores: frozenset[int] | None = None
    news: str = ""
    _dropped: list[tuple[Policies, Policies]] = field(default_factory=list, repr=False)
    _candidate: Policies = field(default=(), repr=False)
    _target: Policies = field(default=(), repr=False)
    _is_known: bool = field(default=False, repr=False)
    _has_counted: bool = field(default=False, repr=False)
    _reported: set[str] = field(default_factory=set, repr=False)

    @property
    def expected(self) -> Policies:
        """What the clusters in use may run at, at least, in a stretch that counts."""
        return with_cores(self.under_load or self.at_rest, self.cores)

    def rested(self, policies: Policies) -> None:
        """Take note of a phone that was waited for; one that is still held back is so now."""
        if held_back(self.expected, policies):
            self._forget()
            self.at_rest, self.under_load, self.highest = policies, (), ()
        else:
            self.at_rest = fastest_of(self.at_rest, policies)

    def warm_up(self, command: Sequence[str], *, seconds: float) -> WarmUp:
        """The load for a job that times ``command``: a short one where it is known that nothing changes."""
        if self._is_known and not self.under_load:
            return WarmUp(load_words(command), 0, seconds)
        # One that goes to and fro is nowhere for long.
        wanted = () if self.highest else with_cores(self._target or self.under_load, self.cores)
        target = tuple(
            (policy.number, int(policy.allowed_max_khz / CAP_SLACK))
            for policy in wanted
            if policy.allowed_max_khz is not None
        )
        return WarmUp(load_words(command), _PIECES, seconds, target)

    def assess(self, readings: Sequence[Policies]) -> str | None:
        """Why a stretch of these readings must be taken again, or None; ``news`` is what to tell of it.

        All must be of one state. Another state than expected counts where it shows a second time, after the
        phone was at rest: then that is what it sustains. A clock that has gone to and fro in two stretches,
        and again in a third no lower than before, does not hold still: then that range is its state.
        """
        self.news = ""
        seen = [with_cores(policies, self.cores) for policies in readings]
        low, high = _lowest(seen), fastest_of((), [policy for policies in seen for policy in policies])
        moved = held_back(high, low)
        top = with_cores(self.highest, self.cores)
        slower = held_back(self.expected, low)
        faster = _raised(top or self.expected, high) if self.under_load else None
        if slower is None and faster is None and (moved is None or top):
            if not self.under_load:
                self.at_rest = fastest_of(self.at_rest, low)
            self._forget()
            self._is_known = self._has_counted = True
            return None
        if moved is None and self._candidate and _difference(self._candidate, low, _is_other) is None:
            self._accept(low, ())
            return None
        if reach := self._to_and_fro(low, high):
            self._accept(_lowest([self._dropped[-1][0], low]), reach)
            return None
        self._dropped.append((low, high))
        self._candidate = self._target = low
        self._is_known = False
        if moved:
            return f"the phone throttles: {moved}, within one group of timings"
        return f"the phone throttles: {slower}" if slower else f"the phone's clocks increased: {faster}"

    def range_mhz(self, cores: Collection[int] | None) -> tuple[float, float] | None:
        """Between which clocks these cores go to and fro while they are timed; None: they hold still."""
        low, high = (
            [policy.allowed_max_khz for policy in with_cores(policies, cores) if policy.allowed_max_khz]
            for policies in (self.under_load, self.highest)
        )
        if not low or not high or max(low) >= CAP_SLACK * max(high):
            return None
        return max(low) / 1000, max(high) / 1000

    def _to_and_fro(self, low: Policies, high: Policies) -> Policies:
        """Up to where the clocks go, of a phone whose clocks go to and fro and no lower; else nothing."""
        if len(self._dropped) < _TRIES:
            return ()
        if held_back(_lowest([policies for policies, _ in self._dropped]), low):
            return ()
        top = fastest_of(self._dropped[-1][1], high)
        bottom = _lowest([self._dropped[-1][0], low])
        too_far = _difference(top, bottom, lambda highest, lowest: lowest < UNSTEADY_SHARE * highest)
        return () if too_far else top

    def _forget(self) -> None:
        """Drop what was seen of stretches that did not count."""
        self._candidate = self._target = ()
        self._dropped.clear()

    def _accept(self, low: Policies, high: Policies) -> None:
        self._forget()
        levels = {policy.number: policy for policy in low}
        if not high and held_back(self.at_rest, low) is None:
            self.under_load = self.highest = ()
            news = "The phone now keeps its peak clock under load, and is measured at that clock."
        else:
            self.under_load = tuple(levels.get(policy.number, policy) for policy in self.at_rest)
            self.highest = high
            news = self._news(low, {policy.number: policy.allowed_max_khz for policy in high})
        if self._has_counted:
            news += " Earlier timings ran at another clock; the clock of each timing is recorded with it."
        self.news = "" if news in self._reported else news
        self._reported.add(news)
        self._is_known = self._has_counted = True

    def _news(self, low: Policies, highest: Mapping[int, int | None]) -> str:
        rest = {policy.number: policy.allowed_max_khz for policy in self.at_rest}
        held = []
        for policy in low:
            khz, peak, top = policy.allowed_max_khz, rest.get(policy.number), highest.get(policy.number)
            if khz is None or peak is None:
                continue
            to = f" to {top / 1000:.0f}" if top is not None and khz < CAP_SLACK * top else ""
            held.append(f"{_name(policy)} at {khz / 1000:.0f}{to} of {peak / 1000:.0f} MHz")
        if highest:
            return (
                f"Under load the clocks of this phone vary: {', '.join(held)}. It is not hot, and they vary "
                "again after a rest. It is measured in this state: times vary as much, and the intervals "
                "become wider."
            )
        return (
            f"Under load this phone holds {', '.join(held)}. It is not hot, and does the same after a rest: "
            "this is its sustained clock, at which it is measured."
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
