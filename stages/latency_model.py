"""The latency model: block latencies, scaled to whole networks, and how far it is off on others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import Field

from android_bench.device import Device, DeviceInfo, LatencyMeasurement, RuntimeOptions
from nasflow.errors import BadMeasurement, UsageError
from pipeline.stage import TOOL, Context, Stage
from stages.calibration import FEWEST, Choices, check_enough, draw_networks, range_ms, split_networks
from stages.documents import (
    LatencyModel,
    LatencyTable,
    PredictionPoint,
    ReferenceLatency,
    TableCheck,
    TableRow,
    Timing,
)
from stages.latency_fit import FEWEST_FOR_A_SIDE, Traits, fit_latency, held_out_error, one_sided
from stages.measuring import MeasuringConfig, Work, measure_rounds
from stages.network_name import network_name
from stages.search_space import BlockSpec, Implementation, NetConfig, SearchSpace
from stages.table_check import block_kinds, check_table, pick_sample

_BLOCKS_OF_A_NETWORK = 4.0
"""Square root of how many blocks a network has, roughly: their own disagreements cancel out by that."""

Measurements = Sequence[tuple[Choices, LatencyMeasurement]]


class LatencyConfig(MeasuringConfig):
    """How many whole networks are timed, and how."""

    calibration_networks: int = Field(
        default=10, ge=FEWEST, le=1000, description="random networks that scale and overhead are fitted on"
    )
    held_out_networks: int = Field(
        default=20, ge=FEWEST, le=1000, description="other random networks that the error is measured on"
    )


@dataclass(frozen=True)
class FitLatency(Stage):
    """Measure whole random networks; fit the model on some and judge it on the others."""

    name: ClassVar[str] = "latency"
    version: ClassVar[int] = 5
    inputs: ClassVar[Mapping[str, str]] = {"table": "profile"}
    output: ClassVar[type[LatencyModel]] = LatencyModel

    config: LatencyConfig
    space: SearchSpace
    runtime: RuntimeOptions
    seed: int
    device: Device = field(metadata=TOOL)

    def environment(self) -> Mapping[str, str]:
        """The device: its latencies hold for no other."""
        return self.device.info().identity()

    @property
    def _count(self) -> int:
        return self.config.calibration_networks + self.config.held_out_networks

    def check(self) -> None:
        """Raises UsageError where the space has fewer networks than are to be measured."""
        check_enough(self.space, self.space.different_networks, self._count)

    def estimate_seconds(self) -> float:
        """Time on the device, as if each layer took its middle candidate."""
        layers = self.space.layers()
        middle = self.space.network([(len(layer.blocks) - 1) // 2 for layer in layers]).macs
        return self.config.estimate_seconds([middle] * self._count, middle, self.device.overhead)

    def device_seconds(self) -> tuple[float, float]:
        """All of it."""
        seconds = self.estimate_seconds()
        return seconds, self.config.most_seconds(seconds)

    def run(self, context: Context, **inputs: Any) -> LatencyModel:
        """Measure what is not yet measured, then fit. Raises DeviceError, BadMeasurement, UsageError."""
        from stages.conversion.flatbuffer import network_model

        table: LatencyTable = inputs["table"]
        block_ms, implementations, _ = net_block_ms(table)
        check_covers(self.space, block_ms)
        check_told_apart(self.space, table)
        calibration, held_out = self._networks(block_ms)
        nets = {network_name(choices): self.space.network(choices) for choices in (*calibration, *held_out)}
        context.say(
            f"{len(calibration)} networks to calibrate, {len(held_out)} held out, {table.anchor.name} "
            f"between; {self.config.rounds} rounds."
        )
        sample = pick_sample(list(_fastest_rows(table)[0].values()), _invoke_ms(table))
        work = Work(
            {
                name: network_model(net, seed=self.seed, implementations=implementations)
                for name, net in nets.items()
            }
            | {_sample_name(row): self._block(row) for row in sample},
            anchor=(table.anchor.name, network_model(table.anchor.net, seed=self.seed)),
            # Another device's time says nothing about how fast this one is at present.
            reference_ms=None if table.foreign else table.anchor.measurement.median_ms,
        )
        measured = measure_rounds(context, self.device, work, self.config, self.runtime, self.seed)

        def found(choices: Choices) -> tuple[Choices, LatencyMeasurement]:
            return choices, measured.by_name[network_name(choices)]

        model = fit_model(
            self.space,
            table,
            [found(choices) for choices in calibration],
            [found(choices) for choices in held_out],
            NetworkTimings(
                device=self.device.info(),
                runtime=self.runtime,
                reference=table.anchor.model_copy(
                    update={"measurement": measured.by_name[table.anchor.name]}
                ),
                timings=measured.timings,
                seconds=measured.seconds,
                table_check=check_of_table(self.space, table, measured.by_name),
                shift_percent=measured.shift_percent,
            ),
        )
        self._tell(context, model)
        fastest, slowest = model.feasible_ms
        error = model.held_out_error
        context.say(
            f"networks of space {self.space.name} take {fastest:.4g} to {slowest:.4g} ms; predictions of "
            f"held-out ones are {error.mape_percent:.1f} % off (95 % interval "
            f"±{model.interval_percent:.1f} %)."
        )
        return model

    def _block(self, row: TableRow) -> bytes:
        """The very model that the table's row was measured with."""
        from stages.conversion.flatbuffer import block_model

        return block_model(row.block, row.implementation, copies=row.copies, seed=self.seed)

    def _tell(self, context: Context, model: LatencyModel) -> None:
        """What disagreed: kinds of blocks with the table, and held-out networks with the model."""
        check = model.table_check
        if check is not None and check.corrected:
            kinds = ", ".join(f"{kind} {change:+.1f} %" for kind, change in check.change_percent.items())
            context.say(
                f"beside the networks, blocks take other times than in the table, by kind: {kinds}. "
                "The table is corrected by that."
            )
        points = model.held_out
        side = one_sided([p.predicted_ms for p in points], [p.measurement.median_ms for p in points])
        if len(points) < FEWEST_FOR_A_SIDE:
            context.say(
                f"{len(points)} held-out networks are too few to tell whether they lie on one side of their "
                f"predictions by more than chance: that takes {FEWEST_FOR_A_SIDE} "
                f"(latency.held_out_networks)."
            )
        if side is not None:
            context.warn(
                f"the held-out networks lie on one side: they take {abs(side):.1f} % "
                f"{'longer' if side > 0 else 'shorter'} than predicted (median). Something else has slowed "
                "them than the networks that the model was fitted on. Close other programs and measure "
                "again: nasflow run --force latency."
            )

    def _networks(self, block_ms: Mapping[str, float]) -> tuple[list[Choices], list[Choices]]:
        networks = draw_networks(self.space, block_ms, self._count, self.seed)
        return split_networks(networks, self.config.calibration_networks, self.seed)


