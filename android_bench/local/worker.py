"""The process in which this computer runs `.tflite` models: ``python local_worker.py``, nothing else.

It is started by its path, imports the standard library, numpy and the LiteRT runtime only, and so
measures without the memory, threads and garbage of the program that asks. Requests come on standard
input, answers go to standard output, as frames: two big-endian lengths (4 and 8 bytes), a JSON header,
a payload of raw bytes. It ends when its input does.

==============  =====================================================  =============================
``op``          further header fields; payload                         answer; payload
==============  =====================================================  =============================
``load``        ``model`` (SHA-256), ``threads``; the file             ``{}``
``benchmark``   ``model``, ``threads``, ``warmup_ms``, ``min_ms``,     quantiles and ``runs``
                ``min_runs``, ``max_runs``
``run``         ``model``, ``threads``, ``shape`` (N, ...), ``type``;  ``shape`` (N, ...); float32
                values of that type
``outputs``     ``model``, ``threads``, ``inputs`` (a ``shape`` and a  ``outputs`` (``shape``,
                ``type`` each); their values one after the other       ``type``, ``scale``, ``zero``
                                                                       each), ``quantized``; values
==============  =====================================================  =============================

``load`` and ``outputs`` take ``plain``, too: LiteRT's own kernels then compute, and no delegate.

Any of them may be answered by ``{"unknown": true}`` (load the model first) or ``{"error": "..."}``.

The two clock readings and the call of an invocation are part of its time: about 0.5 us for a model that
does next to nothing (``stages.conversion.flatbuffer.empty_model``). They are not subtracted: a whole
network pays them too.

Where the model runs in one thread, time that the scheduler gave to other programs amid an invocation is
not the model's and is left out: the thread's own clock is read outside the timed span, and stands in for
it where both differ by more than 20 us. With three busy programs on two cores the median of a network of
4.2 ms was 12.4 ms without this and 4.4 ms with it, while its blocks, shorter than a time slice, kept theirs.

The worker is not pinned to a core. Measured on two cores, pinning left the spread between processes as
it was (1-3 %) and made it worse (up to 7 %) when something else computed, because a pinned worker cannot
leave a core that became busy.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LENGTHS = struct.Struct(">IQ")
_LINUX = sys.platform == "linux"  # elsewhere a thread's clock may tick in milliseconds
MAX_MODELS = 256
MAX_MODEL_BYTES = 256_000_000
INPUT_SEED = 0
INDEX_END = 100
INTERRUPTION_NS = 20_000


class ModelError(Exception):
    """The runtime refuses a model or its input; the worker itself is well."""


def write_frame(stream: IO[bytes], header: dict[str, Any], payload: bytes = b"") -> None:
    """Send one frame."""
    text = json.dumps(header).encode()
    stream.write(LENGTHS.pack(len(text), len(payload)) + text)
    stream.write(payload)
    stream.flush()


class FrameError(ValueError):
    """What came is no frame, or a larger one than the reader takes."""


def read_frame(
    stream: IO[bytes], *, max_header: int | None = None, max_payload: int | None = None
) -> tuple[dict[str, Any], bytes] | None:
    """Receive one frame; None at the end of the stream, also amid a frame.

    Raises FrameError where header or payload have more bytes than ``max_header`` or ``max_payload``, before
    they are read, and where the header is no JSON object.
    """
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    header_length, payload_length = LENGTHS.unpack(lengths)
    for length, most in ((header_length, max_header), (payload_length, max_payload)):
        if most is not None and length > most:
            raise FrameError(f"{length} bytes, where {most} are the most")
    header, payload = stream.read(header_length), stream.read(payload_length)
    if len(header) < header_length or len(payload) < payload_length:
        return None
    try:
        document = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"{header[:40]!r}, which is not JSON") from error
    if not isinstance(document, dict):
        raise FrameError(f"{header[:40]!r}, which is not a JSON object")
    return document, payload


def time_invocations(
    invoke: Callable[[], object],
    *,
    warmup_ms: float,
    min_ms: float,
    min_runs: int,
    max_runs: int,
    clock: Callable[[], int] = time.perf_counter_ns,
    own_clock: Callable[[], int] | None = None,
) -> list[int]:
    """Nanoseconds of each counted invocation.

    At least one invocation warms up, then as many as ``warmup_ms`` takes. Counted ones go on until both
    ``min_ms`` and ``min_runs`` are reached, or ``max_runs``. The garbage collector rests meanwhile.
    ``own_clock`` tells the thread's own processor time, by which interruptions are left out.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = clock()
        invoke()
        while clock() - start < warmup_ms * 1e6:
            invoke()
        durations: list[int] = []
        left_ns, enough = min_ms * 1e6, min(min_runs, max_runs)
        while len(durations) < enough or (left_ns > 0 and len(durations) < max_runs):
            own_before = own_clock() if own_clock is not None else 0
            before = clock()
            invoke()
            duration = clock() - before
            left_ns -= duration
            if own_clock is not None:
                own_duration = own_clock() - own_before
                # A thread's clock that ticks coarsely may not have moved at all: it knows nothing then.
                if duration - own_duration > INTERRUPTION_NS and own_duration > 0:
                    duration = own_duration
            durations.append(duration)
        return durations
    finally:
        if collecting:
            gc.enable()


