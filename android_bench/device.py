"""The contract of a device, and the data that cross it.

A device runs `.tflite` models and says how long they take. Times are in milliseconds.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
)

from nasflow.base.errors import BadMeasurementError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Frozen(BaseModel):
    """A frozen value. Unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _mask_meant(text: str) -> str:
    """What somebody may have meant by ``text``, to follow "a mask of cores"."""
    if re.fullmatch(r"0b[01]{1,64}", text):
        return f", as in 0x{int(text, 2):x}"
    if re.fullmatch(r"[1-9][0-9]{1,15}", text):
        return f": 0x{int(text):x} if {text} is decimal, 0x{text} if it is hexadecimal"
    if re.fullmatch(r"[1-9a-f][0-9a-f]{0,15}", text):
        return f", as in 0x{text}"
    return " such as 0xf0"


def _is_one(value: object) -> bool:
    """Whether a field is as it was before there was one: it is not written then."""
    return value == 1


def _is_none(value: object) -> bool:
    """The same of fields that say what is not known of every device."""
    return value is None


ModelPrecision = Literal["float32", "float16", "int8"]
DeviceKind = Literal["local", "android", "cuda"]


class RuntimeOptions(Frozen):
    """How a model is run; part of every latency's identity."""

    threads: int = Field(
        default=1,
        ge=1,
        le=64,
        description="CPU threads that a model may use; 1 is what most apps use, and the most repeatable",
    )
    cpu: str = Field(
        default="auto",
        description="cores of a phone to use: auto (its fastest cluster), all, big, little, prime, or a "
        "mask such as 0xf0",
    )
    delegate: Literal["cpu", "gpu", "npu"] = Field(
        default="cpu",
        description="what runs the model: cpu (with XNNPACK), or a phone's gpu or npu, which must then run "
        "all of it; on a GPU, float16 (runtime.precision) is what its driver computes with anyway",
    )
    precision: ModelPrecision = Field(
        default="float32",
        exclude_if=lambda precision: precision == "float32",
        description="of the models that are measured, searched and verified: float32, float16 (of the "
        "weights; a CPU computes with them in float32, a CUDA GPU in float16) or int8 (all in 8 bits)",
    )
    batch: int = Field(
        default=1,
        ge=1,
        le=1024,
        exclude_if=_is_one,
        description="images that a model computes at once, on a CUDA GPU alone; every latency is then that "
        "of a whole batch, and so are targets",
    )

    @field_validator("cpu", mode="before")
    @classmethod
    def _cores(cls, value: object) -> object:
        if not isinstance(value, str | int) or isinstance(value, bool):
            return value
        lower = str(value).lower()
        if not re.fullmatch(r"auto|all|big|little|prime|0x[0-9a-f]{1,16}", lower):
            raise ValueError(
                f"it should be auto, all, big, little, prime, or a mask of cores{_mask_meant(lower)}"
            )
        return lower

    def describe(self, device_kind: DeviceKind = "local") -> str:
        """``1 thread``, ``4 threads, big cores``, ``1 thread, gpu``; of a CUDA GPU ``batch 8, float16``."""
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        words = [f"batch {self.batch}" if device_kind == "cuda" else threads]
        if self.cpu not in ("auto", "all"):
            words.append(f"{self.cpu} cores")
        if self.delegate != "cpu":
            words.append(self.delegate)
        if self.precision != "float32":
            words.append(self.precision)
        return ", ".join(words)

    def check_single(self, device: str) -> None:
        """Raises UsageError for batches, on a ``device`` that computes one image after the other."""
        if self.batch != 1:
            raise UsageError(
                f"{device} computes one image after the other; runtime.batch is {self.batch}.",
                hint="Remove runtime.batch, or measure on a CUDA GPU: --device cuda.",
            )


DEFAULT_OPTIONS = RuntimeOptions()


