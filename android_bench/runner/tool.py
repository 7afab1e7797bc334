"""``benchmark_model`` on a phone: which of the two tools it is, how it is called, what a run is worth.

The classic TFLite tool and LiteRT's newer one share most flags. They ignore flags that they do not know
and fall back to the CPU, both with exit code 0, so nothing is taken for measured that the output does not
confirm. Their ``num_runs`` is a minimum beside ``min_secs``; there is no maximum but ``max_secs``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from android_bench.device import (
    BenchmarkRequest,
    Conditions,
    LatencyMeasurement,
    RuntimeOptions,
    parse_measurement,
)
from android_bench.phone.text import CpuPolicy
from android_bench.runner.output import MAX_TEXT_CHARACTERS, RunnerOutput, parse_output
from android_bench.runner.result import cross_check, parse_result
from android_bench.transport import Completed, plain_text
from nasflow.errors import BadMeasurement, DeviceError, NoUsableDevice, UsageError

MAX_SECONDS = 150.0
"""A run ends after this many seconds at the latest: the tools' own default."""

_HINT_RUNNER = "Set android.runner to auto, or to a benchmark_model of this year."
_FLAG = re.compile(r"^\s*--([a-z0-9_]{1,60})=", re.MULTILINE)
_NEEDED = frozenset(
    {"graph", "num_threads", "num_runs", "min_secs", "max_secs", "warmup_runs", "warmup_min_secs"}
    | {"result_file_path"}
)
_CPU_DELEGATES = ("xnnpack", "cpu")

# e_machine and word size of each ABI's programs (ELF specification; Android NDK, "Android ABIs").
_ELF_OF_ABI = {
    "arm64-v8a": (183, 2),
    "armeabi-v7a": (40, 1),
    "x86_64": (62, 2),
    "x86": (3, 1),
    "riscv64": (243, 2),
}


@dataclass(frozen=True)
class RunnerTool:
    """Which tool a binary is, and the flags that it knows."""

    kind: Literal["classic", "litert"]
    flags: frozenset[str]


def identify(completed: Completed) -> RunnerTool:
    """Tell the tools apart by what ``--help`` prints; it exits with 1, so the exit code says nothing.

    Raises UsageError where it is neither, or too old to write a result file.
    """
    text = "\n".join(
        plain_text(stream, limit=MAX_TEXT_CHARACTERS) for stream in (completed.stdout, completed.stderr)
    )
    flags = frozenset(_FLAG.findall(text))
    if not flags & {"use_profiler", "enable_op_profiling"}:
        raise UsageError(
            f"the runner is no benchmark_model: --help (exit code {completed.exit_code}) lists "
            f"{len(flags)} flags, and neither enable_op_profiling nor use_profiler.",
            hint=_HINT_RUNNER,
            raw=text,
        )
    if missing := _NEEDED - flags:
        raise UsageError(
            f"the runner is too old: its benchmark_model does not know {_flags(missing)}.",
            hint=_HINT_RUNNER,
            raw=text,
        )
    return RunnerTool("litert" if "use_profiler" in flags else "classic", flags)


def command(
    tool: RunnerTool,
    request: BenchmarkRequest,
    *,
    binary: str,
    model: str,
    result: str,
    mask: int | None = None,
    max_seconds: float = MAX_SECONDS,
) -> tuple[str, ...]:
    """The words that time one model; ``binary``, ``model`` and ``result`` are paths on the phone.

    ``mask`` comes from :func:`cpu_mask`. Delete the result file first: an old one must not be read.
    ``request.max_runs`` has no equal and is left out. Raises UsageError where the tool cannot do it.
    """
    options = request.options
    flags = {
        "graph": model,
        "num_threads": str(options.threads),
        "warmup_runs": "1",
        "warmup_min_secs": _seconds(request.warmup_ms),
        "num_runs": str(request.min_runs),
        "min_secs": _seconds(request.min_ms),
        "max_secs": _seconds(1000 * max_seconds),
        "result_file_path": result,
    }
    flags |= _delegate_flags(tool, options)
    if missing := flags.keys() - tool.flags:
        raise UsageError(
            f"the {tool.kind} benchmark_model does not know {_flags(missing)}.", hint=_HINT_RUNNER
        )
    prefix = () if mask is None else ("taskset", f"{mask:x}")
    return (*prefix, binary, *(f"--{name}={value}" for name, value in flags.items()))


