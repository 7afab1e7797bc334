"""Sets that grow together: what is linked by pairs, however long the chain, is one set."""

from __future__ import annotations

from collections.abc import Iterable


def linked_sets(count: int, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """The connected sets of the numbers below ``count``, single ones included, each in rising order.

    The sets are ordered by their smallest number. Union-find with path halving.
    """
    parent = list(range(count))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    sets: dict[int, list[int]] = {}
    for number in range(count):
        sets.setdefault(root(number), []).append(number)
    return [tuple(members) for members in sets.values()]
