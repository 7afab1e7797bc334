"""Latency targets: in milliseconds, or as a share of another network's latency on the same device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from nasflow.base.errors import InfeasibleTargetError
from pipeline.artifact import Record
from stages.documents import LatencyModel
from stages.nas.latency_window import LatencyTarget, LatencyWindow
from stages.nas.solver import best_paths, path_ms
from stages.space.search_space import SearchSpace

_ROUNDING = 1e-9  # relative: the same blocks summed in another order differ in the last digits


RelativeTo = Literal["mobilenet_v2", "full"]


class RelativeTarget(Record):
    """A target as a share of another network's latency on the same device."""

    relative_to: RelativeTo = Field(
        "mobilenet_v2",
        description="mobilenet_v2, as the latency stage measured it, or full: the slowest network of the "
        "space, as it predicts it",
    )
    ratio: float = Field(0.5, gt=0, le=10, description="target = ratio * that network's latency")


Target = PositiveFloat | RelativeTarget


class TargetConfig(Record):
    """How fast the network must be on the device, and which further latencies get a network."""

    ALTERNATIVES: ClassVar[tuple[tuple[str, ...], ...]] = (("ms", "ratio"),)
    """Keys of which one may be set; setting one on the command line unsets the others in the file."""

    ms: float | None = Field(
        None, gt=0, examples=[0.25], description="latency on the device in milliseconds, in place of ratio"
    )
    relative_to: RelativeTo = Field(
        "mobilenet_v2",
        description="the network that ratio refers to: mobilenet_v2 (of profile.anchor_width), or full (the "
        "slowest network of the space: of lite0 the whole EfficientNet-Lite0, so that ratio 0.5 is twice as "
        "fast)",
    )
    ratio: float | None = Field(
        None,
        gt=0,
        le=10,
        description="latency as a share of that network's on the same device: a larger one gives a slower, "
        "more accurate network; neither ms nor ratio: 0.5",
    )
    further: tuple[Target, ...] = Field(
        (),
        examples=["[0.4, {ratio: 0.5}]"],
        description="further targets, in milliseconds or relative: each gets a network from the same search",
    )
    front: int = Field(
        0,
        ge=0,
        le=100,
        description="networks for so many more latencies, spread evenly over those of the space",
    )
    minimum_share: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="a network must use at least this share of its target: unused time is lost accuracy",
    )
    pick_ms: float | None = Field(
        None,
        gt=0,
        examples=[0.25],
        description="pick the network for this target, in milliseconds, without searching again",
    )

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.ms is not None and self.ratio is not None:
            raise ValueError(
                f"ms ({self.ms:g}) and ratio ({self.ratio:g}) are two targets: remove one of them, or "
                "set it to null"
            )
        return self

    @property
    def first(self) -> float | RelativeTarget:
        """The target that is searched for."""
        if self.ms is not None:
            return self.ms
        given = {} if self.ratio is None else {"ratio": self.ratio}
        return RelativeTarget(relative_to=self.relative_to, **given)

    def searched_ms(self, latency: LatencyModel) -> float:
        """The target in ms on the measured device that is searched for. Raises InfeasibleTargetError."""
        return feasible_ms("target", self.first, latency)

    def picked_ms(self, latency: LatencyModel) -> float:
        """The target in ms that the network is picked for. Raises InfeasibleTargetError."""
        return self.pick_ms or self.searched_ms(latency)

    def further_ms(self, latency: LatencyModel) -> tuple[float, ...]:
        """The further targets in ms. Raises InfeasibleTargetError."""
        return tuple(
            feasible_ms(f"target.further, number {number}", target, latency)
            for number, target in enumerate(self.further, 1)
        )

    def all_ms(self, latency: LatencyModel) -> tuple[float, ...]:
        """The target that is searched for, the further ones and the front's, in ms, each once.

        The front's ratios are evenly spread over the space. Raises InfeasibleTargetError.
        """
        fastest_ms, slowest_ms = latency.feasible_ms
        step = (slowest_ms / fastest_ms) ** (1 / max(1, self.front))
        spread = (fastest_ms * step ** (index + 1) for index in range(self.front))
        return tuple(dict.fromkeys((self.searched_ms(latency), *self.further_ms(latency), *spread)))


