"""Start the worker process, talk to it, and say what became of it when it does not answer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from android_bench.local import worker as local_worker
from android_bench.local.worker import read_frame, write_frame
from nasflow.base.errors import DeviceError

# The runtime's own threads are set for each model; nothing else may start any.
_SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_RAW_BYTES = 8192


class WorkerProcess:
    """One running worker (see :mod:`android_bench.local.worker`); dead after its first failure."""

    def __init__(self, script: Path | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        self._process = subprocess.Popen(
            # -P: the script's own folder must not shadow installed packages.
            [sys.executable, "-P", str(script or Path(local_worker.__file__).resolve())],
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
        self, request: dict[str, Any], payload: bytes, *, subject: str, timeout_seconds: float
    ) -> tuple[dict[str, Any], bytes]:
        """Send a request and wait for its answer.

        Raises DeviceError where the worker dies or is silent for ``timeout_seconds``; it is stopped then,
        as it is when anything (Ctrl-C) interrupts the exchange. ``subject`` names the model.
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
        try:
            try:
                write_frame(stdin, request, payload)
                frame = read_frame(stdout)
            except BrokenPipeError:
                frame = None
        except BaseException:
            self.stop(at_once=True)
            raise
        finally:
            watchdog.cancel()
        if frame is None or expired.is_set():
            raise self._failure(subject, timeout_seconds if expired.is_set() else None)
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

    def _failure(self, subject: str, timeout_seconds: float | None) -> DeviceError:
        if timeout_seconds is None:
            # Its output ended, so it is about to be gone; its exit status says why.
            try:
                status = self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                status = 0
            message = f"the LiteRT process {_ending(status)} while it ran {subject}."
        else:
            message = (
                f"the LiteRT process did not answer within {timeout_seconds:.0f} s while it ran {subject}."
            )
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _RAW_BYTES))
        raw = self._errors.read().decode(errors="replace")
        self.stop(at_once=True)
        return DeviceError(message, hint=_HINT, raw=raw)


_HINT = "Its output is in the log. Run the command again: it continues from what is already measured."


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    memory = " (the system may have run out of memory)" if name == "SIGKILL" else ""
    return f"was killed by {name}{memory}"
