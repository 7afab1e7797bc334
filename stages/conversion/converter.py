"""ONNX -> `.tflite` through TensorFlow in a child process.

TensorFlow's converter leaks memory, writes to both standard streams and takes seconds to import: one child
serves all networks of a run, and this process never imports TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from nasflow.base.errors import ConversionError, MachineError, NasflowError
from nasflow.base.files import disk_faults

WORKER = "stages.conversion.tensorflow_worker"
QUIET: Mapping[str, str] = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
TAIL_CHARACTERS = 4000
# The errors that the child reports; any other ends it.
ERRORS: Mapping[str, type[NasflowError]] = {
    "ConversionError": ConversionError,
    "MachineError": MachineError,
}


class TensorflowConverter:
    """Converts ONNX models one after the other; a context manager.

    The child starts on entry, so that it loads TensorFlow while the first network is exported. A child
    that died is replaced by the next call.
    """

    def __init__(self, *, timeout_s: float = 600.0, worker: str = WORKER) -> None:
        self._timeout_s = timeout_s
        self._worker = worker
        self._child: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader: threading.Thread | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        with disk_faults(Path(tempfile.gettempdir()), "write"):
            self._folder = tempfile.TemporaryDirectory(prefix="nasflow-convert-")
        self._start(Path(self._folder.name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def convert(
        self, onnx_model: bytes, *, name: str, depthwise: Sequence[str] = (), split: Sequence[int] = ()
    ) -> bytes:
        """The float32 `.tflite` model of an ONNX model; ``name`` is what an error calls it.

        Convolutions of several groups are depthwise, and those of the weights named in ``depthwise``. Those
        at the places ``split`` among them are computed in parts.

        Raises ConversionError where the model holds what TFLite cannot compute, and where the child
        dies or does not answer in time (its last words are in ``raw``); MachineError where the
        folder for temporary files cannot be written.
        """
        target = self._running_in() / "network.tflite"
        self._do(onnx_model, {"tflite": str(target)}, name=name, depthwise=depthwise, split=split)
        return target.read_bytes()

    def answers(
        self,
        onnx_model: bytes,
        images_NHWC: NDArray[np.float32],
        *,
        name: str,
        depthwise: Sequence[str] = (),
        split: Sequence[int] = (),
    ) -> NDArray[np.float32]:
        """What TensorFlow itself computes for images (n, H, W, C), one at a time: (n, classes).

        Of the very graph that :meth:`convert` converts. Raises as it does.
        """
        source, target = (self._running_in() / file for file in ("images.npy", "answers.npy"))
        with disk_faults(source, "write"):
            np.save(source, images_NHWC)
        files = {"images": str(source), "answers": str(target)}
        self._do(onnx_model, files, name=name, depthwise=depthwise, split=split)
        answers_NK: NDArray[np.float32] = np.load(target, allow_pickle=False)
        return answers_NK

    @property
    def pid(self) -> int | None:
        """The child's process id; None where none runs at present."""
        return None if self._child is None else self._child.pid

    def _running_in(self) -> Path:
        if self._folder is None:
            raise RuntimeError("TensorflowConverter is used inside a with statement")
        return Path(self._folder.name)

    def _do(
        self,
        onnx_model: bytes,
        files: Mapping[str, str],
        *,
        name: str,
        depthwise: Sequence[str],
        split: Sequence[int],
    ) -> None:
        """Let the child do what the files in its request say."""
        folder = self._running_in()
        child = self._child if self._child is not None else self._start(folder)
        source = folder / "network.onnx"
        with disk_faults(source, "write"):
            source.write_bytes(onnx_model)
            for file in ("network.tflite", "answers.npy"):
                (folder / file).unlink(missing_ok=True)
        request = {"onnx": str(source), "depthwise": list(depthwise), "split": list(split), **files}
        answer = self._ask(child, json.dumps(request), name)
        if "error" in answer:
            error = answer["error"]
            raise ERRORS[error["kind"]](f"network {name}: {error['message']}", hint=error["hint"])

    def _start(self, folder: Path) -> subprocess.Popen[str]:
        with disk_faults(folder, "write"), (folder / "stderr.txt").open("wb") as stderr:
            # -P keeps the working directory off the import path. A session of its own: Ctrl-C reaches this
            # process alone, which then stops the child.
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", self._worker, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
                env={**os.environ, **QUIET},
                start_new_session=True,
            )
        assert child.stdout is not None
        self._answers = queue.Queue()
        self._reader = threading.Thread(target=_forward, args=(child.stdout, self._answers), daemon=True)
        self._reader.start()
        self._child = child
        return child

    def _ask(self, child: subprocess.Popen[str], request: str, name: str) -> dict[str, dict[str, str]]:
        assert child.stdin is not None
        try:
            child.stdin.write(request + "\n")
            child.stdin.flush()
            line = self._answers.get(timeout=self._timeout_s)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            raise self._failure(name, f"gave no answer within {self._timeout_s:g} s") from None
        if not line:
            child.wait()
            raise self._failure(name, manner_of_death(child.returncode))
        try:
            answer: dict[str, dict[str, str]] = json.loads(line)
        except json.JSONDecodeError:
            raise self._failure(name, f"answered {line.strip()[:80]!r}, which is not JSON,") from None
        return answer

    def _failure(self, name: str, what: str) -> ConversionError:
        assert self._folder is not None
        self._stop()
        words = (Path(self._folder.name) / "stderr.txt").read_text("utf-8", errors="replace")
        tail = words[-TAIL_CHARACTERS:].strip()
        last = f": {tail.splitlines()[-1].strip()}" if tail else ""
        hint = (
            "Converting needs about 1.5 GB of memory; free some and run again."
            if "SIGKILL" in what
            else "The log holds TensorFlow's output; networks that were already converted are kept."
        )
        return ConversionError(
            f"TensorFlow's converter {what} while it converted network {name}{last}.", hint=hint, raw=tail
        )

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        if child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # a request that it never read
                child.stdin.close()
        if self._reader is not None:
            self._reader.join()


def _forward(stream: IO[str], answers: queue.Queue[str]) -> None:
    """Hand on the child's answers; an empty one says that it ended."""
    with stream:
        for line in stream:
            answers.put(line)
    answers.put("")


def manner_of_death(returncode: int) -> str:
    """How a child process ended, as a part of a sentence."""
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"
