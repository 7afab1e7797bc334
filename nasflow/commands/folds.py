"""Cross-validation: the whole chain for each fold of the images, and what all of them say together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from android_bench.device import Device
from nasflow.commands.project import Project, status_of
from pipeline.artifact import Document
from pipeline.events import Emit, Message, Planned
from pipeline.freshness import StageStatus
from pipeline.runner import Pipeline
from stages.documents import CrossValidation, PrunedNetworks, SearchResult, Verification
from stages.verification.folds import FoldOutcome, cross_validation

Documents = Mapping[str, Document]


@dataclass(frozen=True)
class FoldStatus:
    """One of the other folds: its own pipeline, and how the stages stand that it does not share."""

    fold: int
    pipeline: Pipeline
    stages: tuple[StageStatus, ...]

    @property
    def stale(self) -> list[StageStatus]:
        """What a run will do of it."""
        return [stage for stage in self.stages if not stage.fresh]


def other_folds(project: Project) -> Iterator[Project]:
    """The project with each fold as the test part but its own; none without folds."""
    data = project.config.data
    for fold in range(data.folds or 0):
        if fold != data.fold:
            of_fold = {"data": data.model_copy(update={"fold": fold})}
            yield replace(project, config=project.config.model_copy(update=of_fold))


def folds_status(
    project: Project,
    pipeline: Pipeline,
    emit: Emit,
    force: Collection[str] = (),
    device: Device | None = None,
) -> tuple[FoldStatus, ...]:
    """How the other folds stand; ``pipeline`` is the project's. None without folds. Raises as its status.

    What does not depend on the images' parts (the latency model) is the project's own, and not listed.
    """
    found = []
    for of_fold in other_folds(project):
        own = of_fold.pipeline(emit, device, warn=False)
        shared = shared_stages(pipeline, own)
        statuses = status_of(of_fold, own, force=[name for name in force if name not in shared])
        left = tuple(status for status in statuses if status.name not in shared)
        found.append(FoldStatus(of_fold.config.data.fold, own, left))
    return tuple(found)


def all_stale(stages: Sequence[StageStatus], folds: Sequence[FoldStatus]) -> list[StageStatus]:
    """All that a run would do: of the project's own stages, and of the other folds."""
    return [*(stage for stage in stages if not stage.fresh), *(s for fold in folds for s in fold.stale)]


def shared_stages(first: Pipeline, other: Pipeline) -> frozenset[str]:
    """The stages whose output is the same in both: their settings, and all that they are given."""
    shared: set[str] = set()
    for here, there in zip(first.stages, other.stages, strict=True):
        if here.settings() == there.settings() and shared.issuperset(there.inputs.values()):
            shared.add(there.name)
    return frozenset(shared)


def planned(stages: Sequence[StageStatus], folds: Sequence[FoldStatus]) -> Planned:
    """What is ahead of these stages, and of their like in folds that are still to be run."""
    seconds = {stage.name: 0.0 for stage in stages}
    for stage in (*stages, *(stage for fold in folds for stage in fold.stages)):
        seconds[stage.name] += 0.0 if stage.fresh else stage.estimate_seconds
    return Planned("", tuple(seconds), tuple(seconds.values()))


def run_other_folds(
    first: Pipeline, folds: Sequence[FoldStatus], emit: Emit, force: Sequence[str] = ()
) -> list[Documents]:
    """Run the chain for the other folds, or what is not up to date of it. Raises as a pipeline's run.

    ``first``: the project's own pipeline, which has run: what all folds share is up to date, and its store is
    the one that this process has locked.
    """
    documents: list[Documents] = []
    for number, fold in enumerate(folds):
        emit(Message("", f"cross-validation: fold {fold.fold}, run {number + 2} of {len(folds) + 1}."))
        emit(planned(fold.stages, folds[number + 1 :]))
        shared = shared_stages(first, fold.pipeline)
        pipeline = Pipeline(fold.pipeline.stages, first.store, emit)
        documents.append(pipeline.run(force=[name for name in force if name not in shared]))
    return documents


def stored_folds(project: Project, emit: Emit) -> list[Documents] | None:
    """The other folds' documents; None where one of them has a stage that is not up to date."""
    found: list[Documents] = []
    for of_fold in other_folds(project):
        pipeline = of_fold.pipeline(emit, warn=False)
        documents = {}
        for stage, status in zip(pipeline.stages, pipeline.status(), strict=True):
            if not status.fresh or status.record is None:
                return None
            documents[stage.name] = pipeline.store.document(status.record, stage.output)
        found.append(documents)
    return found


def together(folds: Sequence[Documents]) -> CrossValidation | None:
    """What all folds say together; None where there is one run alone."""
    return cross_validation([_outcome(documents) for documents in folds]) if len(folds) > 1 else None


def _outcome(documents: Documents) -> FoldOutcome:
    verification, pruned, search = (documents[name] for name in ("verify", "prune", "search"))
    assert isinstance(verification, Verification)
    assert isinstance(pruned, PrunedNetworks)
    assert isinstance(search, SearchResult)
    candidates = tuple(len(layer.blocks) for layer in search.space.layers())
    return FoldOutcome(verification, pruned.found.choices, candidates)
