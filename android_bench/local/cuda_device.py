"""A CUDA GPU of this computer as a device: PyTorch in a process of its own."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from android_bench.device import (
    BenchmarkRequest,
    Conditions,
    DeviceInfo,
    LatencyMeasurement,
    ModelPrecision,
    Overhead,
    RuntimeOptions,
)
from android_bench.local.gpu_state import GpuMonitor
from android_bench.local.host import local_conditions, this_computer
from android_bench.local.onnx_models import OnnxModelDevice, Translate
from nasflow.base.errors import DeviceError, NoUsableDeviceError, UsageError
from nasflow.base.text import plain_line

PRECISIONS: tuple[ModelPrecision, ...] = ("float32", "float16")
WARMUP_MS = 100.0
"""At least so long a model computes before it is timed: a GPU that has just waited runs at a lower clock."""
CUDA_OVERHEAD = Overhead(timing_ms=WARMUP_MS + 100.0, list_ms=0.0, process_ms=5000.0)
"""A guess that no GPU has confirmed: the warm-up, a capture, PyTorch's start."""
_DRIVER_VERSION = Path("/sys/module/nvidia/version")
_DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # Linux, and Linux under Windows
_STARTING_SECONDS = 120.0
_NO_GPU = (
    "nvidia-smi shows what the driver sees; PyTorch must be a build with CUDA "
    "(https://pytorch.org/get-started/locally/). Or choose another device: --device local."
)


@dataclass(frozen=True)
class Gpu:
    """A GPU as PyTorch tells of it; ``name`` is that of the device, as in ``cuda:0``."""

    name: str
    model: str
    uuid: str
    capability: str
    processors: int
    memory_bytes: int


def driver_is_here() -> bool:
    """Whether NVIDIA's driver is loaded, so that asking PyTorch for GPUs is worth its seconds."""
    return any(path.exists() for path in _DRIVER_FILES)


