"""Does a latency model still hold? A few of its networks measured again, and held against it."""

from __future__ import annotations

from statistics import median

from android_bench.device import Device, RuntimeOptions
from pipeline.artifact import Record
from pipeline.stage import Context
from stages.documents import LatencyModel, PredictionPoint
from stages.measuring import MeasuringConfig, Work, measure_rounds
from stages.search_space import SearchSpace

TOLERANCE_PERCENT = 5.0


class CheckedNetwork(Record):
    """One network, then and now. ``error_percent``: the prediction's, against what is measured now."""

    choices: tuple[int, ...]
    predicted_ms: float
    measured_then_ms: float
    measured_now_ms: float
    error_percent: float
    holds: bool


class ModelCheck(Record):
    """Whether the model holds: every network within the tolerance but one of five at most.

    ``tolerance_percent`` is 5, or half the width of the model's own interval where that is wider;
    ``factor`` how much slower the device is than when it was measured (the median over the networks).
    """

    holds: bool
    networks: tuple[CheckedNetwork, ...]
    tolerance_percent: float
    factor: float
    seconds: float


def pick_networks(model: LatencyModel, count: int) -> list[PredictionPoint]:
    """Held-out networks, evenly spread from the fastest to the slowest."""
    points = sorted(model.held_out, key=lambda point: point.predicted_ms)
    count = min(count, len(points))
    if count == 1:
        return [points[len(points) // 2]]
    return [points[place * (len(points) - 1) // (count - 1)] for place in range(count)]


def check_model(
    model: LatencyModel,
    space: SearchSpace,
    device: Device,
    config: MeasuringConfig,
    runtime: RuntimeOptions,
    context: Context,
    *,
    networks: int = 5,
    seed: int = 0,
) -> ModelCheck:
    """Measure some of the model's held-out networks again. Raises DeviceError, BadMeasurement.

    The anchor shows fluctuations meanwhile, but not the level: a device that has become slower for good is
    what this is to find.
    """
    from stages.conversion.flatbuffer import network_model

    points = pick_networks(model, networks)
    nets = {f"network_{place}": space.network(point.choices) for place, point in enumerate(points)}
    work = Work(
        {
            name: network_model(net, seed=seed, implementations=model.implementations)
            for name, net in nets.items()
        },
        anchor=(model.reference.name, network_model(model.reference.net, seed=seed)),
    )
    measured = measure_rounds(context, device, work, config, runtime, seed)
    tolerance = max(TOLERANCE_PERCENT, model.interval_percent)
    checked = [
        _checked(point, measured.by_name[name].median_ms, tolerance)
        for name, point in zip(nets, points, strict=True)
    ]
    return ModelCheck(
        holds=sum(not network.holds for network in checked) <= len(checked) // 5,
        networks=tuple(checked),
        tolerance_percent=tolerance,
        factor=median(network.measured_now_ms / network.measured_then_ms for network in checked),
        seconds=measured.seconds,
    )


def _checked(point: PredictionPoint, now_ms: float, tolerance_percent: float) -> CheckedNetwork:
    error = 100 * (point.predicted_ms / now_ms - 1)
    return CheckedNetwork(
        choices=point.choices,
        predicted_ms=point.predicted_ms,
        measured_then_ms=point.measurement.median_ms,
        measured_now_ms=now_ms,
        error_percent=error,
        holds=abs(error) <= tolerance_percent,
    )


def verdict(check: ModelCheck) -> str:
    """One sentence for a person."""
    off = sum(not network.holds for network in check.networks)
    count = len(check.networks)
    if check.holds:
        return (
            f"The latency model still holds: {count - off} of {count} networks are within "
            f"±{check.tolerance_percent:.1f} % of their prediction."
        )
    change = 100 * (check.factor - 1)
    pace = f"{abs(change):.1f} % {'slower' if change > 0 else 'faster'} than when it was measured"
    return (
        f"The latency model no longer holds: {off} of {count} networks are more than "
        f"{check.tolerance_percent:.1f} % off. The device is {pace}."
    )
