"""What each path of a layer is worth, estimated from noisy evaluations of whole networks.

A network's value is modelled as a mean, a part for each layer's candidate, and a part for each pair of
candidates of different layers. All parts are Gaussian a priori; the posterior mean is their estimate: ridge
regression whose penalties are chosen by the data. In its dual form it is a Gaussian process: two networks
that agree in k layers have the prior covariance ``layer variance * k + pair variance * k (k - 1) / 2``.

Names: N evaluations, L layers, C candidates of all layers together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

LIKELIHOOD_NETWORKS = 1000  # of which the variances are found: an eigenvalue problem of that size
_PAIR_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
_NOISE_RATIOS = 40
_TOLERANCE, _MOST_ITERATIONS = 1e-4, 500  # of a residual that is noise for the most part


@dataclass(frozen=True)
class Variances:
    """A priori: of a candidate's part, of a pair's part, and of one evaluation's noise."""

    layer: float
    pair: float
    noise: float


@dataclass(frozen=True)
class PathValues:
    """Estimated parts. ``layer_C[starts[l] + i]`` belongs to candidate i of layer l; ``pair_CC`` is symmetric
    and zero within a layer."""

    sizes: tuple[int, ...]
    mean: float
    layer_C: Array
    pair_CC: Array
    variances: Variances

    @property
    def starts(self) -> Integers:
        """Where each layer's candidates begin."""
        return starts_of(self.sizes)

    def value(self, paths_NL: Integers) -> Array:
        """Estimated value of each network, (N,)."""
        hot_NC = one_hot(paths_NL, self.sizes)
        pairs: Array = ((hot_NC @ self.pair_CC) * hot_NC).sum(axis=1)
        total: Array = self.mean + hot_NC @ self.layer_C + 0.5 * pairs
        return total

    def given(self, paths_NL: Integers) -> Array:
        """What each candidate would add, all other layers left as they are: (N, C)."""
        added: Array = one_hot(paths_NL, self.sizes) @ self.pair_CC + self.layer_C
        return added


def starts_of(sizes: Sequence[int]) -> Integers:
    """First index of each layer in an array over all candidates."""
    import numpy as np

    return np.array([0, *accumulate(sizes)][:-1], dtype=np.int64)


def one_hot(paths_NL: Integers, sizes: Sequence[int]) -> Array:
    """(N, C): 1 where a network takes the candidate."""
    import numpy as np

    hot_NC = np.zeros((len(paths_NL), sum(sizes)))
    np.put_along_axis(hot_NC, paths_NL + starts_of(sizes), 1.0, axis=1)
    return hot_NC


def estimate_values(
    paths_NL: Integers, observed_N: Array, sizes: Sequence[int], variances: Variances | None = None
) -> PathValues:
    """The posterior mean of all parts. ``variances`` are found by :func:`likely_variances` where not given.

    Evaluations of the same network are taken together first.
    """
    import numpy as np

    variances = variances or likely_variances(paths_NL, observed_N, sizes)
    distinct_NL, which = np.unique(paths_NL, axis=0, return_inverse=True)
    which = which.reshape(-1)
    counts = np.bincount(which).astype(float)
    mean = float(observed_N.mean())
    target = np.bincount(which, observed_N) / counts - mean
    hot_NC = one_hot(distinct_NL, sizes)
    dual_N = _solve(distinct_NL, target, sizes, variances, variances.noise / counts)
    layer_C = variances.layer * (hot_NC.T @ dual_N)
    pair_CC = variances.pair * ((hot_NC * dual_N[:, None]).T @ hot_NC)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    pair_CC[owner[:, None] == owner[None, :]] = 0.0
    return PathValues(tuple(sizes), mean, layer_C, pair_CC, variances)