class Models:
    """Interpreters that are ready, the least recently used given up first."""

    def __init__(self, max_models: int = MAX_MODELS, max_bytes: int = MAX_MODEL_BYTES) -> None:
        self._ready: OrderedDict[tuple[str, int, bool], tuple[Any, int]] = OrderedDict()
        self._max_models, self._max_bytes = max_models, max_bytes

    def load(self, name: str, threads: int, content: bytes, *, plain: bool = False) -> None:
        """Make an interpreter, its input filled with fixed random numbers."""
        interpreter = open_interpreter(content, threads, plain=plain)
        fill_inputs(interpreter)
        self._ready[name, threads, plain] = (interpreter, len(content))
        while len(self._ready) > 1 and (
            len(self._ready) > self._max_models
            or sum(size for _, size in self._ready.values()) > self._max_bytes
        ):
            self._ready.popitem(last=False)

    def get(self, name: str, threads: int, *, plain: bool = False) -> Any | None:
        """The interpreter, or None where it was never loaded or was given up."""
        key = (name, threads, plain)
        if key not in self._ready:
            return None
        self._ready.move_to_end(key)
        return self._ready[key][0]


def open_interpreter(content: bytes, threads: int, *, plain: bool = False) -> Any:
    """LiteRT's interpreter; boards that have only its former name get that. ``plain``: without delegates.

    Raises ModelError.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        from tflite_runtime.interpreter import Interpreter, OpResolverType
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_content=content, num_threads=threads, experimental_op_resolver_type=kernels
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(str(error).rstrip(".")) from error
    return interpreter


def fill_inputs(interpreter: Any) -> None:
    """Set every input to fixed random numbers in [-1, 1]; 8 and 16 bits: their whole range.

    Not zeros, which some kernels skip, and not whatever lies in memory, which may hold denormal numbers.
    Larger integers are mostly indices, and are below 100, as ``benchmark_model`` has them
    (``tflite/tools/utils.cc``, ``GetDataRangesForType``). Raises ModelError for inputs that are no numbers.
    """
    import numpy as np

    generator = np.random.default_rng(INPUT_SEED)
    for details in interpreter.get_input_details():
        kind = np.dtype(details["dtype"])
        values = made_up(generator, tuple(details["shape"]), kind)
        if values is None:
            raise ModelError(
                f"input {details['name']} has type {kind.name}; only numbers and truth values can be made up"
            )
        interpreter.set_tensor(details["index"], values)


def made_up(
    generator: np.random.Generator, shape: tuple[int, ...], kind: np.dtype[Any]
) -> NDArray[Any] | None:
    """Random values of an input as :func:`fill_inputs` has them; None for a type that is no number."""
    import numpy as np

    if kind.kind == "f":
        return generator.uniform(-1, 1, shape).astype(kind)
    if kind.kind == "b":
        return generator.integers(0, 2, shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize > 2:
        return generator.integers(0, INDEX_END, shape, kind)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, shape, kind, endpoint=True)
    return None


def benchmark(interpreter: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Quantiles of the invocations in milliseconds."""
    try:
        durations_ns = time_invocations(
            interpreter.invoke,
            warmup_ms=request["warmup_ms"],
            min_ms=request["min_ms"],
            min_runs=request["min_runs"],
            max_runs=request["max_runs"],
            own_clock=time.thread_time_ns if request["threads"] == 1 and _LINUX else None,
        )
    except (ValueError, RuntimeError) as error:
        raise ModelError(str(error).rstrip(".")) from error
    return quantiles_ms(durations_ns)


