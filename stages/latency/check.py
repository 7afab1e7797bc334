"""Does a latency model still hold? A few of its networks measured again, and held against what they took."""

from __future__ import annotations

import math
from functools import partial
from statistics import median
from typing import Literal

from android_bench.device import Device, RuntimeOptions
from pipeline.artifact import Record
from pipeline.stage import Context
from stages.documents import LatencyModel, PredictionPoint
from stages.measurement.config import MeasurementConfig
from stages.measurement.interval import interval_percent
from stages.measurement.rounds import measure_rounds
from stages.measurement.work import Work
from stages.space.search_space import SearchSpace

TOLERANCE_PERCENT = 5.0
Outcome = Literal["holds", "fails", "inconclusive"]


class CheckedNetwork(Record):
    """One network, then and now. ``change_percent``: how much longer it takes than when it was measured."""

    choices: tuple[int, ...]
    predicted_ms: float
    measured_then_ms: float
    measured_now_ms: float
    change_percent: float
    half_interval_percent: float


class ModelCheck(Record):
    """Whether what the model was fitted to is still so.

    It holds where the networks' median change, and each network's but one of five at most, are within
    5 %. Where the device was so restless that a network is not known to half of that, nothing is said.
    """

    outcome: Outcome
    networks: tuple[CheckedNetwork, ...]
    change_percent: float
    seconds: float


def pick_networks(model: LatencyModel, count: int) -> list[PredictionPoint]:
    """Held-out networks, evenly spread from the fastest to the slowest."""
    points = sorted(model.held_out, key=lambda point: point.predicted_ms)
    count = min(count, len(points))
    if count == 1:
        return [points[len(points) // 2]]
    return [points[index * (len(points) - 1) // (count - 1)] for index in range(count)]


def check_model(
    model: LatencyModel,
    space: SearchSpace,
    device: Device,
    config: MeasurementConfig,
    runtime: RuntimeOptions,
    context: Context,
    *,
    networks: int = 5,
    seed: int = 0,
) -> ModelCheck:
    """Measure some of the model's held-out networks again. Raises DeviceError, BadMeasurementError.

    The anchor shows fluctuations meanwhile, but is not told the old level: a device that has become slower
    for good is what this is to find.
    """
    from stages.conversion.measured import measured_network

    written = partial(measured_network, precision=model.precision, seed=seed, output=model.output)
    points = pick_networks(model, networks)
    nets = {f"network_{index}": space.network(point.choices) for index, point in enumerate(points)}
    work = Work(
        {name: written(net, implementations=model.implementations) for name, net in nets.items()},
        anchor=(model.reference.name, written(model.reference.net)),
        in_units=True,
    )
    measured = measure_rounds(context, device, work, config, runtime, seed)
    checked = []
    for name, point in zip(nets, points, strict=True):
        now, then_ms = measured.by_name[name], point.measurement.median_ms
        checked.append(
            CheckedNetwork(
                choices=point.choices,
                predicted_ms=point.predicted_ms,
                measured_then_ms=then_ms,
                measured_now_ms=now.median_ms,
                change_percent=100 * (now.median_ms / then_ms - 1),
                # Then and now the median may be half a step of the clock off.
                half_interval_percent=interval_percent(
                    now.round_medians_ms,
                    resolution_ms=math.hypot(now.resolution_ms, point.measurement.resolution_ms),
                )
                / 2,
            )
        )
    change = median(network.change_percent for network in checked)
    return ModelCheck(
        outcome=_outcome(checked, change),
        networks=tuple(checked),
        change_percent=change,
        seconds=measured.seconds,
    )


def _outcome(networks: list[CheckedNetwork], change_percent: float) -> Outcome:
    if any(network.half_interval_percent > TOLERANCE_PERCENT / 2 for network in networks):
        return "inconclusive"
    off = sum(abs(network.change_percent) > TOLERANCE_PERCENT for network in networks)
    within = off <= len(networks) // 5 and abs(change_percent) <= TOLERANCE_PERCENT
    return "holds" if within else "fails"


def verdict(check: ModelCheck) -> str:
    """One sentence for a person."""
    change, count = check.change_percent, len(check.networks)
    pace = f"{abs(change):.1f} % {'longer' if change > 0 else 'shorter'} than when it was measured"
    if check.outcome == "holds":
        return f"The latency model still holds: {count} networks take {pace} (median)."
    if check.outcome == "fails":
        off = sum(abs(network.change_percent) > TOLERANCE_PERCENT for network in check.networks)
        return (
            f"The latency model no longer holds: the device takes {pace} (median), and {off} of {count} "
            f"networks are more than {TOLERANCE_PERCENT:g} % off."
        )
    worst = max(network.half_interval_percent for network in check.networks)
    return (
        f"The latency varies too much for a conclusion: a network's is known to ±{worst:.1f} % only, and "
        f"what is looked for is ±{TOLERANCE_PERCENT:g} %. Close other programs, let it cool, and check again."
    )
