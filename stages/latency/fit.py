"""Fit what whole networks take to what their blocks take alone, and evaluate the fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nasflow.base.errors import BadMeasurementError
from stages.documents import HeldOutError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORTHWHILE = 0.9  # the residual term must lower the left-out error at least to that share
FEWEST_FOR_RESIDUAL = 7  # networks; with fewer, four coefficients explain anything
WORTH_A_WARNING_PERCENT = 1.0
_BY_CHANCE = 0.001
FEWEST_FOR_A_SIDE = 11
"""Networks from which on the sign test can find one side: 2 * 0.5**11 is the first below 0.1 %."""
LEAST_SHARE = 0.25
"""Of the errors' variance, that is never taken for noise of measuring."""
_RIDGES = (0.1, 1.0, 10.0)


@dataclass(frozen=True)
class Traits:
    """What a prediction is made of: a network's summed block latencies, and what it moves in memory."""

    sum_ms: float
    weight_megabytes: float = 0.0
    activation_megabytes: float = 0.0


@dataclass(frozen=True)
class LatencyFit:
    """Coefficients of :class:`stages.documents.LatencyModel`, and what they leave of their networks' times.

    ``squares``: sum of the squared relative errors of the ``networks`` that it was fitted to, by so many
    ``coefficients``.
    """

    scale: float
    overhead_ms: float
    ms_per_weight_megabyte: float = 0.0
    ms_per_activation_megabyte: float = 0.0
    squares: float = 0.0
    networks: int = 0
    coefficients: int = 0

    def predict_ms(self, traits: Traits) -> float:
        """Latency of a network."""
        return (
            self.scale * traits.sum_ms
            + self.overhead_ms
            + self.ms_per_weight_megabyte * traits.weight_megabytes
            + self.ms_per_activation_megabyte * traits.activation_megabytes
        )

    def interval_percent(self, errors: Sequence[float] = (), noise: float = 0.0) -> float:
        """Half the width of a prediction's 95 % interval, in percent of it.

        Student's interval for one further network, by the errors of the networks that it was fitted to and of
        others: ``errors``, measured over predicted less 1. Ten networks alone know their own scatter to a
        quarter only, so that their interval would hold 95 % on average, and now and then no more than 75 %.
        The variance of the fit itself is taken as its average over the fitted networks,
        ``coefficients / networks``; errors of others have it in them, those of fitted ones do not.

        ``noise``: relative standard error of a network's measured time. All errors have it in them, and a
        network's latency has not; 0: of what will be measured as these were. What is left of a variance
        from which much was taken is known by fewer degrees of freedom (Satterthwaite 1946). The interval is
        never wider than that of networks measured as these were.
        """
        from scipy.special import stdtrit

        further = 1 + self.coefficients / self.networks
        freedom = self.networks - self.coefficients + len(errors)
        seen = (self.squares + sum(error**2 for error in errors) / further) / freedom

        def quantile(share: float) -> float:
            """Of a deviation that this share of the variance is, by the degrees of freedom that it has."""
            return float(stdtrit(freedom * share**2, 0.975)) * math.sqrt(share)

        left = max(1 - noise**2 / seen, LEAST_SHARE) if seen > 0 else 1.0
        return 100 * min(quantile(left), quantile(1.0)) * math.sqrt(further * seen)


