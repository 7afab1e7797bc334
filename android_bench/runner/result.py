"""The result file of ``benchmark_model`` (``--result_file_path``): a small protobuf, read by hand.

Both tools write the same message, ``tflite.tools.benchmark.BenchmarkResult``: latencies (field 2), memory
(3), and counts (4). The reader is stricter than protobuf asks for, because the file comes over a cable:
no field twice, no wrong type, nothing behind the end.

Source: ``tensorflow/lite/tools/benchmark/proto/benchmark_result.proto``; wire format:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from android_bench.runner.output import MAX_LATENCY_US, SIX_DIGITS, TOO_SHORT, RunnerOutput
from nasflow.base.errors import BadMeasurementError

MAX_RESULT_BYTES = 65_536
"""A real file has about 80 bytes; one with the model's run-time details has some KB."""

_AGAIN = "Measure again; if the problem persists, run 'nasflow doctor --device android'."
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Value = int | bytes

_LATENCY = {
    1: "avg_ms",
    2: "min_ms",
    3: "max_ms",
    4: "std_ms",
    5: "median_ms",
    6: "p5_ms",
    7: "p95_ms",
    8: "init_ms",
    9: "first_ms",
    10: "warmup_avg_ms",
}
# A writer of protobuf may leave out what is 0: a model of less than a microsecond, times that are all alike.
_MAY_BE_ZERO = dict.fromkeys(("min_ms", "std_ms", "median_ms", "p5_ms", "p95_ms"), 0.0)


@dataclass(frozen=True)
class RunnerResult:
    """What the result file says. Times in milliseconds, 0: below one microsecond; memory in KiB.

    None: not in the file.
    """

    median_ms: float
    p5_ms: float
    p95_ms: float
    min_ms: float
    max_ms: float
    avg_ms: float
    std_ms: float
    runs: int
    init_ms: float | None = None
    first_ms: float | None = None
    warmup_avg_ms: float | None = None
    warmup_runs: int | None = None
    init_memory_kib: int | None = None
    overall_memory_kib: int | None = None


def parse_result(content: bytes) -> RunnerResult:
    """Read a result file. Raises BadMeasurementError, with the bytes in hexadecimal, where it is damaged."""
    try:
        if len(content) > MAX_RESULT_BYTES:
            raise _Damaged(f"has {len(content)} bytes, more than {MAX_RESULT_BYTES}")
        message = dict(_once(content))
        latency = {name: _float(value) for name, value in _named(message.get(2), _LATENCY)}
        memory = {name: _count(v) for name, v in _named(message.get(3), {1: "init", 2: "overall"})}
        misc = {name: _count(v) for name, v in _named(message.get(4), {2: "runs", 3: "warmup_runs"})}
        if missing := [name for name in ("avg_ms", "max_ms") if name not in latency]:
            raise _Damaged(f"does not contain {', '.join(missing)}")
        latency = _MAY_BE_ZERO | latency
        if "runs" not in misc:
            raise _Damaged("does not contain the number of runs")
        result = RunnerResult(
            **latency,
            runs=misc["runs"],
            warmup_runs=misc.get("warmup_runs"),
            init_memory_kib=memory.get("init"),
            overall_memory_kib=memory.get("overall"),
        )
        _plausible(result)
    except _Damaged as problem:
        raise BadMeasurementError(
            f"benchmark_model's result file {problem}.",
            hint=problem.hint,
            raw=content[:MAX_RESULT_BYTES].hex(),
        ) from None
    return result


