"""``nasflow clean``: free what nothing refers to."""

from __future__ import annotations

from nasflow.commands.options import Outcome, Selection
from nasflow.commands.project import Project, open_project
from nasflow.console import message_lines
from pipeline.events import Event
from pipeline.runner import Pipeline
from pipeline.store import Freed
from pipeline.words import human_bytes


def clean_store(
    selection: Selection, *, superseded: bool, dry_run: bool, project: Project | None = None
) -> Outcome:
    """Delete files that no finished or unfinished stage refers to.

    ``superseded`` also deletes the stages' results of other configurations than the present one.
    With ``dry_run`` nothing is deleted, only counted. Raises StoreLocked, EnvironmentFault.
    """
    project = project or open_project(selection)
    events: list[Event] = []
    pipeline = project.pipeline(events.append)
    freed = pipeline.sweep(dry_run=dry_run) if superseded else _sweep_unreferenced(pipeline, dry_run)
    kinds = ", ".join(f"{kind} {human_bytes(weight)}" for kind, weight in freed.bytes_by_kind.items())
    if not freed.files:
        said = f"Nothing to free in {project.artifacts}."
        if not superseded:
            said += " Results of other configurations are kept: --superseded drops them."
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
        text="\n".join([*message_lines(events), said]),
    )


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
