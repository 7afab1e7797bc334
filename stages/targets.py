"""Latency targets: in milliseconds, or as a share of another network's time on the same device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, PositiveFloat

from nasflow.errors import InfeasibleTarget
from pipeline.artifact import Record
from stages.documents import LatencyModel


class RelativeTarget(Record):
    """A target as a share of another network's latency on the same device."""

    relative_to: Literal["mobilenet_v2"] = Field("mobilenet_v2", description="measured by the latency stage")
    ratio: float = Field(0.5, gt=0, le=10, description="target = ratio * that network's latency")


Target = PositiveFloat | RelativeTarget


def feasible_ms(origin: str, target: float | RelativeTarget, latency: LatencyModel) -> float:
    """A target in ms. Raises InfeasibleTarget where no network of the space is that fast.

    ``origin`` is the target's key in the configuration, for the message.
    """
    if isinstance(target, RelativeTarget):
        reference = latency.reference
        target_ms = target.ratio * reference.measurement.median_ms
        origin = (
            f"{origin} (ratio {target.ratio:g} of {reference.name}'s "
            f"{reference.measurement.median_ms:.4g} ms)"
        )
    else:
        target_ms = target
    fastest, slowest = latency.feasible_ms
    if target_ms < fastest:
        raise InfeasibleTarget(
            f"{origin}: no network of the space takes {target_ms:.4g} ms or less on "
            f"{latency.device.model}; the fastest takes {fastest:.4g} ms.",
            hint=f"Choose a target above {fastest:.4g} ms; the slowest network takes {slowest:.4g} ms.",
        )
    return target_ms


def further_ms(targets: Iterable[float | RelativeTarget], latency: LatencyModel) -> tuple[float, ...]:
    """Those of ``search.targets`` behind the first, in ms. Raises InfeasibleTarget."""
    return tuple(
        feasible_ms(f"search.targets, number {n}", target, latency) for n, target in enumerate(targets, 2)
    )
