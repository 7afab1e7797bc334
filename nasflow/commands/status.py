"""``nasflow status`` and ``--dry-run``: which stages are fresh, why others are not, what is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from nasflow.base.errors import DatasetMissingError
from nasflow.base.text import human_bytes, human_duration
from nasflow.cli.console import message_lines
from nasflow.cli.options import AsJson, Config, Device, Seed, Set, selection
from nasflow.cli.request import Action, Outcome, RunOptions, Selection
from nasflow.commands.beforehand import check_images, check_targets, doubtful_settings, test_images_show
from nasflow.commands.first_look import Told
from nasflow.commands.folds import FoldStatus, all_stale, folds_status
from nasflow.commands.phone_time import phone_time
from nasflow.commands.planned_trainings import planned_trainings, stages_without_images
from nasflow.commands.project import Project, open_project, status_of
from nasflow.commands.training_costs import Costs, costs_of, costs_of_run
from nasflow.publish import COMPLETE
from pipeline.events import Message
from pipeline.freshness import StageStatus
from pipeline.runner import Pipeline
from stages.documents import SearchResult, TrainedNetworks
from stages.training.made_here import COMPUTERS, differences, trained_by

TRAINED = (SearchResult, TrainedNetworks)


def show_status(selection: Selection, project: Project | None = None) -> Outcome:
    """Every stage as it stands, and what the artifacts folder weighs. Changes nothing on the disk."""
    project = project or open_project(selection)
    told = Told()
    pipeline = project.pipeline(told)
    stages, folds = status_of(project, pipeline), folds_status(project, pipeline, told)
    usage = pipeline.store.usage()
    stale = all_stale(stages, folds)
    elsewhere = made_elsewhere(pipeline, stages)
    if stale:
        closing = f"{work_ahead(stale, folds)}: use 'nasflow run'."
    else:
        closing = "Every stage is up to date: 'nasflow run' has nothing to do."
    return Outcome(
        document={
            "config": str(project.path),
            "artifacts": str(project.artifacts),
            **_document(stages, folds),
            "made_elsewhere": elsewhere,
            "usage_bytes": {**usage, "total": sum(usage.values())},
        },
        text="\n".join(
            [
                *message_lines(told.events),
                *_table(stages),
                *_of_folds(folds),
                "",
                *(
                    f"{name} was trained under other conditions ({'; '.join(d)})."
                    for name, d in elsewhere.items()
                ),
                closing,
                _weight(project, usage),
            ]
        ),
    )


def plan(options: RunOptions, project: Project) -> Outcome:
    """What ``run`` with these options would do; nothing is run or changed. Some training steps are timed."""
    told = Told()
    try:
        pipeline = project.pipeline(told)
    except DatasetMissingError as error:
        return _plan_without_images(options, project, error)
    pipeline.check(options.until)
    stages = pipeline.status(options.until, options.from_stage, options.force)
    stale = [stage for stage in stages if not stage.fresh]
    check_images(project, pipeline, stale)
    check_targets(pipeline, stages)
    told.events += [
        Message("", text, level="warning") for text in doubtful_settings(project.config, pipeline, stale)
    ]
    folds: tuple[FoldStatus, ...] = ()
    if {stage.name for stage in stages} >= COMPLETE:
        folds = folds_status(project, pipeline, told, options.force)
    costs = costs_of_run(project, pipeline, stages, [fold.stages for fold in folds])
    stages = tuple(_timed(stage, costs) for stage in stages)
    folds = tuple(
        replace(fold, stages=tuple(_timed(stage, costs) for stage in fold.stages)) for fold in folds
    )
    stale = all_stale(stages, folds)
    closing = (
        f"{work_ahead(stale, folds)}. Nothing was run: leave out --dry-run to run them."
        if stale
        else "Nothing to do: every stage is up to date."
    )
    phone = phone_time(project.config, pipeline, stages, [fold.stages for fold in folds])
    shown = test_images_show(pipeline, stale)
    return Outcome(
        document={
            "config": str(project.path),
            "artifacts": str(project.artifacts),
            **_document(stages, folds),
            **({"training": costs.document()} if costs else {}),
            **({"phone": asdict(phone)} if phone else {}),
            **({"test_images": asdict(shown)} if shown else {}),
        },
        text="\n".join(
            [
                *message_lines(told.events),
                *_table(stages),
                *_of_folds(folds),
                "",
                *([*costs.lines(), ""] if costs else []),
                *([phone.describe()] if phone else []),
                *([shown.sentence()] if shown else []),
                closing,
            ]
        ),
    )


def _timed(status: StageStatus, costs: Costs | None) -> StageStatus:
    """With the time that its trainings take, as it was measured here, where it has never run."""
    timed = set() if costs is None else {cost.training.stage for cost in costs.costs}
    if status.fresh or costs is None or status.record is not None or status.name not in timed:
        return status
    return replace(status, estimate_seconds=costs.seconds_of(status.name))


def _plan_without_images(options: RunOptions, project: Project, error: DatasetMissingError) -> Outcome:
    """What would be trained if the images were there. Raises ``error`` where that cannot be said."""
    if project.config.data.source == "fashion_mnist" or options.from_stage or options.force:
        raise error
    stages, images = stages_without_images(project)
    names = [stage.name for stage in stages]
    until = names.index(options.until) + 1 if options.until in names else len(names)
    trainings = planned_trainings(stages[:until], images)
    if not trainings:
        raise error
    costs = costs_of(project, stages, trainings, images)
    warning = f"{error.message} {error.hint} A run ends with this error; its trainings would be:"
    return Outcome(
        document={
            "config": str(project.path),
            "artifacts": str(project.artifacts),
            "stages": [],
            "problem": error.message,
            "training": costs.document(),
        },
        text="\n".join([f"warning: {warning}", "", *costs.lines(), "", "Nothing was run."]),
    )


def made_elsewhere(pipeline: Pipeline, stages: Sequence[StageStatus]) -> dict[str, list[str]]:
    """Fresh stages that another torch, processor or number of threads trained, with what differs from here.

    That makes none of them stale: what was trained is as good as it was. It says why a repetition differs.
    """
    outputs = {stage.name: stage.output for stage in pipeline.stages}
    found: dict[str, list[str]] = {}
    for status in stages:
        output = outputs[status.name]
        if not status.fresh or status.record is None or output not in TRAINED:
            continue
        makers = trained_by(pipeline.store.document(status.record, output))
        if not makers:
            continue
        from stages.training.makers import would_train  # loads torch, which alone can tell all of it

        present = would_train()
        here = {name: getattr(present, name) for name in (*COMPUTERS, "cores", "omp_num_threads")}
        differing = [difference for made_by in makers for difference in differences(made_by, here)]
        if differing:
            found[status.name] = list(dict.fromkeys(differing))
    return found


def work_ahead(stale: Sequence[StageStatus], folds: Sequence[FoldStatus] = ()) -> str:
    """``3 stages to run, about 2 min 10 s``; ``folds``: those besides the configuration's own."""
    seconds = sum(stage.estimate_seconds for stage in stale)
    number = f"{len(stale)} stage{'s' if len(stale) > 1 else ''}"
    of_folds = f" of {len(folds) + 1} folds" if folds else ""
    return f"{number}{of_folds} to run, about {human_duration(seconds)}"


