"""Measure every target's network on one device, in the same rounds as its own, in all settings asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from android_bench.device import BenchmarkRequest, Device
from pipeline.stage import Scratch
from stages.documents import CrossCell, HardwareNetwork, HardwareTarget, LatencyModel
from stages.measurement.paired import PairedRounds
from stages.verification.statistics import latency_ratio


class Write(Protocol):
    """How a network becomes a model file for a target."""

    def __call__(self, network: HardwareNetwork) -> bytes:
        """The file's content."""


class Setting(NamedTuple):
    """A target of the device, its latency model, and how its models are written."""

    target: HardwareTarget
    model: LatencyModel
    write: Write


def measure_settings(
    settings: Sequence[Setting],
    networks: Sequence[HardwareNetwork],
    device: Device,
    scratch: Scratch,
    *,
    rounds: int,
    min_ms: float,
    warmup_ms: float,
    seed: int,
) -> tuple[list[CrossCell], float]:
    """The cells of the targets that one device has, and the seconds that they took.

    All settings are timed in the same rounds: what the device's speed does meanwhile, it does to all of them.
    Networks that are equal are measured once. The ratio to a target's own network is that of interleaved
    rounds; of the own network it is 1 with nothing beside it. Raises DeviceError, BadMeasurementError.
    """
    first_with: dict[tuple[int, ...], int] = {}
    for index, network in enumerate(networks):
        first_with.setdefault(network.choices, index)
    requests = {
        _name(index, place): BenchmarkRequest(
            name=_name(index, place),
            model=setting.write(networks[index]),
            options=setting.target.runtime,
            min_ms=min_ms,
            warmup_ms=warmup_ms,
        )
        for place, setting in enumerate(settings)
        for index in first_with.values()
    }
    timed = PairedRounds(scratch, device, requests, seed)
    while len(timed) < rounds:
        timed.measure()
    cells = []
    for place, setting in enumerate(settings):
        (own,) = (network for network in networks if network.target == setting.target.name)
        own_ms = timed.medians_ms(_name(first_with[own.choices], place))
        for network in networks:
            name = _name(first_with[network.choices], place)
            ratio = latency_ratio(timed.medians_ms(name), own_ms)
            cells.append(
                CrossCell(
                    network=network.target,
                    target=setting.target.name,
                    predicted_ms=setting.model.predict_ms(network.net),
                    measurement=timed.combined(name),
                    ratio_to_own=ratio.value,
                    ratio_to_own_interval_95=ratio.interval,
                )
            )
    return cells, timed.seconds


def _name(network: int, setting: int) -> str:
    return f"network_{network}_setting_{setting}"
