"""Draw networks at random among those of one predicted latency: what a search is held against.

Every different network whose latency lies in the band is equally likely. Uniform draws from the whole space
hardly ever fall into it where the wanted latency is far from the space's middle. So networks are counted: how
many ways there are from each state of the space's automaton (:mod:`stages.space.network_words`) to a network
that takes so many bins of latency more. A number below their count then names one of them. Bins round; what
lies outside the band by its exact latency is drawn again.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from nasflow.base.errors import UsageError
from stages.space.network_words import Keys, Networks, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.object_]

TOLERANCE = 0.03
"""Two latencies are called equal where their ratio is within 1 plus or minus this."""
ENUMERATED = 5000  # up to this number, they are listed and checked one by one
_BINS = 64  # of the band; where layers are more, as many as these: each block may round by half a bin
_FINER = (1, 4, 16, 64)  # times as many, where hardly a draw lies in the band
_PROBES, _ENOUGH_OF_THEM = 200, 20
_MOST_DRAWS = 20_000
_ROUNDING = 1e-9  # relative: the same blocks summed in another order

Path = tuple[int, ...]


def random_networks_near(
    keys: Keys,
    costs_ms: Sequence[Sequence[float]],
    wanted_ms: float,
    *,
    fixed_ms: float = 0.0,
    count: int,
    seed: int,
    other_than: Sequence[int] | None = None,
) -> list[Path]:
    """A path to each of ``count`` different networks whose latency is within 3 % of ``wanted_ms``.

    ``keys[l][i]`` names the block that candidate i of layer l is (None: the skip), ``costs_ms[l][i]`` what it
    takes; equal blocks take the same, and the skip nothing. ``fixed_ms`` comes to every network. The networks
    are uniformly drawn; that of the path ``other_than`` is left out. Where the band holds fewer, all of it is
    given, and then the nearest of the others. A smaller ``count`` gives the first of these; equal arguments
    give equal ones. Raises UsageError where the space holds fewer.
    """
    networks = Networks.of(keys)
    others = networks.count() - (other_than is not None)
    check_others(others, count)
    block_ms = {
        key: ms
        for row, times in zip(keys, costs_ms, strict=True)
        for key, ms in zip(row, times, strict=True)
        if key is not None
    }
    excluded = {networks.word(other_than)} if other_than is not None else set()
    drawn: dict[Word, None] = {}
    tolerance, chance = TOLERANCE, random.Random(f"{seed}/random networks")
    while len(drawn) < count:
        half_ms = tolerance * wanted_ms
        near = Band(networks, block_ms, wanted_ms - fixed_ms - half_ms, wanted_ms - fixed_ms + half_ms)
        further = near.draw(count, chance, other_than=excluded | set(drawn))
        if tolerance > TOLERANCE:
            off = {word: abs(near.cost_ms(word) + fixed_ms - wanted_ms) for word in further}
            further.sort(key=off.__getitem__)
        drawn |= dict.fromkeys(further[: count - len(drawn)])
        tolerance *= 2
    return [networks.path(word) for word in drawn]


def equal_latency(ratio: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two latencies of this ratio are called equal."""
    return abs(ratio - 1) <= tolerance + _ROUNDING


def check_others(held: int, wanted: int) -> None:
    """Raises UsageError where a space holds too few networks besides the found one."""
    if held < wanted:
        raise UsageError(
            f"the space holds {held or 'no'} other networks to compare the found one with, and "
            f"prune.random_networks asks for {wanted}.",
            hint="Lower prune.random_networks (0 does without), or give the space's layers more candidates.",
        )


