from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nasflow.base.errors import MachineError
from nasflow.base.text import (
    Remaining,
    clock_time,
    human_bytes,
    human_count,
    human_duration,
    rough_duration,
    share,
)
from pipeline.events import (
    Event,
    Message,
    Metric,
    Progress,
    StageFailed,
    StageFinished,
    StageSkipped,
    StageStarted,
)
from pipeline.reporters.reporters import FanOut, JsonLinesReporter, LogFileReporter, PlainReporter, Reporter
from pipeline.reporters.rich_reporter import RichReporter
from pipeline.reporters.streams import QuietStream

NAMES = ["profile", "latency", "search"]
NOON = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
EVENTS: list[Event] = [
    Message("", "configuration pipeline.yaml"),
    StageSkipped("profile"),
    StageStarted("latency", "never ran"),
    Progress("latency", 5, 20, "networks", "0.42 ms"),
    Metric("latency", "error", 0.5, 3),
    Message("latency", "the machine is [busy]: ünruhig", level="warning"),
    StageFinished("latency", 72.0),
    StageStarted("search", "setting `search.epochs` changed from 30 to 40"),
    StageFailed("search", 12.0, "The run was stopped by SIGINT."),
]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain_lines(events: list[tuple[float, Event]]) -> list[str]:
    clock, stream = Clock(), io.StringIO()
    reporter = PlainReporter(stream, names=NAMES, clock=clock)
    for pause, event in events:
        clock.now += pause
        reporter(event)
    return stream.getvalue().splitlines()


# --- plain lines -------------------------------------------------------------------------------------------


def test_plain_lines_are_aligned_and_say_what_happened() -> None:
    assert plain_lines([(2.0, event) for event in EVENTS]) == [
        "[   0:02]          configuration pipeline.yaml",
        "[   0:04] profile  up to date, nothing to do",
        "[   0:06] latency  starts: never ran",
        "[   0:12] latency  warning: the machine is [busy]: ünruhig",
        "[   0:14] latency  done in 1 min 12 s",
        "[   0:16] search   starts: setting `search.epochs` changed from 30 to 40",
        "[   0:18] search   stopped after 12 s: The run was stopped by SIGINT.",
    ]


def test_a_fast_stage_prints_no_progress() -> None:
    events = [(0.01, Progress("search", step, 100, "steps")) for step in range(100)]
    assert plain_lines([(0, StageStarted("search", "never ran")), *events]) == [
        "[   0:00] search   starts: never ran"
    ]


def test_progress_comes_at_tenths_but_not_within_five_seconds() -> None:
    events = [(1.0, Progress("search", step, 100, "steps", "loss 1.5")) for step in range(1, 101)]
    lines = plain_lines([(0, StageStarted("search", "never ran")), *events])[1:]
    assert lines[0] == "[   0:10] search   10 of 100 steps (10 %), 1 min 30 s left, loss 1.5"
    assert len(lines) == 10
    fast = [(0.25, event) for _, event in events]
    times = [line[:9] for line in plain_lines([(0, StageStarted("search", "never ran")), *fast])[1:]]
    assert times == ["[   0:05]", "[   0:10]", "[   0:15]", "[   0:20]", "[   0:25]"]


def test_slow_progress_comes_once_a_minute() -> None:
    events = [(1.0, Progress("search", step, 100_000, "steps")) for step in range(1, 301)]
    lines = plain_lines([(0, StageStarted("search", "never ran")), *events])
    assert len(lines) == 1 + 5
    assert "60 of 100000 steps (0 %), 1 d 4 h left" in lines[1]


def test_a_second_row_of_progress_begins_anew() -> None:
    first = [(6.0, Progress("search", step, 10, "blocks")) for step in range(1, 11)]
    second = [(6.0, Progress("search", step, 5, "networks")) for step in range(1, 6)]
    lines = plain_lines([(0, StageStarted("search", "never ran")), *first, *second])
    assert len(lines) == 1 + 10 + 5
    assert lines[11].endswith("1 of 5 networks (20 %)")
    assert lines[12].endswith("2 of 5 networks (40 %), 18 s left")


# --- remaining time and words --------------------------------------------------------------------------


