"""The virtual phone's ``benchmark_model``: runs a model with LiteRT and tells as the real tools do.

``python -m android_bench.virtual_phone.benchmark_tool classic|litert FLAGS...``; it runs inside the sandbox.
What throttling and drift do to a phone's times is read from ``tool.json`` among the phone's files.

Unlike the real tools it has no GPU, so that a request for one falls back to the CPU (or fails, with
``--require_full_delegation``), and with ``--enable_op_profiling`` it tells the whole graph's time but no
operator's: the runtime's Python interface has none.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from android_bench.local_worker import ModelError, fill_inputs, open_interpreter
from android_bench.virtual_phone import benchmark_text as text
from android_bench.virtual_phone.benchmark_flags import ParsedFlags, parse_flags, shown, usage
from android_bench.virtual_phone.clocks import POWER_FOLDER, ToolLoad
from android_bench.virtual_phone.phone_time import CLOCK_FILE, WallClock, asleep_from_s

# Outside of a sandbox the command table says where the phone's files lie.
STATE_FILE = Path(os.environ.get("NASFLOW_TOOL_STATE", "/system/etc/phone/tool.json"))


class ToolFailed(Exception):
    """The tool ends with exit code 1; the message goes to standard error."""


@dataclass(frozen=True)
class Slowness:
    """How much longer everything takes: ``slowdown`` from the start, more with every minute, and asleep."""

    slowdown: float = 1.0
    drift_per_minute: float = 0.0
    since_s: float = 0.0
    asleep_from_s: float | None = None
    sleep_slowdown: float = 1.0

    def apply(self, duration_us: float, now_s: float) -> int:
        """A time as this phone would report it; never below 1 us."""
        drift = max(0.1, 1 + self.drift_per_minute * (now_s - self.since_s) / 60)
        asleep = self.asleep_from_s is not None and now_s >= self.asleep_from_s
        slowdown = self.slowdown * (self.sleep_slowdown if asleep else 1.0)
        return max(1, int(duration_us * slowdown * drift))


@dataclass(frozen=True)
class LoadedSlowness(Slowness):
    """The same for a phone whose clocks fall under the load of these very runs."""

    load: ToolLoad | None = None

    def apply(self, duration_us: float, now_s: float) -> int:
        """See :meth:`Slowness.apply`."""
        if self.load is None:
            return super().apply(duration_us, now_s)
        factor = self.load.factor
        self.load.ran(duration_us / 1e6)
        return super().apply(factor * duration_us, now_s)


class DescribedTime:
    """A clock in nanoseconds that each run moves on as the described phone says, whatever it takes here."""

    def __init__(self, invoke: Callable[[], object], model: bytes, run_us: int) -> None:
        self._invoke = invoke
        share = int.from_bytes(hashlib.sha256(model).digest()[:4]) / (1 << 32)
        self._run_us = int(run_us * (1 + share))
        self._runs = 0
        self._now_ns = time.monotonic_ns()

    def clock(self) -> int:
        """Now."""
        return self._now_ns

    def invoke(self) -> None:
        """A run: up to 1 % longer than the shortest, in a pattern that repeats every eleven runs."""
        self._invoke()
        self._now_ns += 1000 * (self._run_us + self._run_us * (7 * self._runs % 11) // 1000)
        self._runs += 1


def main(arguments: Sequence[str], *, state_file: Path = STATE_FILE) -> int:
    """Do what the command line says; returns the exit code."""
    flavour, *rest = arguments
    state = json.loads(state_file.read_text(encoding="utf-8"))
    if state["abi"]:
        sys.stderr.write("/system/bin/sh: benchmark_model: not executable: 64-bit ELF file\n")
        return 126
    _say("STARTING!")
    try:
        _run(rest, flavour, state)
    except (ToolFailed, ModelError) as error:
        words = f"ERROR: {error}\n" if str(error) else ""
        sys.stderr.write(f"{words}ERROR: Benchmarking failed.\n")
        return 1
    return 0


def _say(line: str, severity: str = "INFO") -> None:
    sys.stdout.write(f"{severity}: {line}\n")
    sys.stdout.flush()


def _run(arguments: Sequence[str], flavour: str, state: dict[str, Any]) -> None:
    flags = parse_flags(arguments, flavour)
    if flags.bad or flags.is_on("help"):
        raise ToolFailed(usage("benchmark_model", flavour))
    if flags.unconsumed:
        _say(f"Unconsumed cmdline flags: {' '.join(flags.unconsumed)}", "WARN")
    listed = flags.changed if flavour == "classic" else flags.changed[:1]
    for label, value in listed:
        _say(f"{label}: [{shown(value)}]")
    graph = flags.text("graph")
    if not graph:
        raise ToolFailed("Please specify the name of your TF Lite input file with --graph")
    measured = _measure(graph, flags, flavour, state)
    if flavour == "classic":
        for line in text.classic_summary(measured):
            _say(line)
        if flags.is_on("enable_op_profiling"):
            _say("Operator-wise Profiling Info for Regular Benchmark Runs:")
            line = text.plain_statistics(measured.runs_us)
            sys.stdout.write(
                f"\nTimings (microseconds): {line}\nMemory (bytes): count=0\n0 nodes observed\n\n"
            )
    else:
        sys.stderr.write(text.litert_summary(measured))
    _write_result(flags.text("result_file_path"), text.result_protobuf(measured), state["free_bytes"])


def _measure(graph: str, flags: ParsedFlags, flavour: str, state: dict[str, Any]) -> text.Measured:
    threads = int(flags.number("num_threads"))
    before_kib = _resident_kib()
    start = time.monotonic_ns()
    try:
        content = Path(graph).read_bytes()
    except OSError as error:
        raise ToolFailed(f"Could not open '{graph}': {error.strerror}.") from error
    interpreter = open_interpreter(content, max(1, threads))
    fill_inputs(interpreter)
    slowness = Slowness(
        state["slowdown"],
        state["drift_per_minute"],
        state["since_monotonic_s"],
        asleep_from_s(os.environ.get("NASFLOW_TOOL_AWAKE_CS", ""), time.monotonic()),
        state["sleep_slowdown"],
    )
    init_us = slowness.apply((time.monotonic_ns() - start) / 1e3, time.monotonic())
    init_kib = max(0, _resident_kib() - before_kib)
    signatures = list(interpreter.get_signature_list())
    if flavour == "classic":
        if threads > 0:
            _say(f"#threads used for CPU inference: [{threads}]")
        _say(f"Loaded model {graph}")
    if flags.is_on("list_signatures"):
        _say(f"The Model contains {len(signatures)} signature key(s).")
        for signature in signatures:
            _say(f"-> Signature Key: {signature}")
        raise ToolFailed  # as the real tools do: what was asked for is told, and nothing was measured
    invoke: Callable[[], object] = interpreter.invoke
    clock: Callable[[], int] = time.monotonic_ns
    if state["run_us"]:
        described = DescribedTime(invoke, content, state["run_us"])
        invoke, clock = described.invoke, described.clock
    if (load := _load(state)) is not None:
        slowness = LoadedSlowness(**vars(slowness), load=load)
    clock = WallClock(STATE_FILE.with_name(CLOCK_FILE), clock)
    _tell_delegate(flags, flavour)
    _say(f"The input model file size (MB): {len(content) / 1e6:g}")
    _say(f"Initialized session in {init_us / 1e3:g}ms.")

    def loop(runs: str, seconds: str) -> tuple[int, ...]:
        limits = flags.number(runs), flags.number(seconds), flags.number("max_secs")
        _say(text.running_line(*limits))
        times = time_runs(invoke, *limits, slowness=slowness, clock=clock)
        _say(text.statistics_line(times) + "\n")
        return times

    warmup = loop("warmup_runs", "warmup_min_secs")
    return text.Measured(
        graph=graph,
        model_bytes=len(content),
        input_bytes=sum(
            tensor["dtype"]().itemsize * _size(tensor) for tensor in interpreter.get_input_details()
        ),
        init_us=init_us,
        warmup_us=warmup,
        runs_us=loop("num_runs", "min_secs"),
        init_kib=init_kib,
        overall_kib=max(0, _resident_kib() - before_kib),
        signature=signatures[0] if signatures else "",
    )


def _load(state: dict[str, Any]) -> ToolLoad | None:
    """The load that this process is; None where it lowers no clock, or there is no phone around it."""
    folder = Path(POWER_FOLDER)
    if state.get("sustained_share", 1.0) == 1.0 or not folder.is_dir():
        return None
    return ToolLoad(state["sustained_share"], state["sustained_after_s"], folder)


def time_runs(
    invoke: Callable[[], object],
    least_runs: float,
    least_seconds: float,
    most_seconds: float,
    *,
    slowness: Slowness,
    clock: Callable[[], int] = time.monotonic_ns,
) -> tuple[int, ...]:
    """Microseconds of each run: until both minima are reached or ``most_seconds`` are over; at least one."""
    begin = clock()
    times: list[int] = []
    while True:
        before = clock()
        invoke()
        after = clock()
        times.append(slowness.apply((after - before) / 1e3, after / 1e9))
        elapsed_s = (after - begin) / 1e9
        if elapsed_s >= most_seconds or (len(times) >= least_runs and elapsed_s >= least_seconds):
            return tuple(times)


def _tell_delegate(flags: ParsedFlags, flavour: str) -> None:
    """Say that the CPU computes; an accelerator that was asked for is not there."""
    if flags.is_on("use_gpu", "use_npu", "use_nnapi"):
        name = "GPU" if flags.is_on("use_gpu") else "NPU"
        if flags.is_on("require_full_delegation"):
            raise ToolFailed("Disallowed CPU fallback detected.")
        _say(
            f"Though {name} delegate is explicitly applied, the model graph will not be executed by the "
            "delegate."
        )
    if flavour == "litert":
        sys.stderr.write("INFO: [cpu_registry.cc:75] XNNPACK CPU accelerator registered.\n")


def _size(tensor: dict[str, Any]) -> int:
    size = 1
    for extent in tensor["shape"]:
        size *= int(extent)
    return size


def _resident_kib() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # no Linux: the peak has to do, in bytes there
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return pages * resource.getpagesize() // 1024


def _write_result(path: str, content: bytes, free_bytes: int | None) -> None:
    if not path:
        return
    # A full phone keeps what fitted, and the tool does not notice: C++ streams fail in silence.
    kept = content if free_bytes is None else content[:free_bytes]
    try:
        Path(path).write_bytes(kept)
    except OSError as error:
        sys.stderr.write(f"ERROR: Failed to open {path}: {error.strerror}\n")


if __name__ == "__main__":
    gc.disable()  # its pauses are not the model's
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