class DeviceInfo(Frozen):
    """Which device measured, and with which runtime."""

    kind: DeviceKind
    model: str
    soc: str
    os_build: str
    runtime: str = Field(description="name and version of the inference runtime")
    binary_sha256: str = Field(default="", description="the benchmark binary, where there is one")
    serial: str = Field(default="", description="recorded, never part of a fingerprint")
    virtual: bool = False
    fixed_performance: bool | None = Field(
        default=None,
        exclude_if=_is_none,
        description="whether the phone accepted Android's fixed-performance mode; None (not written) if the "
        "device is not a phone",
    )

    @property
    def runs_onnx(self) -> bool:
        """Whether ONNX Runtime measured: models as they were exported, no block in parts."""
        return self.runtime.startswith("onnxruntime ")

    def identity(self) -> dict[str, str]:
        """What makes a latency of this device comparable with another: never the serial."""
        mode = self.fixed_performance
        return {
            "device_kind": self.kind,
            "device_model": self.model,
            "soc": self.soc,
            "os_build": self.os_build,
            "runtime": self.runtime,
            "binary_sha256": self.binary_sha256,
            "virtual": str(self.virtual).lower(),
            **({} if mode is None else {"fixed_performance": str(mode).lower()}),
        }


class Conditions(Frozen):
    """The device's state around a measurement. None: could not be read, and is not guessed."""

    at: datetime
    load_1min: float | None = None
    cpu_mhz: float | None = None
    cores: tuple[int, ...] | None = Field(default=None, exclude_if=_is_none)
    core_mhz: float | None = Field(default=None, exclude_if=_is_none)
    core_range_mhz: tuple[float, float] | None = Field(default=None, exclude_if=_is_none)
    skin_celsius: float | None = None
    thermal_status: int | None = Field(default=None, exclude_if=_is_none)
    battery_percent: float | None = None
    awake: bool | None = Field(default=None, exclude_if=_is_none)
    gpu_mhz: float | None = Field(default=None, exclude_if=_is_none)
    gpu_celsius: float | None = Field(default=None, exclude_if=_is_none)
    throttled_by: tuple[str, ...] | None = Field(default=None, exclude_if=_is_none)
    other_programs: int | None = Field(default=None, exclude_if=_is_none)

    def describe_cores(self) -> str:
        """See :func:`describe_cores`."""
        return describe_cores(self.cores, self.core_mhz, self.core_range_mhz)


def describe_cores(
    cores: tuple[int, ...] | None, mhz: float | None, range_mhz: tuple[float, float] | None = None
) -> str:
    """``core 8 at 2914 MHz``, ``cores 4 to 7``, ``core 8 at 2000 to 2200 MHz``; empty: cores not known."""
    if not cores:
        return ""
    first, last = cores[0], cores[-1]
    if len(cores) == 1:
        words = f"core {first}"
    elif cores == tuple(range(first, last + 1)):
        words = f"cores {first} to {last}"
    else:
        words = f"cores {', '.join(map(str, cores))}"
    if range_mhz is not None:
        return f"{words} at {range_mhz[0]:.0f} to {range_mhz[1]:.0f} MHz"
    return words if mhz is None else f"{words} at {mhz:.0f} MHz"


@dataclass(frozen=True)
class CpuPolicy:
    """One cluster of cores that share a clock; from ``/sys/devices/system/cpu/cpufreq/policy<number>``.

    ``hardware_max_khz`` is what the silicon can do, ``allowed_max_khz`` what it may do at the moment.
    """

    number: int
    cores: tuple[int, ...]
    current_khz: int | None
    allowed_max_khz: int | None
    hardware_max_khz: int | None


class BenchmarkRequest(Frozen):
    """One model to be timed once: warm up, then invoke until both minima are reached.

    A warm-up takes ``warmup_ms``, and more where that is too short (:mod:`android_bench.warm_up`).
    """

    name: str
    model: bytes = Field(repr=False, description="the .tflite file's content")
    options: RuntimeOptions = DEFAULT_OPTIONS
    warmup_ms: float = Field(default=5.0, ge=0)
    min_ms: float = Field(default=20.0, gt=0, description="time to spend on counted invocations")
    min_runs: int = Field(default=10, ge=1)
    max_runs: int = Field(default=100_000, ge=1)


