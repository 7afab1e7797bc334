"""``nasflow report --serve``: a page on this computer that follows a run while it goes on.

It listens on the loopback interface alone, and answers three addresses: ``/``, ``/now`` and ``/report.html``.
Nothing that a client says is taken for a file's name or for anything else, and nothing is changed. A request
to another name than this computer's own is refused, so that nobody's page has its own name lead here (DNS
rebinding).
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nasflow.base.errors import MachineError, RunInterruptedError, UsageError
from nasflow.base.files import read_or_none
from nasflow.cli.console import write
from nasflow.cli.request import Outcome, Selection
from nasflow.commands.project import open_project
from nasflow.publish import REPORT
from pipeline.events import Message
from pipeline.reporters.event_file import EventFileReader, newest_events
from pipeline.reporters.reporters import JsonLinesReporter
from stages.reporting.live import LiveRun
from stages.reporting.live_page import content_security_policy, live_fragment, live_page

LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost")
_LONGEST_REQUEST_S = 10.0


@dataclass
class Followed:
    """The newest run of a project, read further at each call. ``now``: the clock."""

    artifacts: Path
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _reader: EventFileReader | None = None
    _run: LiveRun = field(default_factory=LiveRun)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fragment(self) -> str:
        """What the page shows now. Raises MachineError."""
        with self._lock:
            closed = self._advance()
            return live_fragment(self._run, closed=closed, at=self.now(), finished=self._has_report())

    def page(self) -> str:
        """The page as it is opened. Raises MachineError."""
        with self._lock:
            closed = self._advance()
            return live_page(self._run, closed=closed, at=self.now(), finished=self._has_report())

    def report(self) -> bytes | None:
        """The last finished report; None where there is none. Raises MachineError."""
        return read_or_none(self.artifacts / "latest" / REPORT)

    def _has_report(self) -> bool:
        return (self.artifacts / "latest" / REPORT).is_file()

    def _advance(self) -> bool:
        """Read what is new, of a run that began since if there is one; whether that run has ended."""
        path = newest_events(self.artifacts / "runs")
        if path is None:
            return False
        if self._reader is None or self._reader.path != path:
            self._reader, self._run = EventFileReader(path), LiveRun()
        for at, event in self._reader.read():
            self._run.take(at, event)
        return self._reader.closed


class _Handler(BaseHTTPRequestHandler):
    """Answers the three addresses. ``followed`` is set by :func:`make_server`."""

    followed: Followed
    server_version, sys_version = "nasflow", ""
    timeout = _LONGEST_REQUEST_S

    def do_GET(self) -> None:
        """Answer."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without what a page holds."""
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the page asks every two seconds."""

    def _answer(self, *, body: bool) -> None:
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in {f"{name}:{port}" for name in _NAMES}:
            return self._send(
                HTTPStatus.MISDIRECTED_REQUEST, b"not this computer's name\n", "text/plain", body
            )
        pages: dict[str, Callable[[], bytes | None]] = {
            "/": lambda: self.followed.page().encode(),
            "/now": lambda: self.followed.fragment().encode(),
            "/report.html": self.followed.report,
        }
        page = pages.get(self.path)
        try:
            content = None if page is None else page()
        except MachineError as error:
            words = f"{error.message}\n".encode(errors="backslashreplace")
            return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, words, "text/plain", body)
        if content is None:
            return self._send(HTTPStatus.NOT_FOUND, b"there is no such page\n", "text/plain", body)
        return self._send(HTTPStatus.OK, content, "text/html", body)

    def _send(self, status: HTTPStatus, content: bytes, kind: str, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if self.path != "/report.html":  # which brings its own policy
            self.send_header("Content-Security-Policy", content_security_policy())
        self.end_headers()
        if body:
            self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is none of ours; all else is a mistake that is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def make_server(followed: Followed, port: int) -> ThreadingHTTPServer:
    """A server on the loopback interface; port 0: one that is free. Raises UsageError, MachineError."""
    handler = type("Handler", (_Handler,), {"followed": followed})
    try:
        return _Server((LOOPBACK, port), handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"Port {port} is taken on this computer.", hint="Choose another one, or 0 for any: --port 0."
            ) from error
        raise MachineError(
            f"Port {port} cannot be opened: {error.strerror}.", hint="Choose another one: --port 0."
        ) from error


def serve_report(
    selection: Selection, port: int, *, as_json: bool, stop: threading.Event | None = None
) -> Outcome:
    """Serve the page until a signal comes, or ``stop`` is set; reads files alone, and takes no lock.

    Raises RunInterruptedError, UsageError, ConfigError, MachineError.
    """
    project = open_project(selection)
    server = make_server(Followed(project.artifacts), port)
    address = f"http://{LOOPBACK}:{server.server_address[1]}/"
    texts = (
        f"The newest run of {project.base_dir} is shown at {address}, on this computer only.",
        "Ctrl-C ends it.",
    )
    if as_json:
        with closing(JsonLinesReporter(sys.stderr)) as reporter:
            for text in texts:
                reporter(Message(stage="", text=text))
    else:
        write(sys.stderr, "\n".join(texts))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    try:
        (stop or threading.Event()).wait()
    except RunInterruptedError as stopped:
        raise RunInterruptedError(
            "The page is no longer served.",
            signal_number=stopped.signal_number,
            hint="The run itself goes on. Start it again with the same command.",
        ) from stopped
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    return Outcome({"address": address})
