"""Sums over all pairs of candidates that networks take, in time and memory proportional to their number.

With h the one-hot vector of a network's candidates: quadratic forms h^T M h of many networks, and the
reverse, sums of h h^T. Layers are put together in groups whose states are all combinations of their
candidates: a network has about half as many pairs of a state and a candidate as pairs of candidates.

Names: N networks, L layers, C candidates of all layers together, S states of all groups together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

MOST_STATES = 64  # of a group: the matrix of all pairs of states has to stay small


class PathPairs:
    """Networks (N, L), made ready for both; ``hot_NC`` is sparse: 1 where a network takes the candidate."""

    def __init__(self, paths_NL: Integers, sizes: Sequence[int]) -> None:
        import numpy as np
        from scipy.sparse import block_diag, csr_array

        starts = np.array([0, *accumulate(sizes)])
        self.hot_NC = _rows_of(paths_NL + starts[:-1], 1.0, int(starts[-1]))
        groups = list(_groups(sizes))
        shapes = [list(sizes[group]) for group in groups]
        states = np.array([0, *accumulate(map(prod, shapes))])
        # Which candidates a group's state consists of.
        self._taken_SC = csr_array(block_diag([_combinations(shape) for shape in shapes], format="csr"))
        self._taken_CS = self._taken_SC.T.tocsr()
        state_NG = np.stack(
            [
                np.ravel_multi_index(tuple(paths_NL[:, group].T), shape) + state
                for group, shape, state in zip(groups, shapes, states[:-1], strict=True)
            ],
            axis=1,
        )
        # Each group beside its own layers and all later ones. A form has a pair of two groups in both orders,
        # of which one is here, and pairs within a group in both.
        self._candidates = int(starts[-1])
        index, weights = [], []
        for group, state_N in zip(groups, state_NG.T, strict=True):
            beside = np.arange(group.start, len(sizes))
            index.append(state_N[:, None] * self._candidates + starts[beside] + paths_NL[:, beside])
            weights.append(np.where(beside < group.stop, 0.5, 1.0))
        weights_NP = np.tile(np.concatenate(weights), len(paths_NL))
        self._pairs_NP = _rows_of(np.hstack(index), weights_NP, int(states[-1]) * self._candidates)
        self._pairs_PN = self._pairs_NP.T.tocsr()

    def forms(self, parts_CC: Array) -> Array:
        """h^T M h / 2 of each network, (N,); M is symmetric."""
        forms_N: Array = self._pairs_NP @ (self._taken_SC @ parts_CC).ravel()
        return forms_N

    def sums(self, weights_N: Array) -> Array:
        """The sum of weight * h h^T over all networks, (C, C)."""
        sums_CC: Array = self._taken_CS @ (self._pairs_PN @ weights_N).reshape(-1, self._candidates)
        return sums_CC + sums_CC.T


def _groups(sizes: Sequence[int]) -> list[slice]:
    """Layers next to each other, as many as have at most 64 combinations; one of more stands alone."""
    groups, first = [], 0
    for layer in range(1, len(sizes) + 1):
        if layer == len(sizes) or prod(sizes[first : layer + 1]) > MOST_STATES:
            groups.append(slice(first, layer))
            first = layer
    return groups


def _combinations(sizes: Sequence[int]) -> Array:
    """(S, C) of one group: 1 where a state takes the candidate."""
    import numpy as np

    rows = [np.eye(size) for size in sizes]
    return np.hstack(
        [
            np.tile(np.repeat(row, prod(sizes[layer + 1 :]), axis=0), (prod(sizes[:layer]), 1))
            for layer, row in enumerate(rows)
        ]
    )


def _rows_of(index_NK: Integers, weights: float | Array, columns: int) -> csr_array:
    """A sparse matrix (N, columns): row n has ``weights`` at its K indices."""
    import numpy as np
    from scipy.sparse import csr_array

    count, taken = index_NK.shape
    index = index_NK.ravel().astype(np.int32 if columns < 2**31 else np.int64)
    ends = np.arange(0, count * taken + 1, taken, dtype=index.dtype)
    return csr_array(
        (np.broadcast_to(weights, index.shape).astype(float), index, ends), shape=(count, columns)
    )
