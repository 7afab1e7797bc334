"""A process that trains: ``python -m stages.training.worker``, nothing else.

Frames come on standard input and go to standard output (:func:`android_bench.local.frames.write_frame`): a
JSON header and raw bytes. The first says what all tasks share. Each that follows is a task, or the answer to
what was asked; its payload are the weights to start from.

==========  ==========================================  ========================
``op``      further header fields; payload              answer; payload
==========  ==========================================  ========================
``event``   ``kind``, ``fields`` of an event            none
``save``    ``name``; the entry                         ``{}``
``load``    ``name``                                    ``found``; the entry
``append``  ``name``, ``row``                           ``{}``
``rows``    ``name``                                    ``rows``
``done``    ``trained``; the weights                    the next task, or the end
``error``   ``error``: class and fields                 the end
==========  ==========================================  ========================

It ends when its input does, in the midst of a step too. SIGTERM: it keeps a checkpoint and ends.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, NoReturn

from android_bench.local.frames import read_frame, write_frame
from nasflow.base.errors import NasflowError, RunInterruptedError
from pipeline import signals
from pipeline.artifact import Blob
from pipeline.events import Event
from pipeline.stage import Context

if TYPE_CHECKING:
    from pathlib import Path

Frame = tuple[dict[str, Any], bytes]


class Pipe:
    """The two ends that this process has. Only its main thread writes."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._outgoing = outgoing
        self._received: queue.Queue[Frame] = queue.Queue()
        threading.Thread(target=self._read, args=(incoming,), daemon=True).start()

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Send one frame, whole."""
        with signals.deferred():
            write_frame(self._outgoing, header, payload)

    def receive(self) -> Frame:
        """Wait for the next frame."""
        return self._received.get()

    def ask(self, header: dict[str, Any], payload: bytes = b"") -> Frame:
        """Send one frame and wait for its answer; a signal waits until that is there."""
        with signals.deferred():
            write_frame(self._outgoing, header, payload)
            return self._received.get()

    def _read(self, incoming: IO[bytes]) -> None:
        while frame := read_frame(incoming):
            self._received.put(frame)
        os._exit(0)  # nobody is there to keep what this process computes


class PipedScratch:
    """The scratch of the stage, which the other process has."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def save(self, name: str, payload: bytes) -> None:
        """Replace entry ``name``."""
        self._pipe.ask({"op": "save", "name": name}, payload)

    def load(self, name: str) -> bytes | None:
        """Entry ``name``; None where there is none."""
        header, payload = self._pipe.ask({"op": "load", "name": name})
        return payload if header["found"] else None

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to the log ``name``."""
        self._pipe.ask({"op": "append", "name": name, "row": dict(row)})

    def rows(self, name: str) -> list[dict[str, Any]]:
        """All rows of log ``name``."""
        header, _ = self._pipe.ask({"op": "rows", "name": name})
        found: list[dict[str, Any]] = header["rows"]
        return found


class NoStore:
    """A training puts nothing into the store: its outcome goes to the other process."""

    def put_bytes(self, data: bytes, suffix: str) -> Blob:
        """Not to be called."""
        self._refuse()

    def read_bytes(self, blob: Blob) -> bytes:
        """Not to be called."""
        self._refuse()

    def path(self, blob: Blob) -> Path:
        """Not to be called."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RuntimeError("a training process has no store")


def serve(pipe: Pipe) -> NoReturn:
    """Do tasks until the input ends."""
    shared, _ = pipe.receive()

    import torch

    torch.set_num_threads(shared["threads"])

    from stages.training.processes import error_as_json
    from stages.training.runtime import start_runtime
    from stages.training.task import course_of_json, perform, task_of_json, trained_as_json

    def emit(event: Event) -> None:
        pipe.send({"op": "event", "kind": type(event).__name__, "fields": asdict(event)})

    context = Context(shared["stage"], shared["fingerprint"], NoStore(), PipedScratch(pipe), emit)
    course = course_of_json(shared["course"])
    gpu: int | None = shared["gpu"]
    runtime = start_runtime(
        course.seed,
        devices=1 if gpu is None else [gpu],
        precision=course.recipe.precision,
        checkpoint_seconds=course.checkpoint_seconds,
        beside=shared["beside"],
    )
    try:
        images = course.images(runtime)
        while True:
            header, weights = pipe.receive()
            trained = perform(task_of_json(header, weights), course, images, context, runtime)
            pipe.send({"op": "done", "trained": trained_as_json(trained)}, trained.weights)
    except RunInterruptedError:
        raise
    except NasflowError as error:
        pipe.send({"op": "error", "error": error_as_json(error)})
        while True:
            pipe.receive()


def main() -> None:
    """Serve the process that started this one."""
    # Not sys.stdin, which the interpreter closes at its end: it aborts where a thread waits for it.
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the frames
    os.register_at_fork(after_in_child=lambda: _let_go(0, incoming.fileno(), outgoing.fileno()))
    try:
        with signals.interruptible():
            serve(Pipe(incoming, outgoing))
    except RunInterruptedError as error:
        sys.exit(error.code)


def _let_go(*descriptors: int) -> None:
    """Processes of this one that read images do not hold its pipe: it ends when this process does."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


if __name__ == "__main__":
    main()
