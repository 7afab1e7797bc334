"""``nasflow run`` and the command of each stage."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from nasflow.base.errors import InconclusiveError, NasflowError, RunInterruptedError, UsageError
from nasflow.base.text import human_duration
from nasflow.cli.options import (
    AsJson,
    Config,
    Device,
    Devices,
    DryRun,
    Force,
    From,
    Front,
    FullLength,
    Offline,
    Seed,
    Set,
    Train,
    Until,
    selection,
)
from nasflow.cli.request import Action, Outcome, RunOptions, StageName
from nasflow.cli.screen import screen
from nasflow.commands.beforehand import check_images, check_targets, decode_images, doubtful_settings
from nasflow.commands.folds import (
    FoldStatus,
    all_stale,
    folds_status,
    other_folds,
    planned,
    run_other_folds,
    together,
)
from nasflow.commands.phone_time import before_the_phone_is_asked
from nasflow.commands.project import Project, decided, open_project, status_of
from nasflow.commands.status import plan, work_ahead
from nasflow.commands.summary import file_lines, short, summary
from nasflow.publish import COMPLETE, Published, images_of, publish
from pipeline.artifact import Document
from pipeline.events import Event, Message, StageFinished, StageSkipped, StageStarted
from pipeline.reporters.event_file import EventFileReporter
from pipeline.reporters.reporters import LogFileReporter, Reporter
from pipeline.runner import Pipeline
from stages.training.launch import launched_by

EXIT_CODES: Mapping[str, int] = {
    "ungated": 0,
    "pass": 0,
    "fail": 1,
    "inconclusive": InconclusiveError.exit_code,
}
"""Verdict -> exit code of the process."""
SAME_AGAIN = (UsageError, InconclusiveError)
"""Errors that the same command ends with again: what was measured and judged is kept."""


def run_pipeline(options: RunOptions, project: Project | None = None) -> Outcome:
    """Run what is stale, then put the results where people find them.

    Raises whatever a stage raises; RunInterruptedError carries the command that resumes.
    """
    if options.dry_run:
        return plan(options, project or open_project(options.selection))
    rank, processes = launched_by(os.environ)
    if processes > 1:
        return _with_others(rank, lambda: _run(options, project))
    return _run(options, project)


def _with_others(rank: int, run: Callable[[], Outcome]) -> Outcome:
    """As one of several processes: the first runs the pipeline, the others take part in its trainings."""
    from stages.nas.following import dismiss, follow

    if rank > 0:
        follow()
        return Outcome({"rank": rank})
    outcome = run()
    dismiss()
    return outcome


def _run(options: RunOptions, project: Project | None) -> Outcome:
    project = project or open_project(options.selection, tell=lambda _notice: None)  # told below, as events
    recorder, of_folds = _Recorder(), _Recorder()
    listeners: list[Reporter] = [recorder]

    def emit(event: Event) -> None:
        if isinstance(event, Message):
            event = replace(event, text=options.with_selection(event.text))
        for listener in listeners:
            listener(event)

    def others(event: Event) -> None:
        """Events of other folds, which are no part of what this run did with its stages."""
        if isinstance(event, Message):
            event = replace(event, text=options.with_selection(event.text))
        for listener in (of_folds, *listeners[1:]):
            listener(event)

    with ExitStack() as stack:
        listeners.append(stack.enter_context(closing(screen(as_json=options.as_json))))
        device = stack.enter_context(closing(project.open_device(lambda text: emit(Message("", text)))))
        pipeline = project.pipeline(emit, device)  # reads the images, if they are the person's own
        log = stack.enter_context(closing(LogFileReporter(project.artifacts / "runs")))
        if project.config.training.tensorboard:
            from pipeline.reporters.tensorboard import TensorBoardReporter

            listeners.append(stack.enter_context(closing(TensorBoardReporter(log.folder))))
        log.write(_preface(project))
        for message in recorder.messages:
            log(message)
        listeners.append(log)
        listeners.append(stack.enter_context(closing(EventFileReporter(log.folder))))
        for notice in project.notices:
            emit(Message("", notice, level="warning"))
        with _errors_logged_in(log):
            pipeline.check(options.until)
            settled = decided(project, pipeline, emit, options.until)
            if settled != project:
                project, pipeline = settled, settled.pipeline(emit, device)
        with _errors_logged_in(log), _resumable(pipeline, options), pipeline.store.lock():
            of_other_folds = (fold.pipeline(emit, device, warn=False) for fold in other_folds(project))
            if phone := before_the_phone_is_asked(project.config, pipeline, options, of_other_folds):
                emit(Message("", phone.describe()))
            stages = status_of(project, pipeline, options.until, options.from_stage, options.force)
            folds: tuple[FoldStatus, ...] = ()
            if {stage.name for stage in stages} >= COMPLETE:
                folds = folds_status(project, pipeline, emit, options.force, device)
            stale = all_stale(stages, folds)
            emit(planned(stages, folds))
            check_images(project, pipeline, stale)
            check_targets(pipeline, stages)
            for text in doubtful_settings(project.config, pipeline, stale):
                emit(Message("", text, level="warning"))
            if stale:
                emit(Message("", f"{work_ahead(stale, folds)}."))
            decode_images(pipeline, stale, emit)
            documents = pipeline.run(options.until, options.from_stage, options.force)
            published = None
            if documents.keys() >= COMPLETE:
                further = run_other_folds(pipeline, folds, others, options.force)
                published = publish(
                    documents,
                    pipeline.store,
                    project.latest,
                    project.config,
                    emit,
                    folds=together([documents, *further]),
                    data=images_of(pipeline),
                )
    nothing_to_do = recorder.all_fresh and of_folds.all_fresh
    return _outcome(recorder, documents, published, log.path, nothing_to_do=nothing_to_do)


class _Recorder:
    """A listener that remembers what each stage did, and what was said."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, Any]] = {}
        self.messages: list[Message] = []
        self.all_fresh = True

    def __call__(self, event: Event) -> None:
        match event:
            case Message():
                self.messages.append(event)
            case StageSkipped(stage=stage):
                self.stages[stage] = {"name": stage, "action": "fresh"}
            case StageStarted(stage=stage, reason=reason):
                self.stages[stage] = {"name": stage, "action": "run", "reason": reason}
                self.all_fresh = False
            case StageFinished(stage=stage, seconds=seconds):
                self.stages[stage]["seconds"] = round(seconds, 3)

    def close(self) -> None:
        """Nothing is open."""


