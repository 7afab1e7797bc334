"""The latency model: block latencies, scaled to whole networks, and how far it is off on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field

from android_bench.device import Device, RuntimeOptions
from nasflow.errors import UsageError
from pipeline.stage import TOOL, Context, Stage
from stages.calibration import (
    Choices,
    draw_networks,
    fit_line,
    held_out_error,
    range_ms,
    split_networks,
)
from stages.documents import LatencyModel, LatencyTable, PredictionPoint, ReferenceLatency
from stages.measuring import MeasuringConfig, measure_rounds
from stages.mobilenet_v2 import fit_strides, mobilenet_v2
from stages.search_space import NetConfig, SearchSpace


class LatencyConfig(MeasuringConfig):
    """How many whole networks are timed, and how."""

    calibration_networks: int = Field(
        default=10, ge=3, le=1000, description="random networks that scale and overhead are fitted on"
    )
    held_out_networks: int = Field(
        default=20, ge=3, le=1000, description="other random networks that the error is measured on"
    )
    reference_width: float = Field(
        default=1.0, gt=0, le=4, description="width of the MobileNetV2 that a relative target refers to"
    )


@dataclass(frozen=True)
class FitLatency(Stage):
    """Measure whole random networks; fit the model on some and judge it on the others."""

    name: ClassVar[str] = "latency"
    version: ClassVar[int] = 1
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

    def estimate_seconds(self) -> float:
        """Time on the device, as if each layer took its middle candidate."""
        layers = self.space.layers()
        middle = self.space.network([(len(layer.blocks) - 1) // 2 for layer in layers])
        networks = self.config.calibration_networks + self.config.held_out_networks
        return self.config.estimate_seconds([*[middle.macs] * networks, self._reference()[1].macs])

    def run(self, context: Context, **inputs: Any) -> LatencyModel:
        """Measure what is not yet measured, then fit. Raises DeviceError, BadMeasurement, UsageError."""
        table: LatencyTable = inputs["table"]
        block_ms, invoke_ms = net_block_ms(table)
        if missing := [b.key for b in self.space.distinct_blocks() if b.key not in block_ms]:
            raise UsageError(
                f"{len(missing)} blocks of space {self.space.name} are not in the latency table, "
                f"{missing[0]} among them.",
                hint="Profile this space: nasflow profile.",
            )
        calibration, held_out = self._networks(block_ms)
        reference_name, reference_net = self._reference()
        nets = {
            reference_name: reference_net,
            **{_name(choices): self.space.network(choices) for choices in (*calibration, *held_out)},
        }
        context.say(
            f"{len(calibration)} networks to calibrate, {len(held_out)} held out, and {reference_name}; "
            f"{self.config.rounds} rounds."
        )
        measured = measure_rounds(
            context, self.device, self._models(nets), self.config, self.runtime, self.seed
        )

        def sum_ms(choices: Choices) -> float:
            return sum(block_ms[block.key] for block in nets[_name(choices)].blocks)

        def measured_ms(choices: Choices) -> float:
            return measured.by_name[_name(choices)].median_ms

        scale, overhead_ms = fit_line(
            [sum_ms(choices) for choices in calibration], [measured_ms(choices) for choices in calibration]
        )

        def point(choices: Choices) -> PredictionPoint:
            return PredictionPoint(
                choices=choices,
                predicted_ms=scale * sum_ms(choices) + overhead_ms,
                measurement=measured.by_name[_name(choices)],
            )

        points = [point(choices) for choices in held_out]
        fastest, slowest = range_ms(self.space, block_ms)
        return LatencyModel(
            device=self.device.info(),
            threads=self.runtime.threads,
            block_ms=block_ms,
            invoke_ms=invoke_ms,
            scale=scale,
            overhead_ms=overhead_ms,
            calibration=tuple(point(choices) for choices in calibration),
            held_out=tuple(points),
            held_out_error=held_out_error(
                [p.predicted_ms for p in points], [p.measurement.median_ms for p in points]
            ),
            reference=ReferenceLatency(
                name=reference_name, net=reference_net, measurement=measured.by_name[reference_name]
            ),
            feasible_ms=(scale * fastest + overhead_ms, scale * slowest + overhead_ms),
            seconds=table.seconds + measured.seconds,
        )

    def _networks(self, block_ms: Mapping[str, float]) -> tuple[list[Choices], list[Choices]]:
        config = self.config
        count = config.calibration_networks + config.held_out_networks
        networks = draw_networks(self.space, block_ms, count, self.seed)
        return split_networks(networks, config.calibration_networks, self.seed)

    def _models(self, nets: Mapping[str, NetConfig]) -> dict[str, bytes]:
        from stages.conversion.flatbuffer import network_model

        return {name: network_model(net, seed=self.seed) for name, net in nets.items()}

    def _reference(self) -> tuple[str, NetConfig]:
        width = self.config.reference_width
        net = mobilenet_v2(
            resolution=self.space.resolution,
            classes=self.space.classes,
            width=width,
            strides=fit_strides(self.space.stride_plan),
            input_channels=self.space.input_channels,
        )
        return f"mobilenet_v2_{width}", net


def net_block_ms(table: LatencyTable) -> tuple[dict[str, float], float]:
    """Each block's latency without the invocation that it needed when it was measured alone.

    A block that takes 5 us alone spends about 0.5 us of them on being invoked; amid a network that is
    paid once for all. Returns milliseconds by block key, and the invocation's own.
    """
    invoke_ms = table.invoke.median_ms if table.invoke is not None else 0.0
    block_ms = {row.block.key: max(0.0, row.measurement.median_ms - invoke_ms) for row in table.rows}
    return block_ms, invoke_ms


def _name(choices: Choices) -> str:
    return "network_" + "_".join(map(str, choices))
