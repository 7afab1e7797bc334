"""Output of the gate: every timing of two models side by side, and what is concluded from them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from android_bench.device import Conditions, DeviceInfo, RuntimeOptions
from pipeline.artifact import Document, Record

GateVerdict = Literal["pass", "fail", "inconclusive"]
Dropped = Literal["throttled", "asleep", "disturbed"]
"""Why a block does not count: the device throttled or slept, or its anchor model shows another speed."""


class GateModel(Record):
    """A model of a gate: a name for people, and what it is."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=1)
    takes: str = Field(default="", max_length=10_000, description="type and shape of its inputs")


class BlockTiming(Record):
    """One timing within a block."""

    model: Literal["candidate", "baseline", "anchor"]
    median_ms: float = Field(gt=0, allow_inf_nan=False)
    resolution_ms: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="step of the device's clock; 0: exact"
    )
    conditions: Conditions | None = None


class Block(Record):
    """All timings of one moment, in the order in which they were made. ``dropped`` None: it counts."""

    timings: tuple[BlockTiming, ...] = Field(min_length=2)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    dropped: Dropped | None = None

    @model_validator(mode="after")
    def _of_all_models(self) -> Block:
        if {timing.model for timing in self.timings} - {"baseline"} != {"candidate", "anchor"}:
            raise ValueError("a block times the candidate, the anchor, and the baseline where there is one")
        return self

    def median_ms(self, model: str) -> float:
        """Median of a model's timings in this block."""
        from statistics import median

        return median(timing.median_ms for timing in self.timings if timing.model == model)

    def resolution_ms(self, model: str) -> float:
        """The step of the clock behind it."""
        return max(timing.resolution_ms for timing in self.timings if timing.model == model)

    @property
    def conditions(self) -> list[Conditions | None]:
        """Those around each of its timings."""
        return [timing.conditions for timing in self.timings]


class GateLook(Record):
    """The ratio (candidate's latency over the baseline's) after so many counted blocks; None: no baseline.

    ``error``: with what probability the interval may miss the truth; those of all looks add up to 5 %.
    """

    blocks: int = Field(ge=1)
    error: float = Field(gt=0, lt=1)
    ratio: float | None = Field(gt=0)
    ratio_interval: tuple[float, float] | None
    candidate_ms: float = Field(gt=0)
    candidate_ms_interval: tuple[float, float]
    verdict: GateVerdict | None = Field(description="None: more blocks were to be measured")


class OutputsCompared(Record):
    """That a model answers on the device what it answers on this computer.

    Shares are of an output's largest value. ``given``: to inputs that a person gave, and not to random ones.
    """

    inputs: int = Field(ge=1)
    given: bool
    largest_share: float = Field(ge=0)
    allowed_share: float = Field(gt=0)


class AccuracyCompared(Record):
    """What both models answer for the same images. Shares of images, in percent; differences in points.

    ``drop_points``: by how much the candidate's accuracy is below the baseline's. ``only_candidate`` images
    are answered correctly by it alone. ``data_sha256`` stands for the images and which of them were taken.
    """

    images: int = Field(ge=2)
    classes: int = Field(ge=2)
    both_correct: int = Field(ge=0)
    only_candidate: int = Field(ge=0)
    only_baseline: int = Field(ge=0)
    drop_points: float = Field(ge=-100, le=100)
    drop_points_interval_95: tuple[float, float]
    data_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    verdict: GateVerdict

    @model_validator(mode="after")
    def _adds_up(self) -> AccuracyCompared:
        if self.both_correct + self.only_candidate + self.only_baseline > self.images:
            raise ValueError("more images are answered correctly than there are")
        return self

    @property
    def candidate_percent(self) -> float:
        """The candidate's accuracy."""
        return 100 * (self.both_correct + self.only_candidate) / self.images

    @property
    def baseline_percent(self) -> float:
        """The baseline's accuracy."""
        return 100 * (self.both_correct + self.only_baseline) / self.images


class GatePlan(Record):
    """What was decided before anything was measured."""

    max_ratio: float | None = Field(default=None, gt=0, le=1000)
    max_ms: float | None = Field(default=None, gt=0, le=1e6)
    max_accuracy_drop: float | None = Field(default=None, ge=0, le=100, description="percentage points")
    min_blocks: int = Field(default=10, ge=6, le=1000)
    max_blocks: int = Field(default=30, ge=6, le=1000)
    max_thermal_status: int = Field(
        default=0, ge=0, le=6, description="a block that saw a higher one does not count"
    )
    seed: int = 0

    @model_validator(mode="after")
    def _in_order(self) -> GatePlan:
        if self.max_blocks < self.min_blocks:
            raise ValueError(f"max_blocks {self.max_blocks} is below min_blocks {self.min_blocks}")
        return self


class GateResult(Document):
    """Everything that a verdict was reached by; it can be reached again from this document alone."""

    schema_version: int = 1
    kind: Literal["gate", "self-test"] = Field(
        default="gate", description="self-test: of a model against itself, without a limit"
    )
    plan: GatePlan
    candidate: GateModel
    baseline: GateModel | None = Field(
        default=None, description="None: the limit is one of milliseconds, and no other model was named"
    )
    device: DeviceInfo
    runtime: RuntimeOptions
    blocks: tuple[Block, ...]
    looks: tuple[GateLook, ...]
    outputs: OutputsCompared | None = Field(
        default=None, description="None: the device's runner cannot write them"
    )
    baseline_outputs: OutputsCompared | None = Field(
        default=None, description="the same of the baseline; None also in results of before it was compared"
    )
    accuracy: AccuracyCompared | None = Field(
        default=None, description="None: the plan has no limit of accuracy"
    )
    verdict: GateVerdict | None = Field(description="None: a self-test, which decides nothing")
    seconds: float = Field(ge=0)

    @property
    def blocks_counted(self) -> int:
        """How many blocks count."""
        return sum(block.dropped is None for block in self.blocks)

    @property
    def last_look(self) -> GateLook | None:
        """The look that decided; None: too few blocks counted for any."""
        return self.looks[-1] if self.looks else None

    @model_validator(mode="after")
    def _belongs_together(self) -> GateResult:
        if (self.plan.max_accuracy_drop is None) != (self.accuracy is None):
            raise ValueError("a limit of accuracy and the accuracy belong together")
        if (self.kind == "self-test") != (self.verdict is None):
            raise ValueError("a gate has a verdict, and a self-test has none")
        if self.baseline is None and self.plan.max_ratio is not None:
            raise ValueError("a limit of a ratio needs a baseline")
        return self


class GateFault(Record):
    """What ended a gate before it decided, as ``--json`` says it."""

    reference: str
    message: str
    hint: str
    exit_code: int


class UnfinishedGate(Document):
    """What is left of a gate that an error ended: the error, and every block by then. It has no verdict."""

    schema_version: int = 1
    error: GateFault
    candidate: str = Field(description="as it was given")
    against: str | None = None
    plan: GatePlan | None = Field(default=None, description="None: there was none yet")
    device: DeviceInfo | None = Field(default=None, description="None: nothing was measured yet")
    runtime: RuntimeOptions | None = None
    blocks: tuple[Block, ...] = ()
