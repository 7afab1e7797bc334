"""The quick start's ablation: what is lost without the search, without its limit of latency, without size.

A second run of a seed's pipeline in the store of the first, whose latency table, latency model and
MobileNetV2s it takes over. Its search and its pick have no limit of latency; beside that pick the space's
fastest network is trained. Both are converted and verified like all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Self

from nasflow.assemble import artifacts_folder, build_stages, open_device
from nasflow.base.errors import UsageError
from nasflow.config import PipelineConfig
from pipeline.artifact import Document
from pipeline.events import Emit
from pipeline.runner import Pipeline
from pipeline.stage import Context
from pipeline.store.store import Store
from stages.documents import (
    LatencyModel,
    PrunedNetworks,
    TrainedNetwork,
    TrainedNetworks,
    Verification,
    VerifiedNetwork,
)
from stages.finetune import Finetune
from stages.space import load_space
from stages.space.search_space import NetConfig, SearchSpace
from stages.verification.statistics import difference_from_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NO_LATENCY, SMALLEST = "no_latency_limit", "smallest"
CHANGES = (
    "target.ratio=10",  # above the slowest network: the window of the search and of the pick
    "target.minimum_share=0",  # holds all networks
    "prune.random_networks=0",
)
REPEATED = ("search", "prune", "finetune", "verify")
"""Stages of which the second run has documents of its own; ``convert`` tells no time."""


@dataclass(frozen=True)
class Finished:
    """A finished pipeline; ``correct[name]`` has a bit for each test image."""

    documents: Mapping[str, Document]
    correct: Mapping[str, NDArray[np.bool_]]

    @classmethod
    def run(cls, pipeline: Pipeline) -> Self:
        """Run what is not done yet. Raises whatever a stage raises."""
        import numpy as np

        with pipeline.store.lock():
            documents = pipeline.run()
            verification = documents["verify"]
            assert isinstance(verification, Verification)
            correct = {
                network.name: np.unpackbits(
                    np.frombuffer(pipeline.store.read_bytes(network.correct), np.uint8),
                    count=verification.test_images,
                ).astype(bool)
                for network in verification.networks
            }
        return cls(documents, correct)

    @property
    def verification(self) -> Verification:
        """All networks side by side."""
        document = self.documents["verify"]
        assert isinstance(document, Verification)
        return document

    @property
    def pruned(self) -> PrunedNetworks:
        """The pick."""
        document = self.documents["prune"]
        assert isinstance(document, PrunedNetworks)
        return document

    def verified(self, name: str) -> VerifiedNetwork:
        """A network's figures."""
        return next(network for network in self.verification.networks if network.name == name)

    def trained(self, *stages: str) -> list[TrainedNetwork]:
        """The networks that these stages trained."""
        documents = [self.documents[stage] for stage in stages]
        return [
            n for document in documents if isinstance(document, TrainedNetworks) for n in document.networks
        ]

    def named(self, role: str) -> list[str]:
        """The names of all networks of a role."""
        return [network.name for network in self.verification.networks if network.role == role]

    def seconds(self, stages: Sequence[str]) -> float:
        """Time of work of these stages."""
        trained = sum(network.seconds for network in self.trained(*stages))
        return float(trained + sum(getattr(self.documents[stage], "seconds", 0.0) for stage in stages))


@dataclass(frozen=True)
class FinetuneAblation(Finetune):
    """Trains the pick of the search without latency, and the space's fastest network, from fresh weights."""

    inputs: ClassVar[Mapping[str, str]] = {"pruned": "prune", "latency": "latency"}

    space: SearchSpace = field(kw_only=True)

    def run(self, context: Context, **inputs: Any) -> TrainedNetworks:
        """Train both, or go on where that was stopped.

        Raises TrainingDivergedError, and UsageError where the pick was not free.
        """
        pruned: PrunedNetworks = inputs["pruned"]
        latency: LatencyModel = inputs["latency"]
        from stages.training.many import Job, train_all

        slowest_ms = latency.feasible_ms[1]
        if pruned.target_ms < slowest_ms:
            raise UsageError(
                f"without a limit the pick may take {slowest_ms:.4g} ms, but the target is "
                f"{pruned.target_ms:.4g} ms.",
                hint="Give the ablation's target a greater ratio.",
            )
        # Verify wants one that was found; the fastest is what a search for the least latency would find.
        jobs = [
            Job(NO_LATENCY, "found", pruned.found.net, None),
            Job(SMALLEST, "front", fastest_network(self.space, latency), None),
        ]
        return train_all(jobs, self.config, self.data, self.seed, context)