@dataclass(frozen=True)
class Band:
    """The networks whose blocks take between two latencies, bounds included."""

    networks: Networks
    block_ms: Mapping[str, float]
    low_ms: float
    high_ms: float

    def cost_ms(self, word: Word) -> float:
        """What a network's blocks take."""
        return sum(self.block_ms[key] for key in word)

    def draw(self, count: int, chance: random.Random, *, other_than: set[Word]) -> list[Word]:
        """Up to ``count`` different networks of the band, each as likely as any other; fewer: all there are.

        Where they are few, all are given, in random order.
        """
        for finer in _FINER:
            numbered = _Numbered.of(self, finer * max(_BINS, len(self.networks.keys)))
            if numbered.count <= ENUMERATED:
                listed = [numbered.word(number) for number in range(numbered.count)]
                kept = [word for word in listed if self._holds(word) and word not in other_than]
                chance.shuffle(kept)
                return kept
            words: dict[Word, None] = {}
            held = 0
            for drawn in range(1, _MOST_DRAWS + 1):
                word = numbered.word(chance.randrange(numbered.count))
                if self._holds(word):
                    held += 1
                    if word not in other_than:
                        words.setdefault(word)
                if drawn == _PROBES and held < _ENOUGH_OF_THEM and finer < _FINER[-1]:
                    break  # most lie just outside: finer bins tell them apart
                if drawn >= _PROBES and len(words) >= count:
                    return list(words)[:count]
            else:
                return list(words)[:count]
        raise AssertionError("the finest bins are the last")

    def _holds(self, word: Word) -> bool:
        rounding = _ROUNDING * (abs(self.low_ms) + abs(self.high_ms))
        return self.low_ms - rounding <= self.cost_ms(word) <= self.high_ms + rounding


@dataclass(frozen=True)
class _Numbered:
    """A number for each network of a band, and for those that rounding to bins brings into it.

    ``ways[s][b - least[s]]``: how many ways lead from state s to a network that takes b bins more.
    """

    networks: Networks
    bins: Mapping[str, int]
    least: Sequence[int]
    ways: Sequence[Counts]
    lowest: int
    up_to: Sequence[int] = field(repr=False)
    """How many networks take ``lowest`` bins, or one more, or two more, ..."""

    @classmethod
    def of(cls, band: Band, fineness: int) -> _Numbered:
        """With bins of which the band has so many."""
        import numpy as np

        networks = band.networks
        bin_ms = (band.high_ms - band.low_ms) / fineness
        bins = {key: round(ms / bin_ms) for key, ms in band.block_ms.items()}
        rounded = len(networks.keys) / 2
        lowest, highest = round(band.low_ms / bin_ms - rounded), round(band.high_ms / bin_ms + rounded)
        reached = [0] + [highest] * (len(networks.steps) - 1)
        for state, steps in enumerate(networks.steps):
            for key, after in steps.items():
                reached[after] = min(reached[after], reached[state] + bins[key])
        least = [0] * len(networks.steps)
        ways: list[Counts] = [np.zeros(0, object)] * len(networks.steps)
        for state in reversed(range(len(networks.steps))):
            steps = networks.steps[state]
            least[state] = min(
                [0] * networks.ends[state] + [bins[key] + least[after] for key, after in steps.items()]
            )
            size = max(0, highest - reached[state] - least[state] + 1)
            ways[state] = np.zeros(size, object)  # whole numbers without bounds
            if networks.ends[state] and -least[state] < size:
                ways[state][-least[state]] += 1
            for key, after in steps.items():
                shift = bins[key] + least[after] - least[state]
                part = ways[after][: max(0, size - shift)]
                ways[state][shift : shift + len(part)] += part
        lowest = max(lowest, least[0])
        return cls(
            networks,
            bins,
            least,
            ways,
            lowest,
            list(accumulate(int(n) for n in ways[0][lowest - least[0] :])),
        )

    @property
    def count(self) -> int:
        """How many networks have a number."""
        return self.up_to[-1] if self.up_to else 0

    def word(self, number: int) -> Word:
        """The network of a number, 0 to ``count`` - 1."""
        index = bisect_right(self.up_to, number)
        left = self.lowest + index
        number -= self.up_to[index - 1] if index else 0
        state = 0
        word: list[str] = []
        while True:
            if self.networks.ends[state] and left == 0:
                if number == 0:
                    return tuple(word)
                number -= 1
            for key, after in self.networks.steps[state].items():
                ways = self._ways(after, left - self.bins[key])
                if number < ways:
                    break
                number -= ways
            state, left = after, left - self.bins[key]
            word.append(key)

    def _ways(self, state: int, left: int) -> int:
        index = left - self.least[state]
        return int(self.ways[state][index]) if 0 <= index < len(self.ways[state]) else 0
