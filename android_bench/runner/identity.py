"""Which of the two ``benchmark_model`` tools a program is, told by its list of flags.

Both list their flags where a flag's value cannot be read. ``--help`` would not do: since LiteRT 2.2 the newer
tool hands its arguments to Abseil first, which answers ``--help`` itself and lists none of them.

Source: ``tensorflow/lite/tools/command_line_flags.cc``; what both tools answer is recorded in
``tests/fixtures/benchmark_model`` (``*_badflag``, ``litert_help_2_2``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from android_bench.runner.failure import last_line
from android_bench.runner.output import MAX_TEXT_CHARACTERS
from android_bench.transport import Completed
from nasflow.base.errors import UsageError
from nasflow.base.text import plain_text

QUESTION = "--num_runs=none"
"""The argument that makes either tool list its flags. It runs nothing and ends with exit code 1."""

HINT_RUNNER = "Set android.runner to auto, or to a recent benchmark_model."

_HEADING = re.compile(r"(?:^|: )usage: \S")  # older tools write no "<flags>" behind their name
_FLAG = re.compile(r"\s*--([A-Za-z0-9_-]{1,60})=[^\t]{0,4000}\t(?:int32|int64|float|bool|string)\t")
_NEEDED = frozenset(
    {"graph", "num_threads", "num_runs", "min_secs", "max_secs", "warmup_runs", "warmup_min_secs"}
    | {"result_file_path"}
)
_ONLY_LITERT, _ONLY_CLASSIC = "use_profiler", "enable_op_profiling"


@dataclass(frozen=True)
class RunnerTool:
    """Which tool a binary is, and the flags that it knows."""

    kind: Literal["classic", "litert"]
    flags: frozenset[str]


def identify(completed: Completed, *, name: str = "the runner") -> RunnerTool:
    """The tool that has answered :data:`QUESTION` so; its exit code says nothing.

    Raises UsageError, with the program's own words, where it is neither, or too old to write a result file.
    """
    text = "\n".join(
        plain_text(stream, limit=MAX_TEXT_CHARACTERS) for stream in (completed.stdout, completed.stderr)
    )
    flags = listed_flags(text)
    if not flags & {_ONLY_LITERT, _ONLY_CLASSIC}:
        raise UsageError(
            f"{name} is not a benchmark_model: called with {QUESTION} (exit code {completed.exit_code}), it "
            f"lists {len(flags)} flags, but neither {_ONLY_CLASSIC} nor {_ONLY_LITERT}. "
            f"{last_line(text)}",
            hint=HINT_RUNNER,
            raw=text,
        )
    if missing := _NEEDED - flags:
        raise UsageError(
            f"{name} is a benchmark_model that is too old: its {len(flags)} flags do not include "
            f"{', '.join(f'--{flag}' for flag in sorted(missing))}. {last_line(text)}",
            hint=HINT_RUNNER,
            raw=text,
        )
    return RunnerTool("litert" if _ONLY_LITERT in flags else "classic", flags)


def listed_flags(text: str) -> frozenset[str]:
    """The flags of the last usage text in what a program printed; none where there is no such text."""
    lines = text.split("\n")
    headings = [
        number
        for number, (line, following) in enumerate(pairwise(lines))
        if _HEADING.search(line) and following == "Flags:"
    ]
    if not headings:
        return frozenset()
    return frozenset(found[1] for line in lines[headings[-1] :] if (found := _FLAG.match(line)))
