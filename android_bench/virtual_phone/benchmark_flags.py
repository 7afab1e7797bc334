"""Command-line flags of both ``benchmark_model`` tools, read as they read them.

A flag is ``--name=value``, or ``--name`` for true. Unknown ones are only reported; a value that cannot be
read, and ``--help``, end the tool with its usage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Value = bool | int | float | str


@dataclass(frozen=True)
class Flag:
    """One flag: its default, and the label under which a changed value is printed."""

    name: str
    default: Value
    label: str

    @property
    def type_name(self) -> str:
        """As the usage text names it."""
        return {bool: "bool", int: "int32", float: "float", str: "string"}[type(self.default)]

    def parse(self, text: str) -> Value | None:
        """The value, or None where the text is none of the flag's type."""
        if isinstance(self.default, str):
            return text
        if isinstance(self.default, bool):
            return {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
        try:
            return type(self.default)(text)
        except ValueError:
            return None


_COMMON = (
    Flag("num_runs", 50, "Min num runs"),
    Flag("min_secs", 1.0, "Min runs duration (seconds)"),
    Flag("max_secs", 150.0, "Max runs duration (seconds)"),
    Flag("run_delay", -1.0, "Inter-run delay (seconds)"),
    Flag("num_threads", -1, "Num threads"),
    Flag("warmup_runs", 1, "Min warmup runs"),
    Flag("warmup_min_secs", 0.5, "Min warmup runs duration (seconds)"),
    Flag("verbose", False, "Log parameter values verbosely"),
    Flag("graph", "", "Graph"),
    Flag("signature_to_run_for", "", "Signature to run"),
    Flag("list_signatures", False, "List signatures from the provided model"),
    Flag("use_gpu", False, "Use gpu"),
    Flag("require_full_delegation", False, "Require full delegation"),
    Flag("result_file_path", "", "Result file path"),
    Flag("help", False, "Print out all supported flags"),
)
FLAGS: dict[str, tuple[Flag, ...]] = {
    "classic": (
        *_COMMON,
        Flag("use_xnnpack", False, "Use xnnpack"),
        Flag("use_nnapi", False, "Use NNAPI"),
        Flag("enable_op_profiling", False, "Enable op profiling"),
    ),
    "litert": (
        *_COMMON,
        Flag("use_cpu", True, "Use CPU"),
        Flag("use_npu", False, "Use NPU"),
        Flag("use_profiler", False, "Use profiler"),
    ),
}


@dataclass(frozen=True)
class ParsedFlags:
    """What a command line said. ``changed`` has the labels of flags whose value is not the default."""

    values: dict[str, Value]
    changed: tuple[tuple[str, Value], ...]
    unconsumed: tuple[str, ...] = ()
    bad: tuple[str, ...] = field(default=())

    def number(self, name: str) -> float:
        """A numeric flag."""
        return float(self.values[name])

    def text(self, name: str) -> str:
        """A text flag."""
        return str(self.values[name])

    def is_on(self, *names: str) -> bool:
        """Whether any of these flags is there and true."""
        return any(self.values.get(name) is True for name in names)


def parse_flags(arguments: Sequence[str], flavour: str) -> ParsedFlags:
    """Read a command line; never fails: see ``bad`` and ``unconsumed``."""
    known = {flag.name: flag for flag in FLAGS[flavour]}
    values: dict[str, Value] = {flag.name: flag.default for flag in known.values()}
    unconsumed, bad = [], []
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        flag = known.get(name) if argument.startswith("--") else None
        if flag is None:
            unconsumed.append(argument)
            continue
        value = flag.parse(text) if equals else (True if isinstance(flag.default, bool) else None)
        if value is None:
            bad.append(argument)
        else:
            values[name] = value
    changed = tuple(
        (flag.label, values[flag.name])
        for flag in known.values()
        if values[flag.name] != flag.default or flag.name in ("verbose", "signature_to_run_for")
    )
    ordered = sorted(changed, key=lambda pair: pair[0] != "Log parameter values verbosely")
    return ParsedFlags(values, tuple(ordered), tuple(unconsumed), tuple(bad))


def usage(program: str, flavour: str) -> str:
    """The tools' usage text."""
    lines = [
        f"\t--{flag.name}={_shown(flag.default)}\t{flag.type_name}\toptional\t{flag.label}"
        for flag in FLAGS[flavour]
    ]
    return f"usage: {program} <flags>\nFlags:\n" + "\n".join(lines) + "\n"


def shown(value: Value) -> str:
    """A value as C++ prints it: booleans as digits, numbers with six significant digits."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else shown(value)
