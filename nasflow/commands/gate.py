"""The gate of ``nasflow verify MODEL``: from its options to a verdict, and to what a CI shows of it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasflow.assemble import resolve_data
from nasflow.base.errors import InconclusiveError, NasflowError, UsageError
from nasflow.base.files import disk_faults, make_folder, write_atomic
from nasflow.cli.request import Outcome, Selection
from nasflow.cli.screen import screen
from nasflow.commands.project import Project, standalone

if TYPE_CHECKING:
    from android_bench.found_phone import FoundPhone
    from nasflow.gate.measure import Gate
    from pipeline.events import Emit
    from stages.data.config import DataConfig
    from stages.documents.gate import AccuracyCompared, GatePlan, GateResult, GateVerdict

RESULT = Path("gate.json")
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": InconclusiveError.exit_code}


@dataclass(frozen=True)
class GateOptions:
    """What is compared, and where the result goes."""

    candidate: Path | None = None
    against: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    result: Path = RESULT
    junit: Path | None = None
    summary: Path | None = None
    history: Path | None = None
    allow_inconclusive: bool = False
    self_test: bool = False
    inputs: Path | None = None
    require_outputs: bool = False
    data: Path | None = None
    all_phones: bool = False
    side_by_side: bool = False

    @property
    def name(self) -> str:
        """What a CI calls the gate."""
        return "self-test" if self.self_test else f"{self.candidate} against {self.against}"

    def exit_code(self, verdict: GateVerdict) -> int:
        """Of the command that came to this."""
        if self.self_test or (verdict == "inconclusive" and self.allow_inconclusive):
            return 0
        return EXIT_CODES[verdict]

    @property
    def outputs(self) -> list[Path]:
        """Every file that is to be written."""
        return [path for path in (self.result, self.junit, self.summary, self.history) if path is not None]

    def plan(self) -> GatePlan:
        """The limits and the blocks. Raises UsageError for such as make no sense."""
        from pydantic import ValidationError

        from stages.documents.gate import GatePlan

        limits = dict(self.limits)
        most = limits.get("max_blocks")
        if most is not None and most < GatePlan.model_fields["min_blocks"].default:
            limits["min_blocks"] = most  # one look alone
        try:
            plan = GatePlan.model_validate(limits)
        except ValidationError as error:
            first = next(one for one in error.errors() if one["loc"][:1] != ("min_blocks",))
            name = "--" + str((first["loc"] or ("blocks",))[0]).replace("_", "-")
            raise UsageError(
                f"{name}: {first['msg'].removeprefix('Value error, ')} (given: {first['input']}).",
                hint="A ratio of 0.8 asks for at most 0.8 times the baseline's latency.",
            ) from error
        if (plan.max_accuracy_drop is None) != (self.data is None):
            raise UsageError(
                "--max-accuracy-drop and --data belong together.",
                hint="--max-accuracy-drop 0.5 --data FOLDER: half a percentage point, on the folder's "
                "images.",
            )
        if plan.max_ratio is plan.max_ms is plan.max_accuracy_drop is None and not self.self_test:
            raise UsageError(
                "a gate needs a limit.",
                hint="Give --max-ratio 0.8 (of the baseline's latency), --max-ms 12.5, or both.",
            )
        return plan


def gate(chosen: Selection, options: GateOptions, *, as_json: bool) -> Outcome:
    """Measure both models until their gate decides; write everything that was asked for.

    Raises UsageError, DeviceError, ConversionError for a file that LiteRT cannot open; then the JUnit file
    says so, too.
    """
    from nasflow.commands.gate_all import attached_phones, gate_all

    plan = options.plan()
    for path in options.outputs:
        _check_writable(path)
    if options.history is not None:
        from nasflow.gate.history import read_history

        read_history(options.history)  # a file that cannot be read is told before anything is measured
    try:
        with closing(screen(as_json=as_json)) as reporter:
            project = standalone(chosen)
            phones = attached_phones(project) if options.all_phones else ()
            prepared = _prepared(project, options, plan, reporter)
            if options.all_phones:
                return gate_all(
                    project,
                    phones,
                    options,
                    lambda phone, emit, found: _on(phone, prepared, options, emit, found),
                    reporter,
                )
            result = _on(project, prepared, options, reporter)
    except NasflowError as error:
        if options.junit is not None:
            from nasflow.gate import junit

            junit.write(options.junit, [(junit.error_case(error, options.name), {})])
        raise
    return _told(result, options)


@dataclass(frozen=True)
class _Prepared:
    """What is the same on every device."""

    gate: Gate
    accuracy: AccuracyCompared | None


def _prepared(project: Project, options: GateOptions, plan: GatePlan, emit: Emit) -> _Prepared:
    from nasflow.commands.first_look import look_at_images
    from nasflow.gate.accuracy import accuracy_compared
    from nasflow.gate.measure import SOURCE, Gate
    from nasflow.gate.subjects import anchor, baseline_of, candidate_of, remarks
    from pipeline.events import Message
    from stages.conversion.inspector import Depth, ModelInspector

    # A phone's runtime is another one, perhaps with operators that this computer's lacks.
    depth: Depth = "invoke" if project.config.device == "local" else "read"
    with ModelInspector() as inspector:
        small = anchor(inspector)
        candidate = small if options.candidate is None else candidate_of(options.candidate, inspector, depth)
        baseline = candidate
        if not options.self_test:
            assert options.against is not None  # the command sees to it
            baseline = baseline_of(options.against, candidate, inspector, depth)
    for remark in remarks(candidate, baseline) if not options.self_test else ():
        emit(Message(SOURCE, remark))
    accuracy = None
    if options.data is not None and plan.max_accuracy_drop is not None:
        data = _images_in(options.data, project)
        looked_at = project.config.model_copy(update={"data": data})
        accuracy = accuracy_compared(
            candidate,
            baseline,
            data,
            plan.max_accuracy_drop,
            emit,
            lambda: look_at_images(looked_at, Path.cwd(), emit),
        )
    return _Prepared(Gate(candidate, baseline, small, plan, project.config.runtime), accuracy)


def _on(
    project: Project,
    prepared: _Prepared,
    options: GateOptions,
    emit: Emit,
    found: FoundPhone | None = None,
) -> GateResult:
    """The gate on the device that the project names; ``found``: the phone, where it is found already."""
    from nasflow.gate.answers import answers_compared
    from nasflow.gate.measure import SOURCE
    from pipeline.events import Message

    def tell(text: str) -> None:
        emit(Message(SOURCE, text))

    gate = prepared.gate
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
        return gate.measure(device, emit, answers, prepared.accuracy)


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

    write_atomic(options.result, result.model_dump_json(indent=1).encode() + b"\n")
    if options.junit is not None:
        junit.write(options.junit, [(junit.case_of(result, options.name), junit.properties(result))])
    if options.summary is not None:
        github.append_summary(options.summary, result)
    if options.history is not None:
        history.append_entry(options.history, history.HistoryEntry.of(result))
    text = words.self_test(result) if options.self_test else words.text(result)
    annotation = github.annotation(result)  # GitHub reads standard output
    return _outcome(result, options, f"{annotation}\n{text}" if annotation else text)


def _outcome(result: GateResult, options: GateOptions, text: str) -> Outcome:
    exit_code = options.exit_code(result.verdict)
    document = result.model_dump(mode="json") | {"exit_code": exit_code, "result": str(options.result)}
    return Outcome(document, f"{text}\nResult   {options.result}", exit_code)


def recompute(path: Path, options: GateOptions) -> Outcome:
    """The verdict of a result file from its own timings. Raises UsageError, IntegrityError."""
    from nasflow.gate.recompute import read_result, recomputed
    from nasflow.gate.words import text

    result = recomputed(read_result(path))
    outcome = _outcome(result, options, text(result))
    return Outcome({**outcome.document, "result": str(path)}, text(result), outcome.exit_code)


def _check_writable(path: Path) -> None:
    """Raises UsageError, MachineError for a file that could not be written when all is measured."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", hint="Give the name of a file.")
    with disk_faults(path, "write"):
        make_folder(path.absolute().parent)
        there = path.exists()
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