def longest_run_s(request: BenchmarkRequest, *, max_seconds: float = MAX_SECONDS) -> float:
    """How long :func:`command` may take: warm-up and runs end after ``max_seconds`` each, plus loading."""
    return 2 * max_seconds + (request.warmup_ms + request.min_ms) / 1000 + 60.0


def cpu_mask(options: RuntimeOptions, policies: Sequence[CpuPolicy]) -> int | None:
    """The cores that ``options.cpu`` names, as bits; None for all of them.

    ``little`` is the slowest cluster, ``prime`` the fastest, ``big`` what lies between, or the faster of
    two. ``auto`` is the fastest cluster that has a core for each thread, the slowest left aside; else the
    fastest ones that have as many together; else all. Raises NoUsableDevice where the phone does not tell its
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
                f"runtime.cpu {options.cpu} names cores that are not there"
                + (f"; this phone's are {present:#x}." if present else "."),
                hint="Choose auto, all, big, little, prime, or a mask of some of its cores.",
            )
        return mask
    speeds = sorted({policy.hardware_max_khz for policy in policies if policy.hardware_max_khz is not None})
    if not policies or any(policy.hardware_max_khz is None for policy in policies):
        raise NoUsableDevice(
            f"runtime.cpu is {options.cpu}, but this phone does not tell which of its cores are which.",
            hint="Set runtime.cpu to auto, all, or to a mask such as 0xf0.",
        )
    if len(speeds) == 1:
        raise UsageError(
            f"runtime.cpu is {options.cpu}, but all cores of this phone are alike ({speeds[0]} kHz).",
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


def check_abi(binary: bytes, abi: str, *, name: str) -> None:
    """Whether a program is for a phone whose ``ro.product.cpu.abi`` is ``abi``.

    Raises UsageError for what is no program, NoUsableDevice for one of another ABI.
    """
    seen = elf_abi(binary)
    if seen is None:
        raise UsageError(
            f"{name} is no Linux or Android program: it begins with {binary[:8]!r}.", hint=_HINT_RUNNER
        )
    if seen != abi:
        raise NoUsableDevice(
            f"{name} is built for {seen}, but the phone is {abi or 'of an unknown ABI'}.",
            hint=f"Set android.runner to a benchmark_model for {abi or 'this phone'}.",
        )


def elf_abi(binary: bytes) -> str | None:
    """The ABI in a program's ELF header, by Android's name, or the machine's number; None: no program."""
    if len(binary) < 52 or binary[:4] != b"\x7fELF" or binary[4] not in (1, 2) or binary[5] not in (1, 2):
        return None
    order: Literal["little", "big"] = "little" if binary[5] == 1 else "big"
    kind, machine = (int.from_bytes(binary[at : at + 2], order) for at in (16, 18))
    if kind not in (2, 3):  # ET_EXEC, ET_DYN: a program, or a position-independent one
        return None
    known = {value: name for name, value in _ELF_OF_ABI.items()}
    name = known.get((machine, binary[4])) if order == "little" else None
    return name or f"ELF machine {machine}, {32 * binary[4]} bits"


