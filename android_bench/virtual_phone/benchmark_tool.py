"""The virtual phone's ``benchmark_model``: runs a model with LiteRT and tells as the real tools do.

``python -m android_bench.virtual_phone.benchmark_tool classic|litert PROGRAM FLAGS...``; it runs inside the
sandbox, and PROGRAM is the name under which it was called. What throttling and drift do to a phone's times,
and what keeps the tool from running, is read from ``tool.json`` among the phone's files.

Unlike the real tools it has no GPU, as the builds whose flags it has: the classic tool does not know
``--use_gpu``, LiteRT's finds none. With ``--enable_op_profiling`` it tells the whole graph's time but no
operator's: the runtime's Python interface has none. XNNPACK computes whatever ``--use_xnnpack`` says.

What it prints is recorded in ``tests/fixtures/benchmark_model``, or stands beside its source here:
``benchmark_model.cc`` and ``benchmark_tflite_model.cc`` in ``tensorflow/lite/tools/benchmark``,
``litert/tools/benchmark_litert_model.cc``.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from android_bench.local.litert_worker import fill_inputs, open_interpreter
from android_bench.local.serving import ModelError
from android_bench.virtual_phone import benchmark_text as text
from android_bench.virtual_phone.benchmark_clock import (
    DescribedTime,
    LoadedSlowness,
    PhoneClock,
    Slowness,
    time_runs,
)
from android_bench.virtual_phone.benchmark_flags import ParsedFlags, abseil_help, parse_flags, usage
from android_bench.virtual_phone.benchmark_inputs import Layer, fill, layers_of, save_outputs
from android_bench.virtual_phone.clocks import POWER_FOLDER, ToolLoad
from android_bench.virtual_phone.phone_time import CLOCK_FILE, WallClock, asleep_from_s
from android_bench.virtual_phone.tool_ends import ToolAborted, ToolFailed
from android_bench.virtual_phone.tool_faults import refused, strike

# Outside of a sandbox the command table says where the phone's files lie.
STATE_FILE = Path(os.environ.get("NASFLOW_TOOL_STATE", "/system/etc/phone/tool.json"))


def main(arguments: Sequence[str], *, state_file: Path = STATE_FILE) -> int:
    """Do what the command line says; returns the exit code."""
    flavour, program, *rest = arguments
    state = json.loads(state_file.read_text(encoding="utf-8"))
    if refusal := refused(program, state):
        sys.stderr.write(refusal[1])
        return refusal[0]
    strike(state, "start")
    if flavour == "litert" and "--help" in rest:
        sys.stdout.write(abseil_help(program))
        return 1
    _say("STARTING!")
    try:
        _run(rest, flavour, program, state)
    except (ToolFailed, ModelError) as error:
        sys.stderr.write("".join(f"ERROR: {line}\n" for line in (*error.args, "Benchmarking failed.")))
        return 1
    except ToolAborted as error:
        sys.stderr.write(f"{error}\n")
        strike({"signal": 6, "signal_at": "abort"}, "abort")
    return 0


def _say(line: str, severity: str = "INFO") -> None:
    sys.stdout.write(f"{severity}: {line}\n")
    sys.stdout.flush()


def _run(arguments: Sequence[str], flavour: str, program: str, state: dict[str, Any]) -> None:
    flags = parse_flags(arguments, flavour)
    if flags.wants_usage:
        complaints = [
            f"Failed to parse flag '{name}' against argv '{word}'" for name, word in flags.unreadable
        ]
        raise ToolFailed(*complaints, usage(program, flavour))
    if flags.unconsumed:
        _say(f"Unconsumed cmdline flags: {' '.join(flags.unconsumed)}", "WARN")
    graph = flags.text("graph")
    if flavour == "classic" and not graph:  # BenchmarkTfLiteModel::ValidateParams
        raise ToolFailed("Please specify the name of your TF Lite input file with --graph")
    layers = layers_of(flags) if flavour == "classic" else ()
    for line in flags.logged(flavour):
        _say(line)
    measured = _measure(graph, flags, flavour, state, layers)
    result_path, result = flags.text("result_file_path"), text.result_protobuf(measured)
    if flavour == "classic":
        for line in text.classic_summary(measured):
            _say(line)
        if result_path:
            _save(result_path, result, state["free_bytes"], _say, _complain)
        if flags.is_on("enable_op_profiling"):
            _say("Operator-wise Profiling Info for Regular Benchmark Runs:")
            line = text.plain_statistics(measured.runs_us)
            sys.stdout.write(
                f"\nTimings (microseconds): {line}\nMemory (bytes): count=0\n0 nodes observed\n\n"
            )
        return
    sys.stderr.write(text.litert_summary(measured))
    if result_path:
        _save(result_path, result, state["free_bytes"], _log, lambda line: _log(line, "ERROR"))
    sys.stderr.write(text.LITERT_ENDS)


def _complain(line: str) -> None:
    sys.stderr.write(f"ERROR: {line}\n")


def _log(line: str, severity: str = "INFO", source: str = "benchmark_litert_model.h:190") -> None:
    """A line of LiteRT's own log. Where no recording shows its place in the source, that is assumed."""
    sys.stderr.write(f"{severity}: [{source}] {line}\n")


