"""Measure every target's network on one target, in the same rounds as its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from android_bench.device import BenchmarkRequest, Device
from pipeline.stage import Scratch
from stages.documents import CrossCell, HardwareNetwork, HardwareTarget, LatencyModel
from stages.measurement.paired import PairedRounds
from stages.verification.statistics import latency_ratio


class Write(Protocol):
    """How a network becomes a model file for a target."""

    def __call__(self, network: HardwareNetwork) -> bytes:
        """The file's content."""


def measure_target(
    target: HardwareTarget,
    networks: Sequence[HardwareNetwork],
    model: LatencyModel,
    device: Device,
    write: Write,
    scratch: Scratch,
    *,
    rounds: int,
    min_ms: float,
    warmup_ms: float,
    seed: int,
) -> tuple[list[CrossCell], float]:
    """The cells of one target, and the seconds that they took.

    Networks that are equal are measured once. The ratio to the target's own network is that of interleaved
    rounds; of the own network it is 1 with nothing beside it. Raises DeviceError, BadMeasurementError.
    """
    names: Mapping[tuple[int, ...], str] = {n.choices: n.target for n in reversed(networks)}
    requests = {
        network.target: BenchmarkRequest(
            name=network.target,
            model=write(network),
            options=target.runtime,
            min_ms=min_ms,
            warmup_ms=warmup_ms,
        )
        for network in networks
        if names[network.choices] == network.target
    }
    timed = PairedRounds(scratch, device, requests, seed)
    while len(timed) < rounds:
        timed.measure()
    own = next(network for network in networks if network.target == target.name)
    own_ms = timed.medians_ms(names[own.choices])
    cells = []
    for network in networks:
        ratio = latency_ratio(timed.medians_ms(names[network.choices]), own_ms)
        cells.append(
            CrossCell(
                network=network.target,
                target=target.name,
                predicted_ms=model.predict_ms(network.net),
                measurement=timed.combined(names[network.choices]),
                ratio_to_own=ratio.value,
                ratio_to_own_interval_95=ratio.interval,
            )
        )
    return cells, timed.seconds
