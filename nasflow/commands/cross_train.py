"""Of several devices each one's network through the rest of the stages: trained, converted, verified."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from android_bench.device import Device
from nasflow.assemble import build_pipeline
from nasflow.cli.request import Outcome, RunOptions, Selection
from nasflow.commands.project import Build, Project, open_project
from nasflow.commands.run import run_pipeline
from nasflow.config import PipelineConfig
from nasflow.hardware_targets import NamedTarget
from nasflow.publish import DEVICES
from pipeline.events import Emit
from pipeline.runner import Pipeline
from stages.documents import SearchResult
from stages.search import Search, SharedSearch


def folder_names(targets: Sequence[NamedTarget]) -> dict[str, str]:
    """A folder for each target, by its name: readable, harmless, and each another."""
    folders: dict[str, str] = {}
    for target in targets:
        plain = re.sub(r"[^A-Za-z0-9=@_.-]+", "-", target.name).strip(".-")[:80] or "device"
        name, number = plain, 2
        while name.lower() in {folder.lower() for folder in folders.values()}:
            name, number = f"{plain}-{number}", number + 1
        folders[target.name] = name
    return folders


def with_search(search: SearchResult, searched_on: str) -> Build:
    """How a pipeline is made that takes over the first target's search."""

    def build(
        config: PipelineConfig, base_dir: Path, emit: Emit, *, device: Device | None = None
    ) -> Pipeline:
        made = build_pipeline(config, base_dir, emit, device=device)
        stages = [
            SharedSearch(
                **{field.name: getattr(stage, field.name) for field in fields(Search)},
                shared=search,
                searched_on=searched_on,
            )
            if isinstance(stage, Search)
            else stage
            for stage in made.stages
        ]
        return Pipeline(stages, made.store, emit)

    return build


def target_projects(
    targets: Sequence[NamedTarget], selections: Mapping[str, Selection], search: SearchResult
) -> dict[str, Project]:
    """Each target's project: the first has searched, the others take that over; each has a folder."""
    first, folders = targets[0], folder_names(targets)
    projects = {}
    for target in targets:
        build = build_pipeline if target is first else with_search(search, first.name)
        project = open_project(selections[target.name], build, tell=lambda _notice: None)
        projects[target.name] = replace(project, published=f"{DEVICES}/{folders[target.name]}")
    return projects


def train_each(
    options: RunOptions, selections: Mapping[str, Selection], projects: Mapping[str, Project]
) -> dict[str, Outcome]:
    """Run what is left of every target's stages, and publish it. Raises what a stage raises.

    Networks of MobileNetV2 that all are held against depend on no device: they are trained once.
    """
    return {
        name: run_pipeline(replace(options, selection=selections[name]), project)
        for name, project in projects.items()
    }
