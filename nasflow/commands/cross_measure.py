"""Of several devices: every network on every device, and what all of it makes of a :class:`CrossTable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from nasflow.base.errors import UsageError
from nasflow.commands.cross_check import open_devices
from nasflow.commands.measured_model import measured_model, stage_of
from nasflow.commands.project import Project
from nasflow.commands.report import stored_documents
from nasflow.hardware_targets import NamedTarget
from pipeline.events import Emit, Message, Progress
from pipeline.runner import Pipeline
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch, FolderScratch
from pipeline.store.store import Store
from stages.documents import (
    CrossCell,
    CrossTable,
    LatencyModel,
    PrunedNetworks,
    SearchResult,
    Verification,
)
from stages.search import Search
from stages.space.search_space import NetConfig
from stages.verify import Verify

if TYPE_CHECKING:
    from stages.verification.cross_table import Setting

_SCRATCH = "cross_table"


def latest_search(pipeline: Pipeline) -> SearchResult:
    """The search that has just been made, or was up to date.

    Raises UsageError where it no longer is, and what the device raises.
    """
    for status in pipeline.status(until="search"):
        if status.problem is not None:
            raise status.problem
        if not status.fresh or status.record is None:
            raise UsageError(
                f"stage {status.name} is no longer up to date ({status.why.rstrip('.')}).",
                hint="Run the same command again.",
            )
        record = status.record
    return pipeline.store.document(record, SearchResult)


def compared(projects: Mapping[str, Project], first: NamedTarget, emit: Emit, *, trained: bool) -> CrossTable:
    """Measure the targets' networks on all targets. ``trained``: accuracies, too, of what was verified.

    Rounds are kept until all devices are measured: an interrupted comparison goes on. Raises UsageError where
    something is not up to date, InfeasibleTargetError, DeviceError.
    """
    from stages.nas.across_hardware import Hardware, hardware_networks, search_for
    from stages.verification.cross_accuracy import cross_accuracies
    from stages.verification.cross_table import Setting, measure_settings

    with ExitStack() as stack:
        devices = open_devices(projects, stack, emit)
        pipelines = {
            name: project.pipeline(emit, devices[name], warn=False) for name, project in projects.items()
        }
        own = pipelines[first.name]
        store: Store = own.store
        hardware = [
            Hardware(name, measured_model(pipeline, present=True)[1]) for name, pipeline in pipelines.items()
        ]
        context = Context("search", "", store, FleetingScratch(), emit)
        stage, verify = stage_of(own, Search), stage_of(own, Verify)
        search = latest_search(own)
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
        kept: list[FolderScratch] = []

        def scratch_of(digest: str) -> FolderScratch:
            kept.append(store.scratch(_SCRATCH, digest))
            return kept[-1]

        settings = [
            Setting(target, one.model, partial(_written, model=one.model, seed=stage.seed))
            for target, one in zip(targets, hardware, strict=True)
        ]
        for together in _on_one_device(settings, projects):
            names = [setting.target.name for setting in together]
            emit(Message("", f"{len(networks)} networks side by side on {', '.join(names)}."))
            found, counted = measure_settings(
                together,
                networks,
                devices[names[0]],
                scratch_of,
                rounds=verify.config.rounds,
                min_ms=verify.config.min_ms,
                warmup_ms=verify.config.warmup_ms,
                seed=stage.seed,
                max_thermal_status=verify.max_thermal_status,
                tell=lambda done, of: emit(Progress(_SCRATCH, done, of, "rounds")),
            )
            if not counted.enough:
                text = (
                    f"{names[0]} was disturbed in so many rounds that all of them count: other programs, or "
                    "heat. Close them, let it cool, and run the same command again."
                )
                emit(Message("", text, level="warning"))
            cells += [
                cell.model_copy(update={"accuracy": accuracies.get((cell.network, cell.target))})
                for cell in found
            ]
            seconds += counted.rounds.seconds
        for scratch in kept:
            scratch.clear()
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


def _written(net: NetConfig, *, model: LatencyModel, seed: int) -> bytes:
    """A network as that target's latency model was measured: its precision and its ways."""
    from stages.conversion.measured import measured_network

    return measured_network(
        net,
        model.precision,
        output=model.output,
        seed=seed,
        implementations=model.implementations,
    )
