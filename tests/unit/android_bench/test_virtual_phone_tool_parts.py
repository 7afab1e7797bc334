"""The parts of the phone's benchmark_model: how it reads flags, counts time, and tells what it measured."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.runner.output import parse_output
from android_bench.runner.result import cross_check, parse_result
from android_bench.virtual_phone import benchmark_text
from android_bench.virtual_phone.benchmark_clock import DescribedTime, PhoneClock, Slowness, time_runs
from android_bench.virtual_phone.benchmark_flags import flags_of, parse_flags
from android_bench.virtual_phone.benchmark_text import (
    Measured,
    plain_statistics,
    result_protobuf,
    statistics_line,
)
from android_bench.virtual_phone.benchmark_tool import main

TOOLS = ["classic", "litert"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--num_threads=x"], "Failed to parse flag 'num_threads'"),
        (["--use_xnnpack=TRUE"], "Failed to parse flag 'use_xnnpack' against argv '--use_xnnpack=TRUE'"),
    ],
)
def test_a_flag_that_is_listed_twice_complains_twice(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "tool.json"
    state.write_text("{}")
    assert main(["classic", "benchmark_model", *arguments], state_file=state) == 1
    listed = sum(f"--{flag.name}=" in arguments[0] for flag in flags_of("classic"))
    assert capsys.readouterr().err.count(told) == listed


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("num_runs=12abc", 12),
        ("num_runs=1.5", 1),
        ("num_runs=", 0),
        ("num_runs=none", None),
        ("min_secs=0.25x", 0.25),
        ("min_secs=.5", 0.5),
        ("min_secs=nan", None),
        ("num_runs=99999999999", 2**31 - 1),
        ("num_runs=99999999999x", None),
        ("verbose=yes", None),
        ("verbose=1", True),
        ("graph=a=b", "a=b"),
    ],
)
def test_a_value_is_read_as_c_streams_read_it(word: str, value: object) -> None:
    flags = parse_flags([f"--{word}"], "classic")
    name = word.partition("=")[0]
    if value is None:
        assert (flags.unreadable, flags.wants_usage) == (((name, f"--{word}"),), True)
    else:
        assert (flags.values[name], flags.wants_usage) == (value, False)


def test_a_flag_without_a_value_and_a_second_one_are_not_consumed() -> None:
    flags = parse_flags(["--verbose", "--num_runs=1", "--num_runs=2", "--use_gpu=true"], "classic")
    assert flags.unconsumed == ("--verbose", "--num_runs=2", "--use_gpu=true")
    assert (flags.values["num_runs"], flags.is_on("verbose"), flags.wants_usage) == (1, False, False)
    assert parse_flags(["--help", "--x"], "classic").wants_usage
    assert not parse_flags(["--x", "--help"], "classic").wants_usage
    assert parse_flags(["--help=true"], "classic").wants_usage
    assert not parse_flags(["--help=true"], "litert").wants_usage


class Ticking:
    """A clock that an action moves on."""

    def __init__(self, step_ns: int, start_ns: int = 0) -> None:
        self.now, self.step_ns = start_ns, step_ns

    def __call__(self) -> int:
        return self.now

    def work(self) -> None:
        self.now += self.step_ns


@pytest.mark.parametrize(
    ("runs", "seconds", "most", "expected"),
    [
        (50, 0.001, 150, 50),
        (1, 0.01, 150, 100),
        (1000, 1, 0.03, 301),
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (0, 0, 9, 0),
    ],
)
def test_runs_go_on_until_both_minima_or_the_maximum(
    runs: float, seconds: float, most: float, expected: int
) -> None:
    ticking = Ticking(100_000)
    times = time_runs(ticking.work, runs, seconds, most, clock=PhoneClock(ticking, Slowness()))
    assert times == (100,) * expected


def test_times_are_the_difference_of_two_whole_microseconds() -> None:
    ticking = Ticking(400, start_ns=100)
    assert time_runs(ticking.work, 10, 0, 9, clock=PhoneClock(ticking, Slowness())) == (
        0,
        0,
        1,
        0,
        1,
        0,
        0,
        1,
        0,
        1,
    )
    ticking = Ticking(2_500)
    assert time_runs(ticking.work, 4, 0, 9, clock=PhoneClock(ticking, Slowness())) == (2, 3, 2, 3)


def test_a_throttled_phones_own_clock_runs_on_with_its_slow_work() -> None:
    ticking = Ticking(100_000)
    clock = PhoneClock(ticking, Slowness(slowdown=20))
    assert time_runs(ticking.work, 1, 0.01, 9, clock=clock) == (2000,) * 5


def test_drift_grows_from_when_it_was_set() -> None:
    slowness = Slowness(slowdown=2, drift_per_minute=0.5, since_s=100)
    assert [slowness.factor(now) for now in (100, 160, 220)] == [2, 3, 4]
    assert Slowness(drift_per_minute=-0.5).factor(10_000) == 0.1


def test_described_time_is_the_same_in_every_process_and_not_a_whole_number_of_microseconds() -> None:
    def times() -> tuple[int, ...]:
        described = DescribedTime(lambda: None, b"model", 7)
        return time_runs(described.invoke, 200, 0, 9, clock=PhoneClock(described.clock, Slowness()))

    once = times()
    assert times() == once
    assert len(set(once)) > 1 and 7 <= min(once) <= max(once) <= 15


def test_no_times_at_all_are_told_as_no_times() -> None:
    assert statistics_line([]) == "count=0 p5=0 median=0 p95=0"
    measured = Measured("m", 1, 1, 1, (), (), 1, 1, "main")
    assert (
        "First inference: 0, Warmup (avg): 0, Inference (avg): 0"
        in benchmark_text.classic_summary(measured)[0]
    )
    assert "No inference runs were performed." in benchmark_text.litert_summary(measured)
    assert result_protobuf(measured)


def test_what_took_no_time_goes_through_without_end() -> None:
    measured = Measured("m", 1, 8, 1, (0,), (0, 0), 1, 1, "main")
    assert statistics_line(measured.runs_us) == "count=2 curr=0(all same) p5=0 median=0 p95=0"
    assert "Throughput:           inf MB/s" in benchmark_text.litert_summary(measured)


def test_what_is_zero_is_left_out_of_the_file() -> None:
    some = Measured("m", 1, 1, 1, (1,), (0, 0, 0, 3), 0, 0, "main")
    found = parse_result(result_protobuf(some))
    assert (found.min_ms, found.p5_ms, found.median_ms, found.max_ms) == (
        0,
        0,
        0,
        pytest.approx(0.003, rel=1e-6),
    )
    assert found.init_memory_kib is None
    assert struct.pack("<f", 0.0) not in result_protobuf(some)


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
@settings(max_examples=1000)
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


times = st.lists(st.integers(0, 3) | st.integers(0, 10_000_000), min_size=1, max_size=50).map(tuple)


@given(times, times.filter(any), st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=1000)
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
@settings(max_examples=1000)
def test_any_command_line_is_read(arguments: list[str], tool: str) -> None:
    flags = parse_flags(arguments, tool)
    assert set(flags.values) == {flag.name for flag in flags_of(tool)}
    assert flags.logged(tool)
