"""``result.json``: the figures of a run in one document, for programs. Shares are 0..1."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from statistics import mean
from types import MappingProxyType

from pydantic import Field

from android_bench.device import DeviceKind, ModelPrecision, RuntimeOptions
from nasflow.base.version import nasflow_version, package_version
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
    ModelFile,
    Origin,
    Precision,
    Role,
    Verdict,
    VerifiedNetwork,
)
from stages.measurement.interval import interval_percent
from stages.reporting.classes import ClassResult, class_results
from stages.reporting.cost import SearchCost, search_cost
from stages.reporting.notation import architecture_line
from stages.reporting.precisions import PrecisionResult, precision_result
from stages.reporting.rank_agreement import RankAgreement, rank_agreement
from stages.reporting.run_documents import RunDocuments
from stages.space.block_spec import ModelOutput
from stages.space.weights_origin import WeightsOrigin
from stages.training.made_here import trained_by


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

    schema_version: int = 5
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


_REPORTED_PACKAGES = (
    "ai-edge-litert",
    "lightning-fabric",
    "numpy",
    "onnx",
    "onnxscript",
    "safetensors",
    "tensorflow",
    "tensorflow-cpu",
    "torch",
)


def run_facts(*, seed: int, dataset: str) -> RunFacts:
    """The versions that are installed here, with a run's seed and data set. Imports none of them."""
    import platform

    return RunFacts(
        seed=seed,
        dataset=dataset,
        nasflow_version=nasflow_version(),
        python_version=platform.python_version(),
        packages={name: found for name in _REPORTED_PACKAGES if (found := package_version(name))},
    )


def build_result(
    documents: Mapping[str, Document],
    facts: RunFacts | None = None,
    folds: CrossValidation | None = None,
    stage_seconds: Mapping[str, float] = MappingProxyType({}),
    cross: CrossTable | None = None,
) -> ResultDocument:
    """Gather a run's figures from its stages' documents; ``folds``: those of all folds, of which it is one.

    ``stage_seconds``: how long each stage's work took. ``cross``: the cross table that the run stands in.

    Raises UsageError where a stage's document is missing.
    """
    run = RunDocuments.of(documents)
    verify, found = run.verify, run.found
    conditions = found.measurement.conditions
    return ResultDocument(
        device=DeviceResult(
            kind=verify.device.kind,
            model=verify.device.model,
            soc=verify.device.soc,
            os_build=verify.device.os_build,
            runtime=verify.device.runtime,
            threads=verify.runtime.threads,
            cpu=verify.runtime.cpu,
            delegate=verify.runtime.delegate,
            precision=verify.runtime.precision,
            batch=verify.runtime.batch,
            virtual=verify.device.virtual,
            cores=conditions.cores if conditions else None,
            core_mhz=conditions.core_mhz if conditions else None,
            core_range_mhz=conditions.core_range_mhz if conditions else None,
            fixed_performance=verify.device.fixed_performance,
        ),
        latency_model=LatencyModelResult(
            blocks=len(run.latency.block_ms),
            calibration_networks=len(run.latency.calibration),
            scale=run.latency.scale,
            overhead_ms=run.latency.overhead_ms,
            interval_percent=run.latency.interval_percent,
            foreign=run.latency.foreign,
            adapted_from=run.latency.adaptation.device.model if run.latency.adaptation else "",
            held_out=run.latency.held_out_error,
            seconds=run.latency.seconds,
        ),
        search=_search(run),
        network=FoundNetwork(
            name=found.name,
            architecture=architecture_line(found.net),
            accuracy_percent=found.accuracy_percent,
            accuracy_interval_95=found.accuracy_interval_95,
            median_ms=found.measurement.median_ms,
            predicted_ms=run.prune.found.predicted_ms,
            parameters=found.parameters,
            macs=found.macs,
            size_bytes=found.model.size_bytes,
            model_sha256=found.model.sha256,
            weights_sha256=run.found_conversion.weights.sha256,
        ),
        conversion=tuple(map(_file, run.found_conversion.files)),
        precisions=tuple(map(precision_result, verify.precisions)),
        files_left_out=run.found_conversion.left_out,
        verification=VerificationResult(
            test_images=verify.test_images,
            majority_percent=verify.majority_percent,
            classes=class_results(verify),
            rounds=verify.rounds,
            disturbed=verify.disturbed,
            networks=tuple(_row(network) for network in verify.networks),
            reference=verify.reference,
            reference_reason=verify.reference_reason,
            ratio=verify.ratio,
            ratio_interval_95=verify.ratio_interval_95,
            equal_accuracy_speedup=verify.equal_accuracy_speedup,
            equal_accuracy_speedup_interval_95=verify.equal_accuracy_speedup_interval_95,
            against_random=verify.against_random,
            found_latency=verify.found_latency,
            max_ratio=verify.max_ratio,
            equal_points=verify.equal_points,
            verdict=verify.verdict,
            seconds=verify.seconds,
        ),
        images=verify.images,
        cross_validation=folds,
        cross_table=cross,
        run=facts,
        trained_by=_trained_by(run),
        stage_seconds=dict(stage_seconds),
    )


def _trained_by(run: RunDocuments) -> dict[str, tuple[MadeBy, ...]]:
    stages = {"search": run.search, "finetune": run.finetune, "baseline": run.baseline}
    return {name: trained_by(document) for name, document in stages.items()}


def _search(run: RunDocuments) -> SearchOutcome:
    search, predicted_ms = run.search, run.prune.found.predicted_ms
    even = [1 / len(layer.blocks) for layer in search.space.layers() if len(layer.blocks) > 1]
    return SearchOutcome(
        space=search.space.name,
        networks_in_space=search.space.size,
        layers=len(search.space.layers()),
        epochs=len(search.history),
        target_ms=run.prune.target_ms,
        predicted_ms=predicted_ms,
        budget_used=predicted_ms / run.prune.target_ms,
        considered=len(run.prune.considered),
        agreement=search.agreement,
        even_agreement=None if search.agreement is None else mean(even or [1.0]),
        seconds=search.seconds,
        cost=search_cost(run),
        rank_agreement=rank_agreement(run),
    )


def _file(file: ModelFile) -> FileResult:
    compared = {
        name: getattr(file.check, name) for name in FileResult.model_fields.keys() - {"precision", "output"}
    }
    return FileResult(precision=file.precision, output=file.output, **compared)


def _row(network: VerifiedNetwork) -> NetworkResult:
    return NetworkResult(
        name=network.name,
        role=network.role,
        counts=network.counts,
        accuracy_percent=network.accuracy_percent,
        accuracy_interval_95=network.accuracy_interval_95,
        balanced_accuracy_percent=network.balanced_accuracy_percent,
        balanced_accuracy_interval_95=network.balanced_accuracy_interval_95,
        validation_accuracy_percent=network.validation_accuracy_percent,
        median_ms=network.measurement.median_ms,
        half_interval_percent=interval_percent(network.measurement.round_medians_ms) / 2,
        predicted_ms=network.predicted_ms,
        macs=network.macs,
        parameters=network.parameters,
        size_bytes=network.model.size_bytes,
        origin=network.origin,
        pretrained=network.pretrained,
        images_seen=network.images_seen,
        against_found=network.against_found,
    )
