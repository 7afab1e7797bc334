"""``nasflow verify MODEL --device android --all``: the gate on every attached phone, one after another."""

from __future__ import annotations

import re
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
from nasflow.base.files import write_atomic
from nasflow.cli.request import Outcome
from nasflow.commands.project import Project

if TYPE_CHECKING:
    from junitparser import TestCase

    from android_bench.found_phone import FoundPhone
    from nasflow.commands.gate import GateOptions
    from stages.documents.gate import GateResult


@dataclass(frozen=True)
class OnePhone:
    """A result with its file, or why there is none. ``name``: the phone's number and model."""

    name: str
    result: GateResult | None = None
    file: Path | None = None
    error: NasflowError | None = None


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
    project: Project,
    found: Sequence[FoundPhone],
    options: GateOptions,
    measure: Callable[[Project], GateResult],
) -> Outcome:
    """Measure on each phone, whatever becomes of the others; one table, one JUnit suite, a file for each.

    Exit code: 1 where the gate fails on any phone; else that of the first error; else 3 where any is
    inconclusive.
    """
    from android_bench.discover import choose
    from android_bench.found_phone import name_of
    from nasflow.base.text import plain_line
    from nasflow.gate import github, history, junit

    phones: list[OnePhone] = []
    for number, phone in enumerate(found, 1):
        called = name_of(phone, found)
        name = f"{number} {plain_line(phone.model) or 'phone'}"
        try:
            if not phone.usable:
                choose(called, found)  # raises with what to do about its state
            config = project.config.model_copy(update={"device": f"android:{called}"})
            result = measure(replace(project, config=config))
        except RunInterruptedError:
            raise
        except NasflowError as error:
            phones.append(OnePhone(name, error=error))
            continue
        file = _file_of(options.result, name)
        write_atomic(file, result.model_dump_json(indent=1).encode() + b"\n")
        phones.append(OnePhone(name, result, file))
        if options.history is not None:
            history.append_entry(options.history, history.HistoryEntry.of(result))
    if options.junit is not None:
        junit.write(options.junit, [_case(one, options) for one in phones])
    if options.summary is not None:
        github.append_text(options.summary, _markdown(phones))
    return _outcome(phones, options)


def _file_of(result: Path, name: str) -> Path:
    """``gate-1-pixel-8-pro.json``: never a serial number."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    return result.with_name(f"{result.stem}-{slug}{result.suffix}")


def _case(one: OnePhone, options: GateOptions) -> tuple[TestCase, dict[str, str]]:
    from nasflow.gate import junit

    name = f"{options.name} on {one.name}"
    if one.result is None:
        assert one.error is not None
        return junit.error_case(one.error, name), {}
    figures = {f"{one.name}: {key}": value for key, value in junit.properties(one.result).items()}
    return junit.case_of(one.result, name), figures


def _markdown(phones: Sequence[OnePhone]) -> str:
    from nasflow.base.text import markdown_text
    from nasflow.gate.github import markdown

    lines = ["### All phones", "", "| phone | verdict | ratio | interval |", "|---|---|---:|---|"]
    for one in phones:
        verdict, ratio, interval = _cells(one)
        lines.append(f"| {markdown_text(one.name)} | {markdown_text(verdict)} | {ratio} | {interval} |")
    measured = [(one.name, one.result) for one in phones if one.result is not None]
    parts = [f"#### {markdown_text(name)}\n\n{markdown(result)}" for name, result in measured]
    return "\n".join(["\n".join(lines) + "\n", *parts])


def _cells(one: OnePhone) -> tuple[str, str, str]:
    from nasflow.gate.words import VERDICTS, last_look

    if one.result is None:
        assert one.error is not None
        return f"ERROR ({one.error.reference}): {one.error.message}", "", ""
    look = last_look(one.result)
    if look is None:
        return VERDICTS[one.result.verdict], "", ""
    low, high = look.ratio_interval
    return VERDICTS[one.result.verdict], f"{look.ratio:.3f}", f"{low:.3f} to {high:.3f}"


def _outcome(phones: Sequence[OnePhone], options: GateOptions) -> Outcome:
    from nasflow.gate.github import annotation

    codes = [one.error.exit_code for one in phones if one.error is not None]
    verdicts = [options.exit_code(one.result.verdict) for one in phones if one.result is not None]
    exit_code = 0
    if 1 in verdicts:
        exit_code = 1
    elif codes:
        exit_code = codes[0]
    elif InconclusiveError.exit_code in verdicts:
        exit_code = InconclusiveError.exit_code
    rows = [("phone", "ratio", "interval", "verdict")]
    for one in phones:
        verdict, ratio, interval = _cells(one)
        rows.append((one.name, ratio, interval, verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    notes = [annotation(one.result) for one in phones if one.result is not None]
    text = [note for note in notes if note]
    text += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    document = {
        "phones": [
            {
                "name": one.name,
                "result": None if one.file is None else str(one.file),
                "gate": None if one.result is None else one.result.model_dump(mode="json"),
                "error": None
                if one.error is None
                else {
                    "reference": one.error.reference,
                    "message": one.error.message,
                    "hint": one.error.hint,
                    "exit_code": one.error.exit_code,
                },
            }
            for one in phones
        ],
        "exit_code": exit_code,
    }
    files = [f"Result   {one.file}" for one in phones if one.file is not None]
    return Outcome(document, "\n".join([*text, "", *files]).rstrip(), exit_code)
