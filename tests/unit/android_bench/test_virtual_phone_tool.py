"""The phone's benchmark_model: real runs of real models, told as the real tools tell them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.adb.direct import DirectTransport
from android_bench.device import BenchmarkRequest, LatencyMeasurement, RuntimeOptions
from android_bench.runner.output import parse_output
from android_bench.runner.result import cross_check, parse_result
from android_bench.runner.tool import command, finished_run, identify
from android_bench.virtual_phone import benchmark_text
from android_bench.virtual_phone.benchmark_flags import FLAGS, parse_flags
from android_bench.virtual_phone.benchmark_text import (
    Measured,
    plain_statistics,
    result_protobuf,
    statistics_line,
)
from android_bench.virtual_phone.benchmark_tool import Slowness, main, time_runs
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import Inside, VirtualPhone, running_phone
from nasflow.errors import BadMeasurement, DeviceError
from stages.conversion.flatbuffer import block_model
from stages.search_space import BlockSpec

OTHER = BlockSpec(kind="mbconv", kernel=3, expansion=3, in_channels=8, out_channels=8, resolution=8)
BLOCK = BlockSpec(kind="mbconv", kernel=5, expansion=6, in_channels=32, out_channels=32, resolution=32)
TOOLS = ["classic", "litert"]
MODEL, RESULT = "/data/local/tmp/model.tflite", "/data/local/tmp/result.pb"
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def model() -> bytes:
    return block_model(BLOCK)


@pytest.fixture(scope="module", params=["sandbox", "table"])
def phone(request: pytest.FixtureRequest, model: bytes) -> Iterator[VirtualPhone]:
    inside: Inside = request.param
    with running_phone(inside=inside) as phone:
        phone.storage(MODEL).write_bytes(model)
        yield phone


@pytest.fixture
def transport(phone: VirtualPhone, tmp_path: Path) -> Iterator[DirectTransport]:
    with closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport:
        yield transport
    phone.faults.clear()


def measure(
    transport: DirectTransport, tool: str, model: bytes, options: RuntimeOptions | None = None
) -> LatencyMeasurement:
    """One measurement, by the very code that measures phones."""
    request = BenchmarkRequest(
        name="block", model=model, options=options or RuntimeOptions(), warmup_ms=5, min_ms=20, min_runs=5
    )
    binary = f"benchmark_model_{tool}"
    kind = identify(transport.run([binary, "--help"], timeout_s=TIMEOUT_S))
    assert kind.kind == tool
    transport.run(["rm", "-f", RESULT], timeout_s=TIMEOUT_S)
    words = command(kind, request, binary=binary, model=MODEL, result=RESULT)
    done = transport.run(words, timeout_s=TIMEOUT_S)
    found = transport.run(["cat", RESULT], timeout_s=TIMEOUT_S)
    return finished_run(kind, done, found.stdout if found.exit_code == 0 else None, request)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_model_is_really_run_and_text_and_file_agree(
    transport: DirectTransport, model: bytes, tool: str
) -> None:
    measured = measure(transport, tool, model)
    assert 0.05 < measured.median_ms < 100
    assert measured.min_ms <= measured.p5_ms <= measured.median_ms <= measured.p95_ms


def test_throttling_lengthens_what_is_measured(
    phone: VirtualPhone, transport: DirectTransport, model: bytes
) -> None:
    well = measure(transport, "classic", model).min_ms
    phone.faults.set(FaultPlan(slowdown=20))
    assert measure(transport, "classic", model).min_ms > 8 * well


def test_a_gpu_is_not_there_and_that_is_told(transport: DirectTransport, model: bytes) -> None:
    with pytest.raises(DeviceError) as caught:
        measure(transport, "classic", model, RuntimeOptions(delegate="gpu"))
    assert "Disallowed CPU fallback detected" in caught.value.raw
    done = transport.run(
        ["benchmark_model_classic", f"--graph={MODEL}", "--use_gpu=true", "--num_runs=1", "--min_secs=0"],
        timeout_s=TIMEOUT_S,
    )
    assert done.exit_code == 0
    assert [delegation.extent for delegation in parse_output(done.stdout, done.stderr).delegations] == [
        "none"
    ]


def test_a_full_phone_leaves_a_torn_result_that_is_no_number(
    phone: VirtualPhone, transport: DirectTransport, model: bytes
) -> None:
    phone.faults.set(FaultPlan(free_bytes=20))
    with pytest.raises((BadMeasurement, DeviceError)):
        measure(transport, "classic", model)


def test_a_phone_of_another_abi_does_not_start_it(phone: VirtualPhone, transport: DirectTransport) -> None:
    phone.faults.set(FaultPlan(abi="armeabi-v7a"))
    done = transport.run(["benchmark_model", "--help"], timeout_s=TIMEOUT_S)
    assert done.exit_code == 126
    assert b"not executable" in done.stderr
    assert transport.run(["getprop", "ro.product.cpu.abi"], timeout_s=TIMEOUT_S).stdout == b"armeabi-v7a\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], b"--graph"),
        (["--graph=/data/local/tmp/nothing"], b"No such file or directory"),
        (["--graph=/data/local/tmp/damaged"], b"ERROR: "),
        ([f"--graph={MODEL}", "--num_runs=many"], b"usage: "),
        ([f"--graph={MODEL}", "--list_signatures"], b"Benchmarking failed"),
    ],
)
def test_what_cannot_be_run_fails_with_exit_code_1(
    phone: VirtualPhone, transport: DirectTransport, flags: list[str], words: bytes
) -> None:
    phone.storage("/data/local/tmp/damaged").write_bytes(b"TFL3" * 10)
    done = transport.run(["benchmark_model", *flags], timeout_s=TIMEOUT_S)
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stderr.endswith(b"ERROR: Benchmarking failed.\n")


def test_unknown_flags_are_told_and_do_not_fail(transport: DirectTransport) -> None:
    words = [f"--graph={MODEL}", "--num_runs=2", "--min_secs=0", "--warmup_min_secs=0", "--nosuch=1"]
    done = transport.run(["benchmark_model", *words], timeout_s=TIMEOUT_S)
    assert done.exit_code == 0
    output = parse_output(done.stdout, done.stderr)
    assert output.unknown_flags == "--nosuch=1"
    assert output.inference.count == 2
    assert output.warmup is not None and output.warmup.count == 1


def ticking(step_us: int) -> Iterator[int]:
    now = 0
    while True:
        yield now
        now += step_us * 1000


@pytest.mark.parametrize(
    ("runs", "seconds", "most", "expected"),
    [(50, 0.001, 150, 50), (1, 0.01, 150, 50), (1000, 1, 0.03, 150), (0, 0, 0, 1)],
)
def test_runs_go_on_until_both_minima_or_the_maximum(
    runs: float, seconds: float, most: float, expected: int
) -> None:
    clock = ticking(100).__next__  # an invocation takes 100 us, and reading the clock as much
    times = time_runs(lambda: None, runs, seconds, most, slowness=Slowness(), clock=clock)
    assert times == (100,) * expected


def test_drift_grows_from_when_it_was_set() -> None:
    slowness = Slowness(slowdown=2, drift_per_minute=0.5, since_s=100)
    assert [slowness.apply(1000, now) for now in (100, 160, 220)] == [2000, 3000, 4000]
    assert Slowness(drift_per_minute=-0.5).apply(1000, 10_000) == 100
    assert Slowness().apply(0.2, 0) == 1


def test_equal_times_are_told_briefly() -> None:
    assert statistics_line([7, 7, 7]) == "count=3 curr=7(all same) p5=7 median=7 p95=7"
    assert plain_statistics([5236]) == "count=1 curr=5236"


def test_the_deviation_is_whole_microseconds_in_text_and_file() -> None:
    measured = Measured("m", 1, 1, 1, (9,), (30, 10, 21), 1, 1, "main")  # 8.18 us
    assert " std=8 " in statistics_line(measured.runs_us)
    assert parse_result(result_protobuf(measured)).std_ms == pytest.approx(0.008, rel=1e-6)


def test_a_quantile_is_the_element_at_its_share_rounded_down() -> None:
    assert [benchmark_text.percentile(range(20, 0, -1), percent) for percent in (5, 50, 95)] == [2, 11, 20]
    assert benchmark_text.percentile([4, 3], 50) == 4


@given(st.integers(1, 10_000_000), st.integers(1, 500))
@settings(max_examples=1000, deadline=None)
def test_equal_times_come_through_text_and_file(time_us: int, count: int) -> None:
    measured = Measured("m", 1, 1, 1, (time_us,), (time_us,) * count, 1, 1, "main")
    lines = [
        benchmark_text.running_line(1, 0.5, 150),
        statistics_line(measured.warmup_us),
        benchmark_text.running_line(count, 1, 150),
        statistics_line(measured.runs_us),
        *benchmark_text.classic_summary(measured),
    ]
    text = parse_output("".join(f"INFO: {line}\n" for line in lines).encode())
    cross_check(parse_result(result_protobuf(measured)), text)
    assert (text.inference.count, text.inference.median_us) == (count, time_us)


def test_the_line_of_a_count_is_the_real_tools_own() -> None:
    form = r"count=3 first=30 curr=20 min=10 max=30 avg=20 std=8 p5=10 median=20 p95=30"
    assert re.fullmatch(form, statistics_line([30, 10, 20]))
    assert "avg=2.97729e+06" in statistics_line([2_977_280, 2_977_299])


times = st.lists(st.integers(1, 10_000_000), min_size=1, max_size=50).map(tuple)


@given(times, times, st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=1000, deadline=None)
def test_text_and_file_of_any_times_agree(
    warmup: tuple[int, ...], runs: tuple[int, ...], init_us: int, init_kib: int, more_kib: int
) -> None:
    measured = Measured("m", 10**6, 10**5, init_us, warmup, runs, init_kib, init_kib + more_kib, "main")
    lines = [
        benchmark_text.running_line(1, 0.5, 150),
        statistics_line(warmup) + "\n",
        benchmark_text.running_line(50, 1, 150),
        statistics_line(runs) + "\n",
    ]
    found = parse_result(result_protobuf(measured))
    classic = "".join(f"INFO: {line}\n" for line in [*lines, *benchmark_text.classic_summary(measured)])
    litert = "".join(f"INFO: {line}\n" for line in lines)
    cross_check(found, parse_output(classic.encode()))
    cross_check(found, parse_output(litert.encode(), benchmark_text.litert_summary(measured).encode()))
    assert found.runs == len(runs)


@given(st.lists(st.text(max_size=30), max_size=8), st.sampled_from(TOOLS))
@settings(max_examples=1000, deadline=None)
def test_any_command_line_is_read(arguments: list[str], tool: str) -> None:
    flags = parse_flags(arguments, tool)
    assert set(flags.values) == {flag.name for flag in FLAGS[tool]}


def test_the_tools_are_told_apart_by_their_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "tool.json"
    state.write_text(json.dumps({"abi": ""}))
    for tool, own, other in (
        ("classic", "enable_op_profiling", "use_profiler"),
        ("litert", "use_profiler", "enable_op_profiling"),
    ):
        assert main([tool, "--help"], state_file=state) == 1
        told = capsys.readouterr().err
        assert f"--{own}=" in told
        assert f"--{other}=" not in told


@pytest.mark.parametrize("tool", TOOLS)
def test_times_that_the_description_gives_are_the_same_each_time_and_another_for_another_model(
    tmp_path: Path, model: bytes, tool: str
) -> None:
    with (
        running_phone(description=PhoneDescription(run_us=1000), inside="sandbox") as phone,
        closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport,
    ):

        def times(content: bytes) -> list[float]:
            phone.storage(MODEL).write_bytes(content)
            found = measure(transport, tool, content)
            return [found.median_ms, found.p5_ms, found.p95_ms, found.min_ms, found.runs]

        once = times(model)
        assert times(model) == once
        assert times(block_model(OTHER)) != once
        assert 1.0 <= once[3] <= once[0] <= 2.02
        assert 20 / 2.02 <= once[4] <= 21
        phone.faults.set(FaultPlan(slowdown=3))
        assert times(model)[0] == pytest.approx(3 * once[0], rel=0.001)
