"""What networks of several pieces of hardware take on each other: the cross table."""

from __future__ import annotations

from pydantic import Field

from android_bench.device import DeviceInfo, LatencyMeasurement, RuntimeOptions
from pipeline.artifact import Document, Record
from stages.space.preferences import Shares, shares_of_network
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
    learned: Shares | None = Field(
        default=None, description="by the probabilities learned for this target; None: an earlier version"
    )
    folder: str = Field(
        default="", description="where its own run's results lie, below artifacts; empty: not trained"
    )

    @property
    def shares(self) -> Shares:
        """What it is made of."""
        return shares_of_network(self.net, len(self.choices))


class CellAccuracy(Record):
    """A trained network on the test images, in the precision of a target, in percent.

    ``points`` is its accuracy minus that of the target's own network on the same images, in percentage
    points; 0 for the own network.
    """

    percent: float
    interval_95: tuple[float, float] = Field(description="Wilson's")
    points: float
    points_interval_95: tuple[float, float] = Field(description="paired, image by image")


class CrossCell(Record):
    """One network on one target. ``own`` is the target's own network, timed in the same rounds."""

    network: str = Field(description="the target that it was found for")
    target: str
    predicted_ms: float
    measurement: LatencyMeasurement
    ratio_to_own: float = Field(gt=0)
    ratio_to_own_interval_95: tuple[float, float]
    accuracy: CellAccuracy | None = Field(
        default=None,
        description="None: the network is not trained, or has no file in the target's precision",
    )


class CrossTable(Document):
    """Every target's network, measured on every target."""

    schema_version: int = 1
    space: str
    targets: tuple[HardwareTarget, ...]
    networks: tuple[HardwareNetwork, ...]
    cells: tuple[CrossCell, ...]
    seconds: float = Field(description="device time of the cells")
    test_images: int = Field(default=0, description="that accuracies are of; 0: no network is trained")

    @property
    def trained(self) -> bool:
        """Whether accuracies are known."""
        return self.test_images > 0

    def network(self, target: str) -> HardwareNetwork:
        """The network of a target. Raises KeyError."""
        return {network.target: network for network in self.networks}[target]

    def cell(self, network: str, target: str) -> CrossCell:
        """The cell of a network on a target. Raises KeyError."""
        return {(cell.network, cell.target): cell for cell in self.cells}[network, target]