class LatencyMeasurement(Frozen):
    """Quantiles of one model's invocations.

    From one round, ``rounds`` is 1. From several (see :func:`combine`), the quantiles are medians of
    the rounds' quantiles and ``round_medians_ms`` keeps every round's median. A time that the clock counted
    as 0 stands as half of ``resolution_ms``: it is below one step.
    """

    median_ms: float = Field(gt=0)
    p5_ms: float = Field(gt=0)
    p95_ms: float = Field(gt=0)
    min_ms: float = Field(gt=0)
    runs: int = Field(ge=1)
    rounds: int = Field(ge=1)
    round_medians_ms: tuple[float, ...] = Field(min_length=1)
    resolution_ms: float = Field(
        default=0.0,
        ge=0,
        exclude_if=operator.not_,
        description="resolution of the clock that timed the invocations; 0 (not written) if it is exact",
    )
    conditions: Conditions | None = None

    @field_validator("median_ms", "p5_ms", "p95_ms", "min_ms")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("a latency must be a finite number of milliseconds")
        return value

    @field_validator("round_medians_ms")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise ValueError("the median of a round must be a finite number of milliseconds above 0")
        return values

    @property
    def spread(self) -> float:
        """Relative half-range of the rounds' medians: (max - min) / (2 median)."""
        return (max(self.round_medians_ms) - min(self.round_medians_ms)) / (2 * self.median_ms)

    def divided(self, slowdown: float) -> LatencyMeasurement:
        """The same at another speed: every time divided by ``slowdown``."""
        if slowdown == 1.0:
            return self
        times = {name: getattr(self, name) / slowdown for name in ("median_ms", "p5_ms", "p95_ms", "min_ms")}
        rounds = tuple(ms / slowdown for ms in self.round_medians_ms)
        resolution_ms = self.resolution_ms / slowdown
        return self.model_copy(update={**times, "round_medians_ms": rounds, "resolution_ms": resolution_ms})


class Overhead(Frozen):
    """What measuring takes beside the invocations asked for. A guess, for estimates beforehand."""

    timing_ms: float = Field(ge=0, description="for each timing: loading the model, a phone's process")
    list_ms: float = Field(ge=0, description="for each list of timings, whatever its length")
    process_ms: float = Field(default=0.0, ge=0, description="for each process that ``renew`` starts")


LOCAL_OVERHEAD = Overhead(timing_ms=4.0, list_ms=0.0, process_ms=120.0)
PHONE_OVERHEAD = Overhead(timing_ms=250.0, list_ms=2500.0)
"""A process and a warm-up for every timing, a job and a load for every list: as the virtual phone takes,
rounded up."""


class Device(Protocol):
    """Something that runs `.tflite` models. Opening is lazy: making one costs nothing."""

    @property
    def overhead(self) -> Overhead:
        """What measuring on it takes beside the invocations; known before it is looked for."""

    def info(self) -> DeviceInfo:
        """Which device this is. Raises NoUsableDeviceError."""

    def conditions(self) -> Conditions:
        """The device's present state."""

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """Time one model, one round. Raises DeviceError, BadMeasurementError."""

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        """Time each request in the order given; yield its index and result as soon as it is known.

        A model may occur many times in ``requests`` (rounds): it is sent to the device once.
        """

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> NDArray[np.float32]:
        """Outputs (N, ...) of a model with batch size 1, image by image.

        ``inputs_NHWC`` are of the model's own type: float32, uint8 or int8. Quantized outputs come as the
        numbers that they stand for.
        """

    def renew(self) -> None:
        """Let the next timing share no process with those before.

        The effect of one process's memory layout (2-3 %) would else look like a property of a model.
        """

    def close(self) -> None:
        """Give back what was opened. May be called twice."""


def combine(rounds: Sequence[LatencyMeasurement]) -> LatencyMeasurement:
    """Join the rounds of one model: medians of their quantiles, the smallest minimum."""
    from statistics import median

    return LatencyMeasurement(
        median_ms=median(r.median_ms for r in rounds),
        p5_ms=median(r.p5_ms for r in rounds),
        p95_ms=median(r.p95_ms for r in rounds),
        min_ms=min(r.min_ms for r in rounds),
        runs=sum(r.runs for r in rounds),
        rounds=sum(r.rounds for r in rounds),
        round_medians_ms=tuple(m for r in rounds for m in r.round_medians_ms),
        resolution_ms=max(r.resolution_ms for r in rounds),
        conditions=rounds[-1].conditions,
    )


def parse_measurement(fields: Mapping[str, Any], *, source: str) -> LatencyMeasurement:
    """A device's answer as a measurement. Raises BadMeasurementError: a silent 0 ms is impossible."""
    from pydantic import ValidationError

    try:
        return LatencyMeasurement.model_validate(fields)
    except ValidationError as error:
        raise BadMeasurementError(
            f"{source} reported an impossible latency: {dict(fields)!r}.",
            hint="Measure again; if the problem persists, run 'nasflow doctor'.",
            raw=str(error),
        ) from error
