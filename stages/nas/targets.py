"""Latency targets: in milliseconds, or as a share of another network's time on the same device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, PositiveFloat

from nasflow.base.errors import InfeasibleTargetError
from pipeline.artifact import Record
from stages.documents import LatencyModel
from stages.nas.solver import best_paths, path_ms
from stages.space.search_space import SearchSpace

_ROUNDING = 1e-9  # relative: the same blocks summed in another order differ in the last digits


class RelativeTarget(Record):
    """A target as a share of another network's latency on the same device."""

    relative_to: Literal["mobilenet_v2"] = Field("mobilenet_v2", description="measured by the latency stage")
    ratio: float = Field(0.5, gt=0, le=10, description="target = ratio * that network's latency")


Target = PositiveFloat | RelativeTarget


def feasible_ms(origin: str, target: float | RelativeTarget, latency: LatencyModel) -> float:
    """A target in ms. Raises InfeasibleTargetError where no network of the space is that fast.

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
        raise InfeasibleTargetError(
            f"{origin}: no network of the space takes {target_ms:.4g} ms or less on "
            f"{latency.device.model}; the fastest takes {fastest:.4g} ms.",
            hint=f"Choose a target above {fastest:.4g} ms; the slowest network takes {slowest:.4g} ms.",
        )
    return target_ms


def path_costs_ms(space: SearchSpace, latency: LatencyModel) -> tuple[list[list[float]], float]:
    """What each candidate of each layer adds to a network's latency (0: the skip), and what all share."""
    rows = [
        [0.0 if block is None else latency.block_latency_ms(block) for block in layer.blocks]
        for layer in space.layers()
    ]
    return rows, latency.overhead_ms + sum(map(latency.block_latency_ms, space.fixed_blocks()))


def bounds_ms(limit_ms: float, use_at_least: float, latency: LatencyModel) -> tuple[float, float]:
    """The least and the most that a network may take that is to use ``use_at_least`` of a limit.

    Of a limit that every network meets, no network can use more than the slowest does.
    """
    rounding_ms = _ROUNDING * limit_ms
    return use_at_least * min(limit_ms, latency.feasible_ms[1]) - rounding_ms, limit_ms + rounding_ms


def check_met(space: SearchSpace, latency: LatencyModel, target_ms: float, use_at_least: float) -> None:
    """Raises InfeasibleTargetError where no network of the space uses ``use_at_least`` of the target and
    meets it.

    Latencies of a small space have gaps.
    """
    rows, fixed_ms = path_costs_ms(space, latency)
    least_ms, most_ms = bounds_ms(target_ms, use_at_least, latency)

    def first(sign: float, at_least_ms: float, at_most_ms: float) -> float:
        (path,) = best_paths(
            [[sign * ms for ms in row] for row in rows],
            rows,
            at_least_ms=at_least_ms - fixed_ms,
            at_most_ms=at_most_ms - fixed_ms,
            count=1,
        )
        return path_ms(rows, path) + fixed_ms

    try:
        first(0.0, least_ms, most_ms)
    except InfeasibleTargetError as error:
        below_ms, above_ms = first(1.0, 0.0, most_ms), first(-1.0, most_ms, latency.feasible_ms[1] * 2)
        raise InfeasibleTargetError(
            f"no network of space {space.name} takes between {least_ms:.4g} ms (the share "
            f"{use_at_least:g} of the target) and {target_ms:.4g} ms (the target) on "
            f"{latency.device.model}; the next ones take {below_ms:.4g} and {above_ms:.4g} ms.",
            hint=f"Choose a target a little above {below_ms:.4g} or {above_ms:.4g} ms, or lower "
            "prune.use_at_least.",
        ) from error


def check_pick(space: SearchSpace, latency: LatencyModel, target_ms: float, use_at_least: float) -> None:
    """Raises InfeasibleTargetError where prune will rank no network for ``prune.target_ms``.

    Prune ranks below the target, and below one that is lower by the predictions' interval: one is enough.
    """
    feasible_ms("prune.target_ms", target_ms, latency)
    try:
        check_met(space, latency, target_ms, use_at_least)
    except InfeasibleTargetError as gap:
        try:
            check_met(space, latency, target_ms / (1 + latency.interval_percent / 100), use_at_least)
        except InfeasibleTargetError:
            raise gap from None


def further_ms(targets: Iterable[float | RelativeTarget], latency: LatencyModel) -> tuple[float, ...]:
    """Those of ``search.targets`` behind the first, in ms. Raises InfeasibleTargetError."""
    return tuple(
        feasible_ms(f"search.targets, number {n}", target, latency) for n, target in enumerate(targets, 2)
    )