def fit_latency(traits: Sequence[Traits], measured_ms: Sequence[float]) -> LatencyFit:
    """The fit with the least relative errors; a residual term only where it lowers the left-out error.

    A block measured alone finds its weights and its input in the cache, which in a network they are not: the
    residual term is linear in both. It is fitted to what the line leaves, by ridge regression, and must prove
    itself on networks that its fit has not seen (each calibration network left out once); the held-out
    networks take no part in that. Raises BadMeasurementError as fit_line does, and where
    a network left out would take no time: how far such a prediction is off has no meaning in percent.
    """
    count = len(measured_ms)
    plain = _root_mean_square(_left_out_errors(traits, measured_ms, None))
    error, ridge = plain, None
    for candidate in _RIDGES if count >= FEWEST_FOR_RESIDUAL else ():
        try:
            tried = _root_mean_square(_left_out_errors(traits, measured_ms, candidate))
        except BadMeasurementError:  # the residual term takes all that the blocks explain: no model
            continue
        if tried < min(error, WORTHWHILE * plain):
            error, ridge = tried, candidate
    fit = _fit(traits, measured_ms, ridge)
    coefficients = min(2 if ridge is None else 4, count - 1)
    left = [_error(fit, t, ms, "by the latency model") for t, ms in zip(traits, measured_ms, strict=True)]
    # Not the left-out errors: without the fastest network its prediction is an extrapolation, far off, and
    # no other network is predicted so.
    squares = sum(error**2 for error in left)
    return replace(fit, squares=squares, networks=count, coefficients=coefficients)


