"""The latency table: every distinct block of the space, measured alone on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from pydantic import Field

from android_bench.device import Device, RuntimeOptions
from pipeline.stage import TOOL, Context, Stage
from stages.documents import LatencyTable, ReferenceLatency, TableRow
from stages.latency.table_check import block_kinds
from stages.measurement.config import MeasurementConfig
from stages.measurement.repetition import Repeatable
from stages.measurement.rounds import measure_rounds
from stages.measurement.work import Work
from stages.space.block_spec import BlockSpec, Implementation, ModelOutput
from stages.space.mobilenet_v2 import fit_strides, mobilenet_v2
from stages.space.search_space import NetConfig, SearchSpace
from stages.space.size import check_size

EMPTY = "empty"


class ProfileConfig(MeasurementConfig):
    """How the blocks are timed."""

    anchor_width: float = Field(
        default=1.0,
        gt=0,
        le=4,
        description="width of the MobileNetV2 that is timed between the blocks; target.ratio refers to it",
    )


@dataclass(frozen=True)
class ProfileOps(Stage):
    """Measure each block as a one-block model, and a model that does next to nothing beside them.

    On a device whose clock is too coarse for a block, several copies of it are in its model.
    """

    name: ClassVar[str] = "profile"
    version: ClassVar[int] = 7
    inputs: ClassVar[Mapping[str, str]] = {}
    output: ClassVar[type[LatencyTable]] = LatencyTable

    config: ProfileConfig
    space: SearchSpace
    runtime: RuntimeOptions
    seed: int
    device: Device = field(metadata=TOOL)
    model_output: ModelOutput = field(default="probabilities", metadata={"section": "convert.output"})
    """What the measured models answer, as the converted networks will."""
    ways: tuple[Implementation, ...] = field(default=get_args(Implementation), metadata=TOOL)
    """In which blocks can be computed on the device."""

    def environment(self) -> Mapping[str, str]:
        """The device: its latencies hold for no other."""
        few = {} if self.ways == get_args(Implementation) else {"ways": ", ".join(self.ways)}
        return {**self.device.info().identity(), **few}

    def check(self) -> None:
        """Raises UsageError where some model of the space is too large to be built."""
        check_size(self.space)

    def estimate_seconds(self) -> float:
        """Time on the device."""
        macs = [block.macs for block, _ in self._variants()]
        return self.config.estimate_seconds([0, *macs], self.anchor()[1].macs, self.device.overhead)

    def device_seconds(self) -> tuple[float, float]:
        """All of it."""
        seconds = self.estimate_seconds()
        return seconds, self.config.most_seconds(seconds)

    def run(self, context: Context, **inputs: Any) -> LatencyTable:
        """Measure what is not yet measured. Raises DeviceError, BadMeasurementError."""
        from stages.conversion.flatbuffer import empty_model
        from stages.conversion.measured import measured_network

        blocks, variants = self.space.distinct_blocks(), self._variants()
        precision = self.runtime.precision
        anchor, anchor_net = self.anchor()
        ways = f", in {len(variants)} ways" if len(variants) > len(blocks) else ""
        context.say(f"{len(blocks)} distinct blocks{ways}; {self.config.rounds} rounds, {anchor} between.")
        kinds = block_kinds(blocks)
        models = {EMPTY: empty_model()}
        models |= {variant_name(*variant): self._model(*variant) for variant in variants}
        work = Work(
            models,
            anchor=(
                anchor,
                measured_network(anchor_net, precision, seed=self.seed, output=self.model_output),
            ),
            rivals=[[variant_name(block, way) for way in self._ways(block)] for block in blocks],
            repeatable={variant_name(*variant): self._repeatable(*variant) for variant in variants},
            invoke=EMPTY,
            kinds={variant_name(block, way): kinds[block.key] for block, way in variants},
        )
        measured = measure_rounds(context, self.device, work, self.config, self.runtime, self.seed)
        return LatencyTable(
            device=self.device.info(),
            runtime=self.runtime,
            precision=precision,
            output=self.model_output,
            rows=tuple(
                TableRow(
                    block=block,
                    implementation=way,
                    copies=measured.copies[variant_name(block, way)],
                    measurement=measured.by_name[variant_name(block, way)],
                    resolved=measured.resolved[variant_name(block, way)],
                )
                for block, way in variants
            ),
            invoke=measured.by_name[EMPTY],
            anchor=ReferenceLatency(name=anchor, net=anchor_net, measurement=measured.by_name[anchor]),
            timings=measured.timings,
            seconds=measured.seconds,
        )

    def _repeatable(self, block: BlockSpec, implementation: Implementation) -> Repeatable:
        def model(copies: int) -> bytes:
            return self._model(block, implementation, copies)

        return Repeatable(model, block.copy_bytes)

    def _model(self, block: BlockSpec, implementation: Implementation, copies: int = 1) -> bytes:
        from stages.conversion.measured import measured_block

        return measured_block(
            block,
            implementation,
            self.runtime.precision,
            copies=copies,
            seed=self.seed,
            output=self.model_output,
        )

    def _variants(self) -> list[tuple[BlockSpec, Implementation]]:
        return [(block, way) for block in self.space.distinct_blocks() for way in self._ways(block)]

    def _ways(self, block: BlockSpec) -> list[Implementation]:
        return [way for way in block.implementations if way in self.ways]

    def anchor(self) -> tuple[str, NetConfig]:
        """Name and architecture of the network that is timed between the blocks."""
        width = self.config.anchor_width
        net = mobilenet_v2(
            resolution=self.space.resolution,
            classes=self.space.classes,
            width=width,
            strides=fit_strides(self.space.stride_plan),
            input_channels=self.space.input_channels,
        )
        return f"mobilenet_v2_{width}", net


def variant_name(block: BlockSpec, implementation: Implementation) -> str:
    """What a timing of a block is called."""
    return block.key if implementation == "native" else f"{block.key}+{implementation}"
