"""What ``benchmark_model`` prints and writes, classic and LiteRT's, from measured times.

The wording is that of the real tools (August 2026). Times are whole microseconds, as theirs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One finished benchmark. Times in microseconds; memory in KiB."""

    graph: str
    model_bytes: int
    input_bytes: int
    init_us: int
    warmup_us: tuple[int, ...]
    runs_us: tuple[int, ...]
    init_kib: int
    overall_kib: int
    signature: str = ""

    @property
    def throughput(self) -> float:
        """Input in MiB that goes through in a second."""
        return self.input_bytes / (mean(self.runs_us) / 1e6) / (1 << 20)


def mean(times_us: Sequence[int]) -> float:
    """The average."""
    return sum(times_us) / len(times_us)


def deviation(times_us: Sequence[int]) -> int:
    """The standard deviation of all, in whole microseconds: in the tools it has the type of a time."""
    average = mean(times_us)
    return int(math.sqrt(max(0.0, sum(time * time for time in times_us) / len(times_us) - average * average)))


def percentile(times_us: Sequence[int], percent: int) -> int:
    """As the tools: the element at this share of the sorted times, rounded down."""
    return sorted(times_us)[len(times_us) * percent // 100]


def plain_statistics(times_us: Sequence[int]) -> str:
    """``count=123 first=7741 curr=...``; shorter where all times are equal (``stats_calculator.h``)."""
    if min(times_us) == max(times_us):
        remark = "(all same)" if len(times_us) > 1 else ""
        return f"count={len(times_us)} curr={times_us[-1]}{remark}"
    return (
        f"count={len(times_us)} first={times_us[0]} curr={times_us[-1]} min={min(times_us)} "
        f"max={max(times_us)} avg={mean(times_us):g} std={deviation(times_us)}"
    )


def statistics_line(times_us: Sequence[int]) -> str:
    """The same with three quantiles: the line of a warm-up and of the counted runs."""
    p5, median, p95 = (percentile(times_us, percent) for percent in (5, 50, 95))
    return f"{plain_statistics(times_us)} p5={p5} median={median} p95={p95}"


def running_line(runs: float, seconds: float, most_seconds: float) -> str:
    """What comes before the warm-up and before the counted runs."""
    return (
        f"Running benchmark for at least {runs:g} iterations and at least {seconds:g} seconds but "
        f"terminate if exceeding {most_seconds:g} seconds."
    )


def classic_summary(measured: Measured) -> list[str]:
    """The classic tool's last lines, on standard output."""
    return [
        f"Inference timings in us: Init: {measured.init_us}, First inference: {measured.warmup_us[0]}, "
        f"Warmup (avg): {mean(measured.warmup_us):g}, Inference (avg): {mean(measured.runs_us):g}",
        "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to "
        "the actual memory footprint of the model at runtime. Take the information at your discretion.",
        "Memory footprint delta from the start of the tool (MB): "
        f"init={measured.init_kib / 1024:g} overall={measured.overall_kib / 1024:g}",
    ]


def litert_summary(measured: Measured) -> str:
    """LiteRT's table, on standard error."""
    warmup, runs = measured.warmup_us, measured.runs_us
    rows = (
        (91, f"Signature name:       {measured.signature}"),
        (94, f"Model initialization: {measured.init_us / 1e3:.2f} ms"),
        (95, f"Warmup (first):       {warmup[0] / 1e3:.2f} ms"),
        (97, f"Warmup (avg):         {mean(warmup) / 1e3:.2f} ms ({len(warmup)} runs)"),
        (99, f"Inference (avg):      {mean(runs) / 1e3:.2f} ms ({len(runs)} runs)"),
        (103, f"Inference (min):      {min(runs) / 1e3:.2f} ms"),
        (105, f"Inference (max):      {max(runs) / 1e3:.2f} ms"),
        (107, f"Inference (std):      {deviation(runs) / 1e3:.2f}"),
        (115, f"Throughput:           {measured.throughput:.2f} MB/s"),
        (124, "\nMemory Usage:"),
        (125, f"Init footprint:       {measured.init_kib / 1024:.2f} MB"),
        (127, f"Overall footprint:    {measured.overall_kib / 1024:.2f} MB"),
        (134, "Peak memory usage not available. (peak_mem_mb <= 0)"),
        (138, "======================================\n"),
    )
    head = "INFO: [benchmark_litert_model.h:89] \n========== BENCHMARK RESULTS ==========\n"
    return head + "".join(f"INFO: [benchmark_litert_model.h:{line}] {text}\n" for line, text in rows)


def result_protobuf(measured: Measured) -> bytes:
    """The file of ``--result_file_path``: messages 2 latency (ms), 3 memory and 4 misc."""
    warmup, runs = measured.warmup_us, measured.runs_us
    times_us = (
        mean(runs),
        min(runs),
        max(runs),
        deviation(runs),
        percentile(runs, 50),
        percentile(runs, 5),
        percentile(runs, 95),
        measured.init_us,
        warmup[0],
        mean(warmup),
    )
    latency = b"".join(_float(place, time / 1e3) for place, time in enumerate(times_us, start=1))
    memory = _integer(1, measured.init_kib) + _integer(2, measured.overall_kib)
    misc = _float(1, measured.model_bytes / 1e6) + _integer(2, len(runs)) + _integer(3, len(warmup))
    misc += _float(4, measured.throughput)
    return _message(2, latency) + _message(3, memory) + _message(4, misc)


def _varint(number: int) -> bytes:
    content = bytearray()
    while number > 0x7F:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*content, number])


def _float(place: int, value: float) -> bytes:
    return _varint(place << 3 | 5) + struct.pack("<f", value)


def _integer(place: int, value: int) -> bytes:
    return _varint(place << 3) + _varint(value)


def _message(place: int, content: bytes) -> bytes:
    return _varint(place << 3 | 2) + _varint(len(content)) + content
