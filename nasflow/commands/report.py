"""``nasflow report``: write the report and its figures again, without running anything."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from nasflow.base.errors import UsageError
from nasflow.cli.console import message_lines
from nasflow.cli.options import AsJson, Config, Device, Seed, Set, selection
from nasflow.cli.request import Action, Outcome, Selection
from nasflow.commands.first_look import Told
from nasflow.commands.folds import stored_folds, together
from nasflow.commands.project import Project, open_project
from nasflow.commands.summary import file_lines, summary
from nasflow.publish import images_of, publish
from pipeline.artifact import Document
from pipeline.events import Message
from pipeline.runner import Pipeline


def rewrite_report(selection: Selection, project: Project | None = None) -> Outcome:
    """Write ``artifacts/latest`` again from what is stored for the present configuration.

    Raises UsageError where a stage is missing or stale, IntegrityError where something stored is
    damaged, MachineError.
    """
    project = project or open_project(selection)
    told = Told()
    with closing(project.open_device()) as device:  # a phone may take one connection only
        pipeline = project.pipeline(told, device)
        return _rewritten(project, pipeline, told)


def _rewritten(project: Project, pipeline: Pipeline, told: Told) -> Outcome:
    with pipeline.store.lock():
        documents = stored_documents(pipeline)
        others = stored_folds(project, told)
        if others is None:
            text = "the runs of other folds are not up to date: the report leaves cross-validation out."
            told(Message("", text, level="warning"))
        published = publish(
            documents,
            pipeline.store,
            project.latest,
            project.config,
            told,
            folds=together([documents, *(others or ())]),
            data=images_of(pipeline),
            again=True,
        )
    return Outcome(
        document={
            **published.result.model_dump(mode="json"),
            "files": {name: str(path) for name, path in published.files.items()},
        },
        text="\n".join([*message_lines(told.events), summary(published.result), "", *file_lines(published)]),
    )


def stored_documents(pipeline: Pipeline) -> dict[str, Document]:
    """All stages' documents of the present configuration. Raises UsageError where one is not up to date."""
    documents: dict[str, Document] = {}
    for stage, status in zip(pipeline.stages, pipeline.status(), strict=True):
        if not status.fresh or status.record is None:
            raise UsageError(
                f"There is nothing to report yet: stage {stage.name} has no result for this configuration "
                f"({status.why.rstrip('.')}).",
                hint="Run what is missing: nasflow run.",
            )
        documents[stage.name] = pipeline.store.document(status.record, stage.output)
    return documents


def command(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve", help="Show a run while it goes on: a page on this computer alone, until Ctrl-C."
        ),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            metavar="N",
            help="Port of the page of --serve; default: any free one.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """Write the report again from what is stored; or show a run while it goes on."""
    chosen = selection(config, assignments, device, seed)
    if not serve:
        if port is not None:
            raise typer.BadParameter("--port is for --serve")
        return lambda: rewrite_report(chosen)

    def served() -> Outcome:
        from nasflow.commands.report_server import serve_report

        return serve_report(chosen, port or 0, as_json=as_json)

    return served
