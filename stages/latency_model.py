"""The latency model: block latencies, scaled to whole networks, and how far it is off on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from android_bench.device import Device, LatencyMeasurement, RuntimeOptions
from pipeline.stage import TOOL, Context, Stage
from stages.documents import (
    LatencyModel,
    LatencyTable,
    TableRow,
)
from stages.latency.calibration import Choices, check_enough, draw_networks, split_networks
from stages.latency.config import LatencyConfig
from stages.latency.fit import FEWEST_FOR_A_SIDE, one_sided
from stages.latency.model import (
    NetworkTimings,
    check_covers,
    check_of_table,
    check_told_apart,
    fastest_rows,
    fit_model,
    invoke_ms_of,
    net_block_ms,
    sample_name,
)
from stages.latency.table_check import pick_sample
from stages.measurement.rounds import measure_rounds
from stages.measurement.work import Work
from stages.space.network_name import network_name
from stages.space.search_space import SearchSpace


@dataclass(frozen=True)
class FitLatency(Stage):
    """Measure whole random networks; fit the model on some and evaluate it on the others."""

    name: ClassVar[str] = "latency"
    version: ClassVar[int] = 9
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
        return self.config.estimate_seconds(
            [middle] * self._count, middle, self.device.overhead, in_units=True
        )

    def device_seconds(self) -> tuple[float, float]:
        """All of it."""
        seconds = self.estimate_seconds()
        return seconds, self.config.most_seconds(seconds)

    def run(self, context: Context, **inputs: Any) -> LatencyModel:
        """Measure what is not yet measured, then fit. Raises DeviceError, BadMeasurementError, UsageError."""
        from stages.conversion.measured import measured_network

        table: LatencyTable = inputs["table"]
        written = partial(measured_network, precision=table.precision, seed=self.seed, output=table.output)
        block_ms, implementations, _ = net_block_ms(table)
        check_covers(self.space, block_ms)
        check_told_apart(self.space, table)
        calibration, held_out = self._networks(block_ms)
        nets = {network_name(choices): self.space.network(choices) for choices in (*calibration, *held_out)}
        context.say(
            f"{len(calibration)} networks to calibrate, {len(held_out)} held out, {table.anchor.name} "
            f"between; {self.config.rounds} rounds."
        )
        sample = pick_sample(list(fastest_rows(table)[0].values()), invoke_ms_of(table))
        work = Work(
            {name: written(net, implementations=implementations) for name, net in nets.items()}
            | {sample_name(row): self._block(row, table) for row in sample},
            anchor=(table.anchor.name, written(table.anchor.net)),
            # Another device's time says nothing about how fast this one is at present.
            reference_ms=None if table.foreign else table.anchor.measurement.median_ms,
            in_units=True,
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

    def _block(self, row: TableRow, table: LatencyTable) -> bytes:
        """The very model that the table's row was measured with."""
        from stages.conversion.measured import measured_block

        return measured_block(
            row.block,
            row.implementation,
            table.precision,
            copies=row.copies,
            seed=self.seed,
            output=table.output,
        )

    def _tell(self, context: Context, model: LatencyModel) -> None:
        """What disagreed: kinds of blocks with the table, and held-out networks with the model."""
        check = model.table_check
        if check is not None and check.corrected:
            kinds = ", ".join(f"{kind} {change:+.1f} %" for kind, change in check.change_percent.items())
            context.say(
                f"timed between the networks, blocks take other times than in the table, by kind: {kinds}. "
                "The table is corrected by these factors."
            )
        points = model.held_out
        side = one_sided([p.predicted_ms for p in points], [p.measurement.median_ms for p in points])
        if len(points) < FEWEST_FOR_A_SIDE:
            context.say(
                f"{len(points)} held-out networks are too few to show whether they lie on one side of their "
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
