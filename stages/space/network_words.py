"""Every different network of a space once: as a word of blocks that an automaton reads.

A skip here or there in a run of equal layers gives the same network, so a network is more than one path. Read
block by block it is one walk through the automaton, whose states are sets of layers: those that may have
taken the last block (the subset construction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Keys = Sequence[Sequence[str | None]]
"""``keys[l][i]``: the block that candidate i of layer l is; None is the skip."""

Word = tuple[str, ...]


@dataclass(frozen=True)
class Networks:
    """The automaton. Its states are numbered so that every step leads to a higher one; 0 is the start.

    ``steps[s]`` says where each block leads, ``ends[s]`` whether a network may end there.
    """

    keys: Keys
    steps: tuple[Mapping[str, int], ...]
    ends: tuple[bool, ...]
    _takers: tuple[tuple[int, ...], ...]
    """Of each state, the layers that may have taken the last block, in order; -1: no block yet."""
    _following: Mapping[int, range]
    """The layers that may take the block behind one of this layer; as many as there are layers: the end."""

    @classmethod
    def of(cls, keys: Keys) -> Networks:
        """All networks of layers with these candidates."""
        count = len(keys)
        following = _following(keys)
        steps_of: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}
        waiting: list[tuple[int, ...]] = [(-1,)]
        while waiting:
            state = waiting.pop()
            if state in steps_of:
                continue
            takers: dict[str, list[int]] = {}
            for index in _behind(state, following, count):
                for key in dict.fromkeys(keys[index]):
                    if key is not None:
                        takers.setdefault(key, []).append(index)
            steps_of[state] = {key: tuple(indices) for key, indices in takers.items()}
            waiting += steps_of[state].values()
        # The first layer of a state lies behind the first one of every state that leads to it.
        order = sorted(steps_of)
        number = {state: index for index, state in enumerate(order)}
        return cls(
            keys,
            tuple({key: number[after] for key, after in steps_of[state].items()} for state in order),
            tuple(any(count in following[taken] for taken in state) for state in order),
            tuple(order),
            following,
        )

    def count(self) -> int:
        """How many networks there are."""
        ways = [0] * len(self.steps)
        for state in reversed(range(len(self.steps))):
            ways[state] = self.ends[state] + sum(ways[after] for after in self.steps[state].values())
        return ways[0]

    def word(self, path: Sequence[int]) -> Word:
        """The blocks of a path's network."""
        taken = (row[choice] for row, choice in zip(self.keys, path, strict=True))
        return tuple(key for key in taken if key is not None)

    def path(self, word: Word) -> tuple[int, ...]:
        """A path to a network; of several the one whose last blocks stand in the first layers possible.

        Raises KeyError and StopIteration for what is no network of the space.
        """
        states = [0]
        for key in word:
            states.append(self.steps[states[-1]][key])
        following = len(self.keys)
        choices: dict[int, int] = {}
        for key, state in zip(reversed(word), reversed(states), strict=False):
            index = next(taken for taken in self._takers[state] if following in self._following[taken])
            choices[index] = self.keys[index].index(key)
            following = index
        return tuple(
            choices[index] if index in choices else row.index(None) for index, row in enumerate(self.keys)
        )


def _behind(state: Sequence[int], following: Mapping[int, range], count: int) -> list[int]:
    """The layers, in order, that may take the block behind one of any of these."""
    indices: list[int] = []
    done = 0
    for taken in state:
        indices += range(max(done, following[taken].start), min(count, following[taken].stop))
        done = max(done, following[taken].stop)
    return indices


def _following(keys: Keys) -> dict[int, range]:
    """Behind each layer: any up to the first that has no skip."""
    following: dict[int, range] = {}
    stop = len(keys)
    for index in reversed(range(-1, len(keys))):
        following[index] = range(index + 1, stop + 1)
        if index >= 0 and None not in keys[index]:
            stop = index
    return following
