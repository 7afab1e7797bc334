"""The real command line in processes of its own, in a project folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 900
Event = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a process left: its exit code, its one JSON document, and what it told on standard error."""

    exit_code: int
    document: dict[str, Any]
    events: list[Event]
    words: list[str]
    """Lines that are no events: an error's, for a person."""

    @property
    def actions(self) -> dict[str, str]:
        """``run`` or ``fresh`` by stage."""
        return {stage["name"]: stage["action"] for stage in self.document["stages"]}

    @property
    def ran(self) -> list[str]:
        """Stages that were at work, in order."""
        return [name for name, action in self.actions.items() if action == "run"]

    @property
    def texts(self) -> list[str]:
        """Every message told."""
        return [event["text"] for event in self.events if event["event"] == "message"]


@dataclass(frozen=True)
class ProjectFolder:
    """A folder with a ``pipeline.yaml``."""

    path: Path

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def latest(self) -> Path:
        return self.artifacts / "latest"

    def call(self, *words: str, interpreter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run ``python -m nasflow`` with ``words``."""
        return subprocess.run(
            [sys.executable, *interpreter, "-m", "nasflow", *words],
            cwd=self.path,
            env=environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=TIMEOUT_SECONDS,
        )

    def ask(self, *words: str) -> Answer:
        """Run a command with ``--json``."""
        done = self.call(*words, "--json")
        return answer(done.returncode, done.stdout, done.stderr.splitlines())

    def ask_shell(self, command: str) -> Answer:
        """Run a command line that was printed, as a person would who copies it; it ends in ``--json``."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.path,
            env=environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
        return answer(done.returncode, done.stdout, done.stderr.splitlines())

    @contextmanager
    def started(self, *words: str) -> Iterator[Running]:
        """Start a command with ``--json``; it is gone when the block ends."""
        process = subprocess.Popen(
            [sys.executable, "-m", "nasflow", *words, "--json"],
            cwd=self.path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            yield Running(process)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=TIMEOUT_SECONDS)


@dataclass(frozen=True)
class Running:
    """A command that is at work."""

    process: subprocess.Popen[str]

    def wait_for(self, wanted: Callable[[Event], bool]) -> Event:
        """Read events until one is wanted. Fails where the process ends before."""
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            event = parse_event(line)
            if event is not None and wanted(event):
                return event
        raise AssertionError(f"ended with {self.process.wait()} before that:\n{''.join(seen[-20:])}")

    def ends(self) -> Answer:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return answer(self.process.returncode, out, err.splitlines())


def progress_in(stage: str, *, after: float = 0.0) -> Callable[[Event], bool]:
    """A progress event of ``stage`` that is beyond ``after`` of its units."""
    return lambda event: (
        (event["event"], event["stage"]) == ("progress", stage) and float(event["done"]) > after
    )


def environment() -> dict[str, str]:
    """One thread a process, so that the tests take the same time beside others."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def answer(exit_code: int, stdout: str, stderr: list[str]) -> Answer:
    """Read what a process printed; standard output must be one JSON document."""
    try:
        document = json.loads(stdout)
    except json.JSONDecodeError as error:
        raise AssertionError(f"not one JSON document ({error}): {stdout!r}; told: {stderr}") from error
    events = [event for line in stderr if (event := parse_event(line)) is not None]
    return Answer(exit_code, document, events, [line for line in stderr if parse_event(line) is None])


def parse_event(line: str) -> Event | None:
    """One line of standard error; None where it is not an event."""
    if not line.startswith("{"):
        return None
    event: Event = json.loads(line)
    return event