def fastest_network(space: SearchSpace, latency: LatencyModel) -> NetConfig:
    """The network of the least predicted latency: in every layer the fastest candidate."""
    choices = []
    for layer in space.layers():
        times_ms = [0.0 if block is None else latency.block_latency_ms(block) for block in layer.blocks]
        choices.append(times_ms.index(min(times_ms)))
    return space.network(choices)


def ablation_pipeline(config: PipelineConfig, folder: Path, emit: Emit) -> Pipeline:
    """The second run of a seed; ``config`` is the first one's with :data:`CHANGES`. Raises UsageError."""
    stages = build_stages(config, folder, open_device(config, folder))
    space = load_space(config.space, folder)
    own = [
        FinetuneAblation(config=stage.config, data=stage.data, seed=stage.seed, space=space)
        if isinstance(stage, Finetune)
        else stage
        for stage in stages
    ]
    return Pipeline(own, Store(artifacts_folder(config, folder), emit), emit)


def ablation_table(runs: Sequence[Finished], ablations: Sequence[Finished]) -> dict[str, Any]:
    """A row for the found network, the mean of the random ones, and each ablation; lists go by seed.

    ``latency_ratio_by_seed`` is the latency over that of the MobileNetV2 that ``latency_over`` names, timed
    in the same rounds. ``found_minus_points``: the found network's accuracy minus the row's and its interval.
    """
    anchor = runs[0].named("baseline")[0]
    rows = {
        "found": [_Entry(run, run.named("found"), anchor) for run in runs],
        "random_mean": [_Entry(run, run.named("random"), anchor) for run in runs],
        NO_LATENCY: [_Entry(run, [NO_LATENCY], anchor) for run in ablations],
        SMALLEST: [_Entry(run, [SMALLEST], anchor) for run in ablations],
    }
    return {
        "latency_over": anchor,
        "rows": {name: _row(entries, rows["found"]) for name, entries in rows.items()},
    }


@dataclass(frozen=True)
class _Entry:
    """The networks of one row in one seed."""

    run: Finished
    names: Sequence[str]
    anchor: str

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[networks, images]."""
        import numpy as np

        return np.stack([self.run.correct[name] for name in self.names])

    def mean_ms(self, *, predicted: bool = False) -> float:
        """Mean over the networks of their medians, or of what was predicted."""
        networks = [self.run.verified(name) for name in self.names]
        if predicted:
            return fmean(n.predicted_ms for n in networks if n.predicted_ms is not None)
        return fmean(n.measurement.median_ms for n in networks)


def _row(entries: Sequence[_Entry], found: Sequence[_Entry]) -> dict[str, Any]:
    import numpy as np

    correct_SRN = np.stack([entry.correct for entry in entries])
    accuracies_SR = 100 * correct_SRN.mean(axis=2)
    row: dict[str, Any] = {
        "accuracy_percent": float(accuracies_SR.mean()),
        "accuracy_percent_by_seed": accuracies_SR.mean(axis=1).tolist(),
        "median_ms_by_seed": [entry.mean_ms() for entry in entries],
        "predicted_ms_by_seed": [entry.mean_ms(predicted=True) for entry in entries],
        "latency_ratio_by_seed": [
            entry.mean_ms() / entry.run.verified(entry.anchor).measurement.median_ms for entry in entries
        ],
    }
    if entries is not found and all(entry.run is own.run for entry, own in zip(entries, found, strict=True)):
        # Timed in the same rounds: how equal the latencies are that are called equal.
        row["latency_over_found_by_seed"] = [
            entry.mean_ms() / own.mean_ms() for entry, own in zip(entries, found, strict=True)
        ]
    if accuracies_SR.shape[1] > 1:
        row["accuracy_percent_by_seed_and_network"] = accuracies_SR.tolist()
    if entries is not found:
        found_SN = np.stack([entry.correct[0] for entry in found])
        difference = difference_from_mean(found_SN, correct_SRN)
        row["found_minus_points"] = [100 * v for v in (difference.value, *difference.interval)]
    return row
