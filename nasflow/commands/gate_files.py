"""The files of a gate: taken away before anything is measured, and written whatever comes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nasflow.base.errors import MachineError, NasflowError, UsageError
from nasflow.base.files import delete, disk_faults, make_folder, write_atomic
from nasflow.cli import console

if TYPE_CHECKING:
    from nasflow.commands.gate_options import GateOptions
    from stages.documents.gate import GateResult


_LOOKED_AT_BYTES = 4096
_OF_A_GATE = (b"<testsuite", b'\n "plan"', b'\n "error"')
"""In what a gate writes, near the beginning."""


def prepare(options: GateOptions) -> None:
    """See to it that every file can be written, and that none of an earlier gate is taken for this one's.

    Result and JUnit files are deleted; summary and history are added to. Raises UsageError, MachineError for
    what could not be written when all is measured: the first, after all others were looked at.
    """
    from nasflow.gate.history import read_history

    _check_distinct(options)
    first: NasflowError | None = None
    for path, kept in (
        (options.result, False),
        (options.junit, False),
        (options.summary, True),
        (options.history, True),
    ):
        if path is not None:
            try:
                _check_writable(path, options, kept=kept)
                if not kept:
                    delete(path)
            except NasflowError as error:
                first = first or error
    if options.all_phones:
        for path in _files_of_phones(options.result):
            try:
                _check_replaceable(path)
                delete(path)
            except NasflowError as error:
                first = first or error
    if first is not None:
        raise first
    if options.history is not None:
        read_history(options.history)  # one that cannot be read is told before anything is measured


def write_result(path: Path, result: GateResult) -> None:
    """Every timing and the verdict. Raises MachineError."""
    write_atomic(path, result.model_dump_json(indent=1).encode() + b"\n")


def file_of_phone(result: Path, name: str) -> Path:
    """``gate-1-pixel-8-pro.json``: never a serial number."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    return result.with_name(f"{result.stem}-{slug}{result.suffix}")


def tell_error(options: GateOptions, error: NasflowError) -> None:
    """Say in every file, and on GitHub, that an error ended the gate: there is no verdict.

    What cannot be written either is noted; the error itself is the caller's to raise.
    """
    from nasflow.gate import github, junit
    from nasflow.gate.unfinished import write_unfinished

    writers: dict[Path | None, Callable[[Path], None]] = {
        options.summary: lambda path: github.append_text(path, github.error_markdown(error, options.name)),
        options.junit: lambda path: junit.write(path, [(junit.error_case(error, options.name), {})]),
    }
    if not options.result.exists():  # else it holds the blocks, too
        writers[options.result] = lambda path: write_unfinished(path, error, options.name, options.against)
    for path, write in writers.items():
        if path is not None:
            or_note(partial(_write_checked, path, write, options), besides=error)
    if annotation := github.error_annotation(error):
        console.write(sys.stdout, annotation)


def or_note(write: Callable[[], None], *, besides: NasflowError) -> None:
    """Write, where an error is to be told anyway: it must not be hidden by another one."""
    try:
        write()
    except NasflowError as error:
        if error.message != besides.message:
            console.write_note(error.message)


def _write_checked(path: Path, write: Callable[[Path], None], options: GateOptions) -> None:
    _check_writable(path, options, kept=path == options.summary)
    write(path)


def _check_distinct(options: GateOptions) -> None:
    """Raises UsageError where two of the files are one, and one would be written over the other."""
    named = {
        "--result": options.result,
        "--junit": options.junit,
        "--summary": options.summary,
        "--history": options.history,
    }
    seen: dict[Path, str] = {}
    for option, path in named.items():
        if path is None:
            continue
        other = seen.setdefault(path.resolve(), option)
        if other != option:
            raise UsageError(f"{other} and {option} name the same file, {path}.", hint="Give each its own.")


def _check_replaceable(path: Path) -> None:
    """Raises UsageError where there is something else than what an earlier gate has left."""
    if not path.exists():
        return
    hint = "Give another name for this gate's file, or move that one away."
    if not path.is_file():
        raise UsageError(f"{path} is no regular file.", hint=hint)
    with disk_faults(path, "read"), path.open("rb") as file:
        start = file.read(_LOOKED_AT_BYTES)
    if start and not any(mark in start for mark in _OF_A_GATE):
        raise UsageError(f"{path} exists, and no gate has written it.", hint=hint)


def _check_writable(path: Path, options: GateOptions, *, kept: bool) -> None:
    """Raises UsageError for what must not be written, MachineError for what cannot be."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", hint="Give the name of a file.")
    models = [model for model in (options.candidate, options.against) if model is not None]
    if path.exists() and any(Path(model).exists() and path.samefile(model) for model in models):
        raise UsageError(f"{path} is a model that is measured.", hint="Give another name for the result.")
    if not kept:
        _check_replaceable(path)  # before it is opened: opening a pipe waits for its reader
    try:
        with disk_faults(path, "write"):
            make_folder(path.absolute().parent)
            there = path.exists()
            with path.open("ab"):
                pass
            if not there:
                path.unlink()
    except MachineError as error:
        hint = "Give another file, or your account permission."
        raise MachineError(error.message, hint=hint, raw=error.raw) from error


def _files_of_phones(result: Path) -> list[Path]:
    """Those of earlier gates, of phones that may not be attached any more."""
    name = re.compile(rf"{re.escape(result.stem)}-\d+-[a-z0-9-]+{re.escape(result.suffix)}")
    folder = result.absolute().parent
    with disk_faults(folder, "read"):
        return (
            sorted(path for path in folder.iterdir() if name.fullmatch(path.name)) if folder.is_dir() else []
        )
