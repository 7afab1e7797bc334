"""Training processes of this one: what each is given, what it tells and keeps, and how it ends.

A process holds the images once and does one task after another. It writes nothing: checkpoints and events
come through its pipe, and this process keeps and tells them, as those of a training of its own. One that
loses this process (killed) ends at once.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from android_bench.local.frames import read_frame, write_frame
from nasflow.base import errors
from nasflow.base.errors import MachineError, NasflowError
from pipeline import events, signals
from pipeline.stage import Context, Scratch
from stages.training.loop import Trained
from stages.training.schedule import Schedule
from stages.training.task import Course, Task, course_as_json, task_as_json, trained_of_json

WORKER = "stages.training.worker"
GRACE_SECONDS = 20.0
"""For keeping a checkpoint after the request to end."""
_RAW_BYTES = 16_384
_EVENTS: Mapping[str, type[events.Event]] = {
    kind.__name__: kind for kind in (events.Progress, events.Metric, events.Message)
}

Frame = tuple[dict[str, Any], bytes]


class TrainingProcesses:
    """As many processes as the schedule has slots; a context manager. Leaving it ends them all.

    Where it is left by an exception, each process is asked to keep its checkpoint first.
    """

    def __init__(self, course: Course, plan: Schedule, context: Context) -> None:
        self._course, self._plan, self._context = course, plan, context
        self._frames: queue.Queue[tuple[_Process, Frame | None]] = queue.Queue()
        self._processes: list[_Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._ask_to_end()
        finally:
            for process in self._processes:
                process.end()

    def perform(
        self,
        tasks: Sequence[Task],
        order: Sequence[int],
        context_of: Callable[[int], Context],
        finished: Callable[[int, Trained], None],
    ) -> None:
        """Do all tasks, begun in ``order``. Raises what a task raises, and MachineError."""
        waiting = list(order)
        for slot in range(min(self._plan.slots, len(waiting))):
            process = _Process(slot, self._course, self._plan, self._context, self._frames)
            self._processes.append(process)
            process.begin(waiting.pop(0), tasks)
        while any(process.task is not None for process in self._processes):
            process, frame = self._frames.get()
            if process.task is None:
                continue
            if frame is None:
                process.task = None
                raise process.failure()
            header, payload = frame
            if header["op"] == "done":
                finished(process.task, trained_of_json(header["trained"], payload))
                process.task = None
                if waiting:
                    process.begin(waiting.pop(0), tasks)
            elif header["op"] == "error":
                raise error_of_json(header["error"])
            else:
                with signals.deferred():  # what it waits for must be answered
                    process.serve(header, payload, context_of(process.task))

    def _ask_to_end(self) -> None:
        """Let each process keep a checkpoint, and wait until they are gone, or no longer."""
        living = {process for process in self._processes if process.task is not None}
        for process in living:
            process.ask_to_end()
        deadline = time.monotonic() + GRACE_SECONDS
        while living:
            try:
                process, frame = self._frames.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if frame is None:
                living.discard(process)
            elif frame[0]["op"] in ("save", "append", "load", "rows"):
                process.serve(*frame, self._context)


class _Process:
    """One process, and the index of the task that it is at."""

    def __init__(
        self,
        slot: int,
        course: Course,
        plan: Schedule,
        context: Context,
        frames: queue.Queue[tuple[_Process, Frame | None]],
    ) -> None:
        self.task: int | None = None
        self._name = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        # -P keeps the working directory off the import path. A session of its own: Ctrl-C reaches this
        # process alone, which then asks the others to end.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(frames,), daemon=True)
        self._reader.start()
        self._send(
            {
                "course": course_as_json(course),
                "stage": context.stage,
                "fingerprint": context.fingerprint,
                "threads": plan.threads,
                "beside": plan.slots,
                "gpu": slot if plan.gpus else None,
            }
        )

    def begin(self, index: int, tasks: Sequence[Task]) -> None:
        """Give it a task."""
        task = tasks[index]
        self.task, self._name = index, task.name
        self._send(task_as_json(task), task.weights or b"")

    def serve(self, header: Mapping[str, Any], payload: bytes, context: Context) -> None:
        """Do what it asks of its context, and answer where it waits for an answer."""
        scratch: Scratch = context.scratch
        match header["op"]:
            case "event":
                context.emit(_EVENTS[header["kind"]](**header["fields"]))
            case "save":
                scratch.save(header["name"], payload)
                self._send({})
            case "append":
                scratch.append(header["name"], header["row"])
                self._send({})
            case "load":
                found = scratch.load(header["name"])
                self._send({"found": found is not None}, found or b"")
            case "rows":
                self._send({"rows": scratch.rows(header["name"])})

    def ask_to_end(self) -> None:
        """Ask it to keep a checkpoint and to end."""
        self._child.terminate()

    def end(self) -> None:
        """It is gone when this returns, with the processes that read images for it."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._kill_all()
        self._child.wait()
        with contextlib.suppress(BrokenPipeError):  # a frame that it never read
            self._child.stdin.close()
        self._reader.join()
        self._child.stdout.close()
        self._errors.close()

    def failure(self) -> Exception:
        """Why it ended amid a task."""
        os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        self._kill_all()
        status = self._child.wait()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _RAW_BYTES))
        raw = self._errors.read().decode(errors="replace").strip()
        if status >= 0:  # a mistake of ours, with its traceback
            return RuntimeError(f"the process that trained {self._name} ended with status {status}:\n{raw}")
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        memory = " (the system may have run out of memory)" if name == "SIGKILL" else ""
        return MachineError(
            f"the process that trained {self._name} was killed by {name}{memory}.",
            hint="Run again: it continues from the last checkpoint. If memory is short, set "
            "training.side_by_side to 1 (one training at a time), or close other programs.",
            raw=raw,
        )

    def _kill_all(self) -> None:
        """Its whole group. Not once it has been waited for: another group might have its number then."""
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: its output has ended as well, which tells why
            write_frame(self._child.stdin, header, payload)

    def _read(self, frames: queue.Queue[tuple[_Process, Frame | None]]) -> None:
        assert self._child.stdout is not None
        while frame := read_frame(self._child.stdout):
            frames.put((self, frame))
        frames.put((self, None))


def error_as_json(error: NasflowError) -> dict[str, Any]:
    """An error for another process: its class, and all that it says."""
    return {"kind": type(error).__name__, "fields": vars(error)}


def error_of_json(plain: Mapping[str, Any]) -> NasflowError:
    """What :func:`error_as_json` described, as it was raised there."""
    kind: type[NasflowError] = getattr(errors, plain["kind"])
    error = kind.__new__(kind, plain["fields"]["message"])
    vars(error).update(plain["fields"])
    return error
