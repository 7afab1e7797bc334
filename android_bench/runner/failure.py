"""Why a program on a phone did not run to its end: the exit code and the phone's words, made plain.

The words are those of bionic's linker (``linker/linker_main.cpp``: "CANNOT LINK EXECUTABLE", exit code 1, an
abort before Android 8), of Android's shell mksh ("not executable: 64-bit ELF file" with exit code 1, as in
tensorflow/tensorflow#42956; "can't execute: Permission denied" with 126; "inaccessible or not found" with
127), of bionic for another ABI ("has unexpected e_machine: 40 (EM_ARM)", ``linker_phdr.cpp``) and for a
program that was built with glibc or an old NDK ("TLS segment is underaligned", as public reports quote it),
of toybox's ``taskset`` ("Exec format error", 126), and of TFLite (``core/api/op_resolver.cc``,
``model_builder.cc``). A program that signal N ended has exit code 128 + N, from the shell and from adbd.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from android_bench.transport import FOLDER, Completed
from nasflow.base.errors import DeviceError, KilledByPhoneError, NoUsableDeviceError
from nasflow.base.text import plain_text

KILLED = 137
"""The exit code of a program that SIGKILL ended: on a phone, most often for want of memory."""

_MAX_WORDS = 300
# The tools' last line, their list of flags, and the shell's word for a signal, which the exit code tells.
_SAYS_NOTHING = re.compile(
    r"Benchmarking failed|usage: |^Flags:|^\s*--\S+=[^\t]*\t|"
    r"(?:^|\s)(?:Segmentation fault|Killed|Aborted|Illegal instruction|Bus error|Floating point exception|"
    r"Terminated|Trace/breakpoint trap|Bad system call|Hangup|File size limit exceeded)"
    r"\s*(?:\(core dumped\))?$"
)
_COMPLAINT = re.compile(r"error|fatal|cannot|can't|denied|fail|not found|not executable", re.IGNORECASE)
_STARTED = "STARTING!"  # the first word of both tools: what comes behind it is theirs
_NOTHING = "It printed nothing."
_SEE_LAST_LINE = "The last line of its output gives the reason."
_OTHER_RUNNER = "Set android.runner to auto, or to another benchmark_model."


@dataclass(frozen=True)
class Cause:
    """Why a program failed: ``what`` goes on from its name. ``crashed``: a signal ended it."""

    what: str
    hint: str
    crashed: bool = False


@dataclass(frozen=True)
class _Words:
    """A cause that is known by what was printed, whatever the exit code, where ``codes`` is empty."""

    pattern: re.Pattern[str]
    cause: Cause
    codes: frozenset[int] = frozenset()


def _words(pattern: str, what: str, hint: str, *codes: int) -> _Words:
    return _Words(re.compile(pattern, re.IGNORECASE), Cause(what, hint), frozenset(codes))


_ANOTHER_PROCESSOR = (
    "is built for another processor",
    "Set android.runner to a benchmark_model for the phone's ABI: adb shell getprop "
    "ro.product.cpu.abilist shows it.",
)

_NOT_STARTED = (
    _words(
        r"unexpected e_machine|is (?:32|64)-bit instead of (?:32|64)-bit",
        *_ANOTHER_PROCESSOR,
    ),
    _words(
        r"TLS segment is underaligned",
        "cannot be loaded by this version of Android",
        "Build it again with Android's current NDK, or set android.runner to auto.",
    ),
    _words(
        r"CANNOT LINK EXECUTABLE.*(?:library .*not found|could not load library)",
        "cannot be linked, because the phone lacks a library that it needs",
        "Build benchmark_model with its libraries linked statically, as Google's is, or set android.runner "
        "to auto.",
    ),
    _words(
        r"CANNOT LINK EXECUTABLE",
        "cannot be linked by this phone",
        "It is built for a newer Android than the phone's: build it for an older one (a lower API level of "
        "the NDK), or set android.runner to auto.",
    ),
    _words(
        r"only support position-independent executables",
        "is built for Android before 5.0",
        "Build it as a position-independent program, or set android.runner to auto.",
    ),
    _words(
        r"not executable: .*ELF|exec format error|cannot execute binary file",
        *_ANOTHER_PROCESSOR,
    ),
    _words(
        r"permission denied",
        "is not allowed to run on this phone",
        f"The phone does not allow programs in {FOLDER} to run; check with adb shell ls -lZ {FOLDER}. A "
        "security add-on or a company policy can be the reason: use another phone, or have the folder "
        "allowed.",
        1,
        126,
    ),
    _words(
        r"no such file or directory",
        "or the loader that it needs is not on the phone",
        "A program built for Linux needs a loader that Android does not have: set android.runner to one "
        "built for Android, or to auto.",
        126,
        127,
    ),
    _words(
        r"(?:^|\n)(?:\S*/)?(?:mk)?sh: (?:E: )?[\w.-]+: (?:inaccessible or )?not found",
        "cannot be started, because the phone lacks a command that starts it",
        "The last line of its output names the command. If it is taskset, set runtime.cpu to all.",
        127,
    ),
    _words(
        r"not found",
        "is no longer on the phone",
        f"Another program deletes files in {FOLDER}: stop it, and run the same command again.",
        127,
    ),
)

_SIGNALS = {
    1: ("SIGHUP", "its shell ended first", "Run the same command again."),
    4: (
        "SIGILL",
        "this processor lacks an instruction that it uses",
        "Set android.runner to a benchmark_model for older processors of this ABI, or to an older version.",
    ),
    5: ("SIGTRAP", "an internal check of the program failed (assertion)", _OTHER_RUNNER),
    6: ("SIGABRT", "the program aborted itself", f"{_SEE_LAST_LINE} {_OTHER_RUNNER}"),
    7: (
        "SIGBUS",
        "a file that it reads was truncated, or memory is damaged",
        "Check whether the phone's storage is full, and run the same command again.",
    ),
    8: ("SIGFPE", "it divided by zero", f"The fault is in the model or in the runner. {_OTHER_RUNNER}"),
    9: (
        "SIGKILL",
        "the phone killed it, usually because of low memory",
        "Close other apps on the phone, or restart it. A model that needs more memory than the phone has "
        "cannot be measured there.",
    ),
    11: (
        "SIGSEGV",
        "it accessed invalid memory",
        f"The fault is in the runner or in a driver. {_OTHER_RUNNER}",
    ),
    15: ("SIGTERM", "another program ended it", "Run the same command again, with no other app open."),
    25: ("SIGXFSZ", "it wrote more than a timing is allowed to write", _OTHER_RUNNER),
    31: ("SIGSYS", "it made a system call that Android forbids", _OTHER_RUNNER),
}

_ABORTED = 6
_NO_MEMORY = _words(
    r"bad_alloc|failed to allocate|out of memory|cannot allocate memory",
    "could not allocate memory",
    "Close other apps on the phone, or restart it.",
)

_KNOWN = (
    _words(
        r"didn't find op|unresolved custom op|registration failed|unsupported op",
        "does not support an operator of the model",
        "Set android.runner to auto, or to a newer benchmark_model; Google's build has no custom operators.",
    ),
    _NO_MEMORY,
    _words(
        r"could not open|model allocation is null|failed to load model|not a valid flatbuffer",
        "could not read the model",
        "Check whether the phone's storage is full, then measure again.",
    ),
)

_ON_ACCELERATOR = "The phone's {} cannot run all of this model, or its driver has a fault: use the CPU."


def cannot_run(completed: Completed, name: str) -> NoUsableDeviceError | None:
    """The error for a program that the phone does not run, or that a signal ends; None for all else."""
    cause = _not_run(completed)
    if cause is None:
        return None
    return NoUsableDeviceError(
        f"{name} {cause.what} (exit code {completed.exit_code}). {last_line(_text(completed))}",
        hint=cause.hint,
        raw=_text(completed),
    )


def run_failed(completed: Completed, model: str, *, accelerator: str = "") -> DeviceError:
    """The error for a timing of ``model`` that did not end with exit code 0.

    ``accelerator``: what should have run it (``GPU``), empty for the CPU.
    """
    cause = _not_run(completed) or _recognised(completed)
    what = cause.what if cause else "failed"
    hint = cause.hint if cause else f"{_SEE_LAST_LINE} {_OTHER_RUNNER}"
    if not _has_words(completed):
        hint = hint.replace(_SEE_LAST_LINE, "Run the same command again.")
    if accelerator and (cause is None or cause.crashed) and completed.exit_code != KILLED:
        hint = _ON_ACCELERATOR.format(accelerator)
    kind = KilledByPhoneError if completed.exit_code == KILLED else DeviceError
    return kind(
        f"benchmark_model {what} (exit code {completed.exit_code}) while it timed {model}. "
        f"{last_line(_text(completed))}",
        hint=hint,
        raw=_text(completed),
    )


def last_line(text: str) -> str:
    """A sentence that quotes what tells most of a program's output: its last complaint, or its last line."""
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line and not _SAYS_NOTHING.search(line)]
    complaints = [line for line in lines if _COMPLAINT.search(line)]
    words = plain_text((complaints or lines or [""])[-1], limit=_MAX_WORDS)
    return f"The last line of its output: {words!r}." if words else _NOTHING


