"""``benchmark_model`` on a phone: how it is called, and what a run of it is worth.

The classic TFLite tool and LiteRT's newer one share most flags. They ignore flags that they do not know
and fall back to the CPU, both with exit code 0, so nothing is taken for measured that the output does not
confirm. Their ``num_runs`` is a minimum beside ``min_secs``; there is no maximum but ``max_secs``.
"""

from __future__ import annotations

from collections.abc import Sequence

from android_bench.device import (
    BenchmarkRequest,
    Conditions,
    CpuPolicy,
    LatencyMeasurement,
    RuntimeOptions,
    parse_measurement,
)
from android_bench.runner.delegates import DELEGATES
from android_bench.runner.failure import run_failed
from android_bench.runner.identity import HINT_RUNNER, RunnerTool
from android_bench.runner.output import MAX_TEXT_CHARACTERS, parse_output
from android_bench.runner.result import RunnerResult, cross_check, parse_result
from android_bench.transport import Completed
from android_bench.warm_up import WARM_RUNS
from nasflow.base.errors import BadMeasurementError, NoUsableDeviceError, UsageError
from nasflow.base.text import plain_text

MAX_SECONDS = 150.0
"""A run ends after this many seconds at the latest: the tools' own default."""

RESOLUTION_MS = 0.001
"""The tools' clock counts whole microseconds: a run that it counts as 0 took less than one."""


def command(
    tool: RunnerTool,
    request: BenchmarkRequest,
    *,
    binary: str,
    model: str,
    result: str,
    mask: int | None = None,
    libraries: str = "",
) -> tuple[str, ...]:
    """The words that time one model; ``binary``, ``model`` and ``result`` are paths on the phone.

    ``mask`` comes from :func:`cpu_mask`; ``libraries`` is the folder of a delegate's libraries on the phone.
    Delete the result file first: an old one must not be read. ``request.max_runs`` has no equal and is left
    out. Raises UsageError where the tool cannot do it.
    """
    options = request.options
    flags = {
        "graph": model,
        "num_threads": str(options.threads),
        "warmup_runs": str(WARM_RUNS),
        "warmup_min_secs": _seconds(request.warmup_ms),
        "num_runs": str(request.min_runs),
        "min_secs": _seconds(request.min_ms),
        "max_secs": _seconds(1000 * MAX_SECONDS),
        "result_file_path": result,
    }
    flags |= DELEGATES[options.delegate].asked(tool.kind, libraries)
    if missing := flags.keys() - tool.flags:
        raise UsageError(
            f"the {tool.kind} benchmark_model does not support {_flags(missing)}.", hint=HINT_RUNNER
        )
    prefix = () if mask is None else ("taskset", f"{mask:x}")
    return (*prefix, binary, *(f"--{name}={value}" for name, value in flags.items()))


def longest_run_s(request: BenchmarkRequest) -> float:
    """How long :func:`command` may take: warm-up and runs end after ``MAX_SECONDS`` each, plus loading."""
    return 2 * MAX_SECONDS + (request.warmup_ms + request.min_ms) / 1000 + 60.0


def cpu_mask(options: RuntimeOptions, policies: Sequence[CpuPolicy]) -> int | None:
    """The cores that ``options.cpu`` names, as bits; None for all of them.

    ``little`` is the slowest cluster, ``prime`` the fastest, ``big`` what lies between, or the faster of two.
    ``auto`` is the fastest cluster that has a core for each thread, the slowest left aside; else the fastest
    ones that have as many together; else all. Raises NoUsableDeviceError where the phone does not tell its
    clusters (``auto`` is all then), UsageError where it has none such.
    """
    if options.cpu == "all":
        return None
    if options.cpu == "auto":
        return _fastest_mask(options.threads, policies)
    present = sum(1 << core for policy in policies for core in policy.cores)
    if options.cpu.startswith("0x"):
        mask = int(options.cpu, 16)
        if mask == 0 or (present and mask & ~present):
            raise UsageError(
                f"runtime.cpu {options.cpu} names cores that this phone does not have"
                + (f"; its cores are {present:#x}." if present else "."),
                hint="Choose auto, all, big, little, prime, or a mask of some of its cores.",
            )
        return mask
    speeds = sorted({policy.hardware_max_khz for policy in policies if policy.hardware_max_khz is not None})
    if not policies or any(policy.hardware_max_khz is None for policy in policies):
        raise NoUsableDeviceError(
            f"runtime.cpu is {options.cpu}, but this phone does not report the speed of its cores.",
            hint="Set runtime.cpu to auto, all, or to a mask such as 0xf0.",
        )
    if len(speeds) == 1:
        raise UsageError(
            f"runtime.cpu is {options.cpu}, but all cores of this phone have the same speed ({speeds[0]} "
            "kHz).",
            hint="Set runtime.cpu to auto, all, or to a mask such as 0x1.",
        )
    chosen = {
        "little": speeds[:1],
        "big": speeds[1:-1] or speeds[-1:],
        "prime": speeds[-1:],
    }[options.cpu]
    return sum(1 << core for policy in policies if policy.hardware_max_khz in chosen for core in policy.cores)