def _preface(project: Project) -> str:
    """What a reader of the log needs to know first."""
    system = f"Python {platform.python_version()}, {platform.platform()}"
    return f"{sys.argv}\n{system}\n{project.path}\n{project.config.model_dump_json()}"


@contextmanager
def _errors_logged_in(log: LogFileReporter) -> Iterator[None]:
    """Write into the log what ends the run early, with all that the screen leaves out."""
    try:
        yield
    except NasflowError as error:
        raw = f"\n{error.raw}" if error.raw else ""
        log.write(f"{type(error).__name__}: {error.message}\n{error.hint}{raw}")
        raise
    except BaseException as error:
        log.write("".join(traceback.format_exception(error)))
        error.add_note(f"The run's log: {log.path}")
        raise


@contextmanager
def _resumable(pipeline: Pipeline, options: RunOptions) -> Iterator[None]:
    """Give what ends the run early the command that goes on from there."""
    try:
        yield
    except RunInterruptedError as error:
        raise RunInterruptedError(
            error.message,
            signal_number=error.signal_number,
            hint="Everything finished so far is kept. "
            f"Continue with: {options.resume_command(pipeline.still_forced)}",
        ) from error
    except NasflowError as error:
        kept = _kept(pipeline, options, again=not isinstance(error, SAME_AGAIN))
        error.hint = f"{options.with_selection(error.hint)} {kept}".strip()
        raise
    except Exception as error:
        if kept := _kept(pipeline, options):
            error.add_note(kept)
        raise