def finished_run(
    tool: RunnerTool,
    completed: Completed,
    result: bytes | None,
    request: BenchmarkRequest,
    *,
    conditions: Conditions | None = None,
) -> LatencyMeasurement:
    """What a finished run of :func:`command` measured; ``result`` is its result file, None: there is none.

    Raises DeviceError where the tool failed, and BadMeasurement where its text and its file do not together
    confirm one latency, measured as it was asked for. Both keep all that was printed.
    """
    raw = "\n".join(
        plain_text(stream, limit=MAX_TEXT_CHARACTERS) for stream in (completed.stdout, completed.stderr)
    )
    if completed.exit_code != 0:
        reason = [line.strip() for line in raw.split("\n") if "ERROR" in line or "error" in line]
        telling = [line for line in reason if "Benchmarking failed" not in line] or reason  # says nothing
        hint = "The model may use an operator that this runner lacks."
        if request.options.delegate == "gpu":
            hint = "The phone's GPU does not compute all of this model, or has no driver: use the CPU."
        raise DeviceError(
            f"benchmark_model failed on {request.name} with exit code {completed.exit_code}"
            + (f": {plain_text(telling[-1], limit=200)}" if telling else "."),
            hint=hint,
            raw=raw,
        )
    output = parse_output(completed.stdout, completed.stderr)
    if output.unknown_flags:
        raise BadMeasurement(
            f"benchmark_model ignored what it was asked for: {output.unknown_flags[:200]}.",
            hint=_HINT_RUNNER,
            raw=raw,
        )
    if tool.kind == "classic" and output.summary is None:
        raise BadMeasurement(
            f"benchmark_model's output for {request.name} breaks off before its summary.",
            hint="Measure again.",
            raw=raw,
        )
    _check_delegate(tool, output, request.options, raw)
    if result is None:
        raise BadMeasurement(
            f"benchmark_model left no result file for {request.name}.",
            hint="Look whether the phone's storage is full, then measure again.",
            raw=raw,
        )
    try:
        found = parse_result(result)
        cross_check(found, output)
    except BadMeasurement as error:
        error.raw = f"{raw}\n{error.raw}"
        raise
    if found.runs < request.min_runs:
        raise BadMeasurement(
            f"benchmark_model stopped {request.name} after {found.runs} of {request.min_runs} runs.",
            hint="The model takes too long on this phone: ask for fewer runs.",
            raw=raw,
        )
    fields = {
        "median_ms": found.median_ms,
        "p5_ms": found.p5_ms,
        "p95_ms": found.p95_ms,
        "min_ms": found.min_ms,
        "runs": found.runs,
        "rounds": 1,
        "round_medians_ms": [found.median_ms],
        "conditions": conditions,
    }
    return parse_measurement(fields, source=f"benchmark_model ({request.name})")


def _delegate_flags(tool: RunnerTool, options: RuntimeOptions) -> dict[str, str]:
    if options.delegate == "gpu":
        flags = {"use_gpu": "true", "require_full_delegation": "true"}
        # LiteRT's tool aborts where the CPU is allowed and full delegation is required.
        return flags | ({"use_cpu": "false"} if tool.kind == "litert" else {"use_xnnpack": "false"})
    return {} if tool.kind == "litert" else {"use_xnnpack": "true"}


def _check_delegate(tool: RunnerTool, output: RunnerOutput, options: RuntimeOptions, raw: str) -> None:
    """A GPU must be seen to have computed all of the graph. Raises BadMeasurement."""
    if options.delegate == "cpu":
        others = [d.delegate for d in output.delegations if d.extent != "none" and not _on_cpu(d.delegate)]
        if others:
            raise BadMeasurement(
                f"the CPU was asked for, but {others[0][:60]} computed the model.", hint=_HINT_RUNNER, raw=raw
            )
        return
    seen = [d.extent for d in output.delegations if not _on_cpu(d.delegate)]
    helped = any(_on_cpu(d.delegate) and d.extent != "none" for d in output.delegations)
    if seen and set(seen) == {"all"} and not helped:
        return
    if "all" in seen or "part" in seen:
        reason = "it computed only a part of the model"
    elif seen or helped:
        reason = "the tool fell back to the CPU"
    else:
        reason = f"the {tool.kind} runner does not say that it computed"
    raise BadMeasurement(
        f"the GPU was asked for, but {reason}.",
        hint="Set runtime.delegate to cpu, or use the classic benchmark_model, which says what computes.",
        raw=raw,
    )


def _on_cpu(delegate: str) -> bool:
    return any(word in delegate.lower() for word in _CPU_DELEGATES)


def _flags(names: Sequence[str] | frozenset[str] | set[str]) -> str:
    return ", ".join(f"--{name}" for name in sorted(names))


def _seconds(milliseconds: float) -> str:
    """A plain decimal: the tools' flags know no exponents."""
    return f"{milliseconds / 1000:.6f}".rstrip("0").rstrip(".")