def _has_words(completed: Completed) -> bool:
    return last_line(_text(completed)) != _NOTHING


def _not_run(completed: Completed) -> Cause | None:
    """What kept a program from running, or ended it from outside."""
    text, code = _text(completed), completed.exit_code
    has_started = _STARTED in text
    if code != 0 and not has_started:
        for refusal in _NOT_STARTED:
            if (not refusal.codes or code in refusal.codes) and refusal.pattern.search(text):
                return refusal.cause
    number = code - 128
    if 1 <= number <= 64:
        if number == _ABORTED and _NO_MEMORY.pattern.search(text):
            return Cause("was ended by SIGABRT: it could not allocate memory", _NO_MEMORY.cause.hint)
        name, reason, hint = _SIGNALS.get(
            number,
            (f"signal {number}", "the phone or another program sent it", "Run the same command again."),
        )
        return Cause(f"was ended by {name}: {reason}", hint, crashed=True)
    if code in (126, 127) and not has_started:
        return Cause("cannot be started on the phone", _OTHER_RUNNER)
    return None


def _recognised(completed: Completed) -> Cause | None:
    """What the tool itself says."""
    text = _text(completed)
    return next((known.cause for known in _KNOWN if known.pattern.search(text)), None)


def _text(completed: Completed) -> str:
    return "\n".join(plain_text(stream, limit=4_000_000) for stream in (completed.stdout, completed.stderr))
