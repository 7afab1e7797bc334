"""benchmark_model: which tool it is, how it is called, and what a finished run is worth."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from android_bench.device import BenchmarkRequest, Conditions, CpuPolicy, RuntimeOptions
from android_bench.runner.delegates import DELEGATES
from android_bench.runner.identity import RunnerTool, identify, listed_flags
from android_bench.runner.output import parse_output
from android_bench.runner.tool import command, cpu_mask, finished_run, longest_run_s
from android_bench.transport import Completed
from benchmarks.parser_fuzz import Run, encode_result, real_runs
from nasflow.base.errors import (
    BadMeasurementError,
    DeviceError,
    NasflowError,
    NoUsableDeviceError,
    UsageError,
)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "benchmark_model"


def asked(tool: str) -> Completed:
    """What a real tool answered to a value that it cannot read."""
    out, err = ((FIXTURES / f"{tool}_badflag.{end}").read_bytes() for end in ("out", "err"))
    return Completed(out, err, 1)


CLASSIC = identify(asked("classic"))
LITERT = identify(asked("litert"))
CLASSIC_WITH_GPU = RunnerTool("classic", CLASSIC.flags | {"use_gpu"})
"""Builds for Android know it (tools/delegates/gpu_delegate_provider.cc); the recorded one is for Linux."""

GPU = RuntimeOptions(delegate="gpu")
COMPLETELY = (
    b"Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.\n"
)
NOT_AT_ALL = (
    b"Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.\n"
)
PARTLY = b"VERBOSE: Replacing 30 out of 31 node(s) with delegate (LITERT_CL) node, yielding 2 partitions\n"


def request(**options: object) -> BenchmarkRequest:
    return BenchmarkRequest.model_validate({"name": "net", "model": b"x", "min_runs": 1, **options})


# Which tool


def test_the_real_tools_are_told_apart_by_their_lists_of_flags() -> None:
    assert (CLASSIC.kind, LITERT.kind) == ("classic", "litert")
    assert (len(CLASSIC.flags), len(LITERT.flags)) == (58, 43)
    assert "gpu-precision" in LITERT.flags


@pytest.mark.parametrize("tool", ["classic", "litert"])
def test_streams_that_a_phone_merges_are_the_same_list(tool: str) -> None:
    answer = asked(tool)
    for merged in (answer.stdout + answer.stderr, answer.stderr + answer.stdout):
        assert identify(Completed(merged, b"", 1)) == identify(answer)
        assert identify(Completed(merged.replace(b"\n", b"\r\n"), b"", 1)) == identify(answer)


def test_only_the_last_usage_text_counts_and_a_flag_in_a_sentence_is_none() -> None:
    before = asked("classic").stderr + b"Try --use_profiler= too.\n\t--use_profiler=0\tmaybe\n"
    after = b"usage: taskset [-ap] [mask] [PID | cmd [args...]]\n"
    assert identify(Completed(b"", before + asked("litert").stderr + after, 1)) == LITERT
    assert identify(Completed(b"", asked("litert").stderr + before, 1)) == CLASSIC


def test_the_answer_of_abseil_to_help_is_no_list_and_its_words_are_told() -> None:
    answer = Completed((FIXTURES / "litert_help_2_2.out").read_bytes(), b"", 1)
    with pytest.raises(UsageError, match=r"not a benchmark_model.*exit code 1.*lists 0 flags") as caught:
        identify(answer)
    assert "No flags matched." in caught.value.raw


def test_what_is_no_benchmark_model_is_named_with_its_own_words() -> None:
    with pytest.raises(
        UsageError, match=r"^tool\.bin is not a benchmark_model.*last line of its output: 'hello, world'"
    ):
        identify(Completed(b"hello, world\n", b"", 0), name="tool.bin")
    with pytest.raises(UsageError, match="It printed nothing"):
        identify(Completed(b"", b"", 0))


def test_a_tool_without_a_result_file_is_too_old() -> None:
    lines = asked("classic").stderr.splitlines(keepends=True)
    older = b"".join(line for line in lines if b"--result_file_path=" not in line)
    with pytest.raises(
        UsageError, match=r"too old: its 57 flags do not include --result_file_path.*--num_runs=abc"
    ):
        identify(Completed(b"", older, 1))


def test_a_list_without_the_column_of_what_is_optional_is_read_too() -> None:
    text = asked("classic").stderr.decode().replace("\toptional\t", "\t").replace(" <flags>", "")
    assert listed_flags(text) == CLASSIC.flags


def test_every_flag_that_nasflow_sets_is_one_that_the_real_tool_lists() -> None:
    for tool, options in (
        (CLASSIC, RuntimeOptions()),
        (LITERT, RuntimeOptions()),
        (LITERT, GPU),
        (CLASSIC_WITH_GPU, GPU),
    ):
        words = command(tool, request(options=options), **PATHS)[1:]
        assert {word[2:].partition("=")[0] for word in words} <= tool.flags


# How it is called

PATHS = {"binary": "/d/benchmark_model", "model": "/d/a b.tflite", "result": "/d/r.pb"}


def test_the_classic_command() -> None:
    got = command(CLASSIC, request(warmup_ms=5, min_ms=20, min_runs=10), **PATHS)
    assert got == (
        "/d/benchmark_model",
        "--graph=/d/a b.tflite",
        "--num_threads=1",
        "--warmup_runs=10",
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
    tools = (CLASSIC_WITH_GPU, LITERT)
    classic, litert = (command(tool, request(options=GPU), **PATHS) for tool in tools)
    assert classic[-3:] == ("--use_gpu=true", "--require_full_delegation=true", "--use_xnnpack=false")
    assert litert[-3:] == ("--use_gpu=true", "--require_full_delegation=true", "--use_cpu=false")


def test_a_tool_that_does_not_know_a_needed_flag_is_not_called() -> None:
    with pytest.raises(UsageError, match="--use_gpu"):
        command(CLASSIC, request(options=GPU), **PATHS)


@settings(max_examples=200)
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
    ("cpu", "words"),
    [
        ("f0", "a mask of cores, as in 0xf0"),
        (240, "a mask of cores: 0xf0 if 240 is decimal, 0x240 if it is hexadecimal"),
        (8, "a mask of cores, as in 0x8"),
        ("0b110", "a mask of cores, as in 0x6"),
        ("010", "a mask of cores such as 0xf0"),
        ("0o17", "a mask of cores such as 0xf0"),
        ("bigg", "a mask of cores such as 0xf0"),
    ],
)
def test_a_mask_that_is_none_is_refused_with_what_may_have_been_meant(cpu: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RuntimeOptions.model_validate({"cpu": cpu})
    assert caught.value.errors()[0]["msg"].endswith(words)


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
        with pytest.raises(NoUsableDeviceError, match="does not report"):
            cpu_mask(RuntimeOptions(cpu="big"), policies)


def test_equal_cores_have_no_big_ones() -> None:
    with pytest.raises(UsageError, match="the same speed"):
        cpu_mask(RuntimeOptions(cpu="big"), THREE[:1])


@pytest.mark.parametrize("cpu", ["0x200", "0x0", "0x3ff"])
def test_a_mask_of_cores_that_are_not_there_is_refused(cpu: str) -> None:
    with pytest.raises(UsageError, match=r"does not have.*0x1ff"):
        cpu_mask(RuntimeOptions(cpu=cpu), THREE)


# What a run is worth

CLASSIC_RUN, PROFILED_RUN, LITERT_RUN, SLOW_RUN, *SHORT_RUNS = real_runs()


def test_the_result_file_and_the_text_make_a_measurement() -> None:
    from datetime import UTC, datetime

    conditions = Conditions(at=datetime(2026, 11, 23, tzinfo=UTC))
    done = Completed(CLASSIC_RUN.stdout, CLASSIC_RUN.stderr, 0)
    got = finished_run(CLASSIC, done, CLASSIC_RUN.result, request(), conditions=conditions)
    assert got.median_ms == pytest.approx(7.768, rel=1e-6)
    assert (got.p5_ms, got.p95_ms) == (pytest.approx(7.591, rel=1e-6), pytest.approx(11.613, rel=1e-6))
    assert (got.min_ms, got.runs, got.rounds) == (pytest.approx(7.551, rel=1e-6), 123, 1)
    assert got.round_medians_ms == (got.median_ms,) and got.conditions == conditions


@pytest.mark.parametrize("run", [CLASSIC_RUN, PROFILED_RUN, LITERT_RUN, SLOW_RUN, *SHORT_RUNS])
def test_streams_may_be_merged(run: Run) -> None:
    merged = replace(run, stdout=run.stderr + run.stdout, stderr=b"")
    assert merged.measure() == run.measure()


def test_a_failed_run_is_an_error_that_keeps_its_words() -> None:
    words = b"ERROR: Failed to allocate tensors!\nERROR: Benchmarking failed.\n"
    with pytest.raises(
        DeviceError, match=r"exit code 1.*timed net\..*ERROR: Failed to allocate ten"
    ) as caught:
        finished_run(CLASSIC, Completed(b"INFO: STARTING!", words, 1), None, request())
    assert "STARTING!" in caught.value.raw


def test_a_gpu_that_does_not_take_all_of_a_model_is_told_in_the_tools_telling_words() -> None:
    words = b"ERROR: Disallowed CPU fallback detected.\nERROR: Benchmarking failed.\n"
    asked = request(options=RuntimeOptions(delegate="gpu"))
    with pytest.raises(DeviceError, match=r"exit code 1.*ERROR: Disallowed CPU fallback") as caught:
        finished_run(CLASSIC, Completed(words, b"", 1), None, asked)
    assert "use the CPU" in caught.value.hint


def test_a_missing_result_file_is_an_error() -> None:
    with pytest.raises(BadMeasurementError, match="not write a result file"):
        finished_run(CLASSIC, Completed(CLASSIC_RUN.stdout, b"", 0), None, request())


def test_text_that_breaks_off_with_exit_code_0_is_no_result() -> None:
    torn = CLASSIC_RUN.stdout[: CLASSIC_RUN.stdout.index(b"INFO: Inference timings")]
    with pytest.raises(BadMeasurementError, match="before its summary"):
        replace(CLASSIC_RUN, stdout=torn).measure()


def test_the_file_that_an_earlier_run_left_is_refused() -> None:
    for wrong, reason in (
        (PROFILED_RUN.result, "does not belong to this run"),
        (b"\x12\xff", "ends in the middle"),
    ):
        with pytest.raises(BadMeasurementError, match=reason) as caught:
            replace(CLASSIC_RUN, result=wrong).measure()
        assert "median=7768" in caught.value.raw


def test_an_ignored_flag_is_an_error_though_the_exit_code_is_0() -> None:
    warned = b"WARN: Unconsumed cmdline flags: --use_xnnpack=true\n" + CLASSIC_RUN.stdout
    with pytest.raises(BadMeasurementError, match=r"ignored .*--use_xnnpack=true"):
        replace(CLASSIC_RUN, stdout=warned).measure()


def test_fewer_runs_than_asked_for_are_told() -> None:
    with pytest.raises(BadMeasurementError, match="after 123 of 200 runs"):
        finished_run(
            CLASSIC, Completed(CLASSIC_RUN.stdout, b"", 0), CLASSIC_RUN.result, request(min_runs=200)
        )


def test_a_gpu_that_computed_everything_is_believed() -> None:
    done = Completed(COMPLETELY + CLASSIC_RUN.stdout, b"INFO: Created TensorFlow Lite delegate for GPU.", 0)
    assert finished_run(CLASSIC, done, CLASSIC_RUN.result, request(options=GPU)).runs == 123


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"", "does not report that it was used"),
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
    with pytest.raises(BadMeasurementError, match=reason) as caught:
        finished_run(tool, done, CLASSIC_RUN.result, request(options=GPU))
    another_tool = tool is LITERT and not words
    assert ("android.runner to a classic" in caught.value.hint) == another_tool, "only where it tells more"
    assert "runtime.delegate" in caught.value.hint


def test_a_gpu_that_nobody_asked_for_is_noticed() -> None:
    with pytest.raises(BadMeasurementError, match="CPU was requested, but GPU"):
        replace(CLASSIC_RUN, stdout=COMPLETELY + CLASSIC_RUN.stdout).measure()


def test_xnnpack_may_take_a_part() -> None:
    words = COMPLETELY.replace(b"GPU", b"XNNPACK").replace(b"completely", b"partially")
    assert replace(CLASSIC_RUN, stdout=words + CLASSIC_RUN.stdout).measure() == CLASSIC_RUN.measure()


def test_an_older_tool_without_a_median_has_it_from_the_file() -> None:
    old = CLASSIC_RUN.stdout.replace(b" p5=7591 median=7768 p95=11613", b"").replace(b"INFO: ", b"")
    assert parse_output(old).inference.median_us is None
    assert replace(CLASSIC_RUN, stdout=old).measure() == CLASSIC_RUN.measure()


# What the clock counts as 0


def short(line: str, *, zeros: bool = False) -> Run:
    """The classic run with other times, as its text and as its file tell them."""
    average = re.search(r"avg=(\S+)", line) or re.search(r"curr=([0-9]+)", line)
    assert average is not None
    stdout = re.sub(rb"count=123 [^\n]*", line.encode(), CLASSIC_RUN.stdout)
    stdout = stdout.replace(b"(avg): 8089.02", b"(avg): " + average[1].encode())
    counted = parse_output(CLASSIC_RUN.stdout)
    fields = {key: float(value) for key, value in re.findall(r"(\w+)=([0-9.e+-]+)", line)}
    names = ("first", "curr", "min", "max", "avg", "p5", "median", "p95", "std")
    times = {f"{name}_us": fields.get(name, fields["curr"] if name != "std" else 0.0) for name in names}
    timings = replace(counted.inference, count=int(fields["count"]), **times)
    return Run("classic", stdout, b"", encode_result(replace(counted, inference=timings), zeros=zeros))


@pytest.mark.parametrize("zeros", [True, False], ids=["written", "left out"])
@pytest.mark.parametrize(
    ("line", "expected_ms"),
    [
        (
            "count=9 first=3 curr=1 min=0 max=3 avg=0.9 std=1 p5=0 median=1 p95=2",
            (0.0005, 0.0005, 0.001, 0.002),
        ),
        (
            "count=9 first=3 curr=0 min=0 max=3 avg=0.4 std=0 p5=0 median=0 p95=1",
            (0.0005, 0.0005, 0.0005, 0.001),
        ),
        ("count=99 first=9 curr=0 min=0 max=9 avg=0.09 std=0 p5=0 median=0 p95=0", (0.0005,) * 4),
    ],
)
def test_a_quantile_of_0_is_half_a_microsecond_whether_the_file_leaves_zeros_out_or_not(
    line: str, expected_ms: tuple[float, ...], zeros: bool
) -> None:
    got = short(line, zeros=zeros).measure()
    assert (got.min_ms, got.p5_ms, got.median_ms, got.p95_ms) == pytest.approx(expected_ms, rel=1e-6)
    assert got.round_medians_ms == (got.median_ms,)
    assert got.resolution_ms == 0.001


def test_every_measurement_says_how_coarse_the_clock_is() -> None:
    assert CLASSIC_RUN.measure().resolution_ms == 0.001


@pytest.mark.parametrize("zeros", [True, False], ids=["written", "left out"])
@pytest.mark.parametrize(
    "line", ["count=1 curr=0 p5=0 median=0 p95=0", "count=7 curr=0(all same) p5=0 median=0 p95=0"]
)
def test_nothing_but_zeros_is_no_measurement_and_says_which_model_and_what_to_do(
    line: str, zeros: bool
) -> None:
    run = short(line, zeros=zeros)
    with pytest.raises(
        BadMeasurementError, match=r"net was not measured: .*reports 0 microseconds for every run"
    ) as caught:
        finished_run(CLASSIC, Completed(run.stdout, b"", 0), run.result, request())
    assert "several copies" in caught.value.hint


def test_a_zero_in_the_file_alone_is_not_believed() -> None:
    run = short("count=9 first=3 curr=1 min=0 max=3 avg=0.9 std=1 p5=0 median=1 p95=2")
    lost = short("count=9 first=3 curr=1 min=0 max=3 avg=0.9 std=1 p5=0 median=0 p95=2").result
    with pytest.raises(BadMeasurementError, match=r"median 0.001 ms printed, 0 ms in the file"):
        replace(run, result=lost).measure()
    older = re.sub(rb" p5=0 median=1 p95=2", b"", run.stdout)
    with pytest.raises(BadMeasurementError, match="no median in either"):
        replace(run, stdout=older, result=lost).measure()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: replace(run, stdout=b""),
        lambda run: replace(run, stdout=b"WARN: Unconsumed cmdline flags: --x=1\n" + run.stdout),
        lambda run: replace(run, stdout=run.stdout[: run.stdout.index(b"INFO: Inference timings")]),
        lambda run: replace(run, stdout=COMPLETELY + run.stdout),
        lambda run: replace(run, result=b"\x12\xff"),
        lambda run: replace(run, result=PROFILED_RUN.result),
    ],
)
def test_every_measurement_that_is_refused_names_the_model(spoil: Callable[[Run], Run]) -> None:
    run = spoil(CLASSIC_RUN)
    asked_for = request(name="mbconv_k3_e6")
    with pytest.raises(
        BadMeasurementError, match=r"^mbconv_k3_e6 was not measured: benchmark_model|the CPU was requested"
    ):
        finished_run(CLASSIC, Completed(run.stdout, run.stderr, 0), run.result, asked_for)
    with pytest.raises(
        BadMeasurementError, match=r"^mbconv_k3_e6 was not measured: benchmark_model did not write a result"
    ):
        finished_run(CLASSIC, Completed(CLASSIC_RUN.stdout, b"", 0), None, asked_for)


@settings(max_examples=1_000)
@given(
    st.binary(max_size=60), st.binary(max_size=60), st.none() | st.binary(max_size=60), st.integers(-1, 255)
)
def test_any_words_give_an_error_and_never_a_measurement(
    stdout: bytes, stderr: bytes, result: bytes | None, exit_code: int
) -> None:
    with pytest.raises(NasflowError):
        finished_run(CLASSIC, Completed(stdout, stderr, exit_code), result, request())


@settings(max_examples=1_000)
@given(st.text(max_size=200), st.integers(0, 255))
def test_any_help_is_a_tool_or_an_error(text: str, exit_code: int) -> None:
    with pytest.raises(UsageError):
        identify(Completed(text.encode("utf-8", "surrogatepass"), b"", exit_code))


NPU = RuntimeOptions(delegate="npu")
NPU_WORDS = (
    b"VERBOSE: Replacing 31 out of 31 node(s) with delegate (DispatchDelegate) node, yielding 1 partitions\n"
)


def test_an_npu_is_asked_for_as_a_whole_and_with_its_libraries() -> None:
    words = command(
        LITERT, request(options=NPU), binary="/b", model="/m", result="/r", libraries="/data/local/tmp/npu"
    )
    assert {
        "--use_npu=true",
        "--use_gpu=false",
        "--use_cpu=false",
        "--require_full_delegation=true",
        "--dispatch_library_path=/data/local/tmp/npu",
        "--compiler_plugin_library_path=/data/local/tmp/npu",
    } <= set(words)
    without = command(LITERT, request(options=NPU), binary="/b", model="/m", result="/r")
    assert not [word for word in without if "library_path" in word]
    on_gpu = command(LITERT, request(options=GPU), binary="/b", model="/m", result="/r", libraries="/npu")
    assert "/npu" not in " ".join(on_gpu)


def test_the_classic_tool_has_no_npu() -> None:
    with pytest.raises(UsageError, match="the classic benchmark_model cannot run models on the phone's NPU"):
        command(CLASSIC, request(options=NPU), binary="/b", model="/m", result="/r")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"", "does not report that it was used"),
        (NPU_WORDS.replace(b"Replacing 31", b"Replacing 30"), "only a part"),
        (COMPLETELY.replace(b"GPU", b"XNNPACK"), "fell back"),
    ],
)
def test_an_npu_that_did_not_compute_everything_is_not_measured(words: bytes, reason: str) -> None:
    done = Completed(words + CLASSIC_RUN.stdout, CLASSIC_RUN.stderr, 0)
    with pytest.raises(BadMeasurementError, match=f"the NPU was requested, but .*{reason}") as caught:
        finished_run(LITERT, done, CLASSIC_RUN.result, request(options=NPU))
    assert "classic" not in caught.value.hint, "that one has no NPU"
    assert "android.npu_libraries" in caught.value.hint


def test_an_npu_that_refuses_a_model_is_told_in_the_tools_words() -> None:
    words = b"ERROR: No dispatch library found\nERROR: Benchmarking failed.\n"
    with pytest.raises(DeviceError, match="No dispatch library found") as caught:
        finished_run(LITERT, Completed(words, b"", 1), None, request(options=NPU))
    assert "phone's NPU cannot run all of this model" in caught.value.hint


def test_each_delegate_has_latencies_of_its_own() -> None:
    kinds = [RuntimeOptions.model_validate({"delegate": name}) for name in DELEGATES]
    assert len({kind.model_dump_json() for kind in kinds}) == len(DELEGATES) == 3
    assert [kind.describe() for kind in kinds] == ["1 thread", "1 thread, gpu", "1 thread, npu"]
