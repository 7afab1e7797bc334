"""Refine well-ranked networks by evolution: change and cross the best, judge the children, keep the best.

The scheme is that of Guo et al., Single path one-shot NAS (arXiv 1904.00420, section 3.4 and algorithm 1).
The best ten of all that were judged are the parents; half of the children are one parent changed at random,
half are crossed from two; a child that breaks the latency constraint is thrown away and another one drawn.
Two things differ. A mutation changes one to three layers in place of each layer with probability 0.1: of the
nine layers of a small space the latter changes none in four of ten cases. And many children are proposed for
each one that is judged, where a cheap ``screen`` can tell which of them are worth it.

Nothing is ever forgotten, unlike in regularised evolution (Real et al., arXiv 1802.01548): that one lets the
oldest die because training repeats badly, and a judge here gives the same answer again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from stages.nas.solver import path_ms

if TYPE_CHECKING:
    import numpy as np

Path = tuple[int, ...]

CHILDREN = 10  # judged in a generation
_PARENTS = 10
_PROPOSALS = 20  # for each child that is judged, where there is a screen
_MOST_MISSES = 500  # draws in a row that are no proposal; then the parents' surroundings are exhausted
_MOST_CHANGES = 3


def evolve(
    judge: Callable[[Path], float],
    start: Sequence[Path],
    costs_ms: Sequence[Sequence[float]],
    *,
    at_least_ms: float,
    at_most_ms: float,
    generations: int,
    seed: int,
    identity: Callable[[Path], Hashable] = tuple,
    screen: Callable[[Sequence[Path]], Sequence[float]] | None = None,
    each_generation: Callable[[int], object] | None = None,
) -> list[Path]:
    """All paths that were judged, the best first: those of ``start`` and ten children a generation.

    ``judge`` gives a path's value, higher is better; it is asked once for each path. ``costs_ms[l][i]``
    belongs to candidate i of layer l; a child's sum lies between the bounds, and so must those of ``start``.
    No two paths have an equal ``identity``; of ``start`` the first stays. ``screen`` guesses the values of
    proposed paths: the best by it are judged. ``each_generation`` is called behind each, with the number of
    those done. The same arguments give the same paths. A generation has fewer children where new ones are
    hard to find, and ends the evolution where it finds none.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    judged: dict[Path, float] = {}
    known: set[Hashable] = set()

    def add(paths: Sequence[Path]) -> None:
        for path in paths:
            if (name := identity(path)) not in known:
                known.add(name)
                judged[path] = judge(path)

    add(start)
    wanted = CHILDREN * (_PROPOSALS if screen else 1)
    for generation in range(generations):
        parents = _best_first(judged)[:_PARENTS]
        drawn: set[Path] = set()
        proposed: dict[Hashable, Path] = {}
        misses = 0
        while len(proposed) < wanted and misses < _MOST_MISSES:
            misses += 1
            path = _child(parents, costs_ms, random)
            if path in drawn or path in judged:
                continue
            drawn.add(path)
            name = identity(path)
            fits = at_least_ms <= path_ms(costs_ms, path) <= at_most_ms
            if fits and name not in known and name not in proposed:
                proposed[name] = path
                misses = 0
        children = list(proposed.values())
        if not children:
            break
        if screen:
            guess = dict(zip(children, screen(children), strict=True))
            children = _best_first(guess)
        add(children[:CHILDREN])
        if each_generation:
            each_generation(generation + 1)
    return _best_first(judged)


def _best_first(values: dict[Path, float]) -> list[Path]:
    return sorted(values, key=lambda path: -values[path])


def _child(parents: Sequence[Path], costs_ms: Sequence[Sequence[float]], random: np.random.Generator) -> Path:
    """A parent with one to three layers changed, or (of two and more) layers taken from two parents."""
    if len(parents) > 1 and random.random() < 0.5:
        one, other = random.choice(len(parents), size=2, replace=False)
        from_one = random.random(len(costs_ms)) < 0.5
        pairs = zip(from_one, parents[one], parents[other], strict=True)
        return tuple(left if own else right for own, left, right in pairs)
    path = list(parents[int(random.integers(len(parents)))])
    open_layers = [layer for layer, row in enumerate(costs_ms) if len(row) > 1]
    count = min(len(open_layers), int(random.integers(1, _MOST_CHANGES + 1)))
    for layer in random.choice(open_layers, size=count, replace=False).tolist():
        # One of the others: what lies at and above the present one moves up.
        drawn = int(random.integers(len(costs_ms[layer]) - 1))
        path[layer] = drawn + (drawn >= path[layer])
    return tuple(path)
