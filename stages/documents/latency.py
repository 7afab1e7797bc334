"""Outputs of ``profile``, ``latency`` and ``precheck``: what blocks and networks take on the device."""

from __future__ import annotations

import operator
from typing import Annotated

from pydantic import Field

from android_bench.device import DeviceInfo, LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import UsageError
from pipeline.artifact import Document, Record
from stages.documents.origin import Precision
from stages.space.block_spec import BlockSpec, Implementation, ModelOutput
from stages.space.search_space import NetConfig

MeasuredOutput = Annotated[
    ModelOutput,
    Field(
        exclude_if=lambda output: output == "logits",
        description="what the measured networks answer: probabilities (a softmax ends their graphs, and is "
        "part of the classifier's row) or logits, which is what documents of schema version 2 mean",
    ),
]


class Timing(Record):
    """One timing as it was taken, and what was found about the device's speed at that moment.

    ``slowdown``: how much slower than at its reference level the device was; latencies are divided by it.
    ``disturbed``: the timing fell into a spell or beside a step of the speed and does not count.
    """

    round: int = Field(ge=0)
    name: str
    measurement: LatencyMeasurement
    slowdown: float = Field(gt=0)
    disturbed: bool


class TableRow(Record):
    """One block's latency, computed in one way.

    ``measurement`` is the time of a model of so many ``copies`` of the block, the invocation included:
    more than one where the device's clock is too coarse for one. ``resolved`` is false where even so the
    clock's step alone leaves the block's own time a wider interval than was wanted. Both are written only
    where they are not the default, so that what an exact clock has measured is stored as ever.
    """

    block: BlockSpec
    implementation: Implementation = "native"
    copies: int = Field(default=1, ge=1, exclude_if=lambda copies: copies == 1)
    measurement: LatencyMeasurement
    resolved: bool = Field(default=True, exclude_if=bool)

    def block_ms(self, invoke_ms: float) -> float:
        """The block's own time, which by the clock's step may come out as 0 or below."""
        return (self.measurement.median_ms - invoke_ms) / self.copies


class ReferenceLatency(Record):
    """A whole network measured beside the others: the anchor, and what a relative target refers to."""

    name: str
    net: NetConfig
    measurement: LatencyMeasurement


class LatencyTable(Document):
    """Output of ``profile``: every distinct block of the space, measured alone.

    A block that can be computed in several ways has a row for each. ``foreign`` says in what the device
    that measured differs from the one that the table is used for.
    """

    schema_version: int = 3
    device: DeviceInfo
    runtime: RuntimeOptions
    precision: Precision = "float32"
    output: MeasuredOutput = "logits"
    rows: tuple[TableRow, ...]
    invoke: LatencyMeasurement | None = Field(
        default=None, description="a model that does next to nothing: what every invocation costs"
    )
    anchor: ReferenceLatency
    timings: tuple[Timing, ...] = Field(description="in order of time, the anchor's among them")
    foreign: tuple[str, ...] = ()
    seconds: float


class PredictionPoint(Record):
    """A whole network, predicted and measured."""

    choices: tuple[int, ...]
    predicted_ms: float
    measurement: LatencyMeasurement


class HeldOutError(Record):
    """How far predictions are off on networks that calibration has not seen. Shares are 0..1."""

    networks: int
    share_within_5_percent: float
    share_within_10_percent: float
    share_within_interval: float
    mape_percent: float
    spearman: float


class Prediction(Record):
    """A network's predicted latency and its 95 % interval, in milliseconds."""

    ms: float
    low_ms: float
    high_ms: float


class TableCheck(Record):
    """What some of the table's blocks say that were timed again beside the networks.

    ``change_percent``: how much longer each kind of block takes there than in the table, against all kinds
    together. ``corrected``: whether kinds differ by more than chance, so that the table is corrected.
    ``disagreement_percent``: standard deviation of what is left between blocks, chance taken out.
    """

    change_percent: dict[str, Annotated[float, Field(gt=-100)]] = Field(default={})
    corrected: bool = False
    disagreement_percent: float = Field(default=0.0, ge=0)

    def factor(self, kind: str) -> float:
        """What a table's time of a block of this kind is multiplied by."""
        return 1 + self.change_percent.get(kind, 0.0) / 100 if self.corrected else 1.0


class KindRatio(Record):
    """How much longer a kind of block takes on the device than on the one that a model was adapted from."""

    kind: str
    blocks: int
    ratio: float = Field(gt=0)
    ratio_interval_95: tuple[float, float]


