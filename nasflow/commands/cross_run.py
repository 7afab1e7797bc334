"""``nasflow run --devices A,B``: one search, a network for each device, all measured on all devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasflow.base.files import write_atomic
from nasflow.cli.request import Outcome, RunOptions, Selection
from nasflow.cli.screen import screen
from nasflow.commands.cross_train import target_projects, train_each
from nasflow.commands.measured_model import latest_model, stage_of
from nasflow.commands.project import Project, open_project
from nasflow.commands.report import rewrite_report, stored_documents
from nasflow.commands.run import run_pipeline
from nasflow.commands.summary import short, width_here
from nasflow.hardware_targets import NamedTarget, labels, parse_targets
from nasflow.publish import CROSS_TABLE, LATEST
from pipeline.artifact import document_bytes
from pipeline.events import Emit, Message
from pipeline.runner import Pipeline
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.documents import (
    CrossCell,
    CrossTable,
    HardwareNetwork,
    LatencyModel,
    PrunedNetworks,
    SearchResult,
    Verification,
)
from stages.search import Search
from stages.verify import Verify

if TYPE_CHECKING:
    from stages.verification.cross_table import Setting

PAGE = "cross_table.html"


def run_on_devices(options: RunOptions, devices: str, *, train: bool = False) -> Outcome:
    """Search once, for the first device; then measure, choose and compare. Raises what a stage raises.

    Each device is measured as ``nasflow latency`` does it, and what is up to date is kept. ``train``: the
    networks go through the rest of the stages, too, and have a folder each. The table is written into
    ``artifacts/cross_table.json`` and, as a page, beside it.
    """
    targets = parse_targets(devices)
    first, *others = targets
    words = ("run", *options.selection.arguments(), "--devices", devices, *(["--train"] if train else []))
    options = replace(options, part_of=(*words, *(["--json"] if options.as_json else [])))
    selections = {target.name: _selected(options.selection, target) for target in targets}
    for selection in selections.values():  # what a device refuses is told before any work
        open_project(selection, tell=lambda _notice: None).open_device().close()
    run_pipeline(replace(options, selection=selections[first.name], until="search"))
    for target in others:
        run_pipeline(replace(options, selection=selections[target.name], until="latency"))
    searching = open_project(selections[first.name], tell=lambda _notice: None)
    with closing(searching.open_device()) as device:
        search = _latest_search(searching.pipeline(lambda _event: None, device, warn=False))
    projects = target_projects(targets, selections, search)
    trained = train_each(options, selections, projects) if train else {}
    with closing(screen(as_json=options.as_json)) as reporter:
        table = _compared(projects, first, reporter, trained=bool(trained))
        reporter(Message("", f"{labels(targets)} are compared."))
    files = _write(table, projects[first.name].artifacts)
    if trained:
        for name, project in projects.items():
            rewrite_report(selections[name], project)
        rewrite_report(selections[first.name], replace(projects[first.name], published=LATEST))
    return _outcome(table, files, trained, projects)


def _selected(chosen: Selection, target: NamedTarget) -> Selection:
    return replace(chosen, device=None, assignments=(*chosen.assignments, *target.overrides))


def _latest_search(pipeline: Pipeline) -> SearchResult:
    """The search that has just been made, or was up to date."""
    record = next(status.record for status in pipeline.status(until="search") if status.name == "search")
    assert record is not None
    return pipeline.store.document(record, SearchResult)


def _compared(projects: dict[str, Project], first: NamedTarget, emit: Emit, *, trained: bool) -> CrossTable:
    from stages.nas.across_hardware import Hardware, hardware_networks, search_for
    from stages.verification.cross_accuracy import cross_accuracies
    from stages.verification.cross_table import Setting, measure_settings

    with ExitStack() as stack:
        devices = {
            name: stack.enter_context(closing(project.open_device())) for name, project in projects.items()
        }
        pipelines = {
            name: project.pipeline(emit, devices[name], warn=False) for name, project in projects.items()
        }
        own = pipelines[first.name]
        store: Store = own.store
        hardware = [Hardware(name, latest_model(pipeline)[1]) for name, pipeline in pipelines.items()]
        context = Context("search", "", store, FleetingScratch(), emit)
        stage, verify = stage_of(own, Search), stage_of(own, Verify)
        search = _latest_search(own)
        searches = {
            one.name: search
            if one.name == first.name
            else search_for(search, first.name, one.model, stage.target, stage.seed, context)
            for one in hardware
        }
        picked, verified = _found(pipelines) if trained else ({}, {})
        stack.enter_context(store.lock())
        targets, networks = hardware_networks(searches, hardware, stage.target, stage.seed, context, picked)
        accuracies = cross_accuracies(verified, store)
        cells: list[CrossCell] = []
        seconds = 0.0
        settings = [
            Setting(target, one.model, partial(_written, model=one.model, seed=stage.seed))
            for target, one in zip(targets, hardware, strict=True)
        ]
        for together in _on_one_device(settings, projects):
            names = [setting.target.name for setting in together]
            emit(Message("", f"{len(networks)} networks side by side on {', '.join(names)}."))
            found, spent = measure_settings(
                together,
                networks,
                devices[names[0]],
                FleetingScratch(),
                rounds=verify.config.rounds,
                min_ms=verify.config.min_ms,
                warmup_ms=verify.config.warmup_ms,
                seed=stage.seed,
            )
            cells += [
                cell.model_copy(update={"accuracy": accuracies.get((cell.network, cell.target))})
                for cell in found
            ]
            seconds += spent
    folders = {name: project.published for name, project in projects.items()} if trained else {}
    return CrossTable(
        space=search.space.name,
        targets=targets,
        networks=tuple(n.model_copy(update={"folder": folders.get(n.target, "")}) for n in networks),
        cells=tuple(cells),
        seconds=seconds,
        test_images=verified[first.name].test_images if trained else 0,
    )


def _on_one_device(settings: Sequence[Setting], projects: Mapping[str, Project]) -> list[list[Setting]]:
    """The settings of each device together."""
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(projects[setting.target.name].config.device, []).append(setting)
    return list(groups.values())


def _found(
    pipelines: Mapping[str, Pipeline],
) -> tuple[dict[str, tuple[int, ...]], dict[str, Verification]]:
    """Each target's picked path, and what was verified of its network."""
    picked, verified = {}, {}
    for name, pipeline in pipelines.items():
        documents = stored_documents(pipeline)
        pruned, verification = documents["prune"], documents["verify"]
        assert isinstance(pruned, PrunedNetworks)
        assert isinstance(verification, Verification)
        picked[name], verified[name] = pruned.found.choices, verification
    return picked, verified


def _written(network: HardwareNetwork, *, model: LatencyModel, seed: int) -> bytes:
    """The network as that target's latency model was measured: its precision and its ways."""
    from stages.conversion.measured import measured_network

    return measured_network(
        network.net,
        model.precision,
        output=model.output,
        seed=seed,
        implementations=model.implementations,
    )


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