def _document(stages: Sequence[StageStatus], folds: Sequence[FoldStatus]) -> dict[str, Any]:
    seconds = sum(stage.estimate_seconds for stage in all_stale(stages, folds))
    of_folds = [{"fold": fold.fold, "stages": _rows(fold.stages)} for fold in folds]
    return {
        "stages": _rows(stages),
        **({"folds": of_folds} if of_folds else {}),
        "estimate_seconds": round(seconds, 1),
    }


def _rows(stages: Sequence[StageStatus]) -> list[dict[str, Any]]:
    return [
        {
            "name": stage.name,
            "fresh": stage.fresh,
            "why": stage.why,
            "partly_done": stage.partly_done,
            "estimate_seconds": 0.0 if stage.fresh else round(stage.estimate_seconds, 1),
            "fingerprint": stage.fingerprint,
            "finished_at": stage.record.finished_at.isoformat() if stage.record else None,
        }
        for stage in stages
    ]


def _of_folds(folds: Sequence[FoldStatus]) -> list[str]:
    """A line for each of the other folds."""
    lines = [""] if folds else []
    for fold in folds:
        said = "up to date"
        if stale := fold.stale:
            seconds = sum(stage.estimate_seconds for stage in stale)
            names = ", ".join(stage.name for stage in stale)
            said = f"{names} to run, about {human_duration(seconds)}"
        lines.append(f"fold {fold.fold}: {said}")
    return lines


def _table(stages: Sequence[StageStatus]) -> list[str]:
    rows = [("stage", "state", "takes", "why")]
    for stage in stages:
        state = "up to date" if stage.fresh else "stale"
        rows.append(
            (stage.name, state, "" if stage.fresh else human_duration(stage.estimate_seconds), stage.why)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]


def _weight(project: Project, usage: Mapping[str, int]) -> str:
    parts = ", ".join(f"{kind} {human_bytes(weight)}" for kind, weight in usage.items() if weight)
    total = sum(usage.values())
    return f"{project.artifacts} uses {human_bytes(total)}" + (f" ({parts})." if parts else ".")


def command(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> Action:
    """Show which stages are up to date, and why others are not."""

    return lambda: show_status(selection(config, assignments, device, seed))
