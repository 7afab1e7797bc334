"""Choose networks under a latency target exactly: a multiple-choice knapsack, solved by HiGHS.

Every layer takes one candidate; the sum of values is to be as large as possible while the sum of latencies
stays between two bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

from nasflow.base.errors import InfeasibleTargetError

INFEASIBLE = 2  # of scipy.optimize.milp's status
SOLVER_SECONDS = 20.0  # usually it needs milliseconds; what it has found by then is good enough
MOST_ALIKE = 100


def best_paths(
    values: Sequence[Sequence[float]],
    costs_ms: Sequence[Sequence[float]],
    *,
    at_least_ms: float,
    at_most_ms: float,
    count: int,
    identity: Callable[[tuple[int, ...]], Hashable] = tuple,
) -> list[tuple[int, ...]]:
    """The ``count`` best paths in falling order of summed value; of equal ``identity`` the best one.

    ``values[l][i]`` and ``costs_ms[l][i]`` belong to candidate i of layer l. Each further path is found by
    forbidding those found before (a no-good cut). Fewer are given where there are fewer, and where 100
    further ones were of no new identity. Raises InfeasibleTargetError where there is none at all.
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
    paths: dict[Hashable, tuple[int, ...]] = {}
    alike = 0
    while len(paths) < count and alike < MOST_ALIKE:
        found = milp(
            -value,
            integrality=np.ones(total, dtype=int),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0, "time_limit": SOLVER_SECONDS},  # by default it stops at 0.01 %
        )
        if found.status == INFEASIBLE:
            break
        if found.x is None:
            if paths:
                break
            raise InfeasibleTargetError(
                f"no path was found between {at_least_ms:.4g} and {at_most_ms:.4g} ms: {found.message}",
                hint="Raise the target, or lower target.minimum_share.",
            )
        path = tuple(int(np.argmax(found.x[start:stop])) for start, stop in pairwise(starts))
        taken = np.zeros(total)
        taken[[start + choice for start, choice in zip(starts[:-1], path, strict=True)]] = 1
        constraints.append(LinearConstraint(taken[None, :], -np.inf, len(sizes) - 1))
        # The solver's tolerance may let a path slip over the target; the target is hard.
        if at_least_ms <= path_ms(costs_ms, path) <= at_most_ms:
            network = identity(path)
            alike += network in paths
            paths.setdefault(network, path)
    if not paths:
        fastest, slowest = (sum(map(end, costs_ms)) for end in (min, max))
        raise InfeasibleTargetError(
            f"no path takes between {at_least_ms:.4g} and {at_most_ms:.4g} ms; "
            f"the fastest takes {fastest:.4g} ms, the slowest {slowest:.4g} ms.",
            hint="Raise the target, or lower target.minimum_share.",
        )
    return list(paths.values())


def path_ms(costs_ms: Sequence[Sequence[float]], path: Sequence[int]) -> float:
    """Summed latency of a path."""
    return sum(row[choice] for row, choice in zip(costs_ms, path, strict=True))