def _kept(pipeline: Pipeline, options: RunOptions, *, again: bool = True) -> str:
    """What an error leaves of the run, and the command that goes on; empty where no stage was done.

    ``again``: whether that command as it is can end otherwise.
    """
    if not pipeline.kept:
        return ""
    *names, last = pipeline.kept
    listed = f"{', '.join(names)} and {last}" if names else last
    spent = human_duration(sum(pipeline.kept.values()))
    kept = f"Kept: {listed} ({spent} of work)."
    return f"{kept} Continue with: {options.resume_command(pipeline.still_forced)}" if again else kept


def _outcome(
    recorder: _Recorder,
    documents: Mapping[str, Document],
    published: Published | None,
    log: Path,
    *,
    nothing_to_do: bool,
) -> Outcome:
    verdict = published.result.verification.verdict if published is not None else None
    exit_code = EXIT_CODES[verdict] if verdict is not None else 0
    document: dict[str, Any] = published.result.model_dump(mode="json") if published is not None else {}
    files = published.files if published is not None else {}
    document |= {
        "verdict": verdict,
        "exit_code": exit_code,
        "nothing_to_do": nothing_to_do,
        "stages": list(recorder.stages.values()),
        "files": {name: str(path) for name, path in files.items()},
        "log": str(log),
    }
    lines: list[str] = []
    if published is not None:
        lines += ["", summary(published.result), "", *file_lines(published)]
    lines.append(f"{'Log':<9}{short(log)}")
    count = len(documents)
    if nothing_to_do:
        lines += [
            "",
            f"Nothing to do: all {count} stages are up to date." if count > 1 else _one_fresh(documents),
        ]
    elif published is None:
        lines += ["", f"Stage {list(documents)[-1]} is done. 'nasflow run' continues to the report."]
    return Outcome(document, "\n".join(lines), exit_code)


def _one_fresh(documents: Mapping[str, Document]) -> str:
    return f"Nothing to do: stage {next(iter(documents))} is up to date."


def command(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    from_stage: From = None,
    until: Until = None,
    force: Force = None,
    offline: Offline = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    front: Front = False,
    full_length: FullLength = False,
    devices: Devices = None,
    train: Train = False,
) -> Action:
    """Run every stage that is not up to date; write the report."""
    options = RunOptions(
        selection=selection(
            config, assignments, device, seed, offline=offline, front=front, full_length=full_length
        ),
        from_stage=from_stage and from_stage.value,
        until=until and until.value,
        force=tuple(name.value for name in force or ()),
        dry_run=dry_run,
        as_json=as_json,
    )
    if devices is None:
        if train:
            raise typer.BadParameter("--train is for --devices: 'nasflow run' alone always trains")
        return lambda: run_pipeline(options)
    if device is not None or from_stage or until or dry_run or front:
        raise typer.BadParameter(
            "--devices compares devices after one search: it goes with --train, --force, --config, --set, "
            "--seed, --offline, --full-length and --json alone"
        )

    def compare() -> Outcome:
        from nasflow.commands.cross_run import run_on_devices

        return run_on_devices(options, devices, train=train)

    return compare


def stage_command(stage: StageName) -> Callable[..., Action]:
    """The command of a stage: as ``run``, until that stage."""

    def of_stage(
        device: Device = None,
        config: Config = None,
        assignments: Set = None,
        seed: Seed = None,
        from_stage: From = None,
        force: Force = None,
        offline: Offline = False,
        dry_run: DryRun = False,
        as_json: AsJson = False,
        front: Front = False,
        full_length: FullLength = False,
    ) -> Action:
        # The networks of a front are picked by the stage behind the search.
        until = StageName.PRUNE if front and stage is StageName.SEARCH else stage
        if front and stage is StageName.PROFILE:
            raise typer.BadParameter("'profile' does not find networks: use --front with 'search' or 'run'")
        return command(
            device,
            config,
            assignments,
            seed,
            from_stage,
            until,
            force,
            offline,
            dry_run,
            as_json,
            front,
            full_length,
        )

    return of_stage
