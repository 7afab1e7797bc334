"""The process in which a CUDA GPU runs models: ``python -m android_bench.local.torch_worker``.

It answers the requests of :mod:`android_bench.local.serving` with PyTorch, and one that is about no model:

==============  ====================================================  ==================================
``op``          further header fields; payload                        answer
==============  ====================================================  ==================================
``gpus``                                                              ``runtime``; ``gpus`` (``name``,
                                                                      ``uuid``, ``capability``,
                                                                      ``processors``, ``memory_bytes``
                                                                      each); ``why_none``
==============  ====================================================  ==================================

``benchmark`` answers ``resolution_ms``, too: that of the clock. Options are ``batch``, the images that are
computed at once, and ``target``, a name of a PyTorch device: ``cuda:0``, or ``cpu``, on which all but the
capture and the events is the same.

On a GPU a model is captured once as a CUDA graph, as servers do it: an invocation replays it, so that the
kernels follow each other without Python in between. One invocation is timed by two CUDA events around it,
with nothing else in flight: how long a batch takes that comes alone, its input in the GPU's memory. Copies to
and from the GPU are not in it.
"""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from android_bench.local.inputs import INPUT_SEED, made_up
from android_bench.local.serving import (
    Answer,
    Header,
    Loaded,
    ModelError,
    Operation,
    OutOfMemoryError,
    answered,
    serve,
)
from android_bench.local.timing import quantiles_ms, time_invocations
from android_bench.local.torch_graph import TorchModel, torch_model

EVENT_RESOLUTION_MS = 0.0005
"""Of CUDA events: "a resolution of around 0.5 microseconds" (``cudaEventElapsedTime``)."""
_RUNS_BEFORE_CAPTURE = 3  # as PyTorch's notes on CUDA graphs have it: cuDNN has chosen its kernels by then
_IMAGES_AT_ONCE = 64


class Stopwatch(Protocol):
    """What times one run of a model."""

    @property
    def resolution_ms(self) -> float:
        """Step of its clock; 0 where that is too fine to matter."""

    def time_ns(self, run: Callable[[], object]) -> int:
        """Nanoseconds that the device took for it; it is done when this returns."""


class ProcessorClock:
    """For the CPU: it is done when the call returns."""

    resolution_ms = 0.0

    def time_ns(self, run: Callable[[], object]) -> int:
        """By the process's clock."""
        before = time.perf_counter_ns()
        run()
        return time.perf_counter_ns() - before


class CudaEvents:
    """For a GPU: its own time stamps before and behind the work."""

    resolution_ms = EVENT_RESOLUTION_MS

    def __init__(self) -> None:
        self._start, self._end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )

    def time_ns(self, run: Callable[[], object]) -> int:
        """By two events in the current stream."""
        self._start.record()
        run()
        self._end.record()
        self._end.synchronize()
        return round(float(self._start.elapsed_time(self._end)) * 1e6)


