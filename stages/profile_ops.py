"""The latency table: every distinct block of the space, measured alone on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from android_bench.device import Device, RuntimeOptions
from pipeline.stage import TOOL, Context, Stage
from stages.documents import LatencyTable, TableRow
from stages.measuring import MeasuringConfig, measure_rounds
from stages.search_space import SearchSpace

EMPTY = "empty"


class ProfileConfig(MeasuringConfig):
    """How the blocks are timed."""


@dataclass(frozen=True)
class ProfileOps(Stage):
    """Measure each block as a one-block model, and a model that does next to nothing beside them."""

    name: ClassVar[str] = "profile"
    version: ClassVar[int] = 1
    inputs: ClassVar[Mapping[str, str]] = {}
    output: ClassVar[type[LatencyTable]] = LatencyTable

    config: ProfileConfig
    space: SearchSpace
    runtime: RuntimeOptions
    seed: int
    device: Device = field(metadata=TOOL)

    def environment(self) -> Mapping[str, str]:
        """The device: its latencies hold for no other."""
        return self.device.info().identity()

    def estimate_seconds(self) -> float:
        """Time on the device."""
        return self.config.estimate_seconds([0, *(block.macs for block in self.space.distinct_blocks())])

    def run(self, context: Context, **inputs: Any) -> LatencyTable:
        """Measure what is not yet measured. Raises DeviceError, BadMeasurement."""
        from stages.conversion.flatbuffer import block_model, empty_model

        blocks = self.space.distinct_blocks()
        context.say(f"{len(blocks)} distinct blocks, {self.config.rounds} rounds.")
        models = {EMPTY: empty_model(), **{block.key: block_model(block, seed=self.seed) for block in blocks}}
        measured = measure_rounds(context, self.device, models, self.config, self.runtime, self.seed)
        return LatencyTable(
            device=self.device.info(),
            threads=self.runtime.threads,
            rows=tuple(TableRow(block=block, measurement=measured.by_name[block.key]) for block in blocks),
            invoke=measured.by_name[EMPTY],
            seconds=measured.seconds,
        )
