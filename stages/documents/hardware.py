"""What networks of several pieces of hardware take on each other: the cross table."""

from __future__ import annotations

from pydantic import Field

from android_bench.device import DeviceInfo, LatencyMeasurement, RuntimeOptions
from pipeline.artifact import Document, Record
from stages.space.search_space import NetConfig


class HardwareTarget(Record):
    """A device with runtime settings, and the latency that a network may have there."""

    name: str
    device: DeviceInfo
    runtime: RuntimeOptions
    target_ms: float = Field(gt=0)
    interval_percent: float = Field(ge=0, description="of its latency model's predictions, half the width")


class HardwareNetwork(Record):
    """The most probable network of one target, by the one search that serves all."""

    target: str
    choices: tuple[int, ...]
    net: NetConfig
    estimated_loss: float = Field(description="on validation images in the supernet, nats: an estimate")


class CrossCell(Record):
    """One network on one target. ``own`` is the target's own network, timed in the same rounds."""

    network: str = Field(description="the target that it was found for")
    target: str
    predicted_ms: float
    measurement: LatencyMeasurement
    ratio_to_own: float = Field(gt=0)
    ratio_to_own_interval_95: tuple[float, float]


class CrossTable(Document):
    """Every target's network, measured on every target."""

    schema_version: int = 1
    space: str
    targets: tuple[HardwareTarget, ...]
    networks: tuple[HardwareNetwork, ...]
    cells: tuple[CrossCell, ...]
    seconds: float = Field(description="device time of the cells")

    def cell(self, network: str, target: str) -> CrossCell:
        """The cell of a network on a target. Raises KeyError."""
        return {(cell.network, cell.target): cell for cell in self.cells}[network, target]