def quantiles_ms(durations_ns: list[int]) -> dict[str, Any]:
    """Of counted invocations, in milliseconds, and how many they are."""
    import numpy as np

    least, p5, median, p95 = np.quantile(durations_ns, [0, 0.05, 0.5, 0.95]) / 1e6
    return {
        "median_ms": float(median),
        "p5_ms": float(p5),
        "p95_ms": float(p95),
        "min_ms": float(least),
        "runs": len(durations_ns),
    }


def run(interpreter: Any, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Outputs (N, ...) for inputs (N, ...), one invocation for each; of integers what they stand for.

    Raises ModelError.
    """
    import numpy as np

    sources, targets = interpreter.get_input_details(), interpreter.get_output_details()
    if len(sources) != 1 or len(targets) != 1:
        raise ModelError(
            f"the model has {len(sources)} inputs and {len(targets)} outputs, and not one of each"
        )
    source, target = sources[0], targets[0]
    expected = (1, *inputs.shape[1:])
    if tuple(source["shape"]) != expected or np.dtype(source["dtype"]) != inputs.dtype:
        raise ModelError(
            f"the model takes {np.dtype(source['dtype'])} {tuple(map(int, source['shape']))}; the input is "
            f"{inputs.dtype} {expected}"
        )
    kind, (scale, zero) = np.dtype(target["dtype"]), target["quantization"]
    if kind != np.float32 and (kind.itemsize != 1 or not scale > 0):
        raise ModelError(f"the model returns {kind} with the scale {scale:g}, which stands for no number")
    outputs = np.empty((len(inputs), *target["shape"][1:]), np.float32)
    try:
        for index, one in enumerate(inputs):
            interpreter.set_tensor(source["index"], one[np.newaxis])
            interpreter.invoke()
            answer = interpreter.get_tensor(target["index"])[0]
            outputs[index] = answer if kind == np.float32 else (answer.astype(np.float32) - zero) * scale
    except (ValueError, RuntimeError) as error:
        raise ModelError(str(error).rstrip(".")) from error
    fill_inputs(interpreter)
    return outputs


def answers_to(interpreter: Any, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Every output for one set of inputs, as their bytes one after the other. Raises ModelError.

    ``quantized``: something in the model is of 8 or 16 bits.
    """
    import numpy as np

    sources, given = interpreter.get_input_details(), request["inputs"]
    if len(given) != len(sources):
        raise ModelError(f"the model has {len(sources)} inputs, and {len(given)} are given")
    try:
        at = 0
        for source, one in zip(sources, given, strict=True):
            kind = np.dtype(one["type"])
            count = int(np.prod(one["shape"], dtype=np.int64))
            values = np.frombuffer(payload, kind, count, at).reshape(one["shape"])
            interpreter.set_tensor(source["index"], values)
            at += values.nbytes
        interpreter.invoke()
        targets = interpreter.get_output_details()
        for target in targets:
            if np.dtype(target["dtype"]).kind not in "fbiu":
                raise ModelError(f"output {target['name']} is of another type than numbers")
        found = [(target, interpreter.get_tensor(target["index"])) for target in targets]
    except (ValueError, RuntimeError) as error:
        raise ModelError(str(error).rstrip(".")) from error
    about = [
        {
            "shape": values.shape,
            "type": str(values.dtype),
            "scale": float(target["quantization"][0]),
            "zero": int(target["quantization"][1]),
        }
        for target, values in found
    ]
    types = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    fill_inputs(interpreter)
    return (
        {"outputs": about, "quantized": bool(types & {"int8", "uint8", "int16", "uint16", "int4"})},
        b"".join(values.tobytes() for _, values in found),
    )


def answer(models: Models, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Do what one request asks. Raises ModelError."""
    plain = request.get("plain", False)
    if request["op"] == "load":
        models.load(request["model"], request["threads"], payload, plain=plain)
        return {}, b""
    interpreter = models.get(request["model"], request["threads"], plain=plain)
    if interpreter is None:
        return {"unknown": True}, b""
    if request["op"] == "benchmark":
        return benchmark(interpreter, request), b""
    if request["op"] == "outputs":
        return answers_to(interpreter, request, payload)
    import numpy as np

    outputs = run(interpreter, np.frombuffer(payload, request["type"]).reshape(request["shape"]))
    return {"shape": outputs.shape}, outputs.tobytes()


def main() -> None:
    """Serve requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Runtimes print: what they write to descriptor 1 must not fall amid the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    models = Models()
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        try:
            header, payload = answer(models, *frame)
        except ModelError as error:
            header, payload = {"error": str(error)}, b""
        try:
            write_frame(answers, header, payload)
        except BrokenPipeError:  # whoever asked is gone
            os._exit(0)


if __name__ == "__main__":
    main()
