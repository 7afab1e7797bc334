"""What each path of a layer is worth, estimated from noisy evaluations of whole networks.

A network's value is modelled as a mean, a part for each layer's candidate, and a part for each pair of
candidates of different layers. All parts are Gaussian a priori; the posterior mean is their estimate: ridge
regression whose penalties are chosen by the data. In its dual form it is a Gaussian process: two networks
that agree in k layers have the prior covariance ``layer variance * k + pair variance * k (k - 1) / 2``.
Evaluations of one step were made on the same images: what these add to all of them is a part of its own.

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

LIKELIHOOD_NETWORKS = 500  # of which the variances are found: an eigenvalue problem of that size
_PAIR_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
_NOISE_RATIOS = 40
_TOLERANCE, _DRAWS_TOLERANCE = 1e-4, 1e-2  # of a residual that is noise for the most part; a draw is noise
_MOST_ITERATIONS = 500


@dataclass(frozen=True)
class Variances:
    """A priori: of a candidate's part, of a pair's part, of one evaluation's noise, and of what the images of
    a step add to all of its evaluations."""

    layer: float
    pair: float
    noise: float
    step: float = 0.0


@dataclass(frozen=True)
class Evaluations:
    """Networks (N, L), what was observed of each, (N,), in which step, and how much noisier than a new one.

    ``noise_N`` is a factor of the noise's variance.
    """

    paths_NL: Integers
    observed_N: Array
    step_N: Integers
    noise_N: Array


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


class Posterior:
    """What is known of all parts after networks were evaluated; the matrices are made once."""

    def __init__(self, seen: Evaluations, sizes: Sequence[int], variances: Variances) -> None:
        import numpy as np

        self._seen, self._variances = seen, variances
        self._sizes = tuple(sizes)
        self._hot_NC = one_hot(seen.paths_NL, sizes)
        self._covariance = _Covariance(seen, sizes, variances)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        self._within_a_layer = owner[:, None] == owner[None, :]

    def mean(self) -> PathValues:
        """The parts' mean, given what was observed."""
        return self._learned(self._seen.observed_N, _TOLERANCE)

    def _learned(self, observed_N: Array, tolerance: float) -> PathValues:
        mean = float(observed_N.mean())
        dual_N = self._covariance.solve(observed_N - mean, tolerance=tolerance)
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

        seen, variances, count = self._seen, self._variances, len(mean.layer_C)
        layer_C = random.normal(size=count) * np.sqrt(variances.layer)
        pair_CC = np.triu(random.normal(size=(count, count)) * np.sqrt(variances.pair), 1)
        pair_CC[self._within_a_layer] = 0.0
        prior = PathValues(self._sizes, 0.0, layer_C, pair_CC + pair_CC.T, variances)
        noise_N = random.normal(size=len(seen.paths_NL)) * np.sqrt(variances.noise * seen.noise_N)
        step_S = random.normal(size=int(seen.step_N.max()) + 1) * np.sqrt(variances.step)
        learned = self._learned(prior.value(seen.paths_NL) + noise_N + step_S[seen.step_N], _DRAWS_TOLERANCE)
        return replace(
            mean,
            layer_C=mean.layer_C + share * (prior.layer_C - learned.layer_C),
            pair_CC=mean.pair_CC + share * (prior.pair_CC - learned.pair_CC),
        )


class _Covariance:
    """K + steps + noise of networks (N, L), without the N x N matrices.

    K is F F^T, where F has a column for each part, scaled by its standard deviation.
    """

    def __init__(self, seen: Evaluations, sizes: Sequence[int], variances: Variances) -> None:
        import numpy as np
        from scipy.sparse import csr_array

        count, layers = seen.paths_NL.shape
        candidates = sum(sizes)
        index_NL = seen.paths_NL + starts_of(sizes)
        first, second = np.triu_indices(layers, 1)
        index_NF = np.hstack([index_NL, candidates * (1 + index_NL[:, first]) + index_NL[:, second]])
        scale_F = np.sqrt(np.r_[np.full(layers, variances.layer), np.full(len(first), variances.pair)])
        self._parts = csr_array(
            (np.tile(scale_F, count), index_NF.ravel(), np.arange(count + 1) * index_NF.shape[1]),
            shape=(count, candidates * (1 + candidates)),
        )
        self._transposed = self._parts.T.tocsr()
        self._noise_N = variances.noise * seen.noise_N
        self._step_variance = variances.step
        self._step_N = np.unique(seen.step_N, return_inverse=True)[1].reshape(-1)
        self._rest_N = self._noise_N + variances.pair * len(first)
        rest_S = np.bincount(self._step_N, 1 / self._rest_N)
        self._shrunk_S = variances.step / (1 + variances.step * rest_S)
        self._hot_NC = one_hot(seen.paths_NL, sizes)
        self._scaled_NC = np.stack([self._of_rest(column) for column in self._hot_NC.T], axis=1)
        self._inner = np.linalg.inv(np.eye(candidates) / variances.layer + self._hot_NC.T @ self._scaled_NC)

    def times(self, dual_N: Array) -> Array:
        """(K + steps + noise) a."""
        import numpy as np

        steps_N = self._step_variance * np.bincount(self._step_N, dual_N)[self._step_N]
        product: Array = self._parts @ (self._transposed @ dual_N) + steps_N + self._noise_N * dual_N
        return product

    def _of_rest(self, dual_N: Array) -> Array:
        """The inverse of steps, noise and the pairs' diagonal (Sherman-Morrison, step by step)."""
        import numpy as np

        own_N = dual_N / self._rest_N
        common_S = self._shrunk_S * np.bincount(self._step_N, own_N)
        rest: Array = own_N - common_S[self._step_N] / self._rest_N
        return rest

    def precondition(self, residual_N: Array) -> Array:
        """The inverse of all but the pairs' part of K off its diagonal (Woodbury), times a residual."""
        rest_N = self._of_rest(residual_N)
        better: Array = rest_N - self._scaled_NC @ (self._inner @ (self._hot_NC.T @ rest_N))
        return better

    def solve(self, target_N: Array, *, tolerance: float) -> Array:
        """a of (K + steps + noise) a = target, by conjugate gradients."""
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


