"""What each path of a layer is worth, estimated from noisy evaluations of whole networks.

A network's value is modelled as a mean, a part for each layer's candidate, and a part for each pair of
candidates of different layers. All parts are Gaussian a priori; the posterior mean is their estimate: ridge
regression whose penalties are chosen by the data. In its dual form it is a Gaussian process: two networks
that agree in k layers have the prior covariance ``layer variance * k + pair variance * k (k - 1) / 2``.

Names: N evaluations, L layers, C candidates of all layers together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
_TOLERANCE, _DRAWS_TOLERANCE = 1e-4, 1e-2  # of a residual that is noise for the most part; a draw is noise
_MOST_ITERATIONS = 500


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

    def marginal_values(self, paths_NL: Integers) -> Array:
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
    """The posterior mean of all parts. ``variances`` are found by :func:`likely_variances` if need be."""
    variances = variances or likely_variances(paths_NL, observed_N, sizes)
    return Posterior(paths_NL, sizes, variances).mean(observed_N)


class Posterior:
    """What is known of all parts after networks (N, L) were evaluated; the matrices are made once.

    Evaluations of the same network are taken together.
    """

    def __init__(self, paths_NL: Integers, sizes: Sequence[int], variances: Variances) -> None:
        import numpy as np

        self._paths_NL, self._variances = paths_NL, variances
        self._sizes = tuple(sizes)
        distinct_NL, which = np.unique(paths_NL, axis=0, return_inverse=True)
        self._which = which.reshape(-1)
        self._counts = np.bincount(self._which).astype(float)
        self._hot_NC = one_hot(distinct_NL, sizes)
        self._covariance = _Covariance(distinct_NL, sizes, variances, variances.noise / self._counts)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        self._within_a_layer = owner[:, None] == owner[None, :]

    def mean(self, observed_N: Array, *, tolerance: float = _TOLERANCE) -> PathValues:
        """The parts' mean, given what was observed of each network, (N,)."""
        import numpy as np

        mean = float(observed_N.mean())
        dual_N = self._covariance.solve(
            np.bincount(self._which, observed_N) / self._counts - mean, tolerance=tolerance
        )
        layer_C = self._variances.layer * (self._hot_NC.T @ dual_N)
        pair_CC = self._variances.pair * ((self._hot_NC * dual_N[:, None]).T @ self._hot_NC)
        pair_CC[self._within_a_layer] = 0.0
        return PathValues(self._sizes, mean, layer_C, pair_CC, self._variances)

    def draw(self, mean: PathValues, random: np.random.Generator, *, share: float = 1.0) -> PathValues:
        """The mean and ``share`` of one joint deviation of all parts from it.

        Parts drawn a priori deviate from what noisy observations of *them* would have taught, as the unknown
        parts deviate from their estimate (Matheron's rule: Wilson et al., arXiv 2002.09309, equation 9).
        """
        import numpy as np

        count = len(mean.layer_C)
        layer_C = random.normal(size=count) * np.sqrt(self._variances.layer)
        pair_CC = np.triu(random.normal(size=(count, count)) * np.sqrt(self._variances.pair), 1)
        pair_CC[self._within_a_layer] = 0.0
        prior = PathValues(self._sizes, 0.0, layer_C, pair_CC + pair_CC.T, self._variances)
        noise_N = random.normal(size=len(self._paths_NL)) * np.sqrt(self._variances.noise)
        learned = self.mean(prior.value(self._paths_NL) + noise_N, tolerance=_DRAWS_TOLERANCE)
        return replace(
            mean,
            layer_C=mean.layer_C + share * (prior.layer_C - learned.layer_C),
            pair_CC=mean.pair_CC + share * (prior.pair_CC - learned.pair_CC),
        )


class _Covariance:
    """K + noise of networks (N, L), without the N x N matrix K.

    K is F F^T, where F has a column for each part, scaled by its standard deviation.
    """

    def __init__(
        self, paths_NL: Integers, sizes: Sequence[int], variances: Variances, noise_N: Array
    ) -> None:
        import numpy as np
        from scipy.sparse import csr_array

        count, layers = paths_NL.shape
        candidates = sum(sizes)
        index_NL = paths_NL + starts_of(sizes)
        first, second = np.triu_indices(layers, 1)
        index_NF = np.hstack([index_NL, candidates * (1 + index_NL[:, first]) + index_NL[:, second]])
        scale_F = np.sqrt(np.r_[np.full(layers, variances.layer), np.full(len(first), variances.pair)])
        self._parts = csr_array(
            (np.tile(scale_F, count), index_NF.ravel(), np.arange(count + 1) * index_NF.shape[1]),
            shape=(count, candidates * (1 + candidates)),
        )
        self._transposed = self._parts.T.tocsr()
        self._noise_N = noise_N
        self._hot_NC = one_hot(paths_NL, sizes)
        self._rest_N = noise_N + variances.pair * len(first)
        self._scaled = self._hot_NC / self._rest_N[:, None]
        self._inner = np.linalg.inv(np.eye(candidates) / variances.layer + self._hot_NC.T @ self._scaled)

    def times(self, dual_N: Array) -> Array:
        """(K + noise) a."""
        product: Array = self._parts @ (self._transposed @ dual_N) + self._noise_N * dual_N
        return product

    def precondition(self, residual_N: Array) -> Array:
        """The inverse of the layers' part of K, which is known (Woodbury), times a residual."""
        better: Array = (
            residual_N - self._hot_NC @ (self._inner @ (self._scaled.T @ residual_N))
        ) / self._rest_N
        return better

    def solve(self, target_N: Array, *, tolerance: float) -> Array:
        """a of (K + noise) a = target, by conjugate gradients."""
        import numpy as np
        from scipy.sparse.linalg import LinearOperator, cg

        shape = (len(target_N),) * 2
        dual_N, unfinished = cg(
            LinearOperator(shape, matvec=self.times, dtype=float),
            target_N,
            rtol=tolerance,
            maxiter=_MOST_ITERATIONS,
            M=LinearOperator(shape, matvec=self.precondition, dtype=float),
        )
        if unfinished:
            raise RuntimeError(f"conjugate gradients did not end after {unfinished} iterations")
        return np.asarray(dual_N)


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
