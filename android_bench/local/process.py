"""Start a worker process, talk to it, and say what became of it when it does not answer.

A model that a worker opened may have damaged it: its answers are bounded, and are not trusted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

from android_bench.local.frames import FrameError, read_frame, write_frame
from nasflow.base.errors import NasflowError
from nasflow.base.text import plain_text

# The runtime's own threads are set for each model; nothing else may start any.
_SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_RAW_BYTES = 8192
MAX_HEADER_BYTES = 4_000_000
MAX_PAYLOAD_BYTES = 1_000_000_000

Failure = Callable[[str, str, str], NasflowError]
"""The error for a subject, how the worker ended (``was killed by SIGSEGV``), and its last output."""


class WorkerProcess:
    """One running worker (see :mod:`android_bench.local.serving`); dead after its first failure.

    ``program`` is what follows ``python -P``: a script, or ``-m`` and a module. ``failure`` makes the error
    that is raised where it does not answer as it should.
    """

    def __init__(self, program: Sequence[str], failure: Failure) -> None:
        self._failure = failure
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        self._process = subprocess.Popen(
            # -P: the folder that the program is started in must not shadow installed packages.
            [sys.executable, "-P", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_SINGLE_THREADED},
            start_new_session=True,  # a Ctrl-C in the terminal is the parent's to handle
        )

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ask(
        self,
        request: dict[str, Any],
        payload: bytes,
        *,
        subject: str,
        timeout_seconds: float,
        max_payload: int = MAX_PAYLOAD_BYTES,
    ) -> tuple[dict[str, Any], bytes]:
        """Send a request and wait for its answer, of whose payload at most ``max_payload`` bytes are taken.

        Raises what ``failure`` makes (DeviceError) where the worker dies, is silent for ``timeout_seconds``
        or answers with something else than a frame; it is stopped then, as it is when anything (Ctrl-C)
        interrupts the exchange. ``subject`` names the model.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        watchdog = threading.Timer(timeout_seconds, expire)
        watchdog.daemon = True
        watchdog.start()
        how = ""
        try:
            try:
                write_frame(stdin, request, payload)
                frame = read_frame(stdout, max_header=MAX_HEADER_BYTES, max_payload=max_payload)
            except BrokenPipeError:
                frame = None
            except FrameError as error:
                frame, how = None, f"answered with {error},"
        except BaseException:
            self.stop(at_once=True)
            raise
        finally:
            watchdog.cancel()
        if expired.is_set():
            how = f"did not answer within {timeout_seconds:.0f} s"
        if frame is None or expired.is_set():
            how = how or self._ending()
            raise self._failure(subject, how, self._last_output())
        return frame

    def stop(self, *, at_once: bool = False) -> None:
        """End the process; it is gone when this returns. May be called twice."""
        if at_once:
            self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # a request that it never read
                    stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _ending(self) -> str:
        """How it ended: its output did, so it is about to be gone, and its exit status says why."""
        try:
            return _ending(self._process.wait(timeout=5))
        except subprocess.TimeoutExpired:
            return "closed its output"

    def _last_output(self) -> str:
        """Stop it; what it wrote last to standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _RAW_BYTES))
        raw = plain_text(self._errors.read(), limit=_RAW_BYTES)
        self.stop(at_once=True)
        return raw


HINT = "Its output is in the log. Run the command again: it continues from what is already measured."


_MEANINGS = {
    "SIGKILL": " (the system may have run out of memory)",
    "SIGXCPU": " (it used more processor time than it may)",
}


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}{_MEANINGS.get(name, '')}"
