"""``result.json``: the figures of a run in one document, for programs. Shares are 0..1."""

from __future__ import annotations

import operator

from pydantic import Field

from android_bench.device import DeviceKind, ModelPrecision, RuntimeOptions
from pipeline.artifact import Document, Record
from stages.documents import (
    AgainstFound,
    AgainstRandom,
    CrossTable,
    CrossValidation,
    FoundLatency,
    HeldOutError,
    ImagesReport,
    LeftOut,
    MadeBy,
    Origin,
    Precision,
    Role,
    Verdict,
)
from stages.reporting.classes import ClassResult
from stages.reporting.cost import SearchCost
from stages.reporting.precisions import PrecisionResult
from stages.reporting.rank_agreement import RankAgreement
from stages.space.block_spec import ModelOutput
from stages.space.weights_origin import WeightsOrigin


class DeviceResult(Record):
    """Which device measured."""

    kind: DeviceKind
    model: str
    soc: str
    os_build: str
    runtime: str
    threads: int
    cpu: str
    delegate: str
    precision: ModelPrecision = Field(
        default="float32", description="of the files that are compared, and that were searched for"
    )
    batch: int = Field(
        default=1, exclude_if=lambda batch: batch == 1, description="images that were computed at once"
    )
    virtual: bool
    cores: tuple[int, ...] | None = None
    core_mhz: float | None = None
    core_range_mhz: tuple[float, float] | None = None
    fixed_performance: bool | None = None

    @property
    def run_with(self) -> str:
        """``1 thread``; of a CUDA GPU ``batch 8``."""
        return RuntimeOptions(threads=self.threads, batch=self.batch).describe(self.kind)


class LatencyModelResult(Record):
    """How the latency model was made, and how far it is off."""

    blocks: int
    calibration_networks: int
    scale: float
    overhead_ms: float
    interval_percent: float = Field(description="half-width of a prediction's 95 % interval")
    foreign: tuple[str, ...] = Field(description="in what the device that measured differs; empty: nothing")
    adapted_from: str = Field(
        default="",
        exclude_if=operator.not_,
        description="the device whose model was adapted to this one by the calibration networks",
    )
    held_out: HeldOutError
    seconds: float


class SearchOutcome(Record):
    """The target that was picked for and what is used of it. ``predicted_ms`` is the found network's."""

    space: str
    networks_in_space: int
    layers: int
    epochs: int
    target_ms: float
    predicted_ms: float
    budget_used: float = Field(description="predicted_ms / target_ms")
    considered: int = Field(description="networks measured after the search")
    agreement: float | None = Field(
        default=None,
        description="in which share of the searched layers networks drawn from what was learned agree with "
        "the most probable one; None: the search draws none",
    )
    even_agreement: float | None = Field(default=None, description="the same of candidates drawn evenly")
    seconds: float
    cost: SearchCost
    rank_agreement: RankAgreement


class FoundNetwork(Record):
    """The network that the run found."""

    name: str
    architecture: str
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    median_ms: float
    predicted_ms: float
    parameters: int
    macs: int
    size_bytes: int
    model_sha256: str
    weights_sha256: str


class FileResult(Record):
    """How the found network's float32 file compares with PyTorch, and its others with that file."""

    precision: Precision
    output: ModelOutput
    images: int
    max_abs_diff: float
    max_relative_diff: float
    top1_agreement_percent: float
    snr_db: float
    operators: int
    delegate_partitions: int


class NetworkResult(Record):
    """One row of the table. ``half_interval_percent``: of the median's 95 % interval, of the median."""

    name: str
    role: Role
    counts: bool | None = None
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    balanced_accuracy_percent: float | None = None
    balanced_accuracy_interval_95: tuple[float, float] | None = None
    validation_accuracy_percent: float
    median_ms: float
    half_interval_percent: float
    predicted_ms: float | None
    macs: int
    parameters: int
    size_bytes: int
    origin: Origin
    pretrained: WeightsOrigin | None = None
    images_seen: int
    against_found: AgainstFound | None


class VerificationResult(Record):
    """All networks side by side. ``ratio``: the found network's latency over the reference's."""

    test_images: int
    majority_percent: float | None = None
    classes: tuple[ClassResult, ...] = ()
    rounds: int
    disturbed: bool = False
    networks: tuple[NetworkResult, ...]
    reference: str
    reference_reason: str
    ratio: float
    ratio_interval_95: tuple[float, float]
    equal_accuracy_speedup: float
    equal_accuracy_speedup_interval_95: tuple[float, float]
    against_random: AgainstRandom | None
    found_latency: FoundLatency | None = None
    max_ratio: float | None
    equal_points: float | None = None
    verdict: Verdict
    seconds: float


class RunFacts(Record):
    """What no stage's document knows. ``packages``: versions that were installed when it was written."""

    seed: int
    dataset: str
    nasflow_version: str
    python_version: str
    packages: dict[str, str]


class ResultDocument(Document):
    """The figures of one run."""

    schema_version: int = 6
    device: DeviceResult
    latency_model: LatencyModelResult
    search: SearchOutcome
    network: FoundNetwork
    conversion: tuple[FileResult, ...]
    precisions: tuple[PrecisionResult, ...] = Field(
        default=(), description="the found network's files, verified; the first is float32"
    )
    files_left_out: tuple[LeftOut, ...] = Field(
        default=(), description="files of the found network that were asked for and not made"
    )
    verification: VerificationResult
    images: ImagesReport | None = None
    cross_validation: CrossValidation | None = Field(
        default=None, description="all folds together; the rest of the document is one fold's"
    )
    cross_table: CrossTable | None = Field(
        default=None,
        exclude_if=lambda table: table is None,
        description="of a run for several devices: each device's network on each device",
    )
    run: RunFacts | None = None
    trained_by: dict[str, tuple[MadeBy, ...]] = Field(
        default={}, description="by stage; several where an interrupted run went on elsewhere"
    )
    stage_seconds: dict[str, float] = Field(
        default={}, description="time of each stage's work, interrupted runs included; empty: not known"
    )