@dataclass(frozen=True)
class NetworkTimings:
    """How the whole networks were measured, and the anchor among them: all at one reference speed."""

    device: DeviceInfo
    runtime: RuntimeOptions
    reference: ReferenceLatency
    timings: tuple[Timing, ...]
    seconds: float
    table_check: TableCheck | None = None
    shift_percent: float = 0.0


def fit_model(
    space: SearchSpace,
    table: LatencyTable,
    calibration: Measurements,
    held_out: Measurements,
    networks: NetworkTimings,
) -> LatencyModel:
    """The latency model of measured blocks and networks.

    Raises UsageError where a block is not in the table, BadMeasurement where the table tells no candidates
    apart, where no line fits, or where by that line some network takes no time.
    """
    alone_ms, implementations, invoke_ms = net_block_ms(table)
    check_covers(space, alone_ms)
    check_told_apart(space, table)
    check, kinds = networks.table_check or TableCheck(), block_kinds(space.distinct_blocks())
    block_ms = {key: ms * check.factor(kinds.get(key, "")) for key, ms in alone_ms.items()}

    def traits(choices: Choices) -> Traits:
        return network_traits(space.network(choices), block_ms)

    fit = fit_latency([traits(c) for c, _ in calibration], [m.median_ms for _, m in calibration])
    # What differs from one sitting to the next is in no error that was measured in one.
    between = 1.96 * math.hypot(networks.shift_percent, check.disagreement_percent / _BLOCKS_OF_A_NETWORK)
    fit = replace(fit, interval_percent=math.hypot(fit.interval_percent, between))

    def points(measurements: Measurements) -> tuple[PredictionPoint, ...]:
        return tuple(
            PredictionPoint(choices=c, predicted_ms=fit.predict_ms(traits(c)), measurement=m)
            for c, m in measurements
        )

    judged = points(held_out)
    model = LatencyModel(
        device=networks.device,
        runtime=networks.runtime,
        precision=table.precision,
        block_ms=block_ms,
        implementations=implementations,
        invoke_ms=invoke_ms,
        scale=fit.scale,
        overhead_ms=fit.overhead_ms,
        ms_per_weight_megabyte=fit.ms_per_weight_megabyte,
        ms_per_activation_megabyte=fit.ms_per_activation_megabyte,
        interval_percent=fit.interval_percent,
        calibration=points(calibration),
        held_out=judged,
        held_out_error=held_out_error(
            [p.predicted_ms for p in judged],
            [p.measurement.median_ms for p in judged],
            fit.interval_percent,
        ),
        reference=networks.reference,
        feasible_ms=(0.0, 0.0),
        timings=networks.timings,
        foreign=table.foreign,
        table_check=networks.table_check,
        shift_percent=networks.shift_percent,
        seconds=table.seconds + networks.seconds,
    )
    latencies = {block.key: model.block_latency_ms(block) for block in space.distinct_blocks()}
    fastest, slowest = range_ms(space, latencies)
    if fit.overhead_ms + fastest <= 0:
        raise BadMeasurement(
            f"by blocks and whole networks as they were measured, the fastest network of space {space.name} "
            f"would take {fit.overhead_ms + fastest:.4g} ms.",
            hint="Some of it was measured while the device was busy: nasflow run --force profile.",
        )
    return model.model_copy(update={"feasible_ms": (fit.overhead_ms + fastest, fit.overhead_ms + slowest)})


