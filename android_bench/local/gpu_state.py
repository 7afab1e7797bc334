"""An NVIDIA GPU's clock, heat, throttling and programs, by NVML (package nvidia-ml-py).

What a GPU does not answer (its driver is too old, or a virtual machine's) is None, and not guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nasflow.base.text import plain_line

INSTALL = "pip install 'nasflow[cuda]'"

_SLOWDOWNS = {
    "nvmlClocksEventReasonSwPowerCap": "power limit",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSyncBoost": "sync boost",
    "nvmlClocksEventReasonSwThermalSlowdown": "heat",
    "nvmlClocksEventReasonHwThermalSlowdown": "heat, by the hardware",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
}
"""Reasons that make a GPU slower than it is set to be: not that it waits, nor clocks that somebody set."""


@dataclass(frozen=True)
class GpuState:
    """At one moment; ``programs``: process ids of what computes on it, as the driver counts them."""

    mhz: float | None = None
    celsius: float | None = None
    throttled_by: tuple[str, ...] | None = None
    programs: tuple[int, ...] | None = None

    def other_programs(self, own: int | None) -> int | None:
        """How many programs compute on it beside process ``own`` (None: none of ours does).

        In a container the driver's process ids may be those of the host, where ours has another: where it is
        not among them, one of them is it.
        """
        if self.programs is None or own is None:
            return None if self.programs is None else len(self.programs)
        return max(0, len(set(self.programs) - {own}) - (own not in self.programs))


class GpuMonitor:
    """Reads the state of the GPU that has a ``uuid`` (``GPU-...``).

    ``why_not`` says why it can read nothing; empty where it can. Nothing is raised.
    """

    def __init__(self, uuid: str) -> None:
        self.why_not, self._gpu, self._nvml = "", None, None
        try:
            import pynvml
        except ImportError:
            self.why_not = f"the package nvidia-ml-py is not installed ({INSTALL})"
            return
        try:
            pynvml.nvmlInit()
            self._nvml = pynvml
            self._gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            self.why_not = f"NVML says: {plain_line(str(error))}"

    def state(self) -> GpuState:
        """Now."""
        nvml, gpu = self._nvml, self._gpu
        if nvml is None or gpu is None:
            return GpuState()
        reasons = self._asked(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu))
        programs = self._asked(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(gpu))
        return GpuState(
            mhz=self._asked(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
            celsius=self._asked(lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
            throttled_by=None
            if reasons is None
            else tuple(words for name, words in _SLOWDOWNS.items() if reasons & getattr(nvml, name)),
            programs=None if programs is None else tuple(sorted(one.pid for one in programs)),
        )

    def close(self) -> None:
        """Give NVML back. May be called twice."""
        if self._nvml is not None:
            self._asked(self._nvml.nvmlShutdown)
            self._nvml = None

    def _asked(self, question: Callable[[], Any]) -> Any:
        assert self._nvml is not None
        try:
            return question()
        except self._nvml.NVMLError:
            return None
