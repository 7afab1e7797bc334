"""What is refused before several devices are compared: all that can be known before the search."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import combinations
from typing import NamedTuple

from android_bench.device import Device, DeviceInfo, RuntimeOptions
from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from nasflow.commands.measured_model import measured_model, stage_of
from nasflow.commands.project import Project
from pipeline.events import Emit, Message
from stages.nas.config import check_shared
from stages.search import Search
from stages.training.launch import launched_by

SEARCHING = ("profile", "latency", "precheck", "search")
"""What is run before devices are compared."""


class _Found(NamedTuple):
    """A target: what it and its device are called, which device that is, and how it runs models."""

    name: str
    device: str
    info: DeviceInfo
    runtime: RuntimeOptions


def open_devices(projects: Mapping[str, Project], stack: ExitStack, emit: Emit) -> dict[str, Device]:
    """Each target's device, one object for all settings of a device: many phones take one connection only.

    Nothing is started yet; ``stack`` closes them. Raises UsageError for settings that a device cannot follow.
    """

    def tell(text: str) -> None:
        emit(Message("", text))

    opened: dict[str, Device] = {}
    for project in projects.values():
        device = stack.enter_context(closing(project.open_device(tell)))
        opened.setdefault(project.config.device, device)
    return {name: opened[project.config.device] for name, project in projects.items()}


def check_devices(projects: Mapping[str, Project], forced: Sequence[str], emit: Emit, *, train: bool) -> None:
    """Refuse what the settings, the devices' identities or the images say, before any work.

    Raises UsageError, DatasetMissingError, NoUsableDeviceError where a device is not there.
    """
    check_one_process()
    if not train and (late := [name for name in forced if name not in SEARCHING]):
        raise UsageError(
            f"--force {late[0]}: --devices runs up to the search.", hint="Add --train, or leave it out."
        )
    with ExitStack() as stack:
        devices = open_devices(projects, stack, emit)
        for name, project in projects.items():
            _check_settings(project, train=train)
            pipeline = project.pipeline(emit, devices[name], warn=False)
            pipeline.check(None if train else "search")
        _check_apart(
            [
                _Found(name, project.config.device, devices[name].info(), project.config.runtime)
                for name, project in projects.items()
            ]
        )


def check_targets(projects: Mapping[str, Project], emit: Emit) -> None:
    """Find out that a device has no network for its target, before one is searched for.

    Raises InfeasibleTargetError, and UsageError where a latency model is not up to date.
    """
    with ExitStack() as stack:
        devices = open_devices(projects, stack, emit)
        for name, project in projects.items():
            pipeline = project.pipeline(emit, devices[name], warn=False)
            stage_of(pipeline, Search).check_targets(measured_model(pipeline, present=True)[1])


def check_one_process() -> None:
    """Raises UsageError where several processes were started: one of them alone is to measure."""
    _, processes = launched_by(os.environ)
    if processes > 1:
        raise UsageError(
            f"--devices runs in one process, and {processes} were started (torchrun, srun).",
            hint="Start it without them; or let them train for one device at a time: nasflow run --device "
            "NAME.",
        )


def _check_settings(project: Project, *, train: bool) -> None:
    check_shared(project.config.search)
    if train and project.config.data.folds:
        raise UsageError(
            f"--train takes one search for all devices, and data.folds {project.config.data.folds} takes "
            "one for each fold: a fold's test images would have been searched on.",
            hint="Leave data.folds out (--set data.folds=null), or run the devices one by one.",
        )


def _check_apart(found: Sequence[_Found]) -> None:
    """Raises UsageError for two targets that are one in all that results are kept by."""
    for one, other in combinations(found, 2):
        if one.info.identity() != other.info.identity():
            continue
        model = plain_line(one.info.model)
        if one.device != other.device and one.info.serial and one.info.serial == other.info.serial:
            raise UsageError(
                f"--devices: {one.device} and {other.device} are the same device ({model}).",
                hint="Write its name in the same way each time: its settings are then timed in the same "
                "rounds.",
            )
        if one.runtime == other.runtime:
            raise UsageError(
                f"--devices: {one.name} and {other.name} are of one kind ({model}) and have the same "
                "settings: what is measured of one counts for the other.",
                hint="Leave one of them out. Whether two phones of one kind differ, nasflow latency check "
                "FILE --device NAME shows.",
            )
