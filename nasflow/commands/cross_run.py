"""``nasflow run --devices A,B``: one search, a network for each device, all measured on all devices."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from nasflow.base.files import write_atomic
from nasflow.base.text import plain_line
from nasflow.cli.request import Outcome, RunOptions, Selection
from nasflow.cli.screen import screen
from nasflow.commands.measured_model import latest_model, stage_of
from nasflow.commands.project import Project, open_project
from nasflow.commands.run import run_pipeline
from nasflow.hardware_targets import NamedTarget, labels, parse_targets
from pipeline.artifact import document_bytes
from pipeline.events import Emit, Message
from pipeline.runner import Pipeline
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.documents import CrossCell, CrossTable, HardwareNetwork, LatencyModel, SearchResult
from stages.search import Search
from stages.verify import Verify

FILE = "cross_table.json"


def run_on_devices(options: RunOptions, devices: str) -> Outcome:
    """Search once, for the first device; then measure, choose and compare. Raises what a stage raises.

    Each device is measured as ``nasflow latency`` does it, and what is up to date is kept. The table is
    written into ``artifacts/cross_table.json``.
    """
    targets = parse_targets(devices)
    first, *others = targets
    run_pipeline(replace(options, selection=_selected(options.selection, first), until="search"))
    for target in others:
        run_pipeline(replace(options, selection=_selected(options.selection, target), until="latency"))
    with ExitStack() as stack:
        reporter = stack.enter_context(closing(screen(as_json=options.as_json)))
        projects = {
            target.name: open_project(_selected(options.selection, target), tell=lambda _notice: None)
            for target in targets
        }
        table = _compared(projects, first, reporter)
        reporter(Message("", f"{labels(targets)} are compared."))
    path = projects[first.name].artifacts / FILE
    write_atomic(path, document_bytes(table))
    return Outcome({**table.model_dump(mode="json"), "written": str(path)}, "\n".join(_lines(table, path)))


def _selected(chosen: Selection, target: NamedTarget) -> Selection:
    return replace(chosen, device=None, assignments=(*chosen.assignments, *target.overrides))


def _compared(projects: dict[str, Project], first: NamedTarget, emit: Emit) -> CrossTable:
    from stages.nas.across_hardware import Hardware, hardware_networks
    from stages.verification.cross_table import measure_target

    with ExitStack() as stack:
        devices = {
            name: stack.enter_context(closing(project.open_device())) for name, project in projects.items()
        }
        pipelines = {
            name: project.pipeline(emit, devices[name], warn=False) for name, project in projects.items()
        }
        own = pipelines[first.name]
        store: Store = own.store
        search = _latest_search(own)
        hardware = [Hardware(name, latest_model(pipeline)[1]) for name, pipeline in pipelines.items()]
        context = Context("search", "", store, FleetingScratch(), emit)
        stage, verify = stage_of(own, Search), stage_of(own, Verify)
        stack.enter_context(store.lock())
        targets, networks = hardware_networks(search, hardware, stage.target, stage.seed, context)
        cells: list[CrossCell] = []
        seconds = 0.0
        for target, one in zip(targets, hardware, strict=True):
            emit(Message("", f"{len(networks)} networks side by side on {target.name}."))
            written = partial(_written, model=one.model, seed=stage.seed)
            found, spent = measure_target(
                target,
                networks,
                one.model,
                devices[target.name],
                written,
                FleetingScratch(),
                rounds=verify.config.rounds,
                min_ms=verify.config.min_ms,
                warmup_ms=verify.config.warmup_ms,
                seed=stage.seed,
            )
            cells += found
            seconds += spent
    return CrossTable(
        space=search.space.name, targets=targets, networks=networks, cells=tuple(cells), seconds=seconds
    )


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


def _latest_search(pipeline: Pipeline) -> SearchResult:
    """The search that has just been made, or was up to date."""
    record = next(status.record for status in pipeline.status(until="search") if status.name == "search")
    assert record is not None
    return pipeline.store.document(record, SearchResult)


def _lines(table: CrossTable, path: Path) -> list[str]:
    from stages.reporting.notation import architecture_line

    width = max(len("network of"), *(len(target.name) for target in table.targets))
    columns = [max(len(target.name), 24) for target in table.targets]
    head = "  ".join(
        f"{plain_line(target.name):>{size}}" for target, size in zip(table.targets, columns, strict=True)
    )
    lines = ["Time on each device, ms (share of its own network's, 95 % interval):", ""]
    lines.append(f"{'network of':<{width}}  {head}  {'loss':>6}")
    for network in table.networks:
        cells = [table.cell(network.target, target.name) for target in table.targets]
        row = "  ".join(f"{_words(cell):>{size}}" for cell, size in zip(cells, columns, strict=True))
        lines.append(f"{plain_line(network.target):<{width}}  {row}  {network.estimated_loss:6.3f}")
    lines += ["", *(f"{plain_line(n.target):<{width}}  {architecture_line(n.net)}" for n in table.networks)]
    limits = ", ".join(f"{target.name} {target.target_ms:.4g} ms" for target in table.targets)
    return [
        *lines,
        "",
        f"Targets: {plain_line(limits)}. The loss is that in the supernet, estimated: none of these networks "
        "is trained yet.",
        f"Table    {path}",
    ]


def _words(cell: CrossCell) -> str:
    low, high = cell.ratio_to_own_interval_95
    if cell.network == cell.target:
        return f"{cell.measurement.median_ms:.4f} (own)"
    return f"{cell.measurement.median_ms:.4f} ({low:.2f} to {high:.2f})"
