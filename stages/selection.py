"""Choose networks under a latency target exactly: a multiple-choice knapsack, solved by HiGHS.

Every layer takes one candidate; the sum of values is to be as large as possible while the sum of latencies
stays between two bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nasflow.errors import InfeasibleTarget

INFEASIBLE = 2  # of scipy.optimize.milp's status


def best_paths(
    values: Sequence[Sequence[float]],
    costs_ms: Sequence[Sequence[float]],
    *,
    at_least_ms: float,
    at_most_ms: float,
    count: int,
) -> list[tuple[int, ...]]:
    """The ``count`` best paths in falling order of summed value; fewer where there are fewer.

    ``values[l][i]`` and ``costs_ms[l][i]`` belong to candidate i of layer l. Each further path is found by
    forbidding those found before (a no-good cut). Raises InfeasibleTarget where there is none at all.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    sizes = [len(row) for row in values]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total = int(starts[-1])
    value = np.concatenate([np.asarray(row, dtype=float) for row in values])
    cost = np.concatenate([np.asarray(row, dtype=float) for row in costs_ms])
    one_each = np.zeros((len(sizes), total))
    for layer, (start, stop) in enumerate(pairwise(starts)):
        one_each[layer, start:stop] = 1
    constraints = [
        LinearConstraint(csr_array(one_each), 1, 1),
        LinearConstraint(cost[None, :], at_least_ms, at_most_ms),
    ]
    paths: list[tuple[int, ...]] = []
    while len(paths) < count:
        found = milp(
            -value,
            integrality=np.ones(total, dtype=int),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0},  # the solver's default stops within 0.01 % of the best
        )
        if found.status == INFEASIBLE:
            break
        if found.x is None:
            raise RuntimeError(f"the solver gave up: {found.message}")
        path = tuple(int(np.argmax(found.x[start:stop])) for start, stop in pairwise(starts))
        taken = np.zeros(total)
        taken[[start + choice for start, choice in zip(starts[:-1], path, strict=True)]] = 1
        constraints.append(LinearConstraint(taken[None, :], -np.inf, len(sizes) - 1))
        # The solver's tolerance may let a path slip over the target; the target is hard.
        if at_least_ms <= path_ms(costs_ms, path) <= at_most_ms:
            paths.append(path)
    if not paths:
        fastest, slowest = (sum(map(end, costs_ms)) for end in (min, max))
        raise InfeasibleTarget(
            f"no path takes between {at_least_ms:.4g} and {at_most_ms:.4g} ms; "
            f"the fastest takes {fastest:.4g} ms, the slowest {slowest:.4g} ms.",
            hint="Raise the target, or lower prune.use_at_least.",
        )
    return paths


def path_ms(costs_ms: Sequence[Sequence[float]], path: Sequence[int]) -> float:
    """Summed latency of a path."""
    return sum(row[choice] for row, choice in zip(costs_ms, path, strict=True))


def random_path_near(
    costs_ms: Sequence[Sequence[float]],
    wanted_ms: float,
    *,
    seed: int,
    other_than: Sequence[int],
    tolerance: float = 0.01,
) -> tuple[int, ...]:
    """A uniformly drawn path whose latency is within ``tolerance`` of ``wanted_ms``.

    Drawn by rejection, so that every path of that latency is equally likely. Where 20,000 draws
    hold none, the nearest of them is taken.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    draws = np.stack([random.integers(len(row), size=20_000) for row in costs_ms], axis=1)
    ms = sum(np.asarray(row, dtype=float)[draws[:, place]] for place, row in enumerate(costs_ms))
    off = np.abs(np.asarray(ms) - wanted_ms)
    off[(draws == np.asarray(other_than)).all(axis=1)] = np.inf
    within = np.flatnonzero(off <= tolerance * wanted_ms)
    chosen = within[0] if len(within) else np.argmin(off)
    return tuple(int(choice) for choice in draws[chosen])