def _fastest_mask(threads: int, policies: Sequence[CpuPolicy]) -> int | None:
    """See :func:`cpu_mask`. One cluster rather than two: threads of unequal speed wait for each other."""
    cores: dict[int, list[int]] = {}
    for policy in policies:
        if policy.hardware_max_khz is None:
            return None
        cores.setdefault(policy.hardware_max_khz, []).extend(policy.cores)
    fastest_first = [cores[speed] for speed in sorted(cores, reverse=True)]
    chosen: list[int] = []
    for cluster in fastest_first[:-1]:
        if len(cluster) >= threads:
            return sum(1 << core for core in cluster)
    for cluster in fastest_first[:-1]:
        chosen += cluster
        if len(chosen) >= threads:
            return sum(1 << core for core in chosen)
    return None


def finished_run(
    tool: RunnerTool,
    completed: Completed,
    result: bytes | None,
    request: BenchmarkRequest,
    *,
    conditions: Conditions | None = None,
) -> LatencyMeasurement:
    """What a finished run of :func:`command` measured; ``result`` is its result file, None: there is none.

    Raises DeviceError where the tool failed (KilledByPhoneError: another try may help), and
    BadMeasurementError where its text and its file do not together confirm one latency, measured as it was
    asked for. Both name the model and keep all that was printed.
    """
    if completed.exit_code != 0:
        raise run_failed(completed, request.name, accelerator=DELEGATES[request.options.delegate].accelerator)
    try:
        found = _confirmed(tool, completed, result, request)
    except BadMeasurementError as error:
        raw = "\n".join(
            plain_text(stream, limit=MAX_TEXT_CHARACTERS) for stream in (completed.stdout, completed.stderr)
        )
        raise BadMeasurementError(
            f"{request.name} was not measured: {error.message}",
            hint=error.hint,
            raw=raw if error.raw in raw else f"{raw}\n{error.raw}",
        ) from error
    median_ms = _at_least_half_a_step(found.median_ms)
    fields = {
        "median_ms": median_ms,
        "p5_ms": _at_least_half_a_step(found.p5_ms),
        "p95_ms": _at_least_half_a_step(found.p95_ms),
        "min_ms": _at_least_half_a_step(found.min_ms),
        "runs": found.runs,
        "rounds": 1,
        "round_medians_ms": [median_ms],
        "resolution_ms": RESOLUTION_MS,
        "conditions": conditions,
    }
    return parse_measurement(fields, source=f"benchmark_model ({request.name})")


def _confirmed(
    tool: RunnerTool, completed: Completed, result: bytes | None, request: BenchmarkRequest
) -> RunnerResult:
    """The result file of a run whose text says the same. Raises BadMeasurementError."""
    output = parse_output(completed.stdout, completed.stderr)
    if output.unknown_flags:
        raise BadMeasurementError(
            f"benchmark_model ignored the flags {output.unknown_flags[:200]}.", hint=HINT_RUNNER
        )
    if tool.kind == "classic" and output.summary is None:
        raise BadMeasurementError("benchmark_model's output ends before its summary.", hint="Measure again.")
    DELEGATES[request.options.delegate].check(tool.kind, output.delegations)
    if result is None:
        raise BadMeasurementError(
            "benchmark_model did not write a result file.",
            hint="Check whether the phone's storage is full, then measure again.",
        )
    found = parse_result(result)
    cross_check(found, output)
    if found.runs < request.min_runs:
        raise BadMeasurementError(
            f"benchmark_model stopped after {found.runs} of {request.min_runs} runs.",
            hint="The model takes too long on this phone: request fewer runs.",
        )
    return found


def _at_least_half_a_step(milliseconds: float) -> float:
    """A time as it is stored; one that the tool counted as 0 lies somewhere below its clock's step."""
    return milliseconds if milliseconds > 0 else RESOLUTION_MS / 2


def _flags(names: Sequence[str] | frozenset[str] | set[str]) -> str:
    return ", ".join(f"--{name}" for name in sorted(names))


def _seconds(milliseconds: float) -> str:
    """A plain decimal: the tools' flags know no exponents."""
    return f"{milliseconds / 1000:.6f}".rstrip("0").rstrip(".")
