"""Which images of a set are copies of one another: exact ones by their SHA-256, near ones by what they show.

A near copy is the same picture recompressed, resized, mirrored, cropped by up to about 6 % of a side, or two
of these. What that means for drawings that are variants of each other is said in
:mod:`stages.data.near_copies`, with what its thresholds were reviewed on.

Exact copies take no time worth naming. Near copies are searched among all pairs, in blocks: the cost grows
with the square of the number of images, the memory with the number. See ``NEAR_LIMIT``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.data.descriptors import ImageDescriptor
from stages.data.near_copies import NearPair, near_pairs
from stages.data.sets import linked_sets

NEAR_LIMIT = 100_000
"""Above this number of different files, near copies are not searched unless asked for."""


@dataclass(frozen=True)
class Copies:
    """What :func:`find_copies` found. Images are their indices in its arguments."""

    count: int
    """How many images there are."""
    exact: tuple[tuple[int, ...], ...]
    """Images whose files are equal byte by byte: sets of two or more."""
    near: tuple[tuple[int, ...], ...]
    """Images linked by exact or near copies, also through others: sets of two or more, each holding the exact
    sets of its members."""
    pairs: tuple[NearPair, ...]
    """The near copies that were found, one file of each exact set standing for all of it; closest first."""
    searched_near: bool
    """False where there were too many images to search for near copies: ``near`` then equals ``exact``."""

    def exact_set_of(self) -> list[int | None]:
        """For each image the index of its set in ``exact``; None where its file has no copy."""
        return _numbers(self.exact, self.count)

    def near_set_of(self) -> list[int | None]:
        """For each image the index of its set in ``near``; None where it is no copy of another."""
        return _numbers(self.near, self.count)


def find_copies(
    sha256: Sequence[str],
    descriptors: Sequence[ImageDescriptor],
    *,
    near_limit: int = NEAR_LIMIT,
    on_progress: Callable[[float], None] | None = None,
) -> Copies:
    """All copies among images, given the SHA-256 of each file and what ``describe`` gave for each image.

    ``descriptors`` are read as they are needed, some of them several times; they need not be in memory.
    ``near_limit``: with more different files than this, only exact copies are found, and ``searched_near`` is
    False. ``on_progress`` gets the share that is done, 0 to 1. The result does not depend on which of several
    equal files comes first, but for the indices in it.
    """
    count = len(sha256)
    if len(descriptors) != count:
        raise ValueError(f"{count} hashes and {len(descriptors)} descriptors")
    first: dict[str, int] = {}
    same = [(first.setdefault(digest, number), number) for number, digest in enumerate(sha256)]
    exact = _of_several(count, same)
    files = list(first.values())
    if len(files) > near_limit:
        return Copies(count, exact, exact, (), searched_near=False)
    found = near_pairs(descriptors, on_progress, among=files)
    near = _of_several(count, [*same, *((pair.first, pair.second) for pair in found)])
    return Copies(count, exact, near, tuple(found), searched_near=True)


def _of_several(count: int, pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(members for members in linked_sets(count, pairs) if len(members) > 1)


def _numbers(sets: Sequence[tuple[int, ...]], count: int) -> list[int | None]:
    numbers: list[int | None] = [None] * count
    for number, members in enumerate(sets):
        for image in members:
            numbers[image] = number
    return numbers