def test_what_an_interrupted_run_had_done_is_no_pace() -> None:
    remaining = Remaining()
    assert remaining.after(900, 1000, "steps", 0.0) is None
    assert remaining.after(901, 1000, "steps", 2.0) == pytest.approx(198.0)
    assert remaining.after(1000, 1000, "steps", 50.0) == 0.0
    assert remaining.after(1, 1000, "steps", 51.0) is None
    assert remaining.after(2, 1000, "steps", 52.0) == pytest.approx(998.0)
    assert remaining.after(2, 10, "epochs", 60.0) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (72, "1 min 12 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (86400, "1 d 0 h"),
        (97200, "1 d 3 h"),
        (float("nan"), "unknown time"),
        (float("inf"), "unknown time"),
        (-1, "unknown time"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.3, "12 s"),
        (91, "2 min"),
        (1491, "25 min"),
        (3500, "1 h"),
        (5_900, "1 h 40 min"),
        (40_000, "11 h"),
        (190_000, "2 d 5 h"),
        (86_400, "1 d"),
        (float("nan"), "unknown time"),
    ],
)
def test_an_estimate_does_not_look_more_exact_than_it_is(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (3_440_000, "3.4 MB"),
        (999_960_000, "1.0 GB"),
        (5e12, "5.0 TB"),
    ],
)
def test_sizes_read_as_people_say_them(size: int, text: str) -> None:
    assert human_bytes(size) == text


def test_small_words() -> None:
    assert [clock_time(s) for s in (0, 59.9, 61, 3723)] == ["0:00", "0:59", "1:01", "1:02:03"]
    assert [human_count(c) for c in (3.0, 0.5, 12345678)] == ["3", "0.5", "12345678"]
    assert [share(1, 4), share(5, 4), share(-1, 4), share(1, 0)] == [0.25, 1.0, 0.0, 0.0]


# --- JSON lines --------------------------------------------------------------------------------------------


def test_every_event_is_one_json_object() -> None:
    stream = io.StringIO()
    reporter = JsonLinesReporter(stream, now=lambda: NOON)
    for event in [*EVENTS, Metric("search", "loss", float("nan"), 1)]:
        reporter(event)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == len(EVENTS) + 1
    assert lines[3] == {
        "time": "2026-01-31T12:00:00.250Z",
        "event": "progress",
        "stage": "latency",
        "done": 5,
        "total": 20,
        "unit": "networks",
        "note": "0.42 ms",
    }
    assert lines[6]["event"] == "stage_finished"
    assert lines[-1]["value"] is None


# --- the log file ------------------------------------------------------------------------------------------


def test_the_log_file_holds_every_event(tmp_path: Path) -> None:
    reporter = LogFileReporter(tmp_path / "runs", now=lambda: NOON)
    for event in EVENTS:
        reporter(event)
    reporter.write("Traceback\n  line\n")
    reporter.close()
    reporter.close()
    assert reporter.path == tmp_path / "runs" / "2026-01-31T12-00-00Z" / "run.log"
    lines = reporter.path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(EVENTS) + 2
    assert lines[3] == (
        "2026-01-31T12:00:00.250Z  latency   progress        5 of 20 networks (25 %), 0.42 ms"
    )
    assert "metric          error = 0.5 at 3" in lines[4]
    assert lines[-1] == "      line"


def test_two_runs_of_one_second_have_their_own_logs(tmp_path: Path) -> None:
    logs = [LogFileReporter(tmp_path, now=lambda: NOON) for _ in range(3)]
    assert [log.folder.name for log in logs] == [
        "2026-01-31T12-00-00Z",
        "2026-01-31T12-00-00Z-2",
        "2026-01-31T12-00-00Z-3",
    ]
    for log in logs:
        log.close()


