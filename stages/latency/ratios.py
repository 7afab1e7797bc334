"""What a few networks measured on another device say about every block: ratios of times, new over old.

HELP (arXiv 2106.08630) showed that ten measured networks suffice to adapt a latency predictor to a device
that it has not seen, where the predictor was meta-learned on many devices. Here there is one old device and
what its blocks take. So the ratio of each block's time is inferred by Bayes' rule from whole networks: their
times are sums over blocks, their logarithms are linearised about the best ratios (Gauss-Newton), and the
prior says how alike blocks change (:mod:`stages.latency.likeness`). How far kinds, sizes and single blocks
differ is not known beforehand either: it is averaged over, by how well each assumption explains the
measurements. All of it is pure and has no random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nasflow.base.errors import BadMeasurementError
from stages.latency.likeness import Likeness, Spread

Array = NDArray[np.float64]

SPREADS = tuple(
    Spread(kind, size, own)
    for kind, size, own in product(
        (0.0, 0.05, 0.1, 0.2, 0.4), (0.0, 0.05, 0.1, 0.2), (0.01, 0.03, 0.06, 0.12, 0.25)
    )
)
"""What is averaged over; each is as likely as any other before anything is measured."""
_STEPS = 30
_CONVERGED = 1e-9
_NEGLIGIBLE = 1e-6  # of all weight


@dataclass(frozen=True)
class Known:
    """An old model's times, and what of the new device was measured.

    ``times_ms`` (B + 1): each block's time amid a network, and last what every invocation costs.
    ``counts`` (N, B + 1): how often each is in each network. ``measured_ms`` (N). ``noise`` (N): standard
    deviation of each measurement's logarithm, the old model's own error included.
    """

    times_ms: Array
    counts: Array
    measured_ms: Array
    noise: Array


@dataclass(frozen=True)
class _Assumed:
    """The posterior under one assumption: mean (B + 1), covariance's square terms, and its weight."""

    weight: float
    mean: Array
    prior: Array
    shares: Array
    total: Array


@dataclass(frozen=True)
class Ratios:
    """What is known of the logarithms of all ratios. ``log_ratios`` (B + 1) is their mean."""

    times_ms: Array
    log_ratios: Array
    parts: tuple[_Assumed, ...]

    @property
    def new_ms(self) -> Array:
        """Each block's time on the new device (B + 1), what an invocation costs last."""
        return self.times_ms * np.exp(self.log_ratios)

    def predict_ms(self, counts: Array) -> Array:
        """Latencies (N) of networks with so many (N, B + 1) of each block."""
        return np.asarray(counts @ self.new_ms)

    def deviation(self, counts: Array) -> Array:
        """Standard deviations (N) of the logarithms of these predictions."""
        parts = counts * self.new_ms
        return self.deviation_of(parts / parts.sum(axis=1, keepdims=True))

    def deviation_of(self, weights: Array) -> Array:
        """Standard deviations (N) of weighted sums (N, B + 1) of the ratios' logarithms."""
        variance = np.zeros(len(weights))
        for part in self.parts:
            prior = weights @ part.prior
            seen = prior @ part.shares.T
            own = np.einsum("ij,ij->i", prior, weights)
            told = np.einsum("ij,ij->i", seen, np.linalg.solve(part.total, seen.T).T)
            apart = weights @ (part.mean - self.log_ratios)
            variance += part.weight * (np.maximum(own - told, 0.0) + apart**2)
        return np.sqrt(variance)


def infer_ratios(known: Known, likeness: Likeness, spreads: tuple[Spread, ...] = SPREADS) -> Ratios:
    """The ratios that the measurements make likely. Raises BadMeasurementError where none explain them."""
    if not (np.isfinite(known.measured_ms).all() and (known.measured_ms > 0).all()):
        raise BadMeasurementError(f"networks take {known.measured_ms.tolist()} ms, which is no latency.")
    found = [_under(spread, known, likeness) for spread in spreads]
    evidence = np.array([log_evidence for log_evidence, *_ in found])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    if not np.isfinite(weights).all():
        raise BadMeasurementError(
            f"the measured networks ({known.measured_ms.min():.4g} to {known.measured_ms.max():.4g} ms) fit "
            "no ratio to the old model's times.",
            hint="Measure this device in full: nasflow latency --force profile.",
        )
    parts = tuple(
        _Assumed(float(weight), mean, prior, shares, total)
        for weight, (_, mean, prior, shares, total) in zip(weights, found, strict=True)
        if weight > _NEGLIGIBLE
    )
    log_ratios = np.sum([part.weight * part.mean for part in parts], axis=0)
    return Ratios(known.times_ms, log_ratios / sum(part.weight for part in parts), parts)


def _under(spread: Spread, known: Known, likeness: Likeness) -> tuple[float, Array, Array, Array, Array]:
    """Logarithm of the evidence, mean, prior covariance, shares of time, covariance of what is measured."""
    prior, measured = likeness.covariance(spread), np.log(known.measured_ms)
    noise = np.diag(known.noise**2)
    mean = np.full(len(known.times_ms), np.mean(measured - np.log(known.counts @ known.times_ms)))
    for _ in range(_STEPS):
        times = known.counts * (known.times_ms * np.exp(mean))
        shares = times / times.sum(axis=1, keepdims=True)
        left = measured - np.log(times.sum(axis=1)) + shares @ mean
        seen = shares @ prior
        total = seen @ shares.T + noise
        explained = np.linalg.solve(total, left)
        step, mean = mean, seen.T @ explained
        if np.abs(mean - step).max() < _CONVERGED:
            break
    log_evidence = -0.5 * (left @ explained + np.linalg.slogdet(total)[1])
    return float(log_evidence), mean, prior, shares, total
