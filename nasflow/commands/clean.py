"""``nasflow clean``: free what nothing refers to."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from nasflow.base.files import delete_folder, files_below, size_or_zero
from nasflow.base.text import human_bytes
from nasflow.cli.console import message_lines
from nasflow.cli.options import AsJson, Config, Device, Seed, Set, selection
from nasflow.cli.request import Action, Outcome, Selection
from nasflow.commands.first_look import Told
from nasflow.commands.folds import other_folds
from nasflow.commands.project import Project, open_project
from pipeline.runner import Pipeline
from pipeline.store.sweeping import Freed

KEPT_LOGS = 20
"""So many of the last runs keep their logs."""


def clean_store(
    selection: Selection, *, superseded: bool, dry_run: bool, project: Project | None = None
) -> Outcome:
    """Delete files that no finished or unfinished stage refers to, and old logs.

    ``superseded`` also deletes the stages' results of other configurations than the present one.
    With ``dry_run`` nothing is deleted, only counted. Raises StoreLockedError, MachineError.
    """
    project = project or open_project(selection)
    told = Told()
    pipeline = project.pipeline(told)
    with nullcontext() if dry_run else pipeline.store.lock():
        if superseded:
            folds = [fold.pipeline(told, warn=False) for fold in other_folds(project)]
            freed = pipeline.sweep(dry_run=dry_run, beside=folds)
        else:
            freed = _sweep_unreferenced(pipeline, dry_run)
        freed = _with_old_logs(freed, project.artifacts / "runs", dry_run)
    kinds = ", ".join(f"{kind} {human_bytes(weight)}" for kind, weight in freed.bytes_by_kind.items())
    if not freed.files:
        said = f"Nothing to free in {project.artifacts}."
        if not superseded:
            said += " Results of other configurations are kept: --superseded deletes them."
    else:
        verb = "Would free" if dry_run else "Freed"
        files = f"{freed.files} file{'s' if freed.files > 1 else ''}"
        said = f"{verb} {human_bytes(freed.total_bytes)} in {files} ({kinds}) of {project.artifacts}."
    return Outcome(
        document={
            "artifacts": str(project.artifacts),
            "dry_run": dry_run,
            "files": freed.files,
            "bytes": freed.total_bytes,
            "bytes_by_kind": dict(freed.bytes_by_kind),
        },
        text="\n".join([*message_lines(told.events), said]),
    )


def _with_old_logs(freed: Freed, runs: Path, dry_run: bool) -> Freed:
    """Delete the logs of all runs but the last ones, and count them in."""
    folders = sorted(path for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    old = folders[:-KEPT_LOGS]
    logs = [file for folder in old for file in files_below(folder)]
    weight = sum(size_or_zero(file) for file in logs)
    if not dry_run:
        for folder in old:
            delete_folder(folder)
    if not logs:
        return freed
    return Freed(freed.files + len(logs), {**freed.bytes_by_kind, "logs": weight})


def _sweep_unreferenced(pipeline: Pipeline, dry_run: bool) -> Freed:
    """Keep every finished stage and every unfinished one, whichever configuration they belong to."""
    store = pipeline.store
    names = [stage.name for stage in pipeline.stages]
    keep = {record.fingerprint for name in names for record in store.records(name)}
    finished = {fingerprint[:16] for fingerprint in keep}
    unfinished = {
        folder.name
        for name in names
        for folder in store.scratch_folders(name)
        if folder.name.rpartition("-")[2] not in finished
    }
    return store.sweep(keep, keep_scratch=unfinished, dry_run=dry_run)


def command(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also delete results of other configurations.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be freed.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Delete unreferenced files."""

    chosen = selection(config, assignments, device, seed)
    return lambda: clean_store(chosen, superseded=superseded, dry_run=dry_run)
