"""An old latency model made one of another device by a few networks that are measured there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from android_bench.device import DeviceInfo, LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import BadMeasurementError, UsageError
from stages.documents import (
    Adaptation,
    KindRatio,
    LatencyModel,
    PredictionPoint,
    ReferenceLatency,
    Timing,
)
from stages.latency.calibration import Choices, check_enough, draw_networks, range_ms
from stages.latency.fit import held_out_error
from stages.latency.informative import block_times, choose_networks, counts_of
from stages.latency.likeness import likeness_of
from stages.latency.model import Measurements, check_covers
from stages.latency.ratios import Known, Ratios, infer_ratios
from stages.latency.reference_error import reference_error_percent
from stages.latency.table_check import block_kinds
from stages.measurement.interval import interval_percent
from stages.space.search_space import SearchSpace

Array = NDArray[np.float64]

LEAST_NOISE = 0.005  # no old model is known to be better, whatever its held-out networks happen to show
_UNKNOWN_NOISE = 0.02  # of a median of a single round
_SPREAD_OVER = 200


@dataclass(frozen=True)
class Plan:
    """What to measure on the new device: networks to learn from, and others to state the error on."""

    learned: tuple[Choices, ...]
    held_out: tuple[Choices, ...]


@dataclass(frozen=True)
class TakenThere:
    """How networks were measured on the new device."""

    device: DeviceInfo
    runtime: RuntimeOptions
    reference: ReferenceLatency
    timings: tuple[Timing, ...]
    seconds: float
    shift_percent: float
    """How far the anchor failed to speak for the networks, from sitting to sitting (standard deviation)."""


def old_times(model: LatencyModel, space: SearchSpace) -> Array:
    """What each distinct block adds to a network on the old device, then what an invocation costs (B + 1).

    Raises UsageError where a block of the space was not measured there.
    """
    check_covers(space, model.block_ms)
    blocks = [model.block_latency_ms(block) for block in space.distinct_blocks()]
    return np.array([*blocks, model.overhead_ms])


def own_error(model: LatencyModel) -> float:
    """Relative deviation of networks from the old model on its own device: what its sums do not tell."""
    errors = [point.measurement.median_ms / point.predicted_ms - 1 for point in model.held_out]
    return max(LEAST_NOISE, math.sqrt(sum(error**2 for error in errors) / max(1, len(errors))))


def plan(model: LatencyModel, space: SearchSpace, networks: int, held_out: int, seed: int) -> Plan:
    """Which networks to measure. Raises UsageError where the space has too few.

    Those to learn from are chosen to tell most (:mod:`stages.latency.informative`); the others are random,
    evenly over the latencies, and none of them is one of the first.
    """
    check_enough(space, space.different_networks, networks + held_out)
    times = old_times(model, space)
    likeness = likeness_of(space.distinct_blocks())
    noise = math.hypot(own_error(model), LEAST_NOISE)
    learned = choose_networks(space, times, likeness, networks, noise=noise, seed=seed)
    known = {_blocks(space, choices) for choices in learned}
    drawn = draw_networks(space, block_times(space, times), networks + held_out, seed + 2)
    others = [choices for choices in drawn if _blocks(space, choices) not in known]
    spread = [others[index * len(others) // held_out] for index in range(held_out)]
    return Plan(tuple(learned), tuple(spread))


def _blocks(space: SearchSpace, choices: Choices) -> tuple[str, ...]:
    return tuple(block.key for block in space.network(choices).blocks)


def adapt(
    model: LatencyModel,
    space: SearchSpace,
    learned: Measurements,
    held_out: Measurements,
    there: TakenThere,
) -> LatencyModel:
    """The old ``model`` with each block's time multiplied by what ``learned`` says of its ratio.

    Its interval is that of the inferred ratios, of a network's own deviation from the sum of its blocks, by
    Student's t of as many degrees of freedom as networks were measured, and of what differs from one sitting
    to the next. ``held_out`` takes no part in it. Raises UsageError, BadMeasurementError.
    """
    times = old_times(model, space)
    ratios = _inferred(model, space, times, learned)
    new = ratios.new_ms
    blocks = space.distinct_blocks()
    block_ms = {block.key: float(ms) for block, ms in zip(blocks, new[:-1], strict=True)}
    inferred = _interval_percent(model, space, ratios, times, len(learned))
    # As in a model that is fitted in full.
    of_reference = reference_error_percent(there.timings, there.reference.name)
    percent = math.hypot(inferred, 1.96 * there.shift_percent, 1.96 * of_reference)
    fastest, slowest = range_ms(space, block_ms)
    overhead_ms = float(new[-1])
    if overhead_ms + fastest <= 0:
        raise BadMeasurementError(
            f"the fastest network of space {space.name} would take {overhead_ms + fastest:.4g} ms.",
            hint="Measure this device in full: nasflow latency --force profile.",
        )

    def points(measurements: Measurements) -> tuple[PredictionPoint, ...]:
        predicted = counts_of(space, [choices for choices, _ in measurements]) @ new
        return tuple(
            PredictionPoint(choices=choices, predicted_ms=float(ms), measurement=measured)
            for (choices, measured), ms in zip(measurements, predicted, strict=True)
        )

    others = points(held_out)
    measured_ms = [point.measurement.median_ms for point in others]
    before = counts_of(space, [point.choices for point in others]) @ times
    return LatencyModel(
        device=there.device,
        runtime=there.runtime,
        precision=model.precision,
        output=model.output,
        block_ms=block_ms,
        implementations=model.implementations,
        invoke_ms=model.invoke_ms * float(np.exp(ratios.log_ratios[-1])),
        scale=1.0,
        overhead_ms=overhead_ms,
        interval_percent=percent,
        calibration=points(learned),
        held_out=others,
        held_out_error=held_out_error([point.predicted_ms for point in others], measured_ms, percent),
        reference=there.reference,
        feasible_ms=(overhead_ms + fastest, overhead_ms + slowest),
        timings=there.timings,
        adaptation=Adaptation(
            device=model.device.model_copy(update={"serial": ""}),
            runtime=model.runtime,
            networks=len(learned),
            kinds=_kinds(space, ratios),
            unadapted_error=held_out_error(before.tolist(), measured_ms, model.interval_percent),
        ),
        shift_percent=there.shift_percent,
        seconds=there.seconds,
    )


def _inferred(model: LatencyModel, space: SearchSpace, times: Array, learned: Measurements) -> Ratios:
    if not learned:
        raise UsageError("no network was measured on the new device.", hint="Measure 10: --networks 10.")
    own = own_error(model)
    return infer_ratios(
        Known(
            times_ms=times,
            counts=counts_of(space, [choices for choices, _ in learned]),
            measured_ms=np.array([measured.median_ms for _, measured in learned]),
            noise=np.array([math.hypot(own, _relative_error(measured)) for _, measured in learned]),
        ),
        likeness_of(space.distinct_blocks()),
    )


def _relative_error(measured: LatencyMeasurement) -> float:
    """Standard error of a median, relative; a 95 % interval is four of it wide."""
    width = interval_percent(measured.round_medians_ms, resolution_ms=measured.resolution_ms)
    return width / 400 if math.isfinite(width) else _UNKNOWN_NOISE


def _interval_percent(
    model: LatencyModel, space: SearchSpace, ratios: Ratios, times: Array, networks: int
) -> float:
    from scipy.special import stdtrit

    count = min(_SPREAD_OVER, space.different_networks)
    spread = counts_of(space, draw_networks(space, block_times(space, times), count, 0))
    deviation = math.sqrt(float(np.mean(ratios.deviation(spread) ** 2)) + own_error(model) ** 2)
    return 100 * float(stdtrit(networks, 0.975)) * deviation


def _kinds(space: SearchSpace, ratios: Ratios) -> tuple[KindRatio, ...]:
    """Of each kind the mean ratio of its blocks, by the time that they take on the old device."""
    blocks = space.distinct_blocks()
    kinds: Mapping[str, str] = block_kinds(blocks)
    names = np.array([kinds[block.key] for block in blocks])
    found = []
    for kind in sorted(set(names)):
        weights = np.append(np.where(names == kind, ratios.times_ms[:-1], 0.0), 0.0)
        if not weights.sum() > 0:
            continue
        weights /= weights.sum()
        middle, deviation = float(weights @ ratios.log_ratios), float(ratios.deviation_of(weights[None])[0])
        found.append(
            KindRatio(
                kind=str(kind),
                blocks=int((names == kind).sum()),
                ratio=math.exp(middle),
                ratio_interval_95=(
                    math.exp(middle - 1.96 * deviation),
                    math.exp(middle + 1.96 * deviation),
                ),
            )
        )
    return tuple(found)


def differing(kinds: Sequence[KindRatio]) -> str:
    """``dense 0.80 (0.78 to 0.82), depthwise 1.40 (1.37 to 1.43)``."""
    return ", ".join(
        f"{kind.kind} {kind.ratio:.2f} ({kind.ratio_interval_95[0]:.2f} to {kind.ratio_interval_95[1]:.2f})"
        for kind in kinds
    )
