"""The result file: read by hand, strictly, and only together with the text of the same run."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.runner.output import parse_output
from android_bench.runner.result import MAX_RESULT_BYTES, cross_check, parse_result
from benchmarks.parser_fuzz import Run, encode_result, real_runs, varint
from nasflow.base.errors import BadMeasurementError

REAL = (Path(__file__).resolve().parents[2] / "fixtures" / "benchmark_model" / "result.pb").read_bytes()


def message(latency: dict[int, float], misc: dict[int, int] | None = None) -> bytes:
    inner = b"".join(bytes([n << 3 | 5]) + struct.pack("<f", v) for n, v in latency.items())
    counts = b"".join(bytes([n << 3]) + varint(v) for n, v in ({2: 7} if misc is None else misc).items())
    return b"\x12" + varint(len(inner)) + inner + b"\x22" + varint(len(counts)) + counts


LATENCY = {1: 2.0, 2: 1.0, 3: 3.0, 4: 0.5, 5: 2.0, 6: 1.5, 7: 2.5}


def test_a_real_file_is_read() -> None:
    got = parse_result(REAL)
    assert (got.runs, got.warmup_runs, got.init_memory_kib, got.overall_memory_kib) == (
        623,
        419,
        10672,
        11952,
    )
    assert got.median_ms == pytest.approx(1.109, rel=1e-6)
    assert got.min_ms == pytest.approx(0.703, rel=1e-6)
    assert (got.p5_ms, got.p95_ms) == (pytest.approx(0.806, rel=1e-6), pytest.approx(4.767, rel=1e-6))
    assert (got.max_ms, got.avg_ms) == (pytest.approx(8.678, rel=1e-6), pytest.approx(1.53913, rel=1e-5))
    assert (got.init_ms, got.first_ms) == (pytest.approx(4.298, rel=1e-6), pytest.approx(1.562, rel=1e-6))


@pytest.mark.parametrize("size", range(len(REAL)))
def test_no_beginning_of_a_file_is_taken_for_a_whole_one(size: int) -> None:
    with pytest.raises(BadMeasurementError) as caught:
        parse_result(REAL[:size])
    assert caught.value.raw == REAL[:size].hex()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (REAL + b"\x00", "number 0"),
        (REAL + REAL, "twice"),
        (REAL + b"\x0b", "wire type"),
        (REAL + b"\x0a\xff\xff\xff\xff\x0f", "ends in the middle"),
        (REAL + b"\x08" + b"\x80" * 10, "more than ten bytes"),
        (b"\x10\x05", "a number instead"),
        (message(LATENCY, {}), "number of runs"),
        (message(LATENCY, {2: 0}), "reports no runs"),
        (message(LATENCY, {2: 2**64 - 1}), "not a valid number"),
        (message({k: v for k, v in LATENCY.items() if k != 5}), "out of order"),
        (message({k: v for k, v in LATENCY.items() if k != 1}), "does not contain avg_ms"),
        (message({k: v for k, v in LATENCY.items() if k != 3}), "does not contain max_ms"),
        (message({}), "does not contain avg_ms, max_ms"),
        (message(dict.fromkeys(LATENCY, 0.0)), "reports 0 microseconds for every run"),
        (message({1: 0.0, 3: 1.0}), "reports 0 microseconds for every run"),
        (message({**LATENCY, 5: 0.0}), "out of order"),
        (message({**LATENCY, 5: float("nan")}), "not a number"),
        (message({**LATENCY, 5: float("inf")}), "not a number"),
        (message({**LATENCY, 2: -1.0}), "negative"),
        (message(dict.fromkeys(LATENCY, 1e12)), "impossible"),
        (message({**LATENCY, 4: -1.0}), "negative"),
        (message({**LATENCY, 8: -1.0}), "negative"),
        (bytes(MAX_RESULT_BYTES + 1), "more than"),
        (message(LATENCY).replace(b"\x2d", b"\x28", 1), "not a 32-bit"),
        (message(LATENCY).replace(b"\x10\x07", b"\x10\x87\x00").replace(b"\x22\x02", b"\x22\x03"), "padded"),
    ],
)
def test_damage_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(BadMeasurementError, match=reason):
        parse_result(content)


def test_fields_of_newer_tools_are_left_out() -> None:
    extra = b"\x0a\x03abc" + b"\x51" + bytes(8) + b"\x78\x01"
    assert parse_result(extra + message(LATENCY)) == parse_result(message(LATENCY))


@pytest.mark.parametrize("zeros", [{4}, {2, 4}, {2, 6}, {2, 4, 5, 6}, {2, 4, 5, 6, 7}])
def test_what_is_zero_may_be_left_out(zeros: set[int]) -> None:
    written = message({number: 0.0 if number in zeros else value for number, value in LATENCY.items()})
    left_out = message({number: value for number, value in LATENCY.items() if number not in zeros})
    got = parse_result(left_out)
    assert got == parse_result(written)
    names = {2: got.min_ms, 4: got.std_ms, 5: got.median_ms, 6: got.p5_ms, 7: got.p95_ms}
    assert {number for number, value in names.items() if value == 0} == zeros


@pytest.mark.parametrize("run", real_runs(), ids=lambda run: str(run.kind))
def test_the_file_of_the_same_run_agrees(run: Run) -> None:
    text = parse_output(run.stdout, run.stderr)
    cross_check(parse_result(run.result), text)


def test_the_file_of_another_run_is_refused() -> None:
    first, second, *_ = real_runs()
    text = parse_output(first.stdout, first.stderr)
    with pytest.raises(BadMeasurementError, match=r"median 7.768 ms printed, 1.148 ms in the file.*836"):
        cross_check(parse_result(second.result), text)


def test_one_digit_is_noticed_and_rounding_is_not() -> None:
    run = real_runs()[0]
    result = parse_result(run.result)
    cross_check(result, parse_output(run.stdout.replace(b"avg=8089.02", b"avg=8089.02")))
    for printed, changed in ((b"median=7768", b"median=7769"), (b"count=123", b"count=124")):
        with pytest.raises(BadMeasurementError, match="does not belong to this run"):
            cross_check(result, parse_output(run.stdout.replace(printed, changed)))


@settings(max_examples=1_000)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_result_or_an_error(content: bytes) -> None:
    try:
        got = parse_result(content)
    except BadMeasurementError:
        return
    assert 0 <= got.min_ms <= got.avg_ms <= got.max_ms * 1.0001 and got.avg_ms > 0


@settings(max_examples=1_000)
@given(st.integers(0, len(REAL) - 1), st.integers(0, 255), st.integers(0, 3))
def test_any_change_gives_numbers_that_stand_in_the_file_or_an_error(at: int, byte: int, cut: int) -> None:
    content = REAL[:at] + bytes([byte]) + REAL[at + 1 + cut :]
    try:
        got = parse_result(content)
    except BadMeasurementError:
        return
    for value in (got.median_ms, got.p5_ms, got.p95_ms, got.max_ms, got.avg_ms):
        assert struct.pack("<f", value) in content
    assert got.min_ms == 0 or struct.pack("<f", got.min_ms) in content
    assert varint(got.runs) in content


@settings(max_examples=1_000)
@given(
    st.lists(st.integers(0, 9) | st.integers(0, 2**31), min_size=5, max_size=5).map(sorted),
    st.integers(2, 2**31 - 1),
    st.booleans(),
    st.data(),
)
def test_what_is_written_agrees_with_what_is_printed(
    order: list[int], count: int, zeros: bool, data: st.DataObject
) -> None:
    low, p5, median, p95, high = order[0], *order[1:4], order[4] + 1
    average = data.draw(st.floats(max(low, 0.001), high))
    line = f"count={count} first={low} curr={low} min={low} max={high} avg={average:.6g} std=0"
    heading = "Running benchmark for at least 1 iterations"
    text = parse_output(
        f"{heading}\ncount=1 curr=5\n{heading}\n{line} p5={p5} median={median} p95={p95}\n".encode()
    )
    result = parse_result(encode_result(text, zeros=zeros))
    cross_check(result, text)
    assert result.median_ms == pytest.approx(median / 1000, rel=1e-6)
