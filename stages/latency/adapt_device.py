"""Measure on a device what adapts another device's latency model to it."""

from __future__ import annotations

from functools import partial

from android_bench.device import Device, LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import UsageError
from pipeline.stage import Context
from stages.documents import LatencyModel, ReferenceLatency
from stages.latency.adaptation import TakenThere, adapt, plan
from stages.latency.calibration import FEWEST, Choices
from stages.measurement.config import MeasurementConfig
from stages.measurement.rounds import measure_rounds
from stages.measurement.work import Work
from stages.space.network_name import network_name
from stages.space.search_space import SearchSpace


def adapt_to_device(
    model: LatencyModel,
    space: SearchSpace,
    device: Device,
    config: MeasurementConfig,
    runtime: RuntimeOptions,
    context: Context,
    *,
    networks: int,
    held_out: int,
    seed: int = 0,
) -> LatencyModel:
    """``model`` as it is on ``device``, by ``networks`` measured there; its error by ``held_out`` others.

    Both are timed in the same rounds, with the old model's reference between them. Raises UsageError where
    fewer than 3 are asked for or the space has too few, DeviceError, BadMeasurementError.
    """
    from stages.conversion.measured import measured_network

    for option, number in (("--networks", networks), ("--held-out", held_out)):
        if number < FEWEST:
            raise UsageError(
                f"{option} is {number}; fewer than {FEWEST} tell nothing.", hint=f"Choose {FEWEST} or more."
            )
    chosen = plan(model, space, networks, held_out, seed)
    context.say(
        f"{networks} networks chosen to show how each kind of block differs from {model.device.model}, "
        f"{held_out} random ones held out, {model.reference.name} between; {config.rounds} rounds."
    )
    written = partial(measured_network, precision=model.precision, seed=seed, output=model.output)
    everything = (*chosen.learned, *chosen.held_out)
    work = Work(
        {
            network_name(choices): written(space.network(choices), implementations=model.implementations)
            for choices in everything
        },
        anchor=(model.reference.name, written(model.reference.net)),
        in_units=True,
    )
    measured = measure_rounds(context, device, work, config, runtime, seed)

    def found(choices: Choices) -> tuple[Choices, LatencyMeasurement]:
        return choices, measured.by_name[network_name(choices)]

    return adapt(
        model,
        space,
        [found(choices) for choices in chosen.learned],
        [found(choices) for choices in chosen.held_out],
        TakenThere(
            device=device.info(),
            runtime=runtime,
            reference=ReferenceLatency(
                name=model.reference.name,
                net=model.reference.net,
                measurement=measured.by_name[model.reference.name],
            ),
            timings=measured.timings,
            seconds=measured.seconds,
            shift_percent=measured.shift_percent,
        ),
    )