def feasible_ms(origin: str, target: float | RelativeTarget, latency: LatencyModel) -> float:
    """A target in ms. Raises InfeasibleTargetError where no network of the space is that fast.

    ``origin`` is the target's key in the configuration, for the message.
    """
    if isinstance(target, RelativeTarget):
        name, reference_ms = _reference(target.relative_to, latency)
        target_ms = target.ratio * reference_ms
        origin = f"{origin} (ratio {target.ratio:g} of {name}'s {reference_ms:.4g} ms)"
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


def _reference(relative_to: RelativeTo, latency: LatencyModel) -> tuple[str, float]:
    """Name and latency of the network that a target refers to."""
    if relative_to == "full":
        return "the space's slowest network", latency.feasible_ms[1]
    return latency.reference.name, latency.reference.measurement.median_ms


def path_costs_ms(space: SearchSpace, latency: LatencyModel) -> tuple[list[list[float]], float]:
    """What each candidate of each layer adds to a network's latency (0: the skip), and what all share."""
    rows = [
        [0.0 if block is None else latency.block_latency_ms(block) for block in layer.blocks]
        for layer in space.layers()
    ]
    return rows, latency.overhead_ms + sum(map(latency.block_latency_ms, space.fixed_blocks()))


def bounds_ms(limit_ms: float, minimum_share: float, latency: LatencyModel) -> tuple[float, float]:
    """The least and the most that a network may take that is to use ``minimum_share`` of a limit.

    Of a limit that every network meets, no network can use more than the slowest does.
    """
    rounding_ms = _ROUNDING * limit_ms
    return minimum_share * min(limit_ms, latency.feasible_ms[1]) - rounding_ms, limit_ms + rounding_ms


def latency_window(
    space: SearchSpace, latency: LatencyModel, limit_ms: float, minimum_share: float
) -> LatencyWindow:
    """The paths that use ``minimum_share`` of a limit, and keep it."""
    rows, fixed_ms = path_costs_ms(space, latency)
    least_ms, most_ms = bounds_ms(limit_ms, minimum_share, latency)
    return LatencyWindow(rows, least_ms - fixed_ms, most_ms - fixed_ms)


def latency_targets(
    space: SearchSpace, latency: LatencyModel, targets_ms: Sequence[float], minimum_share: float
) -> tuple[LatencyTarget, ...]:
    """Those of the targets that networks of the space meet; the first one always.

    Latencies of a small space have gaps, in which further targets may lie.
    """
    targets = [
        LatencyTarget(target_ms, latency_window(space, latency, target_ms, minimum_share))
        for target_ms in targets_ms
    ]
    return tuple(target for target in targets if target is targets[0] or not target.window.empty)


def check_met(space: SearchSpace, latency: LatencyModel, target_ms: float, minimum_share: float) -> None:
    """Raises InfeasibleTargetError where no network of the space uses ``minimum_share`` of the target and
    meets it.

    Latencies of a small space have gaps.
    """
    rows, fixed_ms = path_costs_ms(space, latency)
    least_ms, most_ms = bounds_ms(target_ms, minimum_share, latency)

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
            f"{minimum_share:g} of the target) and {target_ms:.4g} ms (the target) on "
            f"{latency.device.model}; the next ones take {below_ms:.4g} and {above_ms:.4g} ms.",
            hint=f"Choose a target a little above {below_ms:.4g} or {above_ms:.4g} ms, or lower "
            "target.minimum_share.",
        ) from error


def check_pick(space: SearchSpace, latency: LatencyModel, target_ms: float, minimum_share: float) -> None:
    """Raises InfeasibleTargetError where prune will rank no network for ``target.pick_ms``.

    Prune ranks below the target, and below one that is lower by the predictions' interval: one is enough.
    """
    feasible_ms("target.pick_ms", target_ms, latency)
    try:
        check_met(space, latency, target_ms, minimum_share)
    except InfeasibleTargetError as gap:
        try:
            check_met(space, latency, target_ms / (1 + latency.interval_percent / 100), minimum_share)
        except InfeasibleTargetError:
            raise gap from None
