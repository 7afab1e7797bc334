"""A run's figures, gathered from its stages' documents into the one document for programs."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from types import MappingProxyType

from nasflow.base.version import nasflow_version, package_version
from pipeline.artifact import Document
from stages.documents import CrossTable, CrossValidation, MadeBy, ModelFile, VerifiedNetwork
from stages.measurement.interval import interval_percent
from stages.reporting.classes import class_results
from stages.reporting.cost import search_cost
from stages.reporting.notation import architecture_line
from stages.reporting.precisions import precision_result
from stages.reporting.rank_agreement import rank_agreement
from stages.reporting.result import (
    DeviceResult,
    FileResult,
    FoundNetwork,
    LatencyModelResult,
    NetworkResult,
    ResultDocument,
    RunFacts,
    SearchOutcome,
    VerificationResult,
)
from stages.reporting.run_documents import RunDocuments
from stages.training.made_here import trained_by

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
