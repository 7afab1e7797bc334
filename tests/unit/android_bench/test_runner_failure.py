"""Why a run failed: signal, linker, processor, permission or the tool itself, each with advice that fits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.runner.failure import cannot_run, last_line, run_failed
from android_bench.transport import Completed
from nasflow.base.errors import DeviceError, KilledByPhoneError

STARTED = b"INFO: STARTING!\nINFO: Log parameter values verbosely: [0]\n"


def failed(code: int, words: bytes = b"", *, out: bytes = STARTED, accelerator: str = "") -> DeviceError:
    return run_failed(Completed(out, words, code), "mbconv_k3", accelerator=accelerator)


@pytest.mark.parametrize(
    ("code", "signal", "cause", "advice"),
    [
        (132, "SIGILL", "lacks an instruction", "older processors"),
        (133, "SIGTRAP", "assertion", "another benchmark_model"),
        (134, "SIGABRT", "aborted itself", "last line"),
        (135, "SIGBUS", "was truncated", "storage"),
        (136, "SIGFPE", "divided by zero", "another benchmark_model"),
        (139, "SIGSEGV", "invalid memory", "another benchmark_model"),
        (143, "SIGTERM", "another program", "no other app"),
        (153, "SIGXFSZ", "wrote more", "another benchmark_model"),
        (159, "SIGSYS", "forbids", "another benchmark_model"),
        (150, "signal 22", "sent it", "same command again"),
    ],
)
def test_a_signal_is_named_with_its_cause_and_what_helps(
    code: int, signal: str, cause: str, advice: str
) -> None:
    error = failed(code)
    assert f"was ended by {signal}: " in error.message and cause in error.message
    assert f"(exit code {code}) while it timed mbconv_k3" in error.message
    assert advice in error.hint and "operator" not in error.hint
    assert type(error) is DeviceError


def test_killed_for_want_of_memory_is_an_error_of_its_own() -> None:
    error = failed(137)
    assert isinstance(error, KilledByPhoneError)
    assert "SIGKILL: the phone killed it, usually because of low memory" in error.message
    assert "Close other apps" in error.hint
    assert error.exit_code == 5


@pytest.mark.parametrize(
    ("code", "words", "cause", "advice"),
    [
        (
            1,
            'CANNOT LINK EXECUTABLE "/d/x": library "libfoo.so" not found: needed by main executable',
            "lacks a library",
            "statically",
        ),
        (
            1,
            'CANNOT LINK EXECUTABLE "/d/x": cannot locate symbol "aligned_alloc" referenced by "/d/x"...',
            "cannot be linked by this phone",
            "newer Android",
        ),
        (134, 'CANNOT LINK EXECUTABLE "/d/x": cannot locate symbol "y"', "cannot be linked", "newer Android"),
        (
            1,
            '"/d/x": error: Android 5.0 and later only support position-independent executables (-fPIE).',
            "before 5.0",
            "position-independent",
        ),
        (1, "/system/bin/sh: /d/x: Permission denied", "is not allowed to run", "ls -lZ"),
        (127, "/system/bin/sh: taskset: inaccessible or not found", "lacks a command", "runtime.cpu to all"),
        (127, "sh: E: taskset: inaccessible or not found", "lacks a command", "runtime.cpu to all"),
        (
            134,
            'CANNOT LINK EXECUTABLE "/d/x": "/d/x" has unexpected e_machine: 40 (EM_ARM)',
            "another processor",
            "abilist",
        ),
        (
            1,
            'CANNOT LINK EXECUTABLE "/d/x": "/d/lib.so" is 64-bit instead of 32-bit',
            "another processor",
            "abilist",
        ),
        (
            1,
            'error: "/d/x": executable\'s TLS segment is underaligned: alignment is 8, needs to be at least '
            "64 for ARM64 Bionic",
            "cannot be loaded by this version of Android",
            "current NDK",
        ),
        (1, "/system/bin/sh: /d/x: not executable: 64-bit ELF file", "another processor", "abilist"),
        (1, "/system/bin/sh: /d/x: not executable: 32-bit ELF file", "another processor", "abilist"),
        (126, "taskset: exec /d/x: Exec format error", "another processor", "abilist"),
        (126, "/system/bin/sh: /d/x: can't execute: Permission denied", "is not allowed to run", "ls -lZ"),
        (126, "taskset: exec /d/x: Permission denied", "is not allowed to run", "ls -lZ"),
        (126, "/system/bin/sh: /d/x: No such file or directory", "the loader that it needs", "for Android"),
        (127, "/system/bin/sh: /d/x: inaccessible or not found", "is no longer on the phone", "deletes"),
        (126, "", "cannot be started", "another benchmark_model"),
    ],
)
def test_a_program_that_was_not_started_is_told_from_one_that_failed(
    code: int, words: str, cause: str, advice: str
) -> None:
    error = failed(code, words.encode(), out=b"")
    assert cause in error.message
    assert advice in error.hint
    assert words[:60] in error.raw
    at_first = cannot_run(Completed(b"", words.encode(), code), "benchmark_model 2.3.0")
    assert at_first is not None
    assert (cause in at_first.message, advice in at_first.hint) == (True, True)
    assert at_first.exit_code == 4


@pytest.mark.parametrize(
    ("words", "cause", "advice"),
    [
        (
            b"ERROR: Didn't find op for builtin opcode 'GELU' version '2'.\nERROR: Registration failed.",
            "does not support an operator",
            "newer benchmark_model",
        ),
        (
            b"ERROR: Encountered unresolved custom op: Foo.",
            "does not support an operator",
            "newer benchmark_model",
        ),
        (b"ERROR: Could not open '/d/m.tflite'.", "could not read the model", "storage"),
        (b"std::bad_alloc", "could not allocate memory", "Close other apps"),
        (b"ERROR: Something else.", "failed (exit code 1)", "The last line of its output gives the reason"),
    ],
)
def test_the_advice_follows_what_the_tool_itself_says(words: bytes, cause: str, advice: str) -> None:
    error = failed(1, words + b"\nERROR: Benchmarking failed.\n")
    assert cause in error.message and advice in error.hint
    assert "Benchmarking failed" not in error.message
    assert cannot_run(Completed(STARTED, words, 1), "x") is None


def test_an_abort_for_want_of_memory_is_told_as_such() -> None:
    error = failed(
        134, b"terminating with uncaught exception of type std::bad_alloc: std::bad_alloc\nAborted"
    )
    assert "SIGABRT: it could not allocate memory" in error.message
    assert "Close other apps" in error.hint
    assert "Close other apps" in failed(134, b"std::bad_alloc", accelerator="GPU").hint


@pytest.mark.parametrize("code", [255, 134])
def test_without_any_words_nobody_is_sent_to_the_last_line(code: int) -> None:
    error = failed(code, out=b"")
    assert "It printed nothing." in error.message
    assert "last line" not in error.hint
    assert "same command again" in error.hint


def test_words_of_a_tool_that_has_started_are_not_taken_for_the_shells() -> None:
    words = b"ERROR: /d/cache: Permission denied\nERROR: not executable: ELF\n"
    assert "failed (exit code 1)" in failed(1, words).message
    assert cannot_run(Completed(STARTED, words, 1), "x") is None


@pytest.mark.parametrize("accelerator", ["GPU", "NPU"])
def test_on_an_accelerator_a_crash_and_a_refusal_point_to_it_and_a_kill_does_not(accelerator: str) -> None:
    for code, words in ((1, b"ERROR: Failed to apply GPU delegate."), (139, b""), (134, b"")):
        assert f"{accelerator} cannot run all" in failed(code, words, accelerator=accelerator).hint
    assert "Close other apps" in failed(137, accelerator=accelerator).hint


def test_the_last_complaint_is_quoted_before_the_last_line_and_never_what_says_nothing() -> None:
    text = "INFO: a\nERROR: the reason\nINFO: b\nERROR: Benchmarking failed.\n"
    assert last_line(text) == "The last line of its output: 'ERROR: the reason'."
    assert last_line("one\ntwo\n\n") == "The last line of its output: 'two'."
    assert last_line(" \n") == "It printed nothing."
    assert len(last_line("x" * 10_000)) < 400


@settings(max_examples=500)
@given(st.binary(max_size=80), st.binary(max_size=80), st.integers(-1, 300))
def test_any_end_has_an_error_with_a_reason_and_advice(out: bytes, err: bytes, code: int) -> None:
    error = run_failed(Completed(out, err, code), "model")
    assert "model" in error.message and f"exit code {code}" in error.message and error.hint
