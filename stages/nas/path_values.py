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

from stages.nas.path_pairs import PathPairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

LIKELIHOOD_NETWORKS = 1000  # of which the variances are found: an eigenvalue problem of that size
_PAIR_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
_NOISE_RATIOS = tuple(
    10 ** (n / 6) for n in range(-12, 25)
)  # of the variance between networks: 0.01 to 10,000
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

    def __init__(
        self,
        seen: Evaluations,
        sizes: Sequence[int],
        variances: Variances,
        pairs: PathPairs | None = None,
    ) -> None:
        """``pairs``: of the evaluated networks, where they are there already."""
        import numpy as np

        self._seen, self._sizes, self.variances = seen, tuple(sizes), variances
        self._pairs = pairs or PathPairs(seen.paths_NL, sizes)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        self._across_layers = owner[:, None] != owner[None, :]
        self._covariance = _Covariance(seen, self._pairs, self._across_layers, variances)

    def under(self, variances: Variances) -> Posterior:
        """What is known if the variances are others."""
        return Posterior(self._seen, self._sizes, variances, self._pairs)

    def mean(self) -> PathValues:
        """The parts' mean, given what was observed."""
        return self._learned(self._seen.observed_N, _TOLERANCE)

    def _learned(self, observed_N: Array, tolerance: float) -> PathValues:
        mean = float(observed_N.mean())
        sums_CC = self._pairs.sums(self._covariance.solve(observed_N - mean, tolerance=tolerance))
        layer_C = self.variances.layer * sums_CC.diagonal()
        pair_CC = self.variances.pair * sums_CC * self._across_layers
        return PathValues(self._sizes, mean, layer_C, pair_CC, self.variances)

    def draw(self, mean: PathValues, random: np.random.Generator) -> PathValues:
        """The mean and one joint deviation of all parts from it.

        Parts drawn a priori deviate from what noisy observations of *them* would have taught, as the unknown
        parts deviate from their estimate (Matheron's rule: Wilson et al., arXiv 2002.09309, equation 9).
        """
        import numpy as np

        seen, variances, count = self._seen, self.variances, len(mean.layer_C)
        layer_C = random.normal(size=count) * np.sqrt(variances.layer)
        pair_CC = np.triu(random.normal(size=(count, count)) * np.sqrt(variances.pair), 1)
        pair_CC = (pair_CC + pair_CC.T) * self._across_layers
        noise_N = random.normal(size=len(seen.paths_NL)) * np.sqrt(variances.noise * seen.noise_N)
        step_S = random.normal(size=int(seen.step_N.max()) + 1) * np.sqrt(variances.step)
        drawn_N = self._pairs.forms(pair_CC + 2 * np.diag(layer_C))
        learned = self._learned(drawn_N + noise_N + step_S[seen.step_N], _DRAWS_TOLERANCE)
        return replace(
            mean,
            layer_C=mean.layer_C + layer_C - learned.layer_C,
            pair_CC=mean.pair_CC + pair_CC - learned.pair_CC,
        )


class _Covariance:
    """K + steps + noise of networks (N, L), without the N x N matrices."""

    def __init__(
        self, seen: Evaluations, pairs: PathPairs, across_layers: NDArray[np.bool_], variances: Variances
    ) -> None:
        import numpy as np
        from scipy.sparse import csr_array

        layers = seen.paths_NL.shape[1]
        self._pairs = pairs
        self._scale_CC = variances.pair * across_layers + 2 * variances.layer * np.eye(len(across_layers))
        self._noise_N = variances.noise * seen.noise_N
        self._step_variance = variances.step
        self._step_N = np.unique(seen.step_N, return_inverse=True)[1].reshape(-1)
        self._rest_N = self._noise_N + variances.pair * (layers * (layers - 1) // 2)
        rest_S = np.bincount(self._step_N, 1 / self._rest_N)
        self._shrunk_S = variances.step / (1 + variances.step * rest_S)
        self._hot_NC, self._hot_CN = pairs.hot_NC, pairs.hot_NC.T.tocsr()
        # H^T (the inverse of the rest) H, H the one-hot rows of all networks.
        weights_SN = csr_array((1 / self._rest_N, (self._step_N, np.arange(len(self._rest_N)))))
        of_step_SC = (weights_SN @ self._hot_NC).toarray()
        scaled_CC = pairs.sums(1 / self._rest_N) - of_step_SC.T @ (self._shrunk_S[:, None] * of_step_SC)
        self._inner = np.linalg.inv(np.eye(len(scaled_CC)) / variances.layer + scaled_CC)

    def times(self, dual_N: Array) -> Array:
        """(K + steps + noise) a. K is the form of the parts that a sum of networks teaches."""
        import numpy as np

        steps_N = self._step_variance * np.bincount(self._step_N, dual_N)[self._step_N]
        learned_N = self._pairs.forms(self._scale_CC * self._pairs.sums(dual_N))
        product: Array = learned_N + steps_N + self._noise_N * dual_N
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
        better: Array = rest_N - self._of_rest(self._hot_NC @ (self._inner @ (self._hot_CN @ rest_N)))
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
    """The variances that explain the differences within steps (restricted likelihood).

    The mean over a grid of the pairs' share and of the noise's, weighted by likelihood; the scale is then
    known in closed form. The mean, for few networks agree in enough layers to tell pairs from noise: what is
    most likely may leave no noise at all, and then every observation would be believed. Of more than 1,000
    evaluations the first are taken: those that were drawn before anything was known. A step of one evaluation
    is compared with all others of its kind. The step's own variance is left at 0 (:func:`step_variance`).
    """
    import numpy as np

    paths_NL = seen.paths_NL[:LIKELIHOOD_NETWORKS]
    contrast_DN = _contrasts(seen.step_N[: len(paths_NL)])
    if not len(contrast_DN):
        return Variances(1.0, 1e-12, 1.0)  # a single evaluation says nothing
    # In units in which the noise of each is one new evaluation's: those of a step are equally old.
    contrast_DN /= np.sqrt(contrast_DN**2 @ seen.noise_N[: len(paths_NL)])[:, None]
    observed_D = contrast_DN @ seen.observed_N[: len(paths_NL)]
    hot_NC = one_hot(paths_NL, sizes)
    layers, pairs = len(sizes), max(1, len(sizes) * (len(sizes) - 1) // 2)
    agreed = hot_NC @ hot_NC.T
    agreed_DD = contrast_DN @ agreed @ contrast_DN.T
    agreed_pairs_DD = contrast_DN @ (agreed * (agreed - 1) / 2) @ contrast_DN.T
    variances, log_likelihood = [], []
    for share in _PAIR_SHARES:
        layer, pair = (1 - share) / layers, share / pairs
        values, vectors = np.linalg.eigh(layer * agreed_DD + pair * agreed_pairs_DD)
        projected = (vectors.T @ observed_D) ** 2
        for ratio in _NOISE_RATIOS:
            spectrum = np.maximum(values, 0.0) + ratio
            scale = max(float((projected / spectrum).mean()), 1e-300)
            variances.append((scale * layer, scale * pair, scale * ratio))
            log_likelihood.append(-0.5 * len(observed_D) * np.log(scale) - 0.5 * np.log(spectrum).sum())
    weight = np.exp(np.array(log_likelihood) - max(log_likelihood))
    mean = np.average(variances, axis=0, weights=weight)
    return Variances(*(max(float(part), 1e-12) for part in mean))


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
