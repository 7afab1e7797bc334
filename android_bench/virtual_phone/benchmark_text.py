"""What ``benchmark_model`` prints and writes, classic and LiteRT's, from measured times.

The wording is that of the real tools, recorded in ``tests/fixtures/benchmark_model`` (August 2026); what no
recording holds is from their sources: ``benchmark_model.cc``, ``benchmark_tflite_model.cc``,
``litert/tools/benchmark_litert_model.h``, ``tsl/util/stats_calculator.h``. Times are whole microseconds.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST_INT64 = 2**63 - 1

# What LiteRT's tool says around its work (``litert_dummy.err``).
LITERT_BEGINS = (
    "INFO: [environment.cc:36] Creating LiteRT environment with options\n"
    "INFO: [accelerator_registry.cc:53] RegisterAccelerator: ptr=0x55b8c1e194a0, name=CpuAccelerator\n"
    "INFO: [cpu_registry.cc:75] XNNPACK CPU accelerator registered.\n"
)
LITERT_ENDS = (
    "INFO: [accelerator_registry.cc:42] DestroyAccelerator: ptr=0x55b8c1e194a0, name=CpuAccelerator\n"
)


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
    def first_us(self) -> int:
        """The first of all runs, a warm-up's."""
        return self.warmup_us[0] if self.warmup_us else 0

    @property
    def throughput(self) -> float:
        """Input in MiB that goes through in a second; infinite where no run took any time."""
        through = self.input_bytes * len(self.runs_us) * 1e6 / (1 << 20)
        if sum(self.runs_us) == 0:
            return math.inf if through else 0.0
        return through / sum(self.runs_us)


def mean(times_us: Sequence[int]) -> float:
    """The average; of no times 0, which is an integer's "not a number"."""
    return sum(times_us) / len(times_us) if times_us else 0.0


def extremes(times_us: Sequence[int]) -> tuple[int, int]:
    """The least and the greatest; of no times those from which the tools begin to search."""
    return min(times_us, default=LARGEST_INT64), max(times_us, default=-LARGEST_INT64 - 1)


def deviation(times_us: Sequence[int]) -> int:
    """The standard deviation of all, in whole microseconds: in the tools it has the type of a time."""
    if not times_us:
        return 0
    average = mean(times_us)
    return int(math.sqrt(max(0.0, sum(time * time for time in times_us) / len(times_us) - average * average)))


def percentile(times_us: Sequence[int], percent: int) -> int:
    """As the tools: the element at this share of the sorted times, rounded down; 0 of no times."""
    return 0 if not times_us else sorted(times_us)[len(times_us) * percent // 100]


def plain_statistics(times_us: Sequence[int]) -> str:
    """``count=123 first=7741 curr=...``; shorter where all times are equal (``stats_calculator.h``)."""
    if not times_us:
        return "count=0"
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
        f"Inference timings in us: Init: {measured.init_us}, First inference: {measured.first_us}, "
        f"Warmup (avg): {mean(measured.warmup_us):g}, Inference (avg): {mean(measured.runs_us):g}",
        "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to "
        "the actual memory footprint of the model at runtime. Take the information at your discretion.",
        "Memory footprint delta from the start of the tool (MB): "
        f"init={measured.init_kib / 1024:g} overall={measured.overall_kib / 1024:g}",
    ]


def litert_summary(measured: Measured) -> str:
    """LiteRT's table, on standard error."""
    warmup, runs = measured.warmup_us, measured.runs_us
    least, greatest = extremes(runs)
    timing_lines = (
        (103, f"Inference (min):      {least / 1e3:.2f} ms"),
        (105, f"Inference (max):      {greatest / 1e3:.2f} ms"),
        (107, f"Inference (std):      {deviation(runs) / 1e3:.2f}"),
    )
    rows = (
        (91, f"Signature name:       {measured.signature}"),
        (94, f"Model initialization: {measured.init_us / 1e3:.2f} ms"),
        (95, f"Warmup (first):       {measured.first_us / 1e3:.2f} ms"),
        (97, f"Warmup (avg):         {mean(warmup) / 1e3:.2f} ms ({len(warmup)} runs)"),
        (99, f"Inference (avg):      {mean(runs) / 1e3:.2f} ms ({len(runs)} runs)"),
        *(timing_lines if runs else [(110, "No inference runs were performed.")]),
        (115, f"Throughput:           {measured.throughput:.2f} MB/s")
        if measured.throughput > 0
        else (118, "No throughput data available (throughput <= 0)."),
        (124, "\nMemory Usage:"),
        (125, f"Init footprint:       {measured.init_kib / 1024:.2f} MB"),
        (127, f"Overall footprint:    {measured.overall_kib / 1024:.2f} MB"),
        (134, "Peak memory usage not available. (peak_mem_mb <= 0)"),
        (138, "======================================\n"),
    )
    head = "INFO: [benchmark_litert_model.h:89] \n========== BENCHMARK RESULTS ==========\n"
    return head + "".join(f"INFO: [benchmark_litert_model.h:{line}] {text}\n" for line, text in rows)


def result_protobuf(measured: Measured) -> bytes:
    """The file of ``--result_file_path``: messages 2 latency (ms), 3 memory and 4 misc.

    What is 0 is left out. The published ``benchmark_result.proto`` is of the syntax proto2, by which a zero
    that was set is written; builds that leave it out have been reported, and are harder to read.
    """
    warmup, runs = measured.warmup_us, measured.runs_us
    times_us = (
        mean(runs),
        *extremes(runs),
        deviation(runs),
        percentile(runs, 50),
        percentile(runs, 5),
        percentile(runs, 95),
        measured.init_us,
        measured.first_us,
        mean(warmup),
    )
    latency = b"".join(_float(field, time / 1e3) for field, time in enumerate(times_us, start=1))
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


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value) if value else b""


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content