def one_sided(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> float | None:
    """By how many percent networks take longer than predicted (median), where they lie on one side by more
    than chance and 1 %; None: they do not.

    Chance: the sign test at 0.1 %, two-sided (with 20 networks: 18 on one side; with 11: all). Of fewer than
    FEWEST_FOR_A_SIDE, even all on one side are no more than chance: None says nothing then.
    """
    from statistics import median

    from scipy.stats import binomtest

    errors = [100 * (m / p - 1) for p, m in zip(predicted_ms, measured_ms, strict=True)]
    above, counted = sum(error > 0 for error in errors), sum(error != 0 for error in errors)
    middle = median(errors)
    if counted == 0 or abs(middle) < WORTH_A_WARNING_PERCENT or binomtest(above, counted).pvalue > _BY_CHANCE:
        return None
    return middle


def _root_mean_square(errors: Sequence[float]) -> float:
    return math.sqrt(sum(e * e for e in errors) / len(errors))


def _left_out_errors(
    traits: Sequence[Traits], measured_ms: Sequence[float], ridge: float | None
) -> list[float]:
    """How far each network is from its prediction by a fit to all others, relative to the prediction."""
    errors = []
    for index, (left_out, truth_ms) in enumerate(zip(traits, measured_ms, strict=True)):
        others = [t for other, t in enumerate(traits) if other != index]
        times = [ms for other, ms in enumerate(measured_ms) if other != index]
        by = f"by the {len(others)} other calibration networks"
        errors.append(_error(_fit(others, times, ridge), left_out, truth_ms, by))
    return errors


def _error(fit: LatencyFit, traits: Traits, truth_ms: float, by: str) -> float:
    """A network's error relative to its prediction. Raises BadMeasurementError (``by`` which fit)."""
    predicted_ms = fit.predict_ms(traits)
    _check_takes_time(predicted_ms, truth_ms, by)
    return truth_ms / predicted_ms - 1


def _check_takes_time(predicted_ms: float, truth_ms: float, by: str) -> None:
    if not predicted_ms > 0:
        raise BadMeasurementError(
            f"{by}, a network that takes {truth_ms:.4g} ms would take {predicted_ms:.4g} ms.",
            hint="Blocks or networks are too short for this device's clock, or were measured while it was "
            "busy: give the space a higher resolution or wider stages, or measure again: nasflow run --force "
            "profile.",
        )


def _fit(traits: Sequence[Traits], measured_ms: Sequence[float], ridge: float | None) -> LatencyFit:
    import numpy as np
    from scipy.optimize import lsq_linear

    sums = [t.sum_ms for t in traits]
    if ridge is None:
        return LatencyFit(*fit_line(sums, measured_ms))
    measured = np.asarray(measured_ms, float)
    moved = np.array([[t.weight_megabytes, t.activation_megabytes] for t in traits])
    design = np.column_stack([sums, np.ones_like(measured), moved]) / measured[:, None]
    # Only the residual term is held small: what it explains, in units of how much networks differ. It may
    # only cost time: what is in the cache when a block is measured alone is not faster to get in a network.
    penalty = np.sqrt(ridge) * np.diag([0.0, 0.0, *design[:, 2:].std(axis=0)])[2:]
    solved = lsq_linear(
        np.vstack([design, penalty]),
        np.concatenate([np.ones_like(measured), np.zeros(2)]),
        bounds=([-np.inf, -np.inf, 0.0, 0.0], np.inf),
    )
    weights = solved.x[2:]
    scale, overhead_ms = fit_line(sums, measured - moved @ weights, relative_to=measured)
    return LatencyFit(scale, overhead_ms, float(weights[0]), float(weights[1]))


def fit_line(
    sums_ms: Sequence[float],
    measured_ms: Sequence[float] | NDArray[np.float64],
    relative_to: NDArray[np.float64] | None = None,
) -> tuple[float, float]:
    """Scale and overhead_ms of ``measured = scale * sum + overhead`` with the least relative errors.

    An invocation cannot take less than none: a negative overhead is taken for noise and set to 0, unless
    its 95 % interval lies wholly below 0. Then it stays: parts that every network has take less amid a
    network than alone. Errors are relative to ``relative_to``, by default to what was measured. Raises
    BadMeasurementError where networks of slower blocks are not slower.
    """
    import numpy as np
    from scipy.special import stdtrit

    sums, measured = np.asarray(sums_ms, float), np.asarray(measured_ms, float)
    unit = measured if relative_to is None else relative_to
    design = np.stack([sums, np.ones_like(sums)], axis=1) / unit[:, None]
    target = measured / unit
    (scale, overhead), *_ = np.linalg.lstsq(design, target)
    if overhead < 0:
        freedom = max(1, len(measured) - 2)
        residual = target - design @ np.array([scale, overhead])
        covariance = np.linalg.pinv(design.T @ design) * (residual @ residual) / freedom
        if overhead + float(stdtrit(freedom, 0.975)) * math.sqrt(covariance[1, 1]) >= 0:
            square = design[:, 0] @ design[:, 0]
            scale, overhead = (design[:, 0] @ target / square if square > 0 else 0.0), 0.0
    if not (math.isfinite(scale) and scale > 0):
        raise BadMeasurementError(
            f"networks of slower blocks are not slower on this device: the calibration's scale is {scale:g}.",
            hint="Close other programs and measure again: nasflow run --force profile.",
            raw=f"sums_ms {list(sums_ms)} measured_ms {list(measured_ms)}",
        )
    return float(scale), float(overhead)


def held_out_error(
    predicted_ms: Sequence[float], measured_ms: Sequence[float], interval_percent: float | Sequence[float]
) -> HeldOutError:
    """How far predictions are off. ``interval_percent``: of all predictions, or of each.

    Raises BadMeasurementError where one is of no time, or ranks are undefined.
    """
    import numpy as np
    from scipy import stats

    for one_ms, truth_ms in zip(predicted_ms, measured_ms, strict=True):
        _check_takes_time(one_ms, truth_ms, "by the latency model")
    if len(set(predicted_ms)) < 2 or len(set(measured_ms)) < 2:
        raise BadMeasurementError(
            f"{len(measured_ms)} different networks all take {measured_ms[0]:g} ms on this device.",
            hint="Measure again; if it happens again, run 'nasflow doctor'.",
        )
    predicted, measured = np.asarray(predicted_ms, float), np.asarray(measured_ms, float)
    errors = np.abs(predicted / measured - 1)
    return HeldOutError(
        networks=len(errors),
        share_within_5_percent=float(np.mean(errors <= 0.05)),
        share_within_10_percent=float(np.mean(errors <= 0.10)),
        share_within_interval=float(
            np.mean(np.abs(measured / predicted - 1) <= np.asarray(interval_percent) / 100 + 1e-12)
        ),
        mape_percent=float(100 * np.mean(errors)),
        spearman=float(stats.spearmanr(predicted_ms, measured_ms).statistic),
    )
