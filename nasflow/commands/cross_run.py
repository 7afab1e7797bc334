"""``nasflow run --devices A,B``: one search, a network for each device, all measured on all devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasflow.base.files import write_atomic
from nasflow.cli.request import Outcome, RunOptions, Selection
from nasflow.cli.screen import screen
from nasflow.commands.cross_check import SEARCHING, check_devices, check_targets
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
"""What is run for each device before the search."""


def run_on_devices(options: RunOptions, devices: str, *, train: bool = False) -> Outcome:
    """Measure all devices, search once, for the first; then choose and compare. Raises what a stage raises.

    What a device, the settings or a latency model refuse is known before the search. Each device is measured
    as ``nasflow latency`` does it, and what is up to date is kept. ``train``: the networks go through the
    rest of the stages, too, and have a folder each. The table is written into ``artifacts/cross_table.json``
    and, as a page, beside it.
    """
    targets = parse_targets(devices)
    first = targets[0]
    words = ("run", *options.selection.arguments(), "--devices", devices, *(["--train"] if train else []))
    forced = options.force
    options = replace(options, part_of=words, force=())
    selections = {target.name: _selected(options.selection, target) for target in targets}
    opened = {name: open_project(chosen, tell=lambda _notice: None) for name, chosen in selections.items()}
    with closing(screen(as_json=options.as_json)) as reporter:
        check_devices(opened, forced, reporter, train=train)
    for name in opened:
        measured = replace(options, selection=selections[name], until="latency")
        run_pipeline(replace(measured, force=_of(forced, _MEASURING)))
    with closing(screen(as_json=options.as_json)) as reporter:
        check_targets(opened, reporter)
    rest_of_search = _of(forced, [name for name in SEARCHING if name not in _MEASURING])
    run_pipeline(replace(options, selection=selections[first.name], until="search", force=rest_of_search))
    searching = open_project(selections[first.name], tell=lambda _notice: None)
    with closing(searching.open_device()) as device:
        search = latest_search(searching.pipeline(lambda _event: None, device, warn=False))
    projects = target_projects(targets, selections, search)
    rest = replace(options, force=tuple(name for name in forced if name not in SEARCHING))
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
