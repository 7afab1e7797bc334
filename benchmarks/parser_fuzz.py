"""What a phone says, damaged at random: do the parsers ever crash, or take a wrong number for a right one?

Real output of ``benchmark_model`` and of phones (``tests/fixtures``) is mutated: bits, bytes, lines,
numbers, ends, pieces of another output. A run has text and a result file; either or both are damaged,
and what comes out must be an error or the true numbers. From phones' texts, which say everything once,
must come "unknown" or a number that stands there.
"""

from __future__ import annotations

import random
import re
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Literal

from android_bench.device import BenchmarkRequest, LatencyMeasurement
from android_bench.phone.text import (
    parse_battery,
    parse_boot_id,
    parse_cpufreq,
    parse_properties,
    parse_thermal,
    parse_uptime,
)
from android_bench.runner.identity import RunnerTool
from android_bench.runner.output import RunnerOutput, Timings, parse_output
from android_bench.runner.result import parse_result
from android_bench.runner.tool import finished_run
from android_bench.transport import Completed
from benchmarks._report import Outcome, at_most, main, say
from nasflow.base.errors import NasflowError
from nasflow.base.text import plain_text

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures"

_NUMBER = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
_TEXT_NUMBER = re.compile(r"(-?)([0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?)")
_NASTY = (
    b"0",
    b"-1",
    b"nan",
    b"inf",
    b"1e999",
    b"0.0",
    b"-99.9",
    b"99999999999999999999",
    b"",
    b"1e-9",
    b"\xd9\xa3",
)
_CPUFREQ = b"".join(
    b"policy%d/%s=%s\n" % (policy, key, value)
    for policy, cores, khz in (
        (0, b"0 1 2 3", b"1704000"),
        (4, b"4 5 6 7", b"2367000"),
        (8, b"8", b"2914000"),
    )
    for key, value in (
        (b"related_cpus", cores),
        (b"scaling_cur_freq", b"600000"),
        (b"scaling_max_freq", khz),
        (b"cpuinfo_max_freq", khz),
    )
)
_BELOW_A_MICROSECOND = (
    (b"count=9412 first=21 curr=1 min=0 max=37 avg=0.912345 std=1 p5=0 median=1 p95=1", b"0.912345"),
    (b"count=9412 first=21 curr=0 min=0 max=37 avg=0.312345 std=0 p5=0 median=0 p95=1", b"0.312345"),
    (b"count=9412 first=21 curr=0 min=0 max=37 avg=0.012345 std=0 p5=0 median=0 p95=0", b"0.012345"),
)
_REQUEST = BenchmarkRequest(name="fuzz", model=b"", min_runs=1)


@dataclass(frozen=True)
class Run:
    """One run of benchmark_model as it really was, and what it measured."""

    kind: Literal["classic", "litert"]
    stdout: bytes
    stderr: bytes
    result: bytes

    def measure(self) -> LatencyMeasurement:
        """What the product makes of it. Raises NasflowError."""
        tool = RunnerTool(self.kind, frozenset())
        return finished_run(tool, Completed(self.stdout, self.stderr, 0), self.result, _REQUEST)


def real_runs() -> list[Run]:
    """The fixtures, each with the result file that belongs to it, an output with one run only, and runs of
    which the clock counts some as 0, which protobuf may leave out.
    """
    folder = FIXTURES / "benchmark_model"
    kinds: dict[str, Literal["classic", "litert"]] = {
        "mnv2_t1": "classic",
        "dummy_prof": "classic",
        "litert_dummy": "litert",
    }
    runs = []
    for name, kind in kinds.items():
        stdout, stderr = ((folder / f"{name}.{end}").read_bytes() for end in ("out", "err"))
        runs.append(Run(kind, stdout, stderr, encode_result(parse_output(stdout, stderr))))
    slow = re.sub(
        rb"count=123 [^\n]*", b"count=1 curr=2977290 p5=2977290 median=2977290 p95=2977290", runs[0].stdout
    )
    slow = slow.replace(b"Inference (avg): 8089.02", b"Inference (avg): 2.97729e+06")
    runs.append(Run("classic", slow, runs[0].stderr, encode_result(parse_output(slow))))
    for line, average in _BELOW_A_MICROSECOND:
        text = re.sub(rb"count=123 [^\n]*", line, runs[0].stdout)
        text = text.replace(b"Inference (avg): 8089.02", b"Inference (avg): " + average)
        for zeros in (False, True):
            runs.append(Run("classic", text, runs[0].stderr, encode_result(parse_output(text), zeros=zeros)))
    return runs