@dataclass(frozen=True)
class PlacedModel:
    """A model on its device. ``invoke`` computes one batch of made-up images."""

    model: TorchModel
    target: torch.device
    stopwatch: Stopwatch
    invoke: Callable[[], object]

    def run(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs (N, ...) for inputs (N, ...), some at a time. Raises ModelError, and RuntimeError."""
        shape = self.model.shape
        if shape != inputs.shape[1:] or inputs.dtype != np.float32:
            given = f"{inputs.dtype} {(1, *inputs.shape[1:])}"
            raise ModelError(f"the model takes float32 {(1, *shape)}; the input is {given}")
        parts = [
            self.model.module(placed(inputs[start : start + _IMAGES_AT_ONCE], self.model, self.target))
            for start in range(0, len(inputs), _IMAGES_AT_ONCE)
        ]
        return np.ascontiguousarray(torch.cat(parts).float().cpu().numpy())


class PyTorch:
    """The engine: PyTorch's own kernels and cuDNN's."""

    def __init__(self) -> None:
        self.operations: Mapping[str, Operation] = {"benchmark": benchmark}

    def refusals(self) -> tuple[type[Exception], ...]:
        """What PyTorch raises for a model: too large for the memory, shapes that do not fit."""
        return RuntimeError, ValueError, TypeError, MemoryError

    def exhausted(self, error: Exception) -> bool:
        """Of PyTorch's allocator, of the driver (a graph's own memory), of cuDNN and cuBLAS."""
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        return known or re.search(r"out of memory|_ALLOC_FAILED", str(error)) is not None

    def free(self) -> None:
        """What PyTorch keeps of freed tensors and of the pools of graphs that are gone."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def load(self, content: bytes, options: Mapping[str, Any]) -> PlacedModel:
        """The model on its device, captured where that is a GPU. Raises ModelError, and RuntimeError."""
        model, target = torch_model(content), torch.device(options["target"])
        on_gpu = target.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(target)
            torch.backends.cudnn.benchmark = True  # the fastest kernel for each size, as a server chooses it
        model.module.to(target)
        shape = (options["batch"], *model.shape)
        values = made_up(np.random.default_rng(INPUT_SEED), shape, np.dtype(np.float32))
        assert values is not None  # it is for types that are no numbers
        run = partial(model.module, placed(values, model, target))
        stopwatch = CudaEvents() if on_gpu else ProcessorClock()
        return PlacedModel(model, target, stopwatch, captured(run) if on_gpu else run)

    def own_clock(self, options: Mapping[str, Any]) -> Callable[[], int] | None:
        """None: the stopwatch tells it."""
        return None


def captured(run: Callable[[], object]) -> Callable[[], object]:
    """A CUDA graph's replay in place of a call, after PyTorch's notes on CUDA graphs."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_RUNS_BEFORE_CAPTURE):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = run()

    def replay(_answers: object = answers, _run: object = run) -> None:  # what the graph reads and writes
        graph.replay()

    return replay


def placed(values: NDArray[Any], model: TorchModel, target: torch.device) -> torch.Tensor:
    """Images or rows on a device, in the model's type."""
    tensor = torch.from_numpy(values.copy()).to(target, model.kind)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def benchmark(model: PlacedModel, request: Header, _payload: bytes) -> Answer:
    """Quantiles of the invocations in milliseconds, by the device's own clock."""
    spent_ns = 0

    def invoke() -> None:
        nonlocal spent_ns
        spent_ns += model.stopwatch.time_ns(model.invoke)

    durations_ns = time_invocations(
        invoke,
        warmup_ms=request["warmup_ms"],
        min_ms=request["min_ms"],
        min_runs=request["min_runs"],
        max_runs=request["max_runs"],
        clock=lambda: spent_ns,
    )
    return {**quantiles_ms(durations_ns), "resolution_ms": model.stopwatch.resolution_ms}, b""


def gpus() -> Header:
    """The CUDA GPUs that PyTorch can use, and why there are none."""
    cuda = torch.version.cuda
    found = []
    if torch.cuda.is_available():
        properties = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        found = [
            {
                "name": one.name,
                "uuid": f"GPU-{one.uuid}",  # with the prefix that NVML and nvidia-smi have
                "capability": f"{one.major}.{one.minor}",
                "processors": one.multi_processor_count,
                "memory_bytes": one.total_memory,
            }
            for one in properties
        ]
    words = [f"torch {torch.__version__}"]
    if found:
        words += [f"CUDA {cuda}", f"cuDNN {torch.backends.cudnn.version()}"]  # type: ignore[no-untyped-call]
    return {"runtime": ", ".join(words), "gpus": found, "why_none": "" if found else _why_none(cuda)}


def _why_none(cuda: str | None) -> str:
    if cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}"
    return f"torch {torch.__version__} (CUDA {cuda}) finds no GPU{hidden}"


def main() -> None:
    """Serve requests until standard input ends."""
    engine = PyTorch()
    loaded = Loaded(engine)

    def answer(request: Header, payload: bytes) -> Answer:
        if request["op"] == "gpus":
            return gpus(), b""
        try:
            return answered(engine, loaded, request, payload)
        except ModelError as error:
            cause = error.__cause__
            if isinstance(cause, torch.AcceleratorError) and not isinstance(error, OutOfMemoryError):
                raise cause from error  # a fault of the GPU: nothing works in this process any more
            raise

    with torch.inference_mode():
        serve(answer)


if __name__ == "__main__":
    main()
