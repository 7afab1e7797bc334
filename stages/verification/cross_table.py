"""Measure every target's network on one device, in the same rounds as its own, in all settings asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from android_bench.device import BenchmarkRequest, Device
from pipeline.artifact import canonical_json, sha256_hex
from pipeline.stage import Scratch
from stages.documents import CrossCell, HardwareNetwork, HardwareTarget, LatencyModel
from stages.measurement.paired import PairedRounds
from stages.space.search_space import NetConfig
from stages.verification.counted import Counted, measured_until
from stages.verification.power import CONFIDENCE
from stages.verification.sequential import Look

_ANCHOR = "anchor"


class Write(Protocol):
    """How a network becomes a model file for a target."""

    def __call__(self, net: NetConfig) -> bytes:
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
    scratch_of: Callable[[str], Scratch],
    *,
    rounds: int,
    min_ms: float,
    warmup_ms: float,
    seed: int,
    max_thermal_status: int = 0,
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> tuple[list[CrossCell], Counted]:
    """The cells of the targets that one device has, and the rounds that they are of.

    All settings are timed in the same rounds: what the device's speed does meanwhile, it does to all of them.
    Networks that are equal are measured once. The first setting's reference network comes first and last in
    each round: by it, and by what the device says of itself, a round may not count, as in ``verify``. The
    ratio to a target's own network is that of interleaved rounds; of the own network it is 1 with nothing
    beside it. ``scratch_of``: where rounds of just these models on just this device are kept, by a digest of
    all that decides a timing. Raises DeviceError, BadMeasurementError.
    """
    first_with: dict[tuple[int, ...], int] = {}
    for index, network in enumerate(networks):
        first_with.setdefault(network.choices, index)

    def request(name: str, setting: Setting, net: NetConfig) -> BenchmarkRequest:
        return BenchmarkRequest(
            name=name,
            model=setting.write(net),
            options=setting.target.runtime,
            min_ms=min_ms,
            warmup_ms=warmup_ms,
        )

    requests = {
        _name(index, place): request(_name(index, place), setting, networks[index].net)
        for place, setting in enumerate(settings)
        for index in first_with.values()
    }
    requests[_ANCHOR] = request(_ANCHOR, settings[0], settings[0].model.reference.net)
    scratch = scratch_of(_digest(requests, device, seed))
    timed = measured_until(
        PairedRounds(scratch, device, requests, seed, anchor=_ANCHOR, max_thermal_status=max_thermal_status),
        Look(rounds, 1 - CONFIDENCE),
        tell,
    )
    cells = []
    for place, setting in enumerate(settings):
        (own,) = (network for network in networks if network.target == setting.target.name)
        beside = _name(first_with[own.choices], place)
        for network in networks:
            name = _name(first_with[network.choices], place)
            ratio = timed.ratio(name, beside)
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
    return cells, timed


def _name(network: int, setting: int) -> str:
    return f"network_{network}_setting_{setting}"


def _digest(requests: Mapping[str, BenchmarkRequest], device: Device, seed: int) -> str:
    """Of all that decides a timing: the models, how they are run, and which device that is, by its number."""
    info = device.info()
    asked = {
        name: {**request.model_dump(mode="json", exclude={"model"}), "model": sha256_hex(request.model)}
        for name, request in requests.items()
    }
    return sha256_hex(
        canonical_json({"requests": asked, "device": info.identity(), "serial": info.serial, "seed": seed})
    )
