"""A run while it goes on: the event file, what is made of it, and the page on the loopback interface."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from playwright.sync_api import Browser
from support.browser import MEDIA, WIDTHS, Medium, chromium, opened, sight
from support.finished_run import finish

from nasflow.base.errors import UsageError
from nasflow.cli.request import Selection
from nasflow.commands.report_server import Followed, make_server, serve_report
from pipeline.events import (
    Distribution,
    Event,
    Message,
    Metric,
    Planned,
    Progress,
    StageFailed,
    StageFinished,
    StageSkipped,
    StageStarted,
)
from pipeline.reporters.event_file import EventFileReader, EventFileReporter, newest_events
from stages.reporting.live import MOST_CURVES, MOST_MESSAGES, LiveRun
from stages.reporting.live_page import SCRIPT, live_fragment, live_page

BEGAN = datetime(2026, 3, 4, 5, 0, tzinfo=UTC)
STAGES = ("profile", "latency", "search", "finetune")
SEARCHING: tuple[Event, ...] = (
    Planned("", STAGES, (0.0, 30.0, 600.0, 300.0)),
    StageSkipped("profile"),
    StageStarted("latency", "never run"),
    StageFinished("latency", 28.0),
    StageStarted("search", "setting search.epochs changed"),
    *(Metric("search", "search expected ms", 0.6 - 0.01 * epoch, epoch) for epoch in range(6)),
    *(Metric("search", "found training loss", 1 / (1 + epoch), epoch) for epoch in range(4)),
    *(Metric("search", "mobilenet_v2_0.5 training loss", 1 / (1 + epoch), epoch) for epoch in range(4)),
    *(Distribution("search", f"layer {i}", ("k3 e3", "k5 e6", "skip"), (0.7, 0.2, 0.1), 5) for i in (2, 3)),
    Message("search", "the device's speed changed", level="warning"),
    Progress("search", 10, 100, "steps"),
    Progress("search", 20, 100, "steps"),
)  # fmt: skip


def after(events: tuple[Event, ...], step_s: float = 10.0) -> LiveRun:
    run = LiveRun()
    for number, event in enumerate(events):
        run.take(BEGAN + timedelta(seconds=step_s * number), event)
    return run


def fragment(run: LiveRun, *, closed: bool = False, finished: bool = False, later: float = 5.0) -> str:
    assert run.last_at is not None
    return live_fragment(run, closed=closed, at=run.last_at + timedelta(seconds=later), finished=finished)


class Recorded(Protocol):
    """Writes the events of a run into a project's artifacts; the file is closed after the test."""

    def __call__(self, artifacts: Path, events: tuple[Event, ...] = SEARCHING) -> EventFileReporter: ...


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with ExitStack() as stack:

        def write(artifacts: Path, events: tuple[Event, ...] = SEARCHING) -> EventFileReporter:
            folder = artifacts / "runs" / "2026-03-04T05-00-00Z"
            folder.mkdir(parents=True)
            clock = iter(range(0, 10_000, 10)).__next__
            reporter = stack.enter_context(closing(EventFileReporter(folder, clock=clock)))
            for event in events:
                reporter(event)
            return reporter

        yield write


def test_the_stages_of_another_fold_are_waited_for_again() -> None:
    ended = (*SEARCHING, StageFinished("search", 500.0), StageSkipped("finetune"))
    ahead = Planned("", ("search", "finetune"), (400.0, 200.0))
    again = after((*ended, ahead, StageStarted("search", "never ran")))
    assert [stage.state for stage in again.stages.values()] == ["up to date", "done", "at work", "waiting"]
    assert again.left_seconds() == 600.0


# --- the file ----------------------------------------------------------------------------------------


def test_every_event_comes_back_as_it_was_told(tmp_path: Path, recorded: Recorded) -> None:
    reporter = recorded(tmp_path)
    reader = EventFileReader(reporter.path)
    assert tuple(event for _, event in reader.read()) == SEARCHING
    assert not reader.closed
    reporter.close()
    reporter.close()
    assert reader.read() == []
    assert reader.closed


def test_progress_is_thinned_out_and_its_end_is_kept(tmp_path: Path) -> None:
    clock = iter([0.0, 0.5, 1.0, 2.5]).__next__
    with closing(EventFileReporter(tmp_path, clock=clock)) as reporter:
        for done in (1, 2, 3, 4, 5):
            reporter(Progress("search", done, 5, "epochs"))
    kept = [event for _, event in EventFileReader(reporter.path).read()]
    assert [event.done for event in kept if isinstance(event, Progress)] == [1, 4, 5]


def test_a_line_that_is_being_written_is_read_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = json.dumps({"time": "2026-03-04T05:00:00Z", "event": "stage_skipped", "stage": "profile"}).encode()
    path.write_bytes(line[:30])
    reader = EventFileReader(path)
    assert reader.read() == []
    path.write_bytes(line + b"\n")
    assert [event for _, event in reader.read()] == [StageSkipped("profile")]


