"""Command-line flags of both ``benchmark_model`` tools, read as they read them.

Which flags there are, their defaults and their usage text are recorded from the real tools (``recorded/``, of
x86-64 builds without a GPU; the same files as in ``tests/fixtures/benchmark_model``). How they are read:
``tensorflow/lite/tools/command_line_flags.cc`` and, for the labels, ``LogParams`` of
``benchmark_model.cc``, ``benchmark_tflite_model.cc`` and ``tools/delegates/*_provider.cc``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Value = bool | int | float | str

_RECORDED = Path(__file__).with_name("recorded")
_LARGEST_FLOAT32 = 3.4028234663852886e38
_INT32 = 2**31
_LINE = re.compile(r"\t--([^=]+)=([^\t]*?) *\t(int32|float|bool|string)\toptional\t")

# What LogParams prints, in its order. The newer tool logs only what both have in common.
_COMMON_LABELS = (
    ("verbose", "Log parameter values verbosely"),
    ("num_runs", "Min num runs"),
    ("min_secs", "Min runs duration (seconds)"),
    ("max_secs", "Max runs duration (seconds)"),
    ("run_delay", "Inter-run delay (seconds)"),
    ("run_frequency", "Number of prorated runs per second"),
    ("num_threads", "Num threads"),
    ("use_caching", "Use caching"),
    ("benchmark_name", "Benchmark name"),
    ("output_prefix", "Output prefix"),
    ("warmup_runs", "Min warmup runs"),
    ("warmup_min_secs", "Min warmup runs duration (seconds)"),
    ("dry_run", "Run w/o invoking kernels"),
    ("report_peak_memory_footprint", "Report the peak memory footprint"),
    ("memory_footprint_check_interval_ms", "Memory footprint check interval (ms)"),
)
_LABELS = {
    "litert": _COMMON_LABELS,
    "classic": (
        *_COMMON_LABELS,
        ("graph", "Graph"),
        ("signature_to_run_for", "Signature to run"),
        ("list_signatures", "List signatures from the provided model"),
        ("input_layer", "Input layers"),
        ("input_layer_shape", "Input shapes"),
        ("input_layer_value_range", "Input value ranges"),
        ("input_layer_value_files", "Input value files"),
        ("allow_fp16", "Allow fp16"),
        ("require_full_delegation", "Require full delegation"),
        ("enable_op_profiling", "Enable op profiling"),
        ("op_profiling_output_mode", "Op profiling output mode."),
        ("op_profiling_output_file", "Op profiling output file."),
        ("max_profiling_buffer_entries", "Max initial profiling buffer entries"),
        (
            "allow_dynamic_profiling_buffer_increase",
            "Allow dynamic increase on profiling buffer entries",
        ),
        ("profiling_output_csv_file", "CSV File to export profiling data to"),
        ("export_model_runtime_info", "Enable Model Runtime Info Export"),
        ("model_runtime_info_output_file", "Proto File to export model runtime info to"),
        ("print_preinvoke_state", "Print pre-invoke interpreter state"),
        ("print_postinvoke_state", "Print post-invoke interpreter state"),
        ("release_dynamic_tensors", "Release dynamic tensor memory"),
        ("optimize_memory_for_large_tensors", "Optimize memory usage for large tensors"),
        ("disable_delegate_clustering", "Disable delegate clustering"),
        ("enable_builtin_cast_constant_cache", "Constant CAST output cache"),
        ("output_filepath", "File path to export outputs layer to"),
        ("output_proto_filepath", "File path to export outputs layer as tf example to"),
        ("result_file_path", "File path to save the benchmark result in binary proto format"),
        ("tensor_name_display_length", "Tensor name display length"),
        ("tensor_type_display_length", "Tensor type display length"),
        ("alloc_type_display_length", "Tensor allocation type display length"),
        ("help", "print out all supported flags"),
        ("num_threads", "#threads used for CPU inference"),
        ("max_delegated_partitions", "Max number of delegated partitions"),
        ("min_nodes_per_partition", "Min nodes per partition"),
        ("first_delegate_node_index", "Index of the first node that could be delegated"),
        ("last_delegate_node_index", "Index of the first node that could be delegated"),
        ("gpu_invoke_loop_times", "Number of GPU delegate invoke loop iterations"),
        ("delegate_serialize_dir", "Directory for delegate serialization"),
        ("delegate_serialize_token", "Model-specific token/key for delegate serialization."),
        ("use_xnnpack", "Use xnnpack"),
        ("xnnpack_force_fp16", "xnnpack_force_fp16"),
        ("xnnpack_weight_cache_file_path", "xnnpack_weight_cache_file_path"),
        ("xnnpack_runtime_flags", "xnnpack_runtime_flags"),
        ("external_delegate_path", "External delegate path"),
        ("external_delegate_options", "External delegate options"),
    ),
}
_ALWAYS_LOGGED = ("verbose", "graph", "signature_to_run_for")


@dataclass(frozen=True)
class Flag:
    """One line of the usage text. A name may stand in it twice."""

    name: str
    kind: str
    default: Value

    def parse(self, text: str) -> Value | None:
        """The value as C++ streams read it: what follows a number is ignored. None: it cannot be read."""
        if self.kind == "string":
            return text
        if self.kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}.get(text)
        if not re.sub(r"^\s*[+-]?", "", text):
            return 0 if self.kind == "int32" else 0.0  # the stream is at its end, which counts as read
        if self.kind == "int32":
            found = re.match(r"\s*([+-]?[0-9]+)", text)
            if found is None:
                return None
            number = int(found[1])
            fits = -_INT32 <= number < _INT32
            return max(-_INT32, min(number, _INT32 - 1)) if fits or found.end() == len(text) else None
        found = re.match(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)", text)
        return None if found is None else max(-_LARGEST_FLOAT32, min(float(found[1]), _LARGEST_FLOAT32))


@dataclass(frozen=True)
class ParsedFlags:
    """What a command line said: the value of each flag, the names of those that were given.

    ``unreadable`` are pairs of a flag's name and the argument that it could not read.
    """

    values: dict[str, Value]
    given: frozenset[str]
    unconsumed: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def wants_usage(self) -> bool:
        """Whether the tool prints its flags and ends. It does so for ``--help`` as the first unknown word."""
        return bool(self.unreadable or self.unconsumed[:1] == ("--help",) or self.is_on("help"))

    def number(self, name: str) -> float:
        """A numeric flag."""
        return float(self.values[name])

    def text(self, name: str) -> str:
        """A text flag."""
        return str(self.values[name])

    def is_on(self, name: str) -> bool:
        """Whether this flag is there and true."""
        return self.values.get(name) is True

    def logged(self, flavour: str) -> list[str]:
        """The lines that tell the parameters: those given, or with ``--verbose=true`` all."""
        verbose = self.is_on("verbose")
        return [
            f"{label}: [{shown(self.values[name])}]"
            for name, label in _LABELS[flavour]
            if name in self.given or name in _ALWAYS_LOGGED or (verbose and name != "list_signatures")
        ]


def parse_flags(arguments: Sequence[str], flavour: str) -> ParsedFlags:
    """Read a command line; never fails: see ``unreadable`` and ``unconsumed``.

    A flag is ``--name=value`` and nothing else. It takes the first argument of its name; a further one stays
    unconsumed. A flag that is listed twice reads the same argument twice.
    """
    values: dict[str, Value] = {}
    given: dict[str, int] = {}
    unreadable: list[tuple[str, str]] = []
    for flag in flags_of(flavour):
        values.setdefault(flag.name, flag.default)
        index = given.get(flag.name)
        if index is None:
            indices = (at for at, word in enumerate(arguments) if word.startswith(f"--{flag.name}="))
            index = next(indices, None)
        if index is None:
            continue
        given[flag.name] = index
        value = flag.parse(arguments[index].partition("=")[2])
        if value is None:
            unreadable.append((flag.name, arguments[index]))
        else:
            values[flag.name] = value
    taken = set(given.values())
    unconsumed = tuple(word for at, word in enumerate(arguments) if at not in taken)
    return ParsedFlags(values, frozenset(given), unconsumed, tuple(unreadable))


@cache
def flags_of(flavour: str) -> tuple[Flag, ...]:
    """The flags of a tool in the order of its usage text."""
    flags = []
    for name, default, kind in _LINE.findall(_usage(flavour)):
        flag = Flag(name, kind, default)
        value = flag.parse(default)
        assert value is not None, f"{flavour}: --{name}={default}"
        flags.append(Flag(name, kind, value))
    return tuple(flags)


def usage(program: str, flavour: str) -> str:
    """The usage text of the tool that was started as ``program``."""
    head, _, rest = _usage(flavour).partition("\n")
    return re.sub(r"(?<=^usage: )\S+", lambda _: program, head) + f"\n{rest}"


def abseil_help(program: str) -> str:
    """What LiteRT's tool prints for ``--help`` since 2.2: Abseil answers, before the tool has begun."""
    text = (_RECORDED / "litert_help_2_2.out").read_text(encoding="utf-8")
    return program.rpartition("/")[2] + text[text.index(":") :]


def shown(value: Value) -> str:
    """A value as C++ prints it: booleans as digits, numbers with six significant digits."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def _usage(flavour: str) -> str:
    """The recorded usage text: what stands between "ERROR: " and the tool's last line."""
    recorded = (_RECORDED / f"{flavour}_badflag.err").read_text(encoding="utf-8")
    return recorded[recorded.index("usage: ") : recorded.rindex("\nERROR: Benchmarking failed.")]
