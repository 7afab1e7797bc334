"""benchmark_model: which tool it is, how it is called, and what a finished run is worth."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.device import BenchmarkRequest, Conditions, RuntimeOptions
from android_bench.phone.text import CpuPolicy
from android_bench.runner.output import parse_output
from android_bench.runner.tool import (
    RunnerTool,
    check_abi,
    command,
    cpu_mask,
    elf_abi,
    finished_run,
    identify,
    longest_run_s,
)
from android_bench.transport import Completed
from benchmarks.parser_fuzz import Run, encode_result, real_runs
from nasflow.errors import BadMeasurement, DeviceError, NasflowError, NoUsableDevice, UsageError

COMMON = [
    "num_runs=50",
    "min_secs=1",
    "max_secs=150",
    "num_threads=-1",
    "warmup_runs=1",
    "warmup_min_secs=0.5",
]
COMMON += ["graph=", "result_file_path=", "use_gpu=false", "require_full_delegation=false"]
CLASSIC_HELP = [*COMMON, "enable_op_profiling=false", "use_xnnpack=false"]
LITERT_HELP = [*COMMON, "use_profiler=false", "use_cpu=true", "use_npu=false"]
GPU = RuntimeOptions(delegate="gpu")
COMPLETELY = (
    b"Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.\n"
)
NOT_AT_ALL = (
    b"Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.\n"
)
PARTLY = b"VERBOSE: Replacing 30 out of 31 node(s) with delegate (LITERT_CL) node, yielding 2 partitions\n"


def helped(flags: list[str], *, stderr: bool = False) -> Completed:
    text = "usage: ./benchmark_model <flags>\nFlags:\n" + "".join(
        f"\t--{flag:<39}\tstring\toptional\twhat --this= is for\n" for flag in flags
    )
    return Completed(b"" if stderr else text.encode(), text.encode() if stderr else b"", 1)


CLASSIC = identify(helped(CLASSIC_HELP))
LITERT = identify(helped(LITERT_HELP))


def request(**options: object) -> BenchmarkRequest:
    return BenchmarkRequest.model_validate({"name": "net", "model": b"x", "min_runs": 1, **options})


# Which tool


def test_the_tools_are_told_apart_by_their_flags_whatever_the_exit_code_and_stream() -> None:
    assert (CLASSIC.kind, LITERT.kind) == ("classic", "litert")
    assert identify(helped(LITERT_HELP, stderr=True)).kind == "litert"
    assert identify(helped([*LITERT_HELP, "enable_op_profiling=false"])).kind == "litert"


def test_what_is_no_benchmark_model_is_refused() -> None:
    with pytest.raises(UsageError, match="no benchmark_model"):
        identify(Completed(b"", b"sh: not executable: 64-bit ELF file", 126))


def test_a_tool_without_a_result_file_is_too_old() -> None:
    with pytest.raises(UsageError, match=r"too old.*--result_file_path"):
        identify(helped([flag for flag in CLASSIC_HELP if not flag.startswith("result_file_path")]))


# How it is called

PATHS = {"binary": "/d/benchmark_model", "model": "/d/a b.tflite", "result": "/d/r.pb"}


def test_the_classic_command() -> None:
    got = command(CLASSIC, request(warmup_ms=5, min_ms=20, min_runs=10), **PATHS)
    assert got == (
        "/d/benchmark_model",
        "--graph=/d/a b.tflite",
        "--num_threads=1",
        "--warmup_runs=1",
        "--warmup_min_secs=0.005",
        "--num_runs=10",
        "--min_secs=0.02",
        "--max_secs=150",
        "--result_file_path=/d/r.pb",
        "--use_xnnpack=true",
    )


def test_the_litert_command_has_no_flag_that_only_the_other_tool_knows() -> None:
    got = command(LITERT, request(), **PATHS)
    assert all("xnnpack" not in word for word in got)
    assert {word.split("=")[0][2:] for word in got[1:]} <= LITERT.flags


def test_cores_are_chosen_by_taskset_in_plain_hexadecimal() -> None:
    options = RuntimeOptions(threads=4, cpu="big")
    got = command(CLASSIC, request(options=options), mask=0xF0, **PATHS)
    assert got[:3] == ("taskset", "f0", "/d/benchmark_model")
    assert "--num_threads=4" in got


def test_a_gpu_must_take_all_of_it() -> None:
    classic, litert = (command(tool, request(options=GPU), **PATHS) for tool in (CLASSIC, LITERT))
    assert classic[-3:] == ("--use_gpu=true", "--require_full_delegation=true", "--use_xnnpack=false")
    assert litert[-3:] == ("--use_gpu=true", "--require_full_delegation=true", "--use_cpu=false")


def test_a_tool_that_does_not_know_a_needed_flag_is_not_called() -> None:
    without = RunnerTool("classic", CLASSIC.flags - {"use_gpu"})
    with pytest.raises(UsageError, match="--use_gpu"):
        command(without, request(options=GPU), **PATHS)


@settings(max_examples=200, deadline=None)
@given(st.floats(0.001, 10**7), st.floats(0, 10**7))
def test_times_are_plain_decimals(min_ms: float, warmup_ms: float) -> None:
    got = command(CLASSIC, request(min_ms=min_ms, warmup_ms=warmup_ms), **PATHS)
    values = dict(word[2:].split("=") for word in got[1:])
    for name, expected in (("min_secs", min_ms), ("warmup_min_secs", warmup_ms)):
        assert "e" not in values[name] and float(values[name]) == pytest.approx(expected / 1000, abs=1e-6)


def test_the_time_allowed_covers_warm_up_and_runs() -> None:
    assert longest_run_s(request(min_ms=20, warmup_ms=5)) > 2 * 150


# Which cores


def policy(number: int, cores: tuple[int, ...], mhz: int | None) -> CpuPolicy:
    return CpuPolicy(number, cores, None, None, None if mhz is None else 1000 * mhz)


THREE = (policy(0, (0, 1, 2, 3), 1704), policy(4, (4, 5, 6, 7), 2367), policy(8, (8,), 2914))
TWO = THREE[:2]


@pytest.mark.parametrize(
    ("cpu", "policies", "mask"),
    [
        ("all", (), None),
        ("all", THREE, None),
        ("little", THREE, 0x00F),
        ("big", THREE, 0x0F0),
        ("prime", THREE, 0x100),
        ("little", TWO, 0x0F),
        ("big", TWO, 0xF0),
        ("prime", TWO, 0xF0),
        ("big", (*THREE[:2], policy(6, (9,), 2500), THREE[2]), 0x2F0),
        ("0xf0", THREE, 0xF0),
        ("0xf0", (), 0xF0),
    ],
)
def test_clusters_become_masks(cpu: str, policies: tuple[CpuPolicy, ...], mask: int | None) -> None:
    assert cpu_mask(RuntimeOptions(cpu=cpu), policies) == mask


def test_clusters_that_are_not_told_are_not_guessed() -> None:
    for policies in ((), (policy(0, (0,), None), *THREE[1:])):
        with pytest.raises(NoUsableDevice, match="does not tell"):
            cpu_mask(RuntimeOptions(cpu="big"), policies)


def test_equal_cores_have_no_big_ones() -> None:
    with pytest.raises(UsageError, match="alike"):
        cpu_mask(RuntimeOptions(cpu="big"), THREE[:1])


@pytest.mark.parametrize("cpu", ["0x200", "0x0", "0x3ff"])
def test_a_mask_of_cores_that_are_not_there_is_refused(cpu: str) -> None:
    with pytest.raises(UsageError, match=r"not there.*0x1ff"):
        cpu_mask(RuntimeOptions(cpu=cpu), THREE)


# For which phone


def elf(machine: int, *, bits: int = 64, kind: int = 3, little: bool = True) -> bytes:
    order = "<" if little else ">"
    head = b"\x7fELF" + bytes([bits // 32, 1 if little else 2, 1]) + bytes(9)
    return (head + struct.pack(f"{order}HHI", kind, machine, 1)).ljust(64, b"\0")


@pytest.mark.parametrize(
    ("binary", "abi"),
    [
        (elf(183), "arm64-v8a"),
        (elf(183, kind=2), "arm64-v8a"),
        (elf(40, bits=32), "armeabi-v7a"),
        (elf(62), "x86_64"),
        (elf(3, bits=32), "x86"),
        (elf(243), "riscv64"),
        (elf(62, bits=32), "ELF machine 62, 32 bits"),
        (elf(183, little=False), "ELF machine 183, 64 bits"),
        (elf(8), "ELF machine 8, 64 bits"),
        (elf(183, kind=1), None),
        (elf(183)[:40], None),
        (b"#!/system/bin/sh\n".ljust(80), None),
        (b"", None),
    ],
)
def test_the_abi_is_read_from_the_program(binary: bytes, abi: str | None) -> None:
    assert elf_abi(binary) == abi


def test_a_program_for_another_phone_is_refused_before_it_is_sent() -> None:
    check_abi(elf(183), "arm64-v8a", name="benchmark_model")
    with pytest.raises(NoUsableDevice, match=r"x86_64.*arm64-v8a") as caught:
        check_abi(elf(62), "arm64-v8a", name="benchmark_model")
    assert caught.value.exit_code == 4
    with pytest.raises(NoUsableDevice, match="unknown ABI"):
        check_abi(elf(62), "", name="benchmark_model")
    with pytest.raises(UsageError, match="no Linux or Android program"):
        check_abi(b"<html>", "arm64-v8a", name="benchmark_model")


@settings(max_examples=1_000, deadline=None)
@given(st.binary(max_size=80).map(lambda tail: b"\x7fELF" + tail) | st.binary(max_size=80))
def test_any_bytes_have_an_abi_or_none(binary: bytes) -> None:
    assert elf_abi(binary) is None or binary.startswith(b"\x7fELF")


# What a run is worth

CLASSIC_RUN, PROFILED_RUN, LITERT_RUN, SLOW_RUN = real_runs()


def test_the_result_file_and_the_text_make_a_measurement() -> None:
    from datetime import UTC, datetime

    conditions = Conditions(at=datetime(2026, 11, 23, tzinfo=UTC))
    done = Completed(CLASSIC_RUN.stdout, CLASSIC_RUN.stderr, 0)
    got = finished_run(CLASSIC, done, CLASSIC_RUN.result, request(), conditions=conditions)
    assert got.median_ms == pytest.approx(7.768, rel=1e-6)
    assert (got.p5_ms, got.p95_ms) == (pytest.approx(7.591, rel=1e-6), pytest.approx(11.613, rel=1e-6))
    assert (got.min_ms, got.runs, got.rounds) == (pytest.approx(7.551, rel=1e-6), 123, 1)
    assert got.round_medians_ms == (got.median_ms,) and got.conditions == conditions


@pytest.mark.parametrize(
    "run", [CLASSIC_RUN, PROFILED_RUN, LITERT_RUN, SLOW_RUN], ids=["classic", "profile", "litert", "one"]
)
def test_streams_may_be_merged(run: Run) -> None:
    merged = replace(run, stdout=run.stderr + run.stdout, stderr=b"")
    assert merged.measure() == run.measure()


def test_a_failed_run_is_an_error_that_keeps_its_words() -> None:
    with pytest.raises(DeviceError, match="exit code 1: ERROR: Benchmarking failed") as caught:
        finished_run(CLASSIC, Completed(b"STARTING!", b"ERROR: Benchmarking failed.\n", 1), None, request())
    assert "STARTING!" in caught.value.raw


def test_a_gpu_that_does_not_take_all_of_a_model_is_told_in_the_tools_telling_words() -> None:
    words = b"ERROR: Disallowed CPU fallback detected.\nERROR: Benchmarking failed.\n"
    asked = request(options=RuntimeOptions(delegate="gpu"))
    with pytest.raises(DeviceError, match="exit code 1: ERROR: Disallowed CPU fallback") as caught:
        finished_run(CLASSIC, Completed(words, b"", 1), None, asked)
    assert "use the CPU" in caught.value.hint


def test_a_missing_result_file_is_an_error() -> None:
    with pytest.raises(BadMeasurement, match="no result file"):
        finished_run(CLASSIC, Completed(CLASSIC_RUN.stdout, b"", 0), None, request())


def test_text_that_breaks_off_with_exit_code_0_is_no_result() -> None:
    torn = CLASSIC_RUN.stdout[: CLASSIC_RUN.stdout.index(b"INFO: Inference timings")]
    with pytest.raises(BadMeasurement, match="before its summary"):
        replace(CLASSIC_RUN, stdout=torn).measure()


def test_the_file_that_an_earlier_run_left_is_refused() -> None:
    for wrong, reason in ((PROFILED_RUN.result, "not that of this run"), (b"\x12\xff", "breaks off")):
        with pytest.raises(BadMeasurement, match=reason) as caught:
            replace(CLASSIC_RUN, result=wrong).measure()
        assert "median=7768" in caught.value.raw


def test_an_ignored_flag_is_an_error_though_the_exit_code_is_0() -> None:
    warned = b"WARN: Unconsumed cmdline flags: --use_xnnpack=true\n" + CLASSIC_RUN.stdout
    with pytest.raises(BadMeasurement, match=r"ignored .*--use_xnnpack=true"):
        replace(CLASSIC_RUN, stdout=warned).measure()


def test_fewer_runs_than_asked_for_are_told() -> None:
    with pytest.raises(BadMeasurement, match="after 123 of 200 runs"):
        finished_run(
            CLASSIC, Completed(CLASSIC_RUN.stdout, b"", 0), CLASSIC_RUN.result, request(min_runs=200)
        )


def test_a_gpu_that_computed_everything_is_believed() -> None:
    done = Completed(COMPLETELY + CLASSIC_RUN.stdout, b"INFO: Created TensorFlow Lite delegate for GPU.", 0)
    assert finished_run(CLASSIC, done, CLASSIC_RUN.result, request(options=GPU)).runs == 123


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"", "does not say that it computed"),
        (COMPLETELY.replace(b"GPU", b"XNNPACK"), "fell back"),
        (COMPLETELY.replace(b"completely", b"partially"), "only a part"),
        (COMPLETELY + COMPLETELY.replace(b"GPU", b"XNNPACK"), "only a part"),
        (NOT_AT_ALL, "fell back"),
        (PARTLY, "only a part"),
    ],
)
@pytest.mark.parametrize("tool", [CLASSIC, LITERT], ids=["classic", "litert"])
def test_a_gpu_that_fell_back_to_the_cpu_is_noticed(tool: RunnerTool, words: bytes, reason: str) -> None:
    done = Completed(words + CLASSIC_RUN.stdout, CLASSIC_RUN.stderr, 0)
    with pytest.raises(BadMeasurement, match=reason):
        finished_run(tool, done, CLASSIC_RUN.result, request(options=GPU))


def test_a_gpu_that_nobody_asked_for_is_noticed() -> None:
    with pytest.raises(BadMeasurement, match="CPU was asked for, but GPU"):
        replace(CLASSIC_RUN, stdout=COMPLETELY + CLASSIC_RUN.stdout).measure()


def test_xnnpack_may_take_a_part() -> None:
    words = COMPLETELY.replace(b"GPU", b"XNNPACK").replace(b"completely", b"partially")
    assert replace(CLASSIC_RUN, stdout=words + CLASSIC_RUN.stdout).measure() == CLASSIC_RUN.measure()


def test_an_older_tool_without_a_median_has_it_from_the_file() -> None:
    old = CLASSIC_RUN.stdout.replace(b" p5=7591 median=7768 p95=11613", b"").replace(b"INFO: ", b"")
    assert parse_output(old).inference.median_us is None
    assert replace(CLASSIC_RUN, stdout=old).measure() == CLASSIC_RUN.measure()


def test_a_model_below_a_microsecond_is_no_0_ms() -> None:
    text = CLASSIC_RUN.stdout.replace(b"min=7551", b"min=0")
    fields = parse_output(CLASSIC_RUN.stdout)
    faked = replace(fields, inference=replace(fields.inference, min_us=0.0))
    with pytest.raises(BadMeasurement, match="impossible"):
        replace(CLASSIC_RUN, stdout=text, result=encode_result(faked)).measure()


@settings(max_examples=1_000, deadline=None)
@given(
    st.binary(max_size=60), st.binary(max_size=60), st.none() | st.binary(max_size=60), st.integers(-1, 255)
)
def test_any_words_give_an_error_and_never_a_measurement(
    stdout: bytes, stderr: bytes, result: bytes | None, exit_code: int
) -> None:
    with pytest.raises(NasflowError):
        finished_run(CLASSIC, Completed(stdout, stderr, exit_code), result, request())


@settings(max_examples=1_000, deadline=None)
@given(st.text(max_size=200), st.integers(0, 255))
def test_any_help_is_a_tool_or_an_error(text: str, exit_code: int) -> None:
    with pytest.raises(UsageError):
        identify(Completed(text.encode("utf-8", "surrogatepass"), b"", exit_code))