LINE = {"time": "2026-03-04T05:00:00Z", "event": "progress", "stage": "s", "done": 1, "total": 2, "unit": "u"}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "[" * 100_000,
        json.dumps({**LINE, "time": "yesterday"}),
        json.dumps({**LINE, "time": "2026-03-04T05:00:00"}),
        json.dumps({**LINE, "event": "dance"}),
        json.dumps({**LINE, "event": ["progress"]}),
        json.dumps({**LINE, "done": None}),
        json.dumps({**LINE, "done": "much"}),
        json.dumps({key: value for key, value in LINE.items() if key != "unit"}),
    ],
)
def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f"{line}\n{json.dumps(LINE)}\n", encoding="utf-8")
    assert [event for _, event in EventFileReader(path).read()] == [Progress("s", 1, 2, "u")]


@given(st.binary(max_size=300))
@example(b'{"time": "2026-03-04T05:00:00Z", "event": "metric", "name": {}, "value": 1e999}\n')
def test_no_bytes_end_the_reading(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "events.jsonl"
    path.write_bytes(content)
    EventFileReader(path).read()


def test_a_finished_run_leaves_its_events(tmp_path: Path) -> None:
    project = finish(tmp_path / "p")
    path = newest_events(project / "artifacts" / "runs")
    assert path is not None
    reader = EventFileReader(path)
    run = LiveRun()
    for at, event in reader.read():
        run.take(at, event)
    assert reader.closed
    assert {stage.state for stage in run.stages.values()} == {"done"}
    assert next(iter(run.stages)) == "profile"
    assert "Open the report" in fragment(run, closed=True, finished=True)


# --- what is made of it ------------------------------------------------------------------------------


def test_the_time_left_is_that_of_the_pace_and_of_the_stages_behind() -> None:
    run = after(SEARCHING)
    # Ten of a hundred steps took ten seconds: eighty are left, and then finetune, a guess of 300 s.
    assert run.left_seconds() == pytest.approx(80 + 300)
    assert "about 6 min 20 s left" in fragment(run)


def test_before_there_is_a_pace_the_guess_is_used() -> None:
    run = after(SEARCHING[:5])
    assert run.left_seconds() == pytest.approx(600 + 300)


def test_the_page_shows_stages_curves_probabilities_and_messages() -> None:
    html = fragment(after(SEARCHING))
    for words in (
        "Stage search is at work, 3 of 4",
        "20 of 100 steps",
        "up to date",
        "28 s",
        "setting search.epochs changed",
        "training loss by epoch. Now: found 0.25; mobilenet_v2_0.5 0.25.",
        "search expected ms by epoch. Now: search 0.55.",
        "Most probable candidates: layer 2 k3 e3 0.70; layer 3 k3 e3 0.70",
        "After epoch 6 of the search",
        "the device&#39;s speed changed",
    ):
        assert words in html, words


def test_a_run_that_fell_silent_failed_or_ended_is_said_to_have() -> None:
    run = after(SEARCHING)
    assert "no news for 5 min 00 s" in fragment(run, later=300)
    failed = after((*SEARCHING, StageFailed("search", 90.0, "no space left")))
    assert "stopped" in fragment(failed, closed=True)
    assert "no space left" in fragment(failed, closed=True)
    assert "Open the report" not in fragment(failed, closed=True, finished=True)
    assert ">ended<" in fragment(run, closed=True)


def test_foreign_words_in_events_do_nothing() -> None:
    nasty = '<script>alert(1)</script>" onload="x'
    run = after(
        (
            StageStarted(nasty, nasty),
            Metric(nasty, nasty, 1.0, 0),
            Distribution(nasty, nasty, (nasty,), (2.0,), 0),
            Message(nasty, nasty),
            Progress(nasty, 1, 2, nasty, nasty),
        )
    )
    html = fragment(run)
    assert "<script" not in html
    assert 'onload="x' not in html
    Tags().feed(html)


class Tags(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_a_flood_of_curves_and_messages_is_bounded() -> None:
    run = LiveRun()
    for number in range(500):
        run.take(BEGAN, Metric("s", f"n{number} loss", 1.0, 0))
        run.take(BEGAN, Message("s", str(number)))
    assert sum(map(len, run.curves.values())) == MOST_CURVES
    assert len(run.messages) == MOST_MESSAGES


def test_an_empty_run_has_a_page() -> None:
    html = live_page(LiveRun(), closed=False, at=BEGAN, finished=False)
    assert "No stage has begun yet" in html
    assert html.count("<script>") == 1
    assert SCRIPT in html


# --- the server --------------------------------------------------------------------------------------


@contextmanager
def served(artifacts: Path) -> Iterator[int]:
    server = make_server(Followed(artifacts), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(
    port: int, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, dict(answer.getheaders())


def test_the_page_follows_the_newest_run(tmp_path: Path, recorded: Recorded) -> None:
    with served(tmp_path) as port:
        assert "No stage has begun yet" in asked(port, "/now")[1]
        reporter = recorded(tmp_path, SEARCHING[:4])
        assert "28 s" in asked(port, "/")[1]
        for event in SEARCHING[4:]:
            reporter(event)
        assert "20 of 100 steps" in asked(port, "/now")[1]
        reporter.close()
        assert "The run has ended" in asked(port, "/now")[1]
        later = tmp_path / "runs" / "2026-03-05T05-00-00Z"
        later.mkdir()
        with closing(EventFileReporter(later)) as other:
            other(StageStarted("verify", "never run"))
            assert "Stage verify is at work" in asked(port, "/now")[1]


def test_the_last_report_is_served_and_nothing_else_of_the_disk(tmp_path: Path) -> None:
    project = finish(tmp_path / "p")
    artifacts = project / "artifacts"
    with served(artifacts) as port:
        status, text, _ = asked(port, "/report.html")
        assert (status, text) == (200, (artifacts / "latest/report.html").read_text(encoding="utf-8"))
        for path in (
            "/../pipeline.yaml",
            "/latest/report.html",
            "/report.html/../result.json",
            "/%2e%2e/pipeline.yaml",
            "/report.html?x",
            "/now/",
            f"{artifacts}/latest/result.json",
            "http://127.0.0.1/report.html",
        ):
            assert asked(port, path)[0] == 404, path


def test_without_a_finished_run_there_is_no_report(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        assert asked(port, "/report.html")[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "evil.example:80", "0.0.0.0:1", "[::1]:9"])
def test_a_request_to_another_name_is_refused(tmp_path: Path, host: str) -> None:
    with served(tmp_path) as port:
        assert asked(port, "/now", host=host)[0] == 421
        assert asked(port, "/now", host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(tmp_path: Path, method: str) -> None:
    with served(tmp_path) as port:
        assert asked(port, "/", method)[0] == 501
        status, text, headers = asked(port, "/", "HEAD")
        assert (status, text) == (200, "")
        assert int(headers["Content-Length"]) > 1000


def test_no_other_page_may_read_or_frame_it(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        _, _, headers = asked(port, "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


def test_it_listens_on_the_loopback_interface_alone(tmp_path: Path) -> None:
    server = make_server(Followed(tmp_path), 0)
    try:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(UsageError, match="is taken"):
            make_server(Followed(tmp_path), server.server_address[1])
    finally:
        server.server_close()


def test_a_client_that_goes_away_leaves_the_server_at_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path) as port:
        for words in (
            b"",
            b"GET",
            b"\x16\x03\x01" + bytes(40),
            b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 70_000,
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(words)
        assert asked(port, "/now")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_the_command_serves_until_it_is_stopped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.yaml").write_text("seed: 1\n", encoding="utf-8")
    stop = threading.Event()
    stop.set()
    outcome = serve_report(Selection(tmp_path / "pipeline.yaml"), 0, as_json=False, stop=stop)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", str(outcome.document["address"]))
    assert "on this computer only" in capfd.readouterr().err
    assert not (tmp_path / "artifacts").exists()


def test_ctrl_c_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("seed: 1\n", encoding="utf-8")
    words = [sys.executable, "-m", "nasflow", "report", "--serve"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        port = int(first.partition("http://127.0.0.1:")[2].partition("/")[0])
        assert asked(port, "/")[0] == 200
        process.send_signal(2)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert "The run itself goes on" in rest
    assert "Traceback" not in rest


# --- in a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.needs("chromium")
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_can_be_read_and_asks_its_own_server_alone(
    browser: Browser, tmp_path: Path, recorded: Recorded, width: int, medium: Medium
) -> None:
    recorded(tmp_path)
    with (
        served(tmp_path) as port,
        opened(browser, f"http://127.0.0.1:{port}/", width, medium) as (page, heard),
    ):
        seen = sight(page, rules=medium != "print")
        assert all(
            address.startswith(f"http://127.0.0.1:{port}/") or address == "data:,"
            for address in heard.requests
        )
        assert heard.complaints == []
    assert (seen.beyond, seen.faint_texts, seen.rules_broken) == ([], [], [])


@pytest.mark.needs("chromium")
@pytest.mark.xdist_group("browser")
def test_the_page_brings_itself_up_to_date_and_says_when_the_server_has_ended(
    browser: Browser, tmp_path: Path, recorded: Recorded
) -> None:
    reporter = recorded(tmp_path, SEARCHING[:4])
    with (
        served(tmp_path) as port,
        opened(browser, f"http://127.0.0.1:{port}/", 1280, "light") as (page, heard),
    ):
        reporter(StageStarted("search", "never run"))
        page.locator("h1", has_text="Stage search is at work").wait_for(timeout=60_000)
        assert page.title().startswith("Stage search is at work")
        assert heard.complaints == []
        page.route("**/now", lambda route: route.abort())  # as if nobody answered any more
        page.locator("#told", has_text="has ended").wait_for(timeout=60_000)
