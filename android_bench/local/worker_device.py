"""This computer as a device: an inference runtime in a process of its own."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from android_bench.device import (
    DEFAULT_OPTIONS,
    LOCAL_OVERHEAD,
    BenchmarkRequest,
    Conditions,
    DeviceInfo,
    LatencyMeasurement,
    RuntimeOptions,
    parse_measurement,
)
from android_bench.local.host import local_conditions
from android_bench.local.process import HINT, WorkerProcess
from nasflow.base.errors import DeviceError, NasflowError, UsageError
from nasflow.base.text import plain_line, plain_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK_BYTES = 8_000_000
_WORDS_CHARACTERS = 600
_REFUSED = "The file may be damaged, or use an operator that this runtime does not support."


class WorkerDevice(ABC):
    """Runs models on this computer (a :class:`~android_bench.device.Device`).

    The worker process starts with the first measurement and again after a failure. ``timeout_seconds``
    is how long a model may be silent beyond the time that it was asked to take. A subclass says which runtime
    (``engine``), which ``program`` (what follows ``python -P``), and what that takes.
    """

    engine: ClassVar[str]
    program: ClassVar[tuple[str, ...]]
    overhead = LOCAL_OVERHEAD

    def __init__(self, *, timeout_seconds: float = 120.0) -> None:
        self.timeout_seconds = timeout_seconds
        self._worker: WorkerProcess | None = None

    @abstractmethod
    def info(self) -> DeviceInfo:
        """This computer; starts nothing. Raises NoUsableDeviceError where the runtime is not installed."""

    def translated(self, model: bytes, name: str) -> bytes:
        """What the runtime takes in the place of a `.tflite` file. Raises UsageError, DeviceError."""
        return model

    def refuse(self, options: RuntimeOptions) -> None:
        """Raises UsageError for options that this computer cannot follow."""
        if options.cpu not in ("auto", "all") or options.delegate != "cpu":
            raise UsageError(
                f"this computer runs models on the CPU, on all its cores; runtime.cpu is {options.cpu} and "
                f"runtime.delegate is {options.delegate}.",
                hint="Remove runtime.cpu and runtime.delegate, or select a phone: --device android.",
            )
        options.check_single("this computer's CPU")

    def loaded_with(self, options: RuntimeOptions) -> dict[str, Any]:
        """What the worker's engine is to load a model with."""
        return {"threads": options.threads}

    def memory_hint(self, options: RuntimeOptions) -> str:
        """What to do where the memory does not hold a model, with no other beside it."""
        return "Close other programs, or measure a smaller model."

    def conditions(self) -> Conditions:
        """Load and clock rate, as far as they can be read."""
        return local_conditions()

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """Time one model, one round. Raises DeviceError, BadMeasurementError."""
        question = {
            "op": "benchmark",
            **request.model_dump(include={"warmup_ms", "min_ms", "min_runs", "max_runs"}),
        }
        # What is asked to take t ms may take several t where other programs compute.
        patience = self.timeout_seconds + 10 * (request.warmup_ms + request.min_ms) / 1000
        reply, _ = self._ask(request.name, request.model, request.options, question, b"", patience)
        median_ms = reply.get("median_ms")
        fields = {
            **reply,
            "rounds": 1,
            "round_medians_ms": [median_ms],
            "conditions": self.conditions(),
        }
        return parse_measurement(fields, source=f"{self.info().model} ({request.name})")

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        """Time each request in the order given; yield its index and result as soon as it is known."""
        for index, request in enumerate(requests):
            yield index, self.benchmark(request)

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> NDArray[np.float32]:
        """Outputs (N, ...) of a model with batch size 1, image by image. Raises DeviceError.

        Inputs are float32, uint8 or int8, as the model takes them (other numbers: float32). Outputs that are
        integers are multiplied by their scale.
        """
        import numpy as np

        inputs = np.ascontiguousarray(inputs_NHWC)
        if inputs.dtype not in (np.uint8, np.int8):
            inputs = inputs.astype(np.float32, copy=False)
        size = max(1, _CHUNK_BYTES // max(1, inputs[:1].nbytes))
        outputs = []
        for start in range(0, max(1, len(inputs)), size):
            chunk = inputs[start : start + size]
            reply, payload = self._ask(
                "the given model",
                model,
                options,
                {"op": "run", "shape": chunk.shape, "type": str(chunk.dtype)},
                chunk.tobytes(),
                self.timeout_seconds,
            )
            outputs.append(_values(payload, reply.get("shape"), len(chunk), self.engine))
        return np.concatenate(outputs)

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, None where none runs."""
        return self._worker.pid if self._worker is not None and self._worker.alive else None

    def renew(self) -> None:
        """End the worker: the next measurement starts another."""
        self._stop()

    def close(self) -> None:
        """Stop the worker. May be called twice; the next measurement starts another."""
        self._stop()

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self,
        name: str,
        model: bytes,
        options: RuntimeOptions,
        question: dict[str, Any],
        payload: bytes,
        timeout_seconds: float,
        **further: bool,
    ) -> tuple[dict[str, Any], bytes]:
        """One answer about one model, which is sent first where the worker does not have it.

        ``further``: what else the engine is to load the model with.
        """
        self.refuse(options)
        self.info()  # no runtime, no worker
        digest = hashlib.sha256(model).hexdigest()
        subject = f"{name} ({digest[:8]})"
        about = {"model": digest, "options": {**self.loaded_with(options), **further}}
        for attempt in ("question", "load", "question"):
            loading = attempt == "load"
            request = {"op": "load", **about} if loading else {**question, **about}
            content = self.translated(model, name) if loading else payload
            reply, data = self._running().ask(
                request, content, subject=subject, timeout_seconds=timeout_seconds
            )
            if "error" in reply:
                words = str(reply["error"])
                used_up = reply.get("out_of_memory") is True
                raise DeviceError(
                    f"{self.engine} cannot run {subject}: {plain_line(words, limit=_WORDS_CHARACTERS)}.",
                    hint=self.memory_hint(options) if used_up else _REFUSED,
                    raw=plain_text(words),
                )
            if not loading and "unknown" not in reply:
                return reply, data
        raise DeviceError(f"the {self.engine} process no longer has {subject}, which it has just loaded.")

    def _running(self) -> WorkerProcess:
        """The worker, started where none runs."""
        if self._worker is None or not self._worker.alive:
            self._stop()
            self._worker = WorkerProcess(self.program, self._failure)
        return self._worker

    def _failure(self, subject: str, how: str, raw: str) -> NasflowError:
        return DeviceError(f"the {self.engine} process {how} while it ran {subject}.", hint=HINT, raw=raw)


def _values(payload: bytes, shape: object, images: int, engine: str = "LiteRT") -> NDArray[np.float32]:
    """Outputs (images, ...) of the worker's answer. Raises DeviceError where they do not fit together."""
    import numpy as np

    sizes = [size for size in shape if type(size) is int] if isinstance(shape, list) else []
    if not isinstance(shape, list) or sizes != shape or sizes[:1] != [images] or min(sizes) < 0:
        raise DeviceError(f"the {engine} process answered {images} images with the shape {str(shape)[:80]}.")
    if len(payload) != 4 * math.prod(sizes):
        raise DeviceError(f"the {engine} process answered with {len(payload)} bytes for the shape {sizes}.")
    return np.frombuffer(payload, np.float32).reshape(sizes)
