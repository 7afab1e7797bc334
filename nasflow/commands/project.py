"""The project that a command is about: its configuration, and where its results lie."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from android_bench.device import Device
from nasflow.assemble import artifacts_folder, build_pipeline, open_device
from nasflow.base.errors import ConfigError, UsageError
from nasflow.cli import console
from nasflow.cli.request import Selection, as_yaml
from nasflow.commands.first_look import look_at_images
from nasflow.commands.training_plan import at_measured_pace, decide, planned
from nasflow.config import PipelineConfig
from nasflow.publish import LATEST
from pipeline.config.loader import FILE_NAME, find_config, load_config
from pipeline.events import Emit, Message
from pipeline.freshness import StageStatus
from pipeline.runner import Pipeline

if TYPE_CHECKING:
    from android_bench.found_phone import FoundPhone


class Build(Protocol):
    """How a pipeline is made: :func:`nasflow.assemble.build_pipeline`."""

    def __call__(
        self, config: PipelineConfig, base_dir: Path, emit: Emit, *, device: Device | None = None
    ) -> Pipeline:
        """The pipeline of a configuration whose paths are relative to ``base_dir``."""


@dataclass(frozen=True)
class Project:
    """A configuration and where it stands; ``build`` makes its pipeline."""

    config: PipelineConfig
    path: Path
    build: Build = build_pipeline
    notices: tuple[str, ...] = ()
    """What the user should change in the configuration: keys that have a new name."""
    asked: PipelineConfig | None = None
    """The configuration before what was decided about training on this computer, where that is known."""
    published: str = LATEST
    """Where the results of a finished run are put, below ``artifacts``."""

    @property
    def base_dir(self) -> Path:
        """The folder that the configuration's paths are relative to."""
        return self.path.parent

    @property
    def artifacts(self) -> Path:
        """Where all results lie."""
        return artifacts_folder(self.config, self.base_dir)

    @property
    def latest(self) -> Path:
        """Where the results of the last finished run are put for people to find."""
        return self.artifacts / self.published

    def open_device(
        self, tell: Callable[[str], None] = lambda _text: None, found: FoundPhone | None = None
    ) -> Device:
        """The device that the configuration names; nothing is started yet. ``tell``: what it has to say.

        ``found``: the phone that is meant, where it is found already.
        """
        return open_device(self.config, self.base_dir, tell, found)

    def pipeline(self, emit: Emit, device: Device | None = None, *, warn: bool = True) -> Pipeline:
        """The pipeline; ``device`` is for one that the caller closes itself.

        Images of one's own are read first, those that are not known yet; ``warn``: say what is left out.
        """
        look_at_images(self.config, self.base_dir, emit, warn=warn)
        return self.build(self.config, self.base_dir, emit, device=device)


def status_of(
    project: Project,
    pipeline: Pipeline,
    until: str | None = None,
    from_stage: str | None = None,
    force: Collection[str] = (),
) -> tuple[StageStatus, ...]:
    """Every stage as it stands, with what trainings take at the speed that was measured on this computer."""
    statuses = pipeline.status(until, from_stage, force)
    return at_measured_pace(project.asked or project.config, project.artifacts, pipeline, statuses)


def decided(project: Project, pipeline: Pipeline, emit: Emit, until: str | None = None) -> Project:
    """The project with what is decided about training on this computer, before the first run of its settings.

    That is told by ``emit``. ``until``: the last stage that is wanted. Raises MachineError.
    """

    def tell(text: str, warning: bool) -> None:
        emit(Message("", text, level="warning" if warning else "info"))

    asked = project.asked or project.config
    config = decide(asked, project.base_dir, project.artifacts, pipeline, tell, until)
    return replace(project, config=config)


def open_project(
    selection: Selection, build: Build = build_pipeline, tell: Callable[[str], None] = console.write_note
) -> Project:
    """Find and read the configuration; ``tell`` is given its notices.

    Raises UsageError where there is none, ConfigError where something is wrong with it.
    """
    path = selection.config if selection.config is not None else find_config(Path.cwd())
    if path is None:
        raise UsageError(
            f"There is no {FILE_NAME} in {Path.cwd()} or a folder above it.",
            hint="'nasflow init' writes one; '--config FILE' selects one in another folder.",
        )
    notices: list[str] = []
    try:
        config = load_config(PipelineConfig, path, selection.overrides, tell=notices.append)
    except ConfigError as error:
        raise as_it_was_typed(error, selection) from error
    for notice in notices:
        tell(notice)
    project = Project(config, path.absolute(), build, tuple(notices))
    return replace(project, config=planned(config, project.artifacts), asked=config)


def standalone(selection: Selection, options: Mapping[str, object] = MappingProxyType({})) -> Project:
    """What a command needs that no ``pipeline.yaml`` is needed for; where there is one, it is heeded.

    ``options``: of the command, by the key that they set. Raises ConfigError.
    """
    path = selection.config if selection.config is not None else find_config(Path.cwd())
    assignments = [f"{key}={value}" for key, value in options.items()]
    try:
        config = load_config(
            PipelineConfig, path, [*selection.overrides, *assignments], tell=console.write_note
        )
    except ConfigError as error:
        raise as_it_was_typed(error, selection, options) from error
    return Project(config, (path or Path.cwd() / FILE_NAME).absolute())


def as_it_was_typed(
    error: ConfigError, selection: Selection, options: Mapping[str, object] = MappingProxyType({})
) -> ConfigError:
    """An error that speaks of ``--seed 7`` where that, and not ``--set seed=7``, was typed.

    ``options``: further ones of a command, by the key that they set; the option has the key's last word.
    """
    source, message = error.source, error.message
    for key, value in {"device": selection.device, "seed": selection.seed, **options}.items():
        written = as_yaml(value) if key == "device" and isinstance(value, str) else value
        stands_for, typed = f"--set {key}={written}", f"--{key.rpartition('.')[2]} {value}"
        if value is not None and stands_for not in {f"--set {word}" for word in selection.assignments}:
            source = source.replace(stands_for, typed)
            message = message.replace(stands_for, typed)
    return ConfigError(message, source=source, key=error.key, value=error.value, hint=error.hint)
