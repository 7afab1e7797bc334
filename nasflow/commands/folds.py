"""Cross-validation: the whole chain for each fold of the images, and what all of them say together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from android_bench.device import Device
from nasflow.commands.project import Project
from pipeline.artifact import Document
from pipeline.events import Emit, Message
from pipeline.runner import Pipeline
from pipeline.store.store import Store
from stages.documents import CrossValidation, PrunedNetworks, SearchResult, Verification
from stages.verification.folds import FoldOutcome, cross_validation

Documents = Mapping[str, Document]


def other_folds(project: Project) -> Iterator[Project]:
    """The project with each fold as the test part but its own; none without folds."""
    data = project.config.data
    for fold in range(data.folds or 0):
        if fold != data.fold:
            of_fold = {"data": data.model_copy(update={"fold": fold})}
            yield replace(project, config=project.config.model_copy(update=of_fold))


def run_other_folds(
    project: Project, store: Store, device: Device, emit: Emit, force: Sequence[str] = ()
) -> list[Documents]:
    """Run the chain for the other folds, or what is not up to date of it. Raises as a pipeline's run.

    What does not depend on the images' parts (the latency model) is up to date by then. ``store``: the
    project's, which this process has locked.
    """
    documents: list[Documents] = []
    count = project.config.data.folds or 0
    for number, of_fold in enumerate(other_folds(project), start=2):
        fold = of_fold.config.data.fold
        emit(Message("", f"cross-validation: fold {fold}, run {number} of {count}."))
        pipeline = Pipeline(of_fold.pipeline(emit, device, warn=False).stages, store, emit)
        forced = tuple(name for name in force if name not in ("profile", "latency"))
        documents.append(pipeline.run(force=forced))
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