def _measure(
    graph: str, flags: ParsedFlags, flavour: str, state: dict[str, Any], layers: Sequence[Layer]
) -> text.Measured:
    threads = int(flags.number("num_threads"))
    before_kib = _resident_kib()
    slowness = Slowness(
        state["slowdown"],
        state["drift_per_minute"],
        state["since_monotonic_s"],
        asleep_from_s(os.environ.get("NASFLOW_TOOL_AWAKE_CS", ""), time.monotonic()),
        state["sleep_slowdown"],
    )
    wall_clock = WallClock(STATE_FILE.with_name(CLOCK_FILE), time.time_ns)
    opened: list[tuple[bytes, Any]] = []
    if flavour == "litert":
        sys.stderr.write(text.LITERT_BEGINS)
        _log(f"Loading model from: {graph}", source="benchmark_litert_model.cc:305")
    init_us = PhoneClock(wall_clock, slowness).timed_us(
        lambda: opened.append(_opened(graph, max(1, threads), flavour))
    )
    ((content, interpreter),) = opened
    init_kib = max(0, _resident_kib() - before_kib)
    signatures = list(interpreter.get_signature_list())
    if flavour == "classic":
        _say(f"Loaded model {graph}")
        if flags.is_on("list_signatures"):
            _list_signatures(signatures)
        fill(interpreter, layers, lambda line: _say(line, "WARN"))
        _tell_classic_delegate(flags, interpreter)
    else:
        _check_litert_accelerators(flags)
    _say(f"The input model file size (MB): {len(content) / 1e6:g}")
    _say(f"Initialized session in {init_us / 1e3:g}ms.")
    if any(flags.values.get(name) for name in ("result_file_path", "output_filepath")):
        # Asked for something, and not the load before a stretch.
        strike(state, "run")
    invoke: Callable[[], object] = interpreter.invoke
    if (load := _load(state)) is not None:
        slowness = LoadedSlowness(**vars(slowness), load=load)
    clock = PhoneClock(wall_clock, slowness)
    if state["run_us"]:
        described = DescribedTime(invoke, content, state["run_us"])
        invoke = described.invoke
        clock = PhoneClock(WallClock(STATE_FILE.with_name(CLOCK_FILE), described.clock), slowness)

    def loop(runs: str, seconds: str) -> tuple[int, ...]:
        limits = flags.number(runs), flags.number(seconds), flags.number("max_secs")
        _say(text.running_line(*limits))
        times = time_runs(invoke, *limits, clock=clock)
        _say(text.statistics_line(times) + "\n")
        return times

    warmup = loop("warmup_runs", "warmup_min_secs")
    runs = loop("num_runs", "min_secs")
    if flavour == "classic" and flags.text("output_filepath"):
        save_outputs(interpreter, flags.text("output_filepath"), state["free_bytes"])
    return text.Measured(
        graph=graph,
        model_bytes=len(content),
        input_bytes=sum(
            tensor["dtype"]().itemsize * _size(tensor) for tensor in interpreter.get_input_details()
        ),
        init_us=init_us,
        warmup_us=warmup,
        runs_us=runs,
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


def _opened(graph: str, threads: int, flavour: str) -> tuple[bytes, Any]:
    """The model and an interpreter that is ready to run it.

    The classic tool's complaints: ``mmap_allocation.cc``, ``core/model_builder.cc``, and ``LoadModel``. Those
    of LiteRT's: ``LoadModel`` and ``Init``; the form of its log line is assumed.
    """
    try:
        content = Path(graph).read_bytes()
    except OSError:
        raise _unreadable(
            graph, flavour, f"Could not open '{graph}'.", "The model allocation is null/empty"
        ) from None
    if flavour == "litert":
        source = "compiled_model.cc:833"
        _log("Flatbuffer model initialized directly from incoming litert model.", source=source)
    try:
        interpreter = open_interpreter(content, threads)
    except ModelError as error:
        raise _unreadable(graph, flavour, str(error)) from error
    fill_inputs(interpreter)
    return content, interpreter


def _unreadable(graph: str, flavour: str, *reasons: str) -> ToolFailed:
    if flavour == "litert":
        return ToolFailed("[benchmark_litert_model.cc:308] Failed to load model.")
    return ToolFailed(*reasons, f"Failed to load model {graph}")


def _list_signatures(signatures: Sequence[str]) -> None:
    """As recorded in ``listsig.out``: what was asked for is told, and nothing is measured."""
    _say(f"The Model contains {len(signatures)} signature key(s).")
    if signatures:
        _say("They are listed below: ")
    for signature in signatures:
        _say(f"-> Signature Key: {signature}")
    raise ToolFailed


def _tell_classic_delegate(flags: ParsedFlags, interpreter: Any) -> None:
    """What ``BenchmarkTfLiteModel::Init`` says of the delegate that was asked for."""
    must_be_all = flags.is_on("require_full_delegation")
    if not flags.is_on("use_xnnpack"):
        if must_be_all:
            raise ToolFailed("Disallowed CPU fallback detected.")
        return
    kernels, nodes = _delegated(interpreter)
    if must_be_all and (kernels, nodes) != (1, 1):
        raise ToolFailed("Disallowed CPU fallback detected.")
    if (kernels, nodes) == (1, 1):
        extent = "completely executed by the delegate."
    elif kernels:
        extent = f"partially executed by the delegate w/ {kernels} delegate kernels."
    else:
        _say(
            "Though XNNPACK delegate is explicitly applied, the model graph will not be executed by the "
            "delegate."
        )
        return
    _say(f"Explicitly applied XNNPACK delegate, and the model graph will be {extent}")


def _delegated(interpreter: Any) -> tuple[int, int]:
    """How many of a delegate's kernels run, and how many nodes in all.

    A delegate's node is listed behind those that it replaces, with the same output tensors: what still runs
    is found backwards from the model's output.
    """
    operations = interpreter._get_ops_details()  # no public call tells them apart
    producer = {int(tensor): index for index, op in enumerate(operations) for tensor in op["outputs"]}
    running: set[int] = set()
    tensors = [int(tensor["index"]) for tensor in interpreter.get_output_details()]
    while tensors:
        index = producer.get(tensors.pop())
        if index is not None and index not in running:
            running.add(index)
            tensors.extend(int(tensor) for tensor in operations[index]["inputs"] if tensor >= 0)
    return sum(operations[index]["op_name"] == "DELEGATE" for index in running), len(running)


def _check_litert_accelerators(flags: ParsedFlags) -> None:
    """What ``CreateCompiledModelOptions`` refuses, and what a phone without accelerators does."""
    must_be_all = flags.is_on("require_full_delegation")
    if flags.is_on("use_cpu") and must_be_all:
        raise ToolAborted(
            "ERROR: [benchmark_litert_model.cc:77] Requesting full delegation and CPU acceleration are "
            "incompatible."
        )
    if must_be_all:  # the form of this line is assumed
        raise ToolFailed("[benchmark_litert_model.cc:318] Failed to compile model.")


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


def _save(
    path: str,
    content: bytes,
    free_bytes: int | None,
    say: Callable[[str], object],
    complain: Callable[[str], object],
) -> None:
    """Write the result file, in the words of both tools' ``OnBenchmarkEnd``.

    A full phone keeps what fitted, and the tool does not notice: C++ streams fail in silence.
    """
    try:
        with Path(path).open("wb") as file:
            say(f"Saving benchmark result to: {path}")
            file.write(content if free_bytes is None else content[:free_bytes])
    except OSError:
        complain(f"Failed to save benchmark result to: {path}")
        return
    say(f"Saved benchmark result to: {path}")


if __name__ == "__main__":
    gc.disable()  # its pauses are not the model's
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