def encode_result(output: RunnerOutput, *, zeros: bool = True) -> bytes:
    """The protobuf that the tools write for a run with this output, with or without what is 0."""
    timings, warmup = output.inference, output.warmup
    times = [timings.avg_us, timings.min_us, timings.max_us, timings.std_us or 0.0]
    times += [timings.median_us, timings.p5_us, timings.p95_us]
    times += [output.summary.init_us if output.summary else None]
    times += [warmup.first_us, warmup.avg_us] if isinstance(warmup, Timings) else [None, None]
    latency = b"".join(
        bytes([number << 3 | 5]) + struct.pack("<f", value / 1000)
        for number, value in enumerate(times, start=1)
        if value is not None and (zeros or value != 0)
    )
    misc = b"\x0d" + struct.pack("<f", 13.9) + b"\x10" + varint(timings.count)
    misc += b"\x18" + varint(warmup.count if warmup else 0)
    memory = b"\x08" + varint(10_672) + b"\x10" + varint(11_952)
    parts = ((2, latency), (3, memory), (4, misc))
    return b"".join(bytes([number << 3 | 2]) + varint(len(part)) + part for number, part in parts)


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def numbers_in(text: str) -> set[float]:
    """Every number that stands in a text."""
    return {float(sign + digits) for sign, digits in _TEXT_NUMBER.findall(text)}


def numbers_of(value: object) -> Iterator[float]:
    """Every number in a parser's result."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from numbers_of(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from numbers_of(getattr(value, field.name))
    else:
        raise TypeError(f"a parser returned {type(value).__name__}")


def invented(value: object, text: str) -> list[float]:
    """The numbers of a result that do not stand in its text, neither as they are nor in thousandths."""
    known = numbers_in(text)
    scaled = {1000 * number for number in known}
    return [number for number in numbers_of(value) if number not in known and number not in scaled]


def same(one: LatencyMeasurement, other: LatencyMeasurement) -> bool:
    """Equal to the precision that the text has."""
    names = ("median_ms", "p5_ms", "p95_ms", "min_ms")
    close = all(
        abs(getattr(one, name) - getattr(other, name)) <= 1e-5 * getattr(other, name) for name in names
    )
    return close and one.runs == other.runs


def mutated(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """The content with one to three damages."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_DAMAGES)(content, others, rng)
    return content


