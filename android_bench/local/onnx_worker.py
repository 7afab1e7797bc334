"""The process in which this computer runs ONNX models: ``python -m android_bench.local.onnx_worker``.

It answers the frames of :mod:`android_bench.local.worker` (``load``, ``benchmark``, ``run``) with ONNX
Runtime in place of LiteRT, timed by the same functions. A session has as many threads inside an operator as
it was asked for, and computes one operator after the other. Input and output are bound once: an invocation
copies neither.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from android_bench.local.worker import (
    INPUT_SEED,
    MAX_MODEL_BYTES,
    MAX_MODELS,
    ModelError,
    quantiles_ms,
    read_frame,
    time_invocations,
    write_frame,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROVIDER = "CPUExecutionProvider"
_LINUX = sys.platform == "linux"
_FATAL_ONLY = 4  # ONNX Runtime's severity: its warnings about a graph are no errors of ours
_UNWORDED = "ONNX Runtime says nothing more"


@dataclass
class Ready:
    """A session whose one input is bound to memory that holds random numbers in [-1, 1]."""

    session: Any
    binding: Any
    memory: Any
    input_name: str
    output_names: list[str]
    shape: tuple[int, ...]
    size_bytes: int

    def invoke(self) -> None:
        """Compute once."""
        self.session.run_with_iobinding(self.binding)

    def fill(self) -> None:
        """The numbers that a model is timed with, the same for every model and process."""
        import numpy as np

        values = np.random.default_rng(INPUT_SEED).uniform(-1, 1, self.shape)
        self.memory.update_inplace(values.astype(np.float32))


def opened(content: bytes, threads: int) -> Ready:
    """A session of an ONNX model. Raises ModelError for what ONNX Runtime refuses and for other inputs."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL_ONLY
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[PROVIDER])
        inputs = session.get_inputs()
        shape = tuple(inputs[0].shape) if len(inputs) == 1 else ()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not all(type(n) is int for n in shape):
            said = ", ".join(f"{one.type} {one.shape}" for one in inputs[:3])
            raise ModelError(f"the model has the inputs {said}, and not one of float32 and of a fixed shape")
        memory = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
        binding = session.io_binding()
        binding.bind_ortvalue_input(inputs[0].name, memory)
        names = [output.name for output in session.get_outputs()]
        for name in names:
            binding.bind_output(name)
    except refusals() as error:
        raise ModelError(_words(error)) from error
    ready = Ready(session, binding, memory, inputs[0].name, names, shape, len(content))
    ready.fill()
    return ready


def refusals() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: its errors have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
    own = (*names, "RuntimeException", "EPFail", "EngineError", "NoModel")
    return (RuntimeError, ValueError, *(getattr(raised, name) for name in own))


def _words(error: Exception) -> str:
    return str(error).strip().rstrip(".") or _UNWORDED


class Sessions:
    """Sessions that are ready, the least recently used closed first."""

    def __init__(self, max_models: int = MAX_MODELS, max_bytes: int = MAX_MODEL_BYTES) -> None:
        self._ready: OrderedDict[tuple[str, int], Ready] = OrderedDict()
        self._max_models, self._max_bytes = max_models, max_bytes

    def load(self, name: str, threads: int, content: bytes) -> None:
        """Make a session."""
        self._ready[name, threads] = opened(content, threads)
        while len(self._ready) > 1 and (
            len(self._ready) > self._max_models
            or sum(ready.size_bytes for ready in self._ready.values()) > self._max_bytes
        ):
            self._ready.popitem(last=False)

    def get(self, name: str, threads: int) -> Ready | None:
        """The session, or None where it was never loaded or was closed."""
        if (name, threads) not in self._ready:
            return None
        self._ready.move_to_end((name, threads))
        return self._ready[name, threads]


def benchmark(ready: Ready, request: dict[str, Any]) -> dict[str, Any]:
    """Quantiles of the invocations in milliseconds."""
    try:
        durations_ns = time_invocations(
            ready.invoke,
            warmup_ms=request["warmup_ms"],
            min_ms=request["min_ms"],
            min_runs=request["min_runs"],
            max_runs=request["max_runs"],
            own_clock=time.thread_time_ns if request["threads"] == 1 and _LINUX else None,
        )
    except refusals() as error:
        raise ModelError(_words(error)) from error
    return quantiles_ms(durations_ns)


def run(ready: Ready, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs (N, ...) for inputs (N, ...), one invocation for each. Raises ModelError."""
    import numpy as np

    expected = (1, *inputs.shape[1:])
    if ready.shape != expected or inputs.dtype != np.float32:
        raise ModelError(f"the model takes float32 {ready.shape}; the input is {inputs.dtype} {expected}")
    if len(ready.output_names) != 1:
        raise ModelError(f"the model has {len(ready.output_names)} outputs, and not one")
    answers = []
    try:
        for one in inputs:
            found = ready.session.run(ready.output_names, {ready.input_name: one[np.newaxis]})
            answers.append(np.asarray(found[0], np.float32)[0])
    except refusals() as error:
        raise ModelError(_words(error)) from error
    return np.stack(answers)


def answer(sessions: Sessions, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Do what one request asks. Raises ModelError."""
    if request["op"] == "load":
        sessions.load(request["model"], request["threads"], payload)
        return {}, b""
    ready = sessions.get(request["model"], request["threads"])
    if ready is None:
        return {"unknown": True}, b""
    if request["op"] == "benchmark":
        return benchmark(ready, request), b""
    import numpy as np

    outputs = run(ready, np.frombuffer(payload, request["type"]).reshape(request["shape"]))
    return {"shape": outputs.shape}, outputs.tobytes()


def main() -> None:
    """Serve requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The runtime prints: what it writes to descriptor 1 must not fall amid the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sessions = Sessions()
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        try:
            header, payload = answer(sessions, *frame)
        except ModelError as error:
            header, payload = {"error": str(error)}, b""
        try:
            write_frame(answers, header, payload)
        except BrokenPipeError:  # whoever asked is gone
            os._exit(0)


if __name__ == "__main__":
    main()
