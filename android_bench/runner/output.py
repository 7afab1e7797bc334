"""The text of ``benchmark_model``: of the classic TFLite tool and of LiteRT's tool of the same name.

Both print two sections, warm-up first, each a heading and one line of statistics in microseconds::

    INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if ...
    INFO: count=123 first=7741 curr=7657 min=7551 max=15616 avg=8089.02 std=1187 p5=7591 median=7768 p95=11613

``count=1 curr=5`` and ``count=7 curr=5(all same)`` have no minimum and no average; older builds print no
``INFO:``, no quantiles, or another summary. With op profiling, more ``count=`` follows that is not a latency.

Source: ``tensorflow/lite/tools/benchmark`` and ``core/util/stats_calculator.h`` of TensorFlow,
``litert/tools/benchmark_litert_model.h`` of LiteRT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from nasflow.base.errors import BadMeasurementError
from nasflow.base.text import plain_text

SIX_DIGITS = 5.1e-6
"""Relative error of a number printed with six significant digits, and of its way through a float32."""

MAX_LATENCY_US = 3.6e9
"""An hour for one inference: beyond it the text is damaged."""

MAX_TEXT_CHARACTERS = 4_000_000
"""More than a run prints, op profiles included; what comes after it is dropped."""

_HUNDREDTH_MS_US = 10.0
TOO_SHORT = (
    "The model is too small to be timed: the tool counts whole microseconds. Measure a larger model, or "
    "several copies of it in one model."
)
_AGAIN = "Measure again; if the problem persists, run 'nasflow doctor --device android'."
_PREFIX = re.compile(r"^(?:(?:INFO|WARN|WARNING|ERROR|VERBOSE): )?(?:\[[\w.]{1,60}:\d{1,6}\] )?")
_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,12})?(?:e[+-][0-9]{1,2})?"
_HEADING = re.compile(r"Running benchmark for (?:at least )?[0-9]")
_COUNT = re.compile(r"count=")
_QUANTILES = frozenset({"p5", "median", "p95"})
_FIELDS = frozenset({"first", "curr", "min", "max", "avg", "std"}) | _QUANTILES
_ALL_SAME = re.compile(r"^(curr=[0-9.e+-]{1,40})\(all same\)")
_CLASSIC = re.compile(
    rf"Inference timings in us: Init: ({_NUMBER}), First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): ({_NUMBER})"
)
_OLDER = re.compile(
    rf"Average inference timings in us: Warmup: {_NUMBER}, Init: ({_NUMBER}), "
    rf"(?:no stats|Inference): ({_NUMBER})"
)
_LITERT_INIT = re.compile(r"Model initialization: ([0-9]{1,12}\.[0-9]{2}) ms")
_LITERT = re.compile(r"Inference \(avg\): +([0-9]{1,12}\.[0-9]{2}) ms \(([0-9]{1,10}) runs\)")
_UNKNOWN = re.compile(r"Unconsumed cmdline flags: *(.*)")
_APPLIED = re.compile(
    r"Explicitly applied (\w{1,40}) delegate, and the model graph will be "
    r"(completely|partially|paritally) executed by the delegate"
)
_NOT_APPLIED = re.compile(
    r"Though (\w{1,40}) delegate is explicitly applied, the model graph will not be executed"
)
_REPLACED = re.compile(
    r"Replacing ([0-9]{1,6}) out of ([0-9]{1,6}) node\(s\) with delegate \(([^()]{1,60})\) node"
)


@dataclass(frozen=True)
class Timings:
    """One ``count=`` line. None: this build does not print it."""

    count: int
    curr_us: float
    first_us: float | None = None
    min_us: float | None = None
    max_us: float | None = None
    avg_us: float | None = None
    std_us: float | None = None
    p5_us: float | None = None
    median_us: float | None = None
    p95_us: float | None = None


@dataclass(frozen=True)
class Summary:
    """The tool's last words. Only the newer tool tells ``runs``; it rounds to 0.01 ms."""

    avg_us: float
    init_us: float | None
    runs: int | None


@dataclass(frozen=True)
class Delegation:
    """Which delegate took how much of the graph."""

    delegate: str
    extent: Literal["all", "part", "none"]


@dataclass(frozen=True)
class RunnerOutput:
    """What one run of ``benchmark_model`` has said."""

    warmup: Timings | None
    inference: Timings
    summary: Summary | None
    unknown_flags: str
    delegations: tuple[Delegation, ...]


def parse_output(stdout: bytes, stderr: bytes = b"") -> RunnerOutput:
    """Read both streams (``stderr`` is empty where the phone merges them).

    Raises BadMeasurementError, with everything that was printed, unless there is one plausible latency that
    the run's own summary, where it is printed, agrees with. Average and maximum are above zero; what lies
    below them may be 0: the tools count whole microseconds.
    """
    text = "\n".join(plain_text(stream, limit=MAX_TEXT_CHARACTERS) for stream in (stdout, stderr))
    lines = [_PREFIX.sub("", line.strip()) for line in text.split("\n")]
    try:
        warmup, inference = _sections(lines)
        summary = _summary(lines)
        _plausible(inference)
        if summary is not None:
            _agree(inference, summary)
    except _Unreadable as problem:
        raise BadMeasurementError(
            f"benchmark_model's output {problem}.", hint=problem.hint, raw=text
        ) from None
    return RunnerOutput(
        warmup=warmup,
        inference=inference,
        summary=summary,
        unknown_flags=next((m[1].strip() for line in lines if (m := _UNKNOWN.search(line))), ""),
        delegations=tuple(_delegations(lines)),
    )