def _solve(
    paths_NL: Integers, target: Array, sizes: Sequence[int], variances: Variances, noise_N: Array
) -> Array:
    """(K + noise) a = target by conjugate gradients, without the N x N matrix K.

    K is F F^T, where F has a column for each part, scaled by its standard deviation. Preconditioned with the
    layers' part of K, whose inverse is known (Woodbury).
    """
    import numpy as np
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator, cg

    count, layers = paths_NL.shape
    candidates = sum(sizes)
    index_NL = paths_NL + starts_of(sizes)
    first, second = np.triu_indices(layers, 1)
    index_NF = np.hstack([index_NL, candidates * (1 + index_NL[:, first]) + index_NL[:, second]])
    scale_F = np.sqrt(np.r_[np.full(layers, variances.layer), np.full(len(first), variances.pair)])
    parts = csr_array(
        (np.tile(scale_F, count), index_NF.ravel(), np.arange(count + 1) * index_NF.shape[1]),
        shape=(count, candidates * (1 + candidates)),
    )
    transposed = parts.T.tocsr()

    def times_kernel(dual: Array) -> Array:
        product: Array = parts @ (transposed @ dual) + noise_N * dual
        return product

    hot_NC = one_hot(paths_NL, sizes)
    rest_N = noise_N + variances.pair * len(first)
    scaled = hot_NC / rest_N[:, None]
    inner = np.linalg.inv(np.eye(candidates) / variances.layer + hot_NC.T @ scaled)

    def precondition(residual: Array) -> Array:
        better: Array = (residual - hot_NC @ (inner @ (scaled.T @ residual))) / rest_N
        return better

    shape = (count, count)
    dual, unfinished = cg(
        LinearOperator(shape, matvec=times_kernel, dtype=float),
        target,
        rtol=_TOLERANCE,
        maxiter=_MOST_ITERATIONS,
        M=LinearOperator(shape, matvec=precondition, dtype=float),
    )
    if unfinished:
        raise RuntimeError(f"conjugate gradients did not end after {unfinished} iterations")
    return np.asarray(dual)


def likely_variances(paths_NL: Integers, observed_N: Array, sizes: Sequence[int]) -> Variances:
    """The variances under which the evaluations are most likely (type-II maximum likelihood).

    Over a grid of the pairs' share and of the noise's; the scale is then known in closed form. Of more than
    a thousand evaluations the first are taken: those that were drawn before anything was known.
    """
    import numpy as np

    hot_NC = one_hot(paths_NL[:LIKELIHOOD_NETWORKS], sizes)
    observed = observed_N[:LIKELIHOOD_NETWORKS]
    centred = observed - observed.mean()
    layers, pairs = len(sizes), max(1, len(sizes) * (len(sizes) - 1) // 2)
    agreed = hot_NC @ hot_NC.T
    best, chosen = -np.inf, (1.0, 0.0, 1.0)
    for share in _PAIR_SHARES:
        layer, pair = (1 - share) / layers, share / pairs
        values, vectors = np.linalg.eigh(layer * agreed + pair * agreed * (agreed - 1) / 2)
        projected = (vectors.T @ centred) ** 2
        for ratio in np.logspace(-3, 4, _NOISE_RATIOS):
            spectrum = np.maximum(values, 0.0) + ratio
            scale = max(float((projected / spectrum).mean()), 1e-300)
            likelihood = -0.5 * len(centred) * np.log(scale) - 0.5 * float(np.log(spectrum).sum())
            if likelihood > best:
                best, chosen = likelihood, (scale * layer, scale * pair, scale * ratio)
    return Variances(*(max(float(part), 1e-12) for part in chosen))


def values_of_parts(parts: Sequence[Sequence[float]]) -> PathValues:
    """Known parts, one row for each layer, and none for pairs: such as log-probabilities."""
    import numpy as np

    sizes = tuple(map(len, parts))
    layer_C = np.concatenate([np.asarray(row, dtype=float) for row in parts])
    return PathValues(sizes, 0.0, layer_C, np.zeros((len(layer_C),) * 2), Variances(1.0, 0.0, 0.0))
