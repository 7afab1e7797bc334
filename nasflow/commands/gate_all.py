"""``nasflow verify MODEL --device android --all``: the gate on every attached phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nasflow.base.errors import (
    InconclusiveError,
    NasflowError,
    RunInterruptedError,
    UsageError,
)
from nasflow.cli.request import Outcome
from nasflow.commands.gate_files import file_of_phone
from nasflow.commands.project import Project
from pipeline.events import Emit, Message

if TYPE_CHECKING:
    from android_bench.found_phone import FoundPhone
    from nasflow.commands.gate_options import GateOptions
    from nasflow.gate.phones import OnePhone
    from nasflow.gate.side_by_side import HostLoad, PhoneGate
    from stages.documents.gate import GateResult

Measure = Callable[["Project", Path, "Emit", "FoundPhone | None"], "GateResult"]
"""The gate on the device that a project names, and its file; a phone that is given is not looked for."""


def attached_phones(project: Project) -> tuple[FoundPhone, ...]:
    """Every phone, also such as cannot be used as they stand.

    Raises UsageError where another device is named, NoUsableDeviceError where none is attached.
    """
    from android_bench.discover import choose, find_phones

    if project.config.device != "android":
        raise UsageError(
            f"--all is for all phones, and the device is {project.config.device}.",
            hint="Give --device android --all, without a name.",
        )
    found = find_phones(project.config.android.transport)
    if not found:
        choose("", found)  # raises with what to do
    return found


def gate_all(
    project: Project, found: Sequence[FoundPhone], options: GateOptions, measure: Measure, emit: Emit
) -> Outcome:
    """Measure on each phone, whatever becomes of the others; one table, one JUnit suite, a file for each.

    Exit code: 1 where the gate fails on any phone; else that of the first error; else 3 where any is
    inconclusive. Raises RunInterruptedError, MachineError.
    """
    from nasflow.gate import github, junit
    from nasflow.gate.phones import markdown_of_all
    from nasflow.gate.side_by_side import HostLoad, measure_all

    gates = [_gate(project, number, found, options, measure) for number in range(len(found))]
    kept, load = _Kept(options, [gate.name for gate in gates]), HostLoad()
    if options.side_by_side:
        measure_all(gates, emit, load, kept.ended)
    else:
        _one_by_one(gates, emit, kept.ended)
    note = _note(kept.phones, load)
    if note:
        emit(Message("verify", note, level="warning"))
    if options.junit is not None:
        junit.write(options.junit, [one.case(options.name) for one in kept.phones])
    if options.summary is not None:
        github.append_text(options.summary, markdown_of_all(kept.phones, note))
    return _outcome(kept.phones, options, load if options.side_by_side else None)


def _gate(
    project: Project, number: int, found: Sequence[FoundPhone], options: GateOptions, measure: Measure
) -> PhoneGate:
    from android_bench.discover import checked
    from android_bench.found_phone import name_of
    from nasflow.base.text import plain_line
    from nasflow.gate.side_by_side import PhoneGate

    phone = found[number]
    called, name = name_of(phone, found), f"{number + 1} {plain_line(phone.model) or 'phone'}"
    config = project.config.model_copy(update={"device": f"android:{called}"})

    def result(emit: Emit) -> GateResult:
        checked(phone)  # by itself: one without a name would be taken for the only one that is usable
        # Whoever looks for one phone asks all of them, which may be at work.
        at_hand = phone if options.side_by_side else None
        file = file_of_phone(options.result, name)
        return measure(replace(project, config=config), file, emit, at_hand)

    return PhoneGate(name, result)


def _one_by_one(
    gates: Sequence[PhoneGate], emit: Emit, ended: Callable[[int, GateResult | NasflowError], None]
) -> None:
    for index, gate in enumerate(gates):
        outcome: GateResult | NasflowError
        try:
            outcome = gate.measure(emit)
        except RunInterruptedError:
            raise
        except NasflowError as error:
            outcome = error
        ended(index, outcome)


@dataclass
class _Kept:
    """What came out, in the order of the phones; a result is on the disk as soon as it is there."""

    options: GateOptions
    names: Sequence[str]

    def __post_init__(self) -> None:
        self._phones: dict[int, OnePhone] = {}

    @property
    def phones(self) -> list[OnePhone]:
        return [self._phones[index] for index in sorted(self._phones)]

    def ended(self, index: int, outcome: GateResult | NasflowError) -> None:
        """One phone's result or error. Raises MachineError."""
        from nasflow.gate import history
        from nasflow.gate.phones import OnePhone
        from nasflow.gate.unfinished import write_unfinished

        name = self.names[index]
        file = file_of_phone(self.options.result, name)
        if isinstance(outcome, NasflowError):
            if not file.exists():  # the phone could not even be opened
                write_unfinished(file, outcome, self.options.name, self.options.against)
            self._phones[index] = OnePhone(name, file=file, error=outcome)
            return
        self._phones[index] = OnePhone(name, outcome, file)
        if self.options.history is not None:
            history.append_entry(self.options.history, history.HistoryEntry.of(outcome))


def _note(phones: Sequence[OnePhone], load: HostLoad) -> str:
    measured = [one for one in phones if one.result is not None]
    return load.warning(
        dropped=sum(one.dropped for one in measured),
        simulated=any(one.result.device.virtual for one in measured if one.result is not None),
    )


def _exit_code(phones: Sequence[OnePhone], options: GateOptions) -> int:
    codes = [one.error.exit_code for one in phones if one.error is not None]
    verdicts = [options.exit_code(one.result.verdict) for one in phones if one.result is not None]
    if 1 in verdicts:
        return 1
    if codes:
        return codes[0]
    return InconclusiveError.exit_code if InconclusiveError.exit_code in verdicts else 0


def _outcome(phones: Sequence[OnePhone], options: GateOptions, load: HostLoad | None) -> Outcome:
    from nasflow.gate.github import annotation, error_annotation
    from nasflow.gate.phones import table

    exit_code = _exit_code(phones, options)
    notes = [annotation(one.result) for one in phones if one.result is not None]
    notes += [error_annotation(one.error) for one in phones if one.error is not None]
    files = [f"Result   {one.file}" for one in phones if one.file is not None]
    text = "\n".join([*filter(None, notes), *table(phones), "", *files]).rstrip()
    document = {
        "phones": [one.document() for one in phones],
        "host_load": None if load is None else {"most": load.most, "cores": load.cores, "busy": load.busy},
        "exit_code": exit_code,
    }
    return Outcome(document, text, exit_code)