def find_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that PyTorch can use, and why there are none; takes seconds. Raises DeviceError."""
    with CudaDevice(lambda model, _name: model) as device:
        _, found, why_none = device.gpus()
    return found, why_none


class CudaDevice(OnnxModelDevice):
    """Runs models on one GPU, in batches of ``runtime.batch``; a latency is that of a batch.

    Files with float16 weights are computed in float16, others in float32. ``tell`` is given what a person
    should know of the GPU's state, once each. ``target`` is PyTorch's name of the GPU. With ``cpu`` all but
    the CUDA graph is the same, on this computer's processor: for tests.
    """

    engine: ClassVar[str] = "PyTorch"
    program: ClassVar[tuple[str, ...]] = ("-m", "android_bench.local.torch_worker")
    overhead = CUDA_OVERHEAD

    def __init__(
        self,
        translate: Translate,
        *,
        target: str = "cuda:0",
        tell: Callable[[str], None] = lambda _text: None,
        timeout_seconds: float = 120.0,
        warmup_ms: float = WARMUP_MS,
    ) -> None:
        super().__init__(translate, timeout_seconds=timeout_seconds)
        self._target, self._tell, self._warmup_ms = target, tell, warmup_ms
        self._monitor: GpuMonitor | None = None
        self._info: DeviceInfo | None = None
        self._told: set[str] = set()

    def gpus(self) -> tuple[str, tuple[Gpu, ...], str]:
        """PyTorch's version, the GPUs that it can use, and why there are none. Raises DeviceError."""
        reply, _ = self._running().ask(
            {"op": "gpus"}, b"", subject="a look for GPUs", timeout_seconds=_STARTING_SECONDS
        )
        try:
            found = tuple(
                Gpu(
                    name=f"cuda:{number}",
                    model=plain_line(one["name"]),
                    uuid=str(one["uuid"]),
                    capability=plain_line(one["capability"]),
                    processors=int(one["processors"]),
                    memory_bytes=int(one["memory_bytes"]),
                )
                for number, one in enumerate(reply["gpus"])
            )
            return plain_line(reply["runtime"]), found, plain_line(reply["why_none"])
        except (KeyError, TypeError, ValueError) as error:
            raise DeviceError(f"the PyTorch process described GPUs as {str(reply)[:80]}.") from error

    def info(self) -> DeviceInfo:
        """The GPU; starts the worker the first time. Raises NoUsableDeviceError where it is not there."""
        if self._info is None:
            self._info = self._found()
        return self._info

    def refuse(self, options: RuntimeOptions) -> None:
        """Raises UsageError for what this device cannot follow."""
        changed = [
            f"runtime.{key} is {value}"
            for key, value, usual in (
                ("threads", options.threads, (1,)),
                ("cpu", options.cpu, ("auto", "all")),
                ("delegate", options.delegate, ("cpu",)),
                ("precision", options.precision, PRECISIONS),
            )
            if value not in usual
        ]
        if changed:
            raise UsageError(
                f"a CUDA GPU runs models in {' or '.join(PRECISIONS)}, and follows runtime.batch; "
                f"{', '.join(changed)}.",
                hint="Remove these settings, or choose another device.",
            )

    def loaded_with(self, options: RuntimeOptions) -> dict[str, Any]:
        """Where, and how many images at once."""
        return {"target": self._target, "batch": options.batch}

    def memory_hint(self, options: RuntimeOptions) -> str:
        """A batch decides how much that is."""
        return (
            f"The GPU's memory does not hold it, with no other model beside it: runtime.batch is "
            f"{options.batch}; choose a smaller one, or end other programs on the GPU (see nvidia-smi)."
        )

    def conditions(self) -> Conditions:
        """This computer's load, and the GPU's state as far as NVML tells it."""
        self.info()
        host = local_conditions()
        if self._monitor is None:
            return host
        state = self._monitor.state()
        return host.model_copy(
            update={
                "gpu_mhz": state.mhz,
                "gpu_celsius": state.celsius,
                "throttled_by": state.throttled_by,
                "other_programs": state.other_programs(self.worker_pid),
            }
        )

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """Time one model, one round. Raises DeviceError, BadMeasurementError."""
        warm = max(request.warmup_ms, self._warmup_ms)
        measured = super().benchmark(request.model_copy(update={"warmup_ms": warm}))
        if measured.conditions is not None:
            self._tell_of(measured.conditions)
        return measured

    def close(self) -> None:
        """Stop the worker. May be called twice; the next measurement starts another."""
        super().close()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor, self._info = None, None  # found again, monitor and all, if there is a next one

    def _found(self) -> DeviceInfo:
        runtime, gpus, why_none = self.gpus()
        if self._target == "cpu":
            self._watch("")
            return this_computer(runtime)
        if not gpus:
            raise NoUsableDeviceError(
                f"this computer has no CUDA GPU that can be measured: {why_none}.", hint=_NO_GPU
            )
        gpu = next((one for one in gpus if one.name == self._target), None)
        if gpu is None:
            raise NoUsableDeviceError(
                f"this computer has no GPU {self._target}: PyTorch can use "
                f"{', '.join(f'{one.name} ({one.model})' for one in gpus)}.",
                hint="Choose one of them with --device.",
            )
        self._watch(gpu.uuid)
        return DeviceInfo(
            kind="cuda",
            model=gpu.model,
            soc=f"compute capability {gpu.capability}, {gpu.processors} multiprocessors",
            os_build=_system(),
            runtime=runtime,
        )

    def _watch(self, uuid: str) -> None:
        self._monitor = GpuMonitor(uuid)
        if why_not := self._monitor.why_not:
            self._tell_once(f"the GPU's clock, heat, throttling and other programs are not known: {why_not}.")

    def _tell_of(self, state: Conditions) -> None:
        if state.throttled_by:
            self._tell_once(f"the GPU is slowed down ({', '.join(state.throttled_by)}).")
        if state.other_programs:
            count = state.other_programs
            self._tell_once(
                f"{count} other program{'s' if count > 1 else ''} computed on the GPU beside the timings, or "
                "may: nvidia-smi names them. Their work makes latencies noisy, and longer."
            )

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)


def _system() -> str:
    """The operating system, and NVIDIA's driver where its version can be read."""
    try:
        driver = f", NVIDIA driver {plain_line(_DRIVER_VERSION.read_text(encoding='ascii').strip())}"
    except (OSError, UnicodeDecodeError):
        driver = ""
    return f"{platform.platform()}{driver}"
