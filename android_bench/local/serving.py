"""What every worker does: it answers requests about models with an engine, until its input ends.

Requests come on standard input, answers go to standard output, as :mod:`android_bench.local.frames`.

==============  ====================================================  ==================================
``op``          further header fields; payload                        answer; payload
==============  ====================================================  ==================================
``load``        ``model`` (SHA-256), ``options``; the file            ``{}``
``benchmark``   ``model``, ``options``, ``warmup_ms``, ``min_ms``,    quantiles and ``runs``
                ``min_runs``, ``max_runs``
``run``         ``model``, ``options``, ``shape`` (N, ...),           ``shape`` (N, ...); float32
                ``type``; values of that type
==============  ====================================================  ==================================

``options`` is what the engine loads a model with: the number of ``threads``, and what else it takes. A model
that was loaded with other options is another one. An engine may have further operations, and its own way to
answer ``benchmark`` and ``run``.

Any of them may be answered by ``{"unknown": true}`` (load the model first) or ``{"error": "..."}``, with
``out_of_memory`` where the device's memory does not hold even this model alone.

This module imports the standard library alone, numpy where it computes: a worker measures without the memory,
threads and garbage of the program that asks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from android_bench.local.frames import read_frame, write_frame
from android_bench.local.timing import quantiles_ms, time_invocations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_MODELS = 256
MAX_MODEL_BYTES = 256_000_000
_UNWORDED = "the runtime says nothing more"

Header = dict[str, Any]
Answer = tuple[Header, bytes]
Operation = Callable[[Any, Header, bytes], Answer]
"""What an engine does with a loaded model, the request's header and its payload."""


class ModelError(Exception):
    """The runtime refuses a model or its input; the worker itself is well."""


class OutOfMemoryError(ModelError):
    """The device has no memory left for the model."""


class Model(Protocol):
    """A model that an engine has loaded. Its inputs hold fixed random numbers, also after ``run``."""

    @property
    def invoke(self) -> Callable[[], object]:
        """Computes once, and returns when that is done. Read once for all invocations of a benchmark."""

    def run(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs (N, ...) for inputs (N, ...), one invocation for each. Raises ModelError."""


class Engine(Protocol):
    """An inference runtime, in the process that runs it."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What it can be asked beyond ``load``, ``benchmark`` and ``run``, or what it does in their place."""

    def refusals(self) -> tuple[type[Exception], ...]:
        """What it raises for models and inputs that it does not take."""

    def exhausted(self, error: Exception) -> bool:
        """Whether one of them says that memory is used up, which other models may hold."""

    def free(self) -> None:
        """Give back what models that were given up have left."""

    def load(self, content: bytes, options: Mapping[str, Any]) -> Model:
        """A model that is ready to be timed. Raises ModelError."""

    def own_clock(self, options: Mapping[str, Any]) -> Callable[[], int] | None:
        """The time in nanoseconds that the model computes; None where no clock tells it.

        See :func:`android_bench.local.timing.thread_clock`.
        """


class Loaded:
    """Models that are ready, the least recently used given up first."""

    def __init__(
        self, engine: Engine, max_models: int = MAX_MODELS, max_bytes: int = MAX_MODEL_BYTES
    ) -> None:
        self._engine = engine
        self._ready: OrderedDict[tuple[str, str], tuple[Model, int]] = OrderedDict()
        self._max_models, self._max_bytes = max_models, max_bytes

    def load(self, name: str, options: Mapping[str, Any], content: bytes) -> None:
        """Make a model ready. Raises ModelError."""
        with refusals_told(self._engine):
            self._ready[_key(name, options)] = (self._engine.load(content, options), len(content))
        while len(self._ready) > 1 and (
            len(self._ready) > self._max_models
            or sum(size for _, size in self._ready.values()) > self._max_bytes
        ):
            self._ready.popitem(last=False)

    def get(self, name: str, options: Mapping[str, Any]) -> Model | None:
        """The model, or None where it was never loaded or was given up."""
        key = _key(name, options)
        if key not in self._ready:
            return None
        self._ready.move_to_end(key)
        return self._ready[key][0]

    def give_up_others(self, name: str, options: Mapping[str, Any]) -> None:
        """Keep this model alone, if it is there: what the others hold is free."""
        kept = _key(name, options)
        for key in [key for key in self._ready if key != kept]:
            del self._ready[key]
        self._engine.free()


def _key(name: str, options: Mapping[str, Any]) -> tuple[str, str]:
    return name, json.dumps(options, sort_keys=True)


@contextmanager
def refusals_told(engine: Engine) -> Iterator[None]:
    """Raises ModelError with the runtime's words for what it refuses; OutOfMemoryError is one."""
    try:
        yield
    except engine.refusals() as error:
        kind = OutOfMemoryError if engine.exhausted(error) else ModelError
        raise kind(str(error).strip().rstrip(".") or _UNWORDED) from error


def answered(engine: Engine, loaded: Loaded, request: Header, payload: bytes) -> Answer:
    """Do what one request asks. Raises ModelError.

    How many models are kept is bounded by the files' bytes alone: how much memory one takes on the device,
    nobody tells before. Where that is used up, all others are given up, and it is tried once more.
    """
    with suppress(OutOfMemoryError):
        return _answered(engine, loaded, request, payload)
    # Here the error is gone, and with it the frames that held what was half made.
    loaded.give_up_others(request["model"], request["options"])
    return _answered(engine, loaded, request, payload)


def _answered(engine: Engine, loaded: Loaded, request: Header, payload: bytes) -> Answer:
    operation, name, options = request["op"], request["model"], request["options"]
    if operation == "load":
        loaded.load(name, options, payload)
        return {}, b""
    model = loaded.get(name, options)
    if model is None:
        return {"unknown": True}, b""
    if operation in engine.operations:
        with refusals_told(engine):
            return engine.operations[operation](model, request, payload)
    if operation == "benchmark":
        return _benchmark(engine, model, request), b""
    import numpy as np

    inputs = np.frombuffer(payload, request["type"]).reshape(request["shape"])
    with refusals_told(engine):
        outputs = model.run(inputs)
    return {"shape": outputs.shape}, outputs.tobytes()


def _benchmark(engine: Engine, model: Model, request: Header) -> Header:
    """Quantiles of the invocations in milliseconds."""
    with refusals_told(engine):
        durations_ns = time_invocations(
            model.invoke,
            warmup_ms=request["warmup_ms"],
            min_ms=request["min_ms"],
            min_runs=request["min_runs"],
            max_runs=request["max_runs"],
            own_clock=engine.own_clock(request["options"]),
        )
    return quantiles_ms(durations_ns)


def serve_models(engine: Engine) -> None:
    """Answer requests with an engine until standard input ends."""
    loaded = Loaded(engine)
    serve(lambda request, payload: answered(engine, loaded, request, payload))


def serve(answer: Callable[[Header, bytes], Answer]) -> None:
    """Answer each frame of standard input until that ends; ModelError is told, other errors end the process.

    A Ctrl-C in the terminal is for the process that asks, and is ignored here.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Runtimes print: what they write to descriptor 1 must not fall amid the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        try:
            header, payload = answer(*frame)
        except ModelError as error:
            memory = {"out_of_memory": True} if isinstance(error, OutOfMemoryError) else {}
            header, payload = {"error": str(error), **memory}, b""
        try:
            write_frame(answers, header, payload)
        except BrokenPipeError:  # whoever asked is gone
            os._exit(0)