def likely_variances(seen: Evaluations, sizes: Sequence[int]) -> Variances:
    """The variances under which the differences within steps are most likely (restricted likelihood).

    Over a grid of the pairs' share and of the noise's; the scale is then known in closed form. Of more than
    500 evaluations the first are taken: those that were drawn before anything was known. A step of one
    evaluation is compared with all others of its kind. The step's own variance is left at 0
    (:func:`step_variance`).
    """
    import numpy as np

    paths_NL = seen.paths_NL[:LIKELIHOOD_NETWORKS]
    contrast_DN = _contrasts(seen.step_N[: len(paths_NL)])
    if not len(contrast_DN):
        return Variances(1.0, 1e-12, 1.0)  # a single evaluation says nothing
    observed_D = contrast_DN @ seen.observed_N[: len(paths_NL)]
    # Each contrast's noise is one evaluation's where all are equally noisy; of few epochs nearly so.
    hot_NC = one_hot(paths_NL, sizes)
    layers, pairs = len(sizes), max(1, len(sizes) * (len(sizes) - 1) // 2)
    agreed = hot_NC @ hot_NC.T
    agreed_DD = contrast_DN @ agreed @ contrast_DN.T
    agreed_pairs_DD = contrast_DN @ (agreed * (agreed - 1) / 2) @ contrast_DN.T
    best, chosen = -np.inf, (1.0, 0.0, 1.0)
    for share in _PAIR_SHARES:
        layer, pair = (1 - share) / layers, share / pairs
        values, vectors = np.linalg.eigh(layer * agreed_DD + pair * agreed_pairs_DD)
        projected = (vectors.T @ observed_D) ** 2
        for ratio in np.logspace(-3, 4, _NOISE_RATIOS):
            spectrum = np.maximum(values, 0.0) + ratio
            scale = max(float((projected / spectrum).mean()), 1e-300)
            likelihood = -0.5 * len(observed_D) * np.log(scale) - 0.5 * float(np.log(spectrum).sum())
            if likelihood > best:
                best, chosen = likelihood, (scale * layer, scale * pair, scale * ratio)
    return Variances(*(max(float(part), 1e-12) for part in chosen))


def _contrasts(step_N: Integers) -> Array:
    """Orthonormal differences (D, N) within steps; of single evaluations, between them."""
    import numpy as np

    counts = np.bincount(step_N)
    group_N = np.where(counts[step_N] > 1, step_N, -1)
    rows = []
    for group in np.unique(group_N):
        members = np.flatnonzero(group_N == group)
        for position in range(1, len(members)):
            row = np.zeros(len(step_N))
            row[members[:position]] = 1 / position
            row[members[position]] = -1.0
            rows.append(row / np.sqrt(1 / position + 1))
    return np.array(rows).reshape(len(rows), len(step_N))


def step_variance(seen: Evaluations, values: PathValues | None = None) -> float:
    """How much the images of a step add to all its evaluations: the variance, at least 0.

    Variance between the steps' means less what the variance within them explains, of what ``values`` leave.
    """
    import numpy as np

    rest_N = seen.observed_N if values is None else seen.observed_N - values.value(seen.paths_NL)
    step_N = np.unique(seen.step_N, return_inverse=True)[1].reshape(-1)
    count_S = np.bincount(step_N)
    mean_S = np.bincount(step_N, rest_N) / count_S
    freedom = len(rest_N) - len(count_S)
    if freedom < 1 or len(count_S) < 2:
        return 0.0
    within = float(((rest_N - mean_S[step_N]) ** 2).sum()) / freedom
    between = float(mean_S.var(ddof=1))
    return max(0.0, between - within * float((1 / count_S).mean()))