def check_of_table(
    space: SearchSpace, table: LatencyTable, beside: Mapping[str, LatencyMeasurement]
) -> TableCheck | None:
    """What the table's blocks say that were timed again ``beside`` the networks; None where none was.

    ``beside``: every model that was timed there, by its timings' name.
    """
    kinds = block_kinds(space.distinct_blocks())
    rows = [
        row
        for row in _fastest_rows(table)[0].values()
        if row.block.key in kinds and _sample_name(row) in beside
    ]
    return check_table(rows, [beside[_sample_name(row)] for row in rows], kinds) if rows else None


def network_traits(net: NetConfig, block_ms: Mapping[str, float]) -> Traits:
    """What a network's prediction is made of."""
    return Traits(
        sum(block_ms[block.key] for block in net.blocks),
        sum(block.weight_megabytes for block in net.blocks),
        sum(block.activation_megabytes for block in net.blocks),
    )


def net_block_ms(table: LatencyTable) -> tuple[dict[str, float], dict[str, Implementation], float]:
    """Each block's latency without the invocation that it needed when it was measured alone.

    A block that takes 5 us alone spends about 0.5 us of them on being invoked; amid a network that is
    paid once for all. What is left is shared by the copies that were in the block's model. Returns
    milliseconds by block key, of blocks that can be computed in several ways the fastest way, and the
    invocation's own time.
    """
    fastest, invoke_ms = _fastest_rows(table)
    block_ms = {key: max(0.0, row.block_ms(invoke_ms)) for key, row in fastest.items()}
    implementations = {
        key: row.implementation for key, row in fastest.items() if len(row.block.implementations) > 1
    }
    return block_ms, implementations, invoke_ms


def _sample_name(row: TableRow) -> str:
    """What the timing of a table's block amid the networks is called."""
    return f"block {row.block.key}"


def _invoke_ms(table: LatencyTable) -> float:
    return table.invoke.median_ms if table.invoke is not None else 0.0


def _fastest_rows(table: LatencyTable) -> tuple[dict[str, TableRow], float]:
    """Of each block, by its key, the way that is computed fastest; and the invocation's time."""
    invoke_ms = _invoke_ms(table)
    fastest: dict[str, TableRow] = {}
    for row in table.rows:
        best = fastest.setdefault(row.block.key, row)
        if row.block_ms(invoke_ms) < best.block_ms(invoke_ms):
            fastest[row.block.key] = row
    return fastest, invoke_ms


def check_told_apart(space: SearchSpace, table: LatencyTable) -> None:
    """Refuse a table that says nothing: some layer's candidates must differ in time.

    They differ where the spans in which their times lie, by the step of the device's clock, have no time in
    common; on an exact clock, where they are not equal. Raises BadMeasurement.
    """
    rows, invoke_ms = _fastest_rows(table)
    invoke_step_ms = table.invoke.resolution_ms if table.invoke is not None else 0.0

    def span_ms(block: BlockSpec | None) -> tuple[float, float]:
        if block is None:
            return 0.0, 0.0
        row = rows[block.key]
        half_ms = (row.measurement.resolution_ms + invoke_step_ms) / 2 / row.copies
        own_ms = row.block_ms(invoke_ms)
        return max(0.0, own_ms - half_ms), max(0.0, own_ms + half_ms)

    spans = [[span_ms(block) for block in layer.blocks] for layer in space.layers()]
    if any(max(low for low, _ in layer) > min(high for _, high in layer) for layer in spans):
        return
    every_us = [1000 * time_ms for layer in spans for span in layer for time_ms in span]
    raise BadMeasurement(
        f"the latency table does not tell the candidates of any layer of space {space.name} apart: as far as "
        f"the clock of {table.device.model} shows, they take {min(every_us):.3g} to {max(every_us):.3g} us.",
        hint="Measure again: nasflow run --force profile. If it stays so, the blocks are too small for this "
        "device's clock: give the space a higher resolution or wider stages.",
    )


def check_covers(space: SearchSpace, block_ms: Mapping[str, float]) -> None:
    """Refuse to guess: every block of the space was measured. Raises UsageError."""
    if missing := [block.key for block in space.distinct_blocks() if block.key not in block_ms]:
        raise UsageError(
            f"{len(missing)} blocks of space {space.name} are not in the latency table, "
            f"{missing[0]} among them.",
            hint="Profile this space: nasflow profile.",
        )


def split_places(net: NetConfig, implementations: Mapping[str, Implementation]) -> tuple[int, ...]:
    """Which of a network's depthwise convolutions, counted from 0, are computed in parts.

    Raises UsageError where a block can be computed in several ways and none was measured.
    """
    depthwise = [block for block in net.blocks if block.kind == "mbconv"]
    for block in depthwise:
        if len(block.implementations) > 1 and block.key not in implementations:
            raise UsageError(
                f"block {block.key} can be computed as {' or '.join(block.implementations)}, and the latency "
                "table does not say which is faster.",
                hint="Profile the space that holds it: nasflow profile.",
            )
    return tuple(place for place, block in enumerate(depthwise) if implementations.get(block.key) == "split")