def cross_check(result: RunnerResult, text: RunnerOutput) -> None:
    """Hold the result file against what was printed. Raises BadMeasurementError.

    The text has six significant digits and the file float32, so they agree to about 5 in a million. A
    result file that an earlier run has left behind does not. A quantile of 0 must be printed, too: in the
    file it may be one that is lost.
    """
    timings, warmup = text.inference, text.warmup
    pairs = {
        "median": (timings.median_us, result.median_ms),
        "5 % quantile": (timings.p5_us, result.p5_ms),
        "95 % quantile": (timings.p95_us, result.p95_ms),
        "minimum": (timings.min_us, result.min_ms),
        "maximum": (timings.max_us, result.max_ms),
        "average": (timings.avg_us, result.avg_ms),
        "warm-up's average": (warmup.avg_us if warmup else None, result.warmup_avg_ms),
        "first inference": (warmup.first_us if warmup else None, result.first_ms),
    }
    differing = [
        f"{name} {printed_us / 1000:g} ms printed, {written_ms:g} ms in the file"
        for name, (printed_us, written_ms) in pairs.items()
        if printed_us is not None
        and written_ms is not None
        and abs(printed_us / 1000 - written_ms) > SIX_DIGITS * max(printed_us / 1000, written_ms)
    ]
    lost = {"median": (timings.median_us, result.median_ms), "5 % quantile": (timings.p5_us, result.p5_ms)}
    lost["95 % quantile"] = (timings.p95_us, result.p95_ms)
    differing += [f"no {name} in either" for name, pair in lost.items() if pair == (None, 0)]
    if timings.count != result.runs:
        differing.append(f"{timings.count} runs printed, {result.runs} in the file")
    if warmup is not None and result.warmup_runs not in (None, warmup.count):
        differing.append(f"{warmup.count} warm-up runs printed, {result.warmup_runs} in the file")
    if differing:
        raise BadMeasurementError(
            f"benchmark_model's result file does not belong to this run: {'; '.join(differing)}.",
            hint=_AGAIN,
            raw=f"{text}\n{result}",
        )


class _Damaged(Exception):
    """What is wrong with the file, as the end of a sentence, and what to do."""

    def __init__(self, problem: str, hint: str = _AGAIN) -> None:
        super().__init__(problem)
        self.hint = hint


def _plausible(result: RunnerResult) -> None:
    order = [result.min_ms, result.p5_ms, result.median_ms, result.p95_ms, result.max_ms]
    slack = SIX_DIGITS * result.max_ms
    if result.avg_ms == 0 or result.max_ms == 0:
        raise _Damaged("reports 0 microseconds for every run", TOO_SHORT)
    if result.max_ms > MAX_LATENCY_US / 1000:
        raise _Damaged(f"reports an impossible latency: {result.min_ms:g} to {result.max_ms:g} ms")
    if order != sorted(order) or not result.min_ms - slack <= result.avg_ms <= result.max_ms + slack:
        raise _Damaged("is inconsistent: minimum, quantiles, average and maximum are out of order")
    if result.runs < 1:
        raise _Damaged("reports no runs")


def _named(part: _Value | None, names: dict[int, str]) -> Iterator[tuple[str, _Value]]:
    """The fields of a message that have a name; the others are left out."""
    if part is None:
        return
    if isinstance(part, int):
        raise _Damaged("has a number instead of a group of values")
    yield from ((names[number], value) for number, value in _once(part) if number in names)


def _once(content: bytes) -> Iterator[tuple[int, _Value]]:
    seen: set[int] = set()
    for number, value in _fields(content):
        if number in seen:
            raise _Damaged(f"has field {number} twice")
        seen.add(number)
        yield number, value


def _fields(content: bytes) -> Iterator[tuple[int, _Value]]:
    """Every field of one message: varints as int, all else as its bytes."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number < 2**29:
            raise _Damaged(f"has a field with the invalid number {number}")
        if wire_type == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            size, at = _varint(content, at)
        elif wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise _Damaged(f"has a field with the unknown wire type {wire_type}")
        if size > len(content) - at:
            raise _Damaged("ends in the middle of a field")
        yield number, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise _Damaged("ends in the middle of a number")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise _Damaged("has a number that is padded with zeros")
            return value, at
    raise _Damaged("has a number of more than ten bytes")


def _float(value: _Value) -> float:
    if isinstance(value, int) or len(value) != 4:
        raise _Damaged("has a latency that is not a 32-bit floating-point number")
    number: float = struct.unpack("<f", value)[0]
    if not math.isfinite(number) or number < 0:
        raise _Damaged("has a latency that is negative or not a number")
    return number


def _count(value: _Value) -> int:
    if not isinstance(value, int) or value >= 2**31:
        raise _Damaged("has a count that is not a valid number")
    return value
