"""What leaves the process: a command's outcome or an error, for a person or as one JSON document."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from nasflow.base.errors import ConfigError, MachineError, NasflowError, RunInterruptedError
from nasflow.base.files import fault
from pipeline.events import Event, Message

UNEXPECTED = 70
_MACHINES_PART = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE}
)
_EXTRA_FIELDS = ("source", "key", "value", "step", "signal_number")


@contextmanager
def reserved_stdout(reserve: bool) -> Iterator[TextIO]:
    """Yield standard output; where ``reserve``, all other writers of this process get standard error.

    That holds below Python as well (C++ libraries, child processes): file descriptor 1 is moved.
    """
    if not reserve:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    before = sys.stdout
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        # A name of a file that is no UTF-8 is escaped as JSON does it, and reads back as that name.
        with os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace", closefd=False) as stream:
            yield stream
    finally:
        sys.stdout = before
        os.dup2(kept, 1)
        os.close(kept)


def write(stream: TextIO, text: str) -> None:
    """Write ``text`` and a newline; a reader that has gone away (``| head``) is not an error."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # Python flushes at exit and would complain: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write_note(text: str) -> None:
    """Tell a person something that does not belong to the outcome."""
    write(sys.stderr, f"note: {text}")


def message_lines(events: Iterable[Event]) -> list[str]:
    """What a command that ran no stage was told on the way, for a person."""
    return [f"{e.level}: {e.text}" for e in events if isinstance(e, Message)]


def write_json(stream: TextIO, document: Mapping[str, Any]) -> None:
    """Write the one document of ``--json``."""
    write(stream, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def exit_code_of(error: NasflowError) -> int:
    """The exit code of an error; an interruption's depends on its signal."""
    return error.code if isinstance(error, RunInterruptedError) else error.exit_code


def report_error(error: NasflowError, stdout: TextIO, *, as_json: bool) -> int:
    """Say what happened and what to do about it; return the exit code."""
    code = exit_code_of(error)
    message = error.message if isinstance(error, ConfigError) else _one_line(error.message)
    write(sys.stderr, f"error: {message}")
    if error.hint:
        write(sys.stderr, f"hint: {_one_line(error.hint)}")
    if as_json:
        extra = {name: getattr(error, name) for name in _EXTRA_FIELDS if hasattr(error, name)}
        kind = (error.reference, type(error).__name__)
        write_json(stdout, _error_document(kind, error.message, error.hint, code, extra))
    return code


def report_bug(error: BaseException, stdout: TextIO, *, as_json: bool) -> int:
    """Show the traceback of an unexpected exception; return exit code 70."""
    hint = "This is a bug in nasflow: please report it with the lines above and the run's log file."
    write(sys.stderr, "".join(traceback.format_exception(error)).rstrip())
    write(sys.stderr, f"error: unexpected error ({type(error).__name__}).\nhint: {hint}")
    if as_json:
        kind = (NasflowError.reference, type(error).__name__)
        write_json(stdout, _error_document(kind, str(error), hint, UNEXPECTED, {}))
    return UNEXPECTED


def environment_fault(error: OSError) -> MachineError | None:
    """The machine's part in an operating system error; None where it may be our own mistake."""
    if error.errno == errno.ENOENT and not _has_working_directory():
        return MachineError(
            "The working directory has been removed.", hint="Change to a folder that exists and run again."
        )
    if error.errno not in _MACHINES_PART:
        return None
    return fault(error, Path(os.fsdecode(error.filename or "a file")), "use")


def missing_package(error: ModuleNotFoundError) -> MachineError | None:
    """A needed package that is not installed; None where the missing module should be ours."""
    name = (error.name or "").partition(".")[0]
    if name in {"", "nasflow", "pipeline", "stages", "android_bench"}:
        return None
    return MachineError(
        f"The Python package that provides {name!r} is not installed in {sys.prefix}.",
        hint="Run 'nasflow doctor': it lists what is missing and how to get it.",
    )


def _error_document(
    kind: tuple[str, str], message: str, hint: str, code: int, extra: Mapping[str, Any]
) -> dict[str, Any]:
    reference, name = kind
    details = {
        "reference": reference,
        "type": name,
        "message": message,
        "hint": hint,
        "exit_code": code,
        **extra,
    }
    return {"error": {key: _plain(value) for key, value in details.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # JSON has no NaN
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _has_working_directory() -> bool:
    try:
        return Path.cwd().is_dir()
    except FileNotFoundError:
        return False


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())