def _flip(content: bytes, _others: Sequence[bytes], rng: random.Random) -> bytes:
    if not content:
        return content
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def _cut(content: bytes, _others: Sequence[bytes], rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _delete(content: bytes, _others: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice((1, 2, 7, 60)) :]


def _insert(content: bytes, _others: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    piece = rng.choice((rng.randbytes(rng.randrange(1, 9)), b"\x1b[31m", b"\0", b"\n", b"\r", b" ", b"="))
    return content[:at] + piece + content[at:]


def _digit(content: bytes, _others: Sequence[bytes], rng: random.Random) -> bytes:
    indices = [match.start() for match in re.finditer(rb"[0-9]", content)]
    if not indices:
        return content
    at = rng.choice(indices)
    return content[:at] + b"%d" % rng.randrange(10) + content[at + 1 :]


def _number(content: bytes, _others: Sequence[bytes], rng: random.Random) -> bytes:
    found = list(_NUMBER.finditer(content))
    if not found:
        return content
    one, other = rng.choice(found), rng.choice(found)
    replacement = rng.choice((*_NASTY, other[0], other[0]))
    return content[: one.start()] + replacement + content[one.end() :]


def _lines(content: bytes, _others: Sequence[bytes], rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(3):
        case 0:
            lines[one], lines[other] = lines[other], lines[one]
        case 1:
            lines.insert(other, lines[one])
        case _:
            del lines[one]
    return b"\n".join(lines)


def _splice(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


_DAMAGES: tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...] = (
    _flip,
    _cut,
    _delete,
    _insert,
    _digit,
    _digit,
    _number,
    _number,
    _lines,
    _lines,
    _splice,
)


def phone_texts() -> list[tuple[bytes, Callable[[str], object]]]:
    """What phones print, each with its parser."""
    folder = FIXTURES / "phone"
    return [
        ((folder / "battery.txt").read_bytes(), parse_battery),
        ((folder / "getprop_pixel8pro.txt").read_bytes(), parse_properties),
        ((folder / "thermalservice_samsung_android12.txt").read_bytes(), parse_thermal),
        ((folder / "thermalservice_throttling.txt").read_bytes(), parse_thermal),
        (_CPUFREQ, parse_cpufreq),
        (b"12345.67 98765.43\n", parse_uptime),
        (b"0f7a2b1c-1111-2222-3333-444455556666\n", parse_boot_id),
    ]


def one_run(runs: Sequence[Run], rng: random.Random) -> str:
    """Damage a run and say what came of it: true, refused, wrong."""
    run = rng.choice(runs)
    truth = run.measure()
    texts = [one.stdout for one in runs]
    files = [one.result for one in runs]
    damage = rng.choice(("text", "text", "error text", "file", "file", "both"))
    stdout = mutated(run.stdout, texts, rng) if damage in ("text", "both") else run.stdout
    stderr = mutated(run.stderr, [one.stderr for one in runs], rng) if damage == "error text" else run.stderr
    result = mutated(run.result, files, rng) if damage in ("file", "both") else run.result
    try:
        found = Run(run.kind, stdout, stderr, result).measure()
    except NasflowError:
        return "refused"
    return "true" if same(found, truth) else "wrong"


def one_text(texts: Sequence[tuple[bytes, Callable[[str], object]]], rng: random.Random) -> str:
    """Damage a phone's text and say what came of it: told, invented."""
    content, parse = rng.choice(texts)
    text = plain_text(mutated(content, [other for other, _ in texts], rng), limit=100_000)
    return "invented" if invented(parse(text), text) else "told"


def one_half(runs: Sequence[Run], rng: random.Random) -> str:
    """Damage one half of a run and read it alone: told, refused, invented."""
    run = rng.choice(runs)
    try:
        if rng.random() < 0.5:
            stdout = mutated(run.stdout, [one.stdout for one in runs], rng)
            text = f"{plain_text(stdout, limit=100_000)}\n{plain_text(run.stderr, limit=100_000)}"
            return "invented" if invented(parse_output(stdout, run.stderr), text) else "told"
        real = (FIXTURES / "benchmark_model" / "result.pb").read_bytes()
        content = mutated(real, [run.result], rng)
        floats = [n for n in numbers_of(parse_result(content)) if not _is_in(n, content)]
    except NasflowError:
        return "refused"
    return "invented" if floats else "told"


def _is_in(number: float, content: bytes) -> bool:
    if number == int(number) and varint(int(number)) in content:
        return True
    return struct.pack("<f", number) in content or number == 0.0


def run(full: bool) -> Outcome:
    """Damage every fixture and count what comes of it."""
    inputs = 100_000 if full else 5_000
    rng = random.Random(20_261_123)
    runs, texts = real_runs(), phone_texts()
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    for number in range(inputs):
        try:
            match number % 4:
                case 0 | 1:
                    counts[f"run_{one_run(runs, rng)}"] += 1
                case 2:
                    counts[f"half_{one_half(runs, rng)}"] += 1
                case _:
                    counts[f"phone_{one_text(texts, rng)}"] += 1
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            counts["crashed"] += 1
            say(f"input {number}: {type(error).__name__}: {error}")
    wrong = counts["run_wrong"] + counts["half_invented"] + counts["phone_invented"]
    return Outcome(
        figures={
            "inputs": inputs,
            "seconds": round(time.perf_counter() - started, 1),
            **dict(sorted(counts.items())),
            "crashed": counts["crashed"],
            "wrong": wrong,
        },
        bars=[at_most("crashed", counts["crashed"], 0), at_most("wrong", wrong, 0)],
    )


if __name__ == "__main__":
    sys.exit(main("parser_fuzz", run))