class _Unreadable(Exception):
    """What is wrong with the text, as the end of a sentence, and what to do."""

    def __init__(self, problem: str, hint: str = _AGAIN) -> None:
        super().__init__(problem)
        self.hint = hint


def _sections(lines: list[str]) -> tuple[Timings | None, Timings]:
    """The statistics below each heading; the last is the result."""
    found: list[Timings | None] = []
    waiting = False
    for line in lines:
        if _HEADING.match(line):
            if waiting:
                raise _Unreadable("has a heading without a line of timings after it")
            waiting = True
        elif _COUNT.match(line):
            if not waiting:
                raise _Unreadable(f"has timings without a heading: {line[:120]!r}")
            found.append(_timings(line))
            waiting = False
    if waiting:
        raise _Unreadable("ends before its timings")
    if len(found) != 2:
        raise _Unreadable(f"has {len(found)} lines of timings instead of two (warm-up and result)")
    warmup, inference = found
    if inference is None:
        raise _Unreadable("reports no inferences")
    return warmup, inference


def _timings(line: str) -> Timings | None:
    """One line of statistics; None for ``count=0``."""
    damaged = _Unreadable(f"has a damaged line of timings: {line[:120]!r}")
    count, *words = line.split(" ")
    number, alike = re.fullmatch(r"count=([0-9]{1,10})", count), False
    fields: dict[str, float] = {}
    # "curr=5(all same) p5=5": the remark has a blank within and none before it.
    for word in _ALL_SAME.sub(r"\1 same", " ".join(words)).split(" ") if words else ():
        key, _, value = word.partition("=")
        if word == "same" and not alike:
            alike = True
        elif key in _FIELDS and key not in fields and re.fullmatch(_NUMBER, value):
            fields[key] = float(value)
        else:
            raise damaged
    if number is None:
        raise damaged
    runs = int(number[1])
    if runs == 0:
        if fields.keys() - _QUANTILES:
            raise damaged
        return None
    reported = fields.keys() - _QUANTILES
    if reported == {"curr"} and len(set(fields.values())) == 1 and alike is (runs > 1):
        fields |= dict.fromkeys(("first", "min", "max", "avg", *_QUANTILES), fields["curr"])
    elif alike or reported != _FIELDS - _QUANTILES or len(fields) - len(reported) not in (0, len(_QUANTILES)):
        raise damaged
    return Timings(count=runs, **{f"{key}_us": value for key, value in fields.items()})


def _plausible(timings: Timings) -> None:
    """Order and size of the times; some may be 0, but not all. Raises _Unreadable."""
    known = [timings.min_us, timings.p5_us, timings.median_us, timings.p95_us, timings.max_us]
    order = [value for value in known if value is not None]
    inside = [v for v in (timings.avg_us, timings.first_us, timings.curr_us) if v is not None]
    slack = SIX_DIGITS * order[-1]
    if timings.avg_us == 0 or order[-1] == 0:
        raise _Unreadable("reports 0 microseconds for every run", TOO_SHORT)
    if order[-1] > MAX_LATENCY_US:
        raise _Unreadable(f"reports an impossible latency: {order[0]:g} to {order[-1]:g} us")
    if order != sorted(order) or any(not order[0] - slack <= v <= order[-1] + slack for v in inside):
        raise _Unreadable("is inconsistent: minimum, quantiles, average and maximum are out of order")


def _summary(lines: list[str]) -> Summary | None:
    """What the tool says in the end, in the words of any of its versions."""
    found: list[Summary] = []
    init_us = None
    for line in lines:
        if classic := _CLASSIC.fullmatch(line) or _OLDER.fullmatch(line):
            found.append(Summary(float(classic[2]), float(classic[1]), None))
        elif init := _LITERT_INIT.fullmatch(line):
            init_us = float(init[1]) * 1000
        elif newer := _LITERT.fullmatch(line):
            found.append(Summary(float(newer[1]) * 1000, init_us, int(newer[2])))
    if len(found) > 1:
        raise _Unreadable("has more than one summary")
    return found[0] if found else None


def _agree(timings: Timings, summary: Summary) -> None:
    average = timings.avg_us if timings.avg_us is not None else timings.curr_us
    slack = 2 * SIX_DIGITS * average + (0 if summary.runs is None else _HUNDREDTH_MS_US / 2 + 1e-6)
    if abs(average - summary.avg_us) > slack or summary.runs not in (None, timings.count):
        raise _Unreadable(
            f"is inconsistent: {timings.count} inferences of {average:g} us on average, "
            f"{'' if summary.runs is None else f'{summary.runs} of '}{summary.avg_us:g} us in the summary"
        )


def _delegations(lines: list[str]) -> list[Delegation]:
    found: list[Delegation] = []
    for line in lines:
        if applied := _APPLIED.search(line):
            found.append(Delegation(applied[1], "all" if applied[2] == "completely" else "part"))
        elif ignored := _NOT_APPLIED.search(line):
            found.append(Delegation(ignored[1], "none"))
        elif replaced := _REPLACED.search(line):
            taken, nodes = int(replaced[1]), int(replaced[2])
            extent: Literal["all", "part", "none"] = (
                "none" if not taken else "all" if taken == nodes else "part"
            )
            found.append(Delegation(replaced[3], extent))
    return found
