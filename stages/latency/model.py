"""The latency model: block latencies, scaled to whole networks, and how far it is off on others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from android_bench.device import DeviceInfo, LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import BadMeasurementError, UsageError
from stages.documents import (
    LatencyModel,
    LatencyTable,
    PredictionPoint,
    ReferenceLatency,
    TableCheck,
    TableRow,
    Timing,
)
from stages.latency.calibration import Choices, range_ms
from stages.latency.fit import Traits, fit_latency, held_out_error
from stages.latency.reference_error import reference_error_percent
from stages.latency.table_check import block_kinds, check_table
from stages.measurement.interval import interval_percent, scatter
from stages.space.block_spec import BlockSpec, Implementation
from stages.space.search_space import NetConfig, SearchSpace

_BLOCKS_OF_A_NETWORK = 4.0
"""Square root of how many blocks a network has, roughly: their own disagreements cancel out by that."""

Measurements = Sequence[tuple[Choices, LatencyMeasurement]]


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

    Raises UsageError where a block is not in the table, BadMeasurementError where the table tells no
    candidates apart, where no line fits, or where by that line some network takes no time.
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
    between = 1.96 * math.hypot(
        networks.shift_percent,
        reference_error_percent(networks.timings, networks.reference.name),
        check.disagreement_percent / _BLOCKS_OF_A_NETWORK,
    )

    def half_width(errors: Sequence[float], noise: float = 0.0) -> float:
        return math.hypot(fit.interval_percent(errors, noise), between)

    def points(measurements: Measurements) -> tuple[PredictionPoint, ...]:
        return tuple(
            PredictionPoint(choices=c, predicted_ms=fit.predict_ms(traits(c)), measurement=m)
            for c, m in measurements
        )

    assessment = points(held_out)
    errors = [_error(point) for point in assessment]
    # A network that is held against an interval takes no part in it; and it was measured with noise.
    of_others = [half_width([*errors[:index], *errors[index + 1 :]]) for index in range(len(errors))]
    model = LatencyModel(
        device=networks.device,
        runtime=networks.runtime,
        precision=table.precision,
        output=table.output,
        block_ms=block_ms,
        implementations=implementations,
        invoke_ms=invoke_ms,
        scale=fit.scale,
        overhead_ms=fit.overhead_ms,
        ms_per_weight_megabyte=fit.ms_per_weight_megabyte,
        ms_per_activation_megabyte=fit.ms_per_activation_megabyte,
        interval_percent=half_width(errors, _noise([m for _, m in (*calibration, *held_out)])),
        calibration=points(calibration),
        held_out=assessment,
        held_out_error=held_out_error(
            [p.predicted_ms for p in assessment],
            [p.measurement.median_ms for p in assessment],
            of_others,
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
        raise BadMeasurementError(
            f"by blocks and whole networks as they were measured, the fastest network of space {space.name} "
            f"would take {fit.overhead_ms + fastest:.4g} ms.",
            hint="Some of it was measured while the device was busy: nasflow run --force profile.",
        )
    return model.model_copy(update={"feasible_ms": (fit.overhead_ms + fastest, fit.overhead_ms + slowest)})


def _error(point: PredictionPoint) -> float:
    """Relative. Infinite where a prediction is of no time: :func:`held_out_error` refuses that."""
    return point.measurement.median_ms / point.predicted_ms - 1 if point.predicted_ms > 0 else math.inf


def _noise(measured: Sequence[LatencyMeasurement]) -> float:
    """Relative standard error of a network's median (root mean square); 0 where no round was repeated."""
    rounds = [one.round_medians_ms for one in measured if len(one.round_medians_ms) > 1]
    if not rounds:
        return 0.0
    usual = median(scatter(medians_ms) for medians_ms in rounds)
    # A 95 % interval is four standard errors wide.
    return math.sqrt(fmean((interval_percent(medians_ms, usual) / 400) ** 2 for medians_ms in rounds))


def check_of_table(
    space: SearchSpace, table: LatencyTable, beside: Mapping[str, LatencyMeasurement]
) -> TableCheck | None:
    """What the table's blocks say that were timed again ``beside`` the networks; None where none was.

    ``beside``: every model that was timed there, by its timings' name.
    """
    kinds = block_kinds(space.distinct_blocks())
    rows = [
        row
        for row in fastest_rows(table)[0].values()
        if row.block.key in kinds and sample_name(row) in beside
    ]
    return check_table(rows, [beside[sample_name(row)] for row in rows], kinds) if rows else None


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
    fastest, invoke_ms = fastest_rows(table)
    block_ms = {key: max(0.0, row.block_ms(invoke_ms)) for key, row in fastest.items()}
    implementations = {
        key: row.implementation for key, row in fastest.items() if len(row.block.implementations) > 1
    }
    return block_ms, implementations, invoke_ms


def sample_name(row: TableRow) -> str:
    """What the timing of a table's block amid the networks is called."""
    return f"block {row.block.key}"


def invoke_ms_of(table: LatencyTable) -> float:
    """What an invocation takes by itself."""
    return table.invoke.median_ms if table.invoke is not None else 0.0


def fastest_rows(table: LatencyTable) -> tuple[dict[str, TableRow], float]:
    """Of each block, by its key, the way that is computed fastest; and the invocation's time."""
    invoke_ms = invoke_ms_of(table)
    fastest: dict[str, TableRow] = {}
    for row in table.rows:
        best = fastest.setdefault(row.block.key, row)
        if row.block_ms(invoke_ms) < best.block_ms(invoke_ms):
            fastest[row.block.key] = row
    return fastest, invoke_ms


def check_told_apart(space: SearchSpace, table: LatencyTable) -> None:
    """Refuse a table that says nothing: some layer's candidates must differ in time.

    They differ where the spans in which their times lie, by the step of the device's clock, have no time in
    common; on an exact clock, where they are not equal. Raises BadMeasurementError.
    """
    rows, invoke_ms = fastest_rows(table)
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
    raise BadMeasurementError(
        f"the latency table does not distinguish the candidates of any layer of space {space.name}: as far "
        f"as the clock of {table.device.model} shows, they take {min(every_us):.3g} to {max(every_us):.3g} "
        "us.",
        hint="Measure again: nasflow run --force profile. If it happens again, the blocks are too small "
        "for this device's clock: give the space a higher resolution or wider stages.",
    )


def check_covers(space: SearchSpace, block_ms: Mapping[str, float]) -> None:
    """Refuse to guess: every block of the space was measured. Raises UsageError."""
    if missing := [block.key for block in space.distinct_blocks() if block.key not in block_ms]:
        raise UsageError(
            f"{len(missing)} blocks of space {space.name} are not in the latency table, "
            f"{missing[0]} among them.",
            hint="Profile this space: nasflow profile.",
        )
