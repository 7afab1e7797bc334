"""The gate of ``nasflow verify MODEL``: from its options to a verdict, and to what a CI shows of it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nasflow.assemble import resolve_data
from nasflow.base.errors import NasflowError
from nasflow.cli.request import Outcome, Selection
from nasflow.cli.screen import screen
from nasflow.commands import gate_files
from nasflow.commands.gate_options import GateOptions
from nasflow.commands.project import Project, standalone
from nasflow.devices import on_a_phone

if TYPE_CHECKING:
    from android_bench.found_phone import FoundPhone
    from nasflow.gate.measure import Gate
    from pipeline.events import Emit
    from stages.data.config import DataConfig
    from stages.documents.gate import AccuracyCompared, GatePlan, GateResult


def gate(chosen: Selection, options: GateOptions, *, as_json: bool) -> Outcome:
    """Measure until the gate decides; write everything that was asked for.

    Raises UsageError, DeviceError, ConversionError for a file that LiteRT cannot open; every file then says
    so, and the result file has the blocks that were measured.
    """
    from nasflow.commands.gate_all import attached_phones, gate_all

    try:
        gate_files.prepare(options)
        with closing(screen(as_json=as_json)) as reporter:
            project = standalone(chosen)
            plan = options.plan(project.config)
            phones = attached_phones(project) if options.all_phones else ()
            prepared = _prepared(project, options, plan, reporter)
            if options.all_phones:
                return gate_all(
                    project,
                    phones,
                    options,
                    lambda phone, file, emit, found: _on(phone, prepared, options, file, emit, found),
                    reporter,
                )
            result = _on(project, prepared, options, options.result, reporter)
    except NasflowError as error:
        gate_files.tell_error(options, error)
        raise
    return _told(result, options)


@dataclass(frozen=True)
class _Prepared:
    """What is the same on every device."""

    gate: Gate
    accuracy: AccuracyCompared | None


def _prepared(project: Project, options: GateOptions, plan: GatePlan, emit: Emit) -> _Prepared:
    from nasflow.gate.measure import SOURCE, Gate
    from nasflow.gate.subjects import anchor, baseline_of, candidate_of, remarks
    from pipeline.events import Message
    from stages.conversion.inspector import Depth, ModelInspector

    # A phone's runtime is another one, perhaps with operators that this computer's lacks.
    depth: Depth = "read" if on_a_phone(project.config.device) else "invoke"
    with ModelInspector() as inspector:
        small = anchor(inspector)
        candidate = small if options.candidate is None else candidate_of(options.candidate, inspector, depth)
        baseline = candidate if options.self_test else None
        if options.against is not None:
            baseline = baseline_of(options.against, candidate, inspector, depth)
    for remark in remarks(candidate, baseline) if not options.self_test else ():
        emit(Message(SOURCE, remark))
    gate = Gate(candidate, baseline, small, plan, project.config.runtime, self_test=options.self_test)
    return _Prepared(gate, _accuracy(project, options, gate, emit))


def _accuracy(project: Project, options: GateOptions, gate: Gate, emit: Emit) -> AccuracyCompared | None:
    """Of both models; None where it has no limit."""
    from nasflow.commands.first_look import look_at_images
    from nasflow.gate.accuracy import accuracy_compared

    normalization, most_points = options.normalization(), gate.plan.max_accuracy_drop
    if options.data is None or most_points is None or gate.baseline is None:
        return None
    data = _images_in(options.data, project)
    looked_at = project.config.model_copy(update={"data": data})
    return accuracy_compared(
        gate.candidate,
        gate.baseline,
        data,
        most_points,
        emit,
        lambda: look_at_images(looked_at, Path.cwd(), emit),
        normalization,
    )


def _on(
    project: Project,
    prepared: _Prepared,
    options: GateOptions,
    file: Path,
    emit: Emit,
    found: FoundPhone | None = None,
) -> GateResult:
    """The gate on the device that the project names; ``found``: the phone, where it is found already.

    ``file`` then holds the result, or what there is where an error ends it.
    """
    from nasflow.gate.answers import answers_compared
    from nasflow.gate.measure import SOURCE, SoFar
    from nasflow.gate.unfinished import write_unfinished
    from pipeline.events import Message

    def tell(text: str) -> None:
        emit(Message(SOURCE, text))

    gate, so_far = prepared.gate, SoFar()
    try:
        with closing(project.open_device(tell, found)) as device:
            answers = None
            if not options.self_test:
                answers = answers_compared(
                    gate.candidate,
                    gate.baseline,
                    device,
                    gate.runtime,
                    folder=options.inputs,
                    required=options.require_outputs,
                    tell=tell,
                )
            connection = _connection(project.config.device)
            result = gate.measure(device, emit, answers, prepared.accuracy, so_far, connection)
    except NasflowError as error:
        asked = (options.name, options.against, gate.plan, gate.runtime)
        gate_files.or_note(partial(write_unfinished, file, error, *asked, so_far), besides=error)
        raise
    gate_files.write_result(file, result)
    return result


def _connection(device: str) -> str:
    """What tells a phone from another one with the same serial number, where it was named by that."""
    _, _, name = device.partition(":")
    return name if name.startswith(("transport_id:", "usb:")) else ""


def _images_in(folder: Path, project: Project) -> DataConfig:
    """A folder's images, in the parts that ``pipeline.yaml`` makes of it, or else those of the defaults."""
    from stages.data.config import DataConfig

    given = resolve_data(project.config.data, project.base_dir)
    settings = given if given.source == "folder" else DataConfig()
    update = {"source": "folder", "path": str(folder.absolute()), "folds": None}
    fields = {name: getattr(settings, name) for name in DataConfig.model_fields}
    return DataConfig.model_validate(fields | update)


def _told(result: GateResult, options: GateOptions) -> Outcome:
    from nasflow.gate import github, history, junit, words

    if options.junit is not None:
        junit.write(options.junit, [(junit.case_of(result, options.name), junit.properties(result))])
    if options.summary is not None:
        github.append_summary(options.summary, result)
    if options.history is not None:
        history.append_entry(options.history, history.HistoryEntry.of(result))
    annotation = github.annotation(result)  # GitHub reads standard output
    text = "\n".join([*filter(None, [annotation]), words.text(result), f"Result   {options.result}"])
    return _outcome(result, options, options.result, text)


def _outcome(result: GateResult, options: GateOptions, file: Path, text: str) -> Outcome:
    exit_code = options.exit_code(result.verdict)
    document = result.model_dump(mode="json") | {"exit_code": exit_code, "result": str(file)}
    return Outcome(document, text, exit_code)


def recompute(path: Path, options: GateOptions) -> Outcome:
    """The verdict of a result file from its own timings. Raises UsageError, IntegrityError."""
    from nasflow.gate.recompute import read_result, recomputed
    from nasflow.gate.words import text

    result = recomputed(read_result(path))
    return _outcome(result, options, path, text(result))