def test_a_log_that_cannot_be_made_is_an_environment_fault(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(MachineError, match="there is a file where a folder is needed"):
        LogFileReporter(tmp_path / "runs" / "inner")


@dataclass(frozen=True)
class NewEvent(Event):
    what: str


def test_an_event_of_an_unknown_kind_harms_no_reporter(tmp_path: Path) -> None:
    log = LogFileReporter(tmp_path, now=lambda: NOON)
    lines, words, terminal = io.StringIO(), io.StringIO(), io.StringIO()
    everyone = FanOut(log, JsonLinesReporter(lines), PlainReporter(words), RichReporter(terminal))
    everyone(NewEvent("search", "something"))
    everyone.close()
    assert "new_event" in log.path.read_text()
    assert json.loads(lines.getvalue())["what"] == "something"
    assert words.getvalue() == terminal.getvalue() == ""


# --- the terminal ------------------------------------------------------------------------------------------


class Terminal(io.TextIOWrapper):
    """A terminal's side of a stream."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True, newline="")

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@pytest.fixture
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "110")


def shown(events: list[Event], encoding: str = "utf-8") -> str:
    clock, terminal = Clock(), Terminal(encoding)
    reporter = RichReporter(terminal, names=NAMES, clock=clock, animate=False)
    for event in events:
        clock.now += 2.0
        reporter(event)
    reporter.close()
    reporter.close()
    return terminal.text()


def words_of(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "\n")


@pytest.mark.usefixtures("_wide_terminal")
def test_the_terminal_shows_a_line_for_each_stage_and_warnings_in_yellow() -> None:
    text = shown(EVENTS)
    lines = [line.rstrip() for line in words_of(text).splitlines()]
    for line in (
        "           configuration pipeline.yaml",
        "· profile  up to date",
        "! latency  the machine is [busy]: ünruhig",
        "✓ latency  1 min 12 s",
        "✗ search   stopped after 12 s: The run was stopped by SIGINT.",
    ):
        assert line in lines
    assert re.search(r"\x1b\[33m! ", text), "yellow"
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 2, "the cursor is hidden and given back"


@pytest.mark.usefixtures("_wide_terminal")
def test_the_terminal_shows_share_time_and_remaining_time_of_the_stage_at_work() -> None:
    bars = words_of(
        shown(
            [
                StageStarted("search", "never ran"),
                Progress("search", 10, 100, "steps"),
                Progress("search", 20, 100, "steps", "loss [1.5]"),
            ]
        )
    )
    assert re.search(r"search .*0:00.* never ran", bars)
    assert re.search(r"search .* 10 % .*0:02.* 10/100 steps", bars)
    assert re.search(r"search .* 20 % .*0:04.* 16 s left .*20/100 steps, loss \[1\.5\]", bars)


@pytest.mark.usefixtures("_wide_terminal")
def test_a_terminal_without_unicode_gets_plain_marks() -> None:
    text = shown(EVENTS, "ascii")
    assert "+ latency  1 min 12 s" in words_of(text)
    assert "x search   stopped" in words_of(text)
    assert "\\xfcnruhig" in text


@pytest.mark.usefixtures("_wide_terminal")
def test_progress_without_a_total_or_a_stage_is_no_error() -> None:
    text = words_of(
        shown(
            [
                Progress("search", 1, 2, "steps"),
                StageStarted("search", "never ran"),
                Progress("search", 0, 0, "steps"),
                StageStarted("search", "again"),
            ]
        )
    )
    assert "0/0 steps" in text


@pytest.mark.usefixtures("_wide_terminal")
def test_an_animated_bar_leaves_no_thread_behind() -> None:
    terminal = Terminal()
    reporter = RichReporter(terminal, names=NAMES)
    before = set(threading.enumerate())
    reporter(StageStarted("search", "never ran"))
    reporter(Progress("search", 1, 2, "steps"))
    (thread,) = set(threading.enumerate()) - before
    reporter.close()
    thread.join(10)
    assert not thread.is_alive()
    assert terminal.text().endswith("\x1b[2K")


# --- readers that go away ------------------------------------------------------------------------------


class Gone(io.StringIO):
    """A stream whose other end has been closed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.asked = 0

    def write(self, text: str) -> int:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.EIO, "terminal gone"),
        OSError(errno.ENOSPC, "full"),
        ValueError("I/O operation on closed file"),
    ],
)
@pytest.mark.parametrize(
    "make", [PlainReporter, JsonLinesReporter, lambda stream: RichReporter(stream, animate=False)]
)
def test_a_reader_that_goes_away_ends_the_reporting_quietly(
    make: Callable[[io.StringIO], Reporter], error: Exception
) -> None:
    stream = Gone(error)
    reporter = make(stream)
    for event in EVENTS:
        reporter(event)
    reporter.close()
    assert stream.asked == 1


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    quiet = QuietStream(stream)
    quiet.write("Zürich →")
    assert not quiet.gone
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    assert buffer.getvalue() == b"Z\\xfcrich \\u2192"


def test_a_program_whose_output_is_cut_by_head_ends_without_a_word() -> None:
    program = """
import sys
from pipeline.events import Message
from pipeline.reporters.reporters import PlainReporter
reporter = PlainReporter(sys.stdout)
for number in range(3000):
    reporter(Message("search", f"line {number}"))
reporter.close()
print("more")
"""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        answer = subprocess.run(
            [sys.executable, "-c", program], stdout=stdout, stderr=subprocess.PIPE, check=False
        )
    assert (answer.returncode, answer.stderr) == (0, b"")


def test_a_fan_out_tells_everyone_and_closes_everyone() -> None:
    streams = [io.StringIO(), io.StringIO()]
    everyone = FanOut(*(JsonLinesReporter(stream, now=lambda: NOON) for stream in streams))
    everyone(StageSkipped("profile"))
    everyone.close()
    assert streams[0].getvalue() == streams[1].getvalue() != ""
