"""Choose networks under a latency target exactly: a multiple-choice knapsack, solved by HiGHS.

Every layer takes one candidate; the sum of values is to be as large as possible while the sum of latencies
stays between two bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from nasflow.base.errors import InfeasibleTargetError
from stages.nas.exploration import draw_near
from stages.nas.path_values import PathValues, starts_of

if TYPE_CHECKING:
    from stages.nas.path_values import Integers

INFEASIBLE = 2  # of scipy.optimize.milp's status
SOLVER_SECONDS = 20.0  # usually it needs milliseconds; what it has found by then is good enough
MOST_ALIKE = 100
_STARTS, _COOL, _LEAST_GAIN = 48, 0.02, 1e-9


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


def best_by_value(
    values: PathValues,
    costs_ms: Sequence[Sequence[float]],
    *,
    at_least_ms: float,
    at_most_ms: float,
    count: int,
    seed: int,
    known_NL: Integers | None = None,
    identity: Callable[[tuple[int, ...]], Hashable] = tuple,
) -> list[tuple[int, ...]]:
    """The ``count`` best paths by estimated value, in falling order; of equal ``identity`` the better one.

    Where pairs of layers matter, no exact method is fast enough. The exact optimum of single layers' parts,
    paths drawn near the target, and the best of those ``known_NL`` from evaluations are each improved, one or
    two layers at a time, until no such step helps; the neighbours of all these join them. Without pairs'
    parts these are the exact best. Fewer are given as by :func:`best_paths`. Raises InfeasibleTargetError.
    """
    import numpy as np

    bounds = (at_least_ms, at_most_ms)
    layer_parts = np.split(values.layer_C, starts_of(values.sizes)[1:])
    exact = best_paths(
        [part.tolist() for part in layer_parts],
        costs_ms,
        at_least_ms=at_least_ms,
        at_most_ms=at_most_ms,
        count=count,
        identity=identity,
    )
    random = np.random.default_rng(seed)
    estimate_NC = np.repeat(values.layer_C[None], _STARTS, axis=0)
    drawn_NL = draw_near(estimate_NC, values, costs_ms, at_most_ms, random, temperature=_COOL)
    known_NL = drawn_NL if known_NL is None else np.concatenate([drawn_NL, known_NL])
    known_NL = np.unique(known_NL, axis=0)
    known_NL = known_NL[[_within(path_ms(costs_ms, path), bounds) for path in known_NL.tolist()]]
    best_first = np.argsort(-values.value(known_NL), kind="stable")
    starts = [*np.array(exact), *known_NL[best_first[:_STARTS]]]
    tops = np.unique([improved(start, values, costs_ms, bounds) for start in starts], axis=0)
    pool = np.unique(np.concatenate([tops, *(_neighbours(top, values.sizes) for top in tops), exact]), axis=0)
    pool = pool[[_within(path_ms(costs_ms, path), bounds) for path in pool]]
    best: dict[Hashable, tuple[int, ...]] = {}
    for path in pool[np.argsort(-values.value(pool), kind="stable")].tolist():
        best.setdefault(identity(tuple(path)), tuple(path))
    return list(best.values())[:count]


def improved(
    path_L: Integers, values: PathValues, costs_ms: Sequence[Sequence[float]], bounds: tuple[float, float]
) -> Integers:
    """The path after the best changes of one or two layers, until none adds value within the bounds.

    ``bounds`` are the least and the most milliseconds; ``path_L`` keeps them.
    """
    import numpy as np

    cost_C = np.concatenate([np.asarray(row, dtype=float) for row in costs_ms])
    starts = starts_of(values.sizes)
    layer_of_C = np.repeat(np.arange(len(values.sizes)), values.sizes)
    one_layer_CC = layer_of_C[:, None] == layer_of_C[None, :]
    np.fill_diagonal(one_layer_CC, val=False)  # where a change stands for itself alone
    path_L = path_L.copy()
    while True:
        now_L = starts + path_L
        taken_C = now_L[layer_of_C]
        added_C = values.marginal_values(path_L[None])[0]
        gain_C, cost_change_C = added_C - added_C[taken_C], cost_C - cost_C[taken_C]
        # Two layers at once: their gains, and what their pair's part gains over each change alone.
        pair = values.pair_CC
        together_CC = pair - pair[:, taken_C] - pair[taken_C] + pair[np.ix_(taken_C, taken_C)]
        gain_CC = gain_C[:, None] + gain_C[None, :] + together_CC
        change_CC = cost_change_C[:, None] + cost_change_C[None, :]
        np.fill_diagonal(gain_CC, gain_C)
        np.fill_diagonal(change_CC, cost_change_C)
        total_CC = cost_C[now_L].sum() + change_CC
        allowed_CC = ~one_layer_CC & (total_CC >= bounds[0]) & (total_CC <= bounds[1])
        gain_CC = np.where(allowed_CC, gain_CC, -np.inf)
        first, second = np.unravel_index(gain_CC.argmax(), gain_CC.shape)
        if not gain_CC[first, second] > _LEAST_GAIN * (1.0 + abs(values.mean)):
            return path_L
        for candidate in (first, second):
            path_L[layer_of_C[candidate]] = candidate - starts[layer_of_C[candidate]]


def _neighbours(path_L: Integers, sizes: Sequence[int]) -> Integers:
    """All paths that differ in one layer."""
    import numpy as np

    found = []
    for layer, size in enumerate(sizes):
        for choice in range(size):
            path = path_L.copy()
            path[layer] = choice
            found.append(path)
    return np.unique(found, axis=0)


def _within(ms: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= ms <= bounds[1]


def path_ms(costs_ms: Sequence[Sequence[float]], path: Sequence[int]) -> float:
    """Summed latency of a path."""
    return sum(row[choice] for row, choice in zip(costs_ms, path, strict=True))
