"""``nasflow run --devices A,B``: one search, a network for each device, all measured on all devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasflow.base.errors import UsageError
from nasflow.base.files import write_atomic
from nasflow.cli.request import Outcome, RunOptions, Selection
from nasflow.cli.screen import screen
from nasflow.commands.cross_measure import compared, latest_search
from nasflow.commands.cross_train import target_projects, train_each
from nasflow.commands.project import Project, open_project
from nasflow.commands.report import rewrite_report
from nasflow.commands.run import run_pipeline
from nasflow.commands.summary import short, width_here
from nasflow.hardware_targets import NamedTarget, labels, parse_targets
from nasflow.publish import CROSS_TABLE, LATEST
from pipeline.artifact import document_bytes
from pipeline.events import Message
from stages.documents import CrossTable

PAGE = "cross_table.html"
_MEASURING = ("profile", "latency")
_SEARCHING = (*_MEASURING, "precheck", "search")
"""What is run before devices are compared: for each, and for the first."""


def run_on_devices(options: RunOptions, devices: str, *, train: bool = False) -> Outcome:
    """Search once, for the first device; then measure, choose and compare. Raises what a stage raises.

    Each device is measured as ``nasflow latency`` does it, and what is up to date is kept. ``train``: the
    networks go through the rest of the stages, too, and have a folder each. The table is written into
    ``artifacts/cross_table.json`` and, as a page, beside it.
    """
    targets = parse_targets(devices)
    first, *others = targets
    words = ("run", *options.selection.arguments(), "--devices", devices, *(["--train"] if train else []))
    forced = options.force
    options = replace(options, part_of=words, force=())
    selections = {target.name: _selected(options.selection, target) for target in targets}
    _check(selections, forced, train=train)
    shared = replace(options, selection=selections[first.name], until="search", force=_of(forced, _SEARCHING))
    run_pipeline(shared)
    for target in others:
        measured = replace(options, selection=selections[target.name], until="latency")
        run_pipeline(replace(measured, force=_of(forced, _MEASURING)))
    searching = open_project(selections[first.name], tell=lambda _notice: None)
    with closing(searching.open_device()) as device:
        search = latest_search(searching.pipeline(lambda _event: None, device, warn=False))
    projects = target_projects(targets, selections, search)
    rest = replace(options, force=tuple(name for name in forced if name not in _SEARCHING))
    trained = train_each(rest, selections, projects) if train else {}
    with closing(screen(as_json=options.as_json)) as reporter:
        table = compared(projects, first, reporter, trained=bool(trained))
        reporter(Message("", f"{labels(targets)} are compared."))
    files = _write(table, projects[first.name].artifacts)
    if trained:
        for name, project in projects.items():
            rewrite_report(selections[name], project)
        rewrite_report(selections[first.name], replace(projects[first.name], published=LATEST))
    return _outcome(table, files, trained, projects)


def _check(selections: Mapping[str, Selection], forced: Sequence[str], *, train: bool) -> None:
    """Raises UsageError for what a device refuses, and for what is not done for several, before any work."""
    for selection in selections.values():
        project = open_project(selection, tell=lambda _notice: None)
        project.open_device().close()
        if train and project.config.data.folds:
            raise UsageError(
                f"--train takes one search for all devices, and data.folds {project.config.data.folds} takes "
                "one for each fold: a fold's test images would have been searched on.",
                hint="Leave data.folds out (--set data.folds=null), or run the devices one by one.",
            )
    if not train and (late := [name for name in forced if name not in _SEARCHING]):
        raise UsageError(
            f"--force {late[0]}: --devices runs up to the search.", hint="Add --train, or leave it out."
        )


def _of(forced: Sequence[str], stages: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in forced if name in stages)


def _selected(chosen: Selection, target: NamedTarget) -> Selection:
    return replace(chosen, device=None, assignments=(*chosen.assignments, *target.overrides))


def _write(table: CrossTable, artifacts: Path) -> dict[str, Path]:
    """The table for programs, and as a page."""
    from stages.reporting.cross_page import render_cross_table

    files = {CROSS_TABLE: artifacts / CROSS_TABLE, PAGE: artifacts / PAGE}
    write_atomic(files[CROSS_TABLE], document_bytes(table))
    write_atomic(files[PAGE], render_cross_table(table).encode())
    return files


def _outcome(
    table: CrossTable,
    files: Mapping[str, Path],
    trained: Mapping[str, Outcome],
    projects: Mapping[str, Project],
) -> Outcome:
    from stages.reporting.cross_text import cross_lines

    runs = {
        name: {"folder": str(projects[name].latest), "verdict": outcome.document["verdict"]}
        for name, outcome in trained.items()
    }
    codes = {outcome.exit_code for outcome in trained.values()}
    document: dict[str, Any] = {
        **table.model_dump(mode="json"),
        "written": str(files[CROSS_TABLE]),
        "page": str(files[PAGE]),
        "runs": runs,
    }
    lines = cross_lines(table, width_here())
    lines += ["", *(f"{name}: {short(projects[name].latest)}" for name in runs)]
    lines += [f"{'Table':<9}{short(files[CROSS_TABLE])}", f"{'Page':<9}{short(files[PAGE])}"]
    return Outcome(document, "\n".join(lines), 1 if 1 in codes else max(codes, default=0))
