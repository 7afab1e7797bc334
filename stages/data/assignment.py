"""Sets of images to parts, close to each part's share of each class: greedily, the largest set first.

This is a bin-packing problem with several classes, which no quick method solves exactly. Largest first
leaves the small sets to even out what the large ones left uneven: where a class has single images enough,
each part ends within one image of its share of the class.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar


class Labelled(Protocol):
    """An image with a name and a class."""

    @property
    def key(self) -> str:
        """A stable, unique name."""
        ...

    @property
    def label(self) -> int:
        """The index of its class."""
        ...


T = TypeVar("T", bound=Labelled)


class TooFewSets(Exception):
    """Classes with fewer sets than the parts need. For callers, who know the classes' names."""

    def __init__(self, needed: int, counts: Mapping[int, int]) -> None:
        super().__init__(f"{needed} sets needed, by class there are {dict(counts)}")
        self.needed = needed
        self.counts = counts
        """How many sets there are, for each class that has too few."""


def assign(
    sets: Sequence[tuple[T, ...]], shares: Mapping[str, float], needs: Mapping[str, int], seed: int
) -> dict[str, list[tuple[T, ...]]]:
    """Each set to one of the parts named in ``shares`` (of any sum).

    A set goes to the part that has most images to go to its share of the set's classes; equal sizes and
    equal needs are ordered by a hash of the seed and of the set's first key. ``needs``: how many sets of
    each class a part must get; the last sets of a class go to parts that still need one. Raises TooFewSets
    where a class has fewer sets than are needed; where sets hold several classes, also if it comes out so.
    """
    ordered = sorted(sets, key=lambda members: (-len(members), _hash(seed, _name(members))))
    counts = [Counter(item.label for item in members) for members in ordered]
    left: Counter[int] = Counter(label for count in counts for label in count)
    _check(left, needs)
    total = _sum(counts)
    whole = sum(shares.values())
    room = {part: {label: n * share / whole for label, n in total.items()} for part, share in shares.items()}
    room_of_all = {part: total.total() * share / whole for part, share in shares.items()}
    missing = {part: dict.fromkeys(total, needs[part]) for part in shares}
    parts: dict[str, list[tuple[T, ...]]] = {part: [] for part in shares}
    for members, count in zip(ordered, counts, strict=True):
        allowed = _allowed(count, left, missing)
        key = _name(members)

        def wish(part: str, count: Counter[int] = count, key: str = key) -> tuple[float, str]:
            of_classes = sum(n * room[part][label] for label, n in count.items()) / count.total()
            # Rounding must not favour one part in every class: its total decides what is nearly equal.
            of_all = min(1.0, max(-1.0, room_of_all[part])) / 4
            return round(of_classes + of_all, 6), _hash(seed, f"{part}\n{key}")

        part = max(allowed, key=wish)
        parts[part].append(members)
        room_of_all[part] -= count.total()
        for label, n in count.items():
            room[part][label] -= n
            missing[part][label] -= 1
            left[label] -= 1
    short = {label for lack in missing.values() for label, n in lack.items() if n > 0}
    if short:
        have = Counter(label for count in counts for label in count)
        raise TooFewSets(sum(needs.values()), {label: have[label] for label in short})
    return parts


def _allowed(
    count: Mapping[int, int], left: Mapping[int, int], missing: Mapping[str, Mapping[int, int]]
) -> list[str]:
    """The parts that a set may go to: only those that lack its class, where the class has no set to spare."""
    parts = list(missing)
    for label in count:
        lacking = {part: max(0, missing[part][label]) for part in missing}
        if left[label] <= sum(lacking.values()):
            parts = [part for part in parts if lacking[part]] or parts
    return parts


def _check(sets_by_class: Mapping[int, int], needs: Mapping[str, int]) -> None:
    needed = sum(needs.values())
    few = {label: count for label, count in sets_by_class.items() if count < needed}
    if few:
        raise TooFewSets(needed, few)


def _sum(counts: Sequence[Counter[int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for count in counts:
        total.update(count)
    return total


def _name(members: Sequence[Labelled]) -> str:
    return min(item.key for item in members)


def _hash(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()