class Adaptation(Record):
    """Where a latency model came from that was adapted to another device by a few networks.

    ``unadapted_error``: how far the old model is off on the networks that were held out.
    """

    device: DeviceInfo
    runtime: RuntimeOptions
    networks: int = Field(ge=1)
    kinds: tuple[KindRatio, ...]
    unadapted_error: HeldOutError


def _is_none(value: object) -> bool:
    return value is None


class LatencyModel(Document):
    """Output of ``latency``: what a network takes, from what its blocks take.

    predicted_ms = ``scale`` * sum of ``block_ms`` + ``overhead_ms``, and a residual term where it pays:
    + ``ms_per_weight_megabyte`` * weights + ``ms_per_activation_megabyte`` * activations.
    ``block_ms`` is the table's median less ``invoke_ms``, which a block measured alone pays and a block
    amid a network does not, divided by the copies that were measured; of a block with several
    ``implementations``, that of the one named there.
    """

    schema_version: int = 3
    device: DeviceInfo
    runtime: RuntimeOptions
    precision: Precision = "float32"
    output: MeasuredOutput = "logits"
    block_ms: dict[str, float]
    implementations: dict[str, Implementation] = Field(
        default={}, description="how each block is computed that can be computed in several ways"
    )
    invoke_ms: float = Field(default=0.0, ge=0, description="what every invocation costs")
    scale: float = Field(gt=0)
    overhead_ms: float
    ms_per_weight_megabyte: float = 0.0
    ms_per_activation_megabyte: float = 0.0
    interval_percent: float = Field(ge=0, description="half-width of a prediction's 95 % interval")
    table_check: TableCheck | None = Field(default=None, exclude_if=operator.not_)
    shift_percent: float = Field(
        default=0.0,
        ge=0,
        exclude_if=operator.not_,
        description="how far the anchor failed to speak for the networks (deviation from sitting to sitting)",
    )
    calibration: tuple[PredictionPoint, ...]
    held_out: tuple[PredictionPoint, ...]
    held_out_error: HeldOutError
    reference: ReferenceLatency
    feasible_ms: tuple[float, float] = Field(description="fastest and slowest network of the space")
    timings: tuple[Timing, ...] = Field(description="in order of time, the anchor's among them")
    foreign: tuple[str, ...] = ()
    adaptation: Adaptation | None = Field(
        default=None,
        exclude_if=_is_none,
        description="set where the model was not fitted to this device's own blocks: ``block_ms`` are then "
        "another device's, each times its ratio, and ``scale`` is 1",
    )
    seconds: float = Field(description="device time of profile and latency together")

    def block_latency_ms(self, block: BlockSpec) -> float:
        """What one block adds to a network's latency. Raises UsageError where it was not measured."""
        try:
            alone_ms = self.block_ms[block.key]
        except KeyError:
            raise UsageError(
                f"block {block.key} is not in the latency table ({len(self.block_ms)} blocks of "
                f"{self.device.model}).",
                hint="Profile the space that holds it: nasflow profile.",
            ) from None
        return (
            self.scale * alone_ms
            + self.ms_per_weight_megabyte * block.weight_megabytes
            + self.ms_per_activation_megabyte * block.activation_megabytes
        )

    def predict_ms(self, net: NetConfig) -> float:
        """Latency of a whole network in milliseconds."""
        return self.overhead_ms + sum(self.block_latency_ms(block) for block in net.blocks)

    def predict(self, net: NetConfig) -> Prediction:
        """Latency of a whole network with its 95 % interval."""
        ms, share = self.predict_ms(net), self.interval_percent / 100
        return Prediction(ms=ms, low_ms=max(0.0, ms * (1 - share)), high_ms=ms * (1 + share))


class PrecheckedNetwork(Record):
    """An untrained network, converted, beside the directly written model of it."""

    choices: tuple[int, ...]
    first_of_kind: tuple[str, ...] = Field(description="keys of the blocks that no earlier one covers")
    operators: int
    delegate_partitions: int
    max_relative_diff: float = Field(description="of an output from PyTorch's, as a share of the largest one")
    predicted_ms: float
    written: LatencyMeasurement
    converted: LatencyMeasurement
    ratio: float = Field(description="converted over written")
    ratio_interval_95: tuple[float, float]


class Precheck(Document):
    """Output of ``precheck``: networks that together hold every kind of block of the space."""

    device: DeviceInfo
    runtime: RuntimeOptions
    networks: tuple[PrecheckedNetwork, ...]
    seconds: float = Field(description="device time")
