"""NVIDIA's library under the real package nvidia-ml-py: its C functions, by the declarations in ``nvml.h``.

Each takes what ctypes hands over and returns an ``nvmlReturn_t``: 0 is success, 3 not supported, 6 not found,
7 that an array is too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

SUCCESS, NOT_SUPPORTED, NOT_FOUND, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED = 0, 3, 6, 7, 9
UUID = "GPU-ffc79498-8ff3-c2dc-3b0d-fafd804516ae"


@dataclass
class FakeNvml:
    """One GPU. ``refused``: functions that it does not support. ``open``: how often it was initialised."""

    mhz: int = 1980
    celsius: int = 41
    reasons: int = 0
    pids: tuple[int, ...] = ()
    refused: frozenset[str] = frozenset()
    on_init: int = SUCCESS
    open: int = 0
    asked: list[str] = field(default_factory=list)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlDevice") and name in object.__getattribute__(self, "refused"):
            return lambda *_: NOT_SUPPORTED
        return object.__getattribute__(self, name)

    def nvmlInitWithFlags(self, _flags: Any) -> int:
        if self.on_init == SUCCESS:
            self.open += 1
        return self.on_init

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return SUCCESS

    def nvmlErrorString(self, code: int) -> bytes:
        return {NOT_FOUND: b"Not Found", DRIVER_NOT_LOADED: b"Driver Not Loaded"}.get(code, b"Not Supported")

    def nvmlDeviceGetHandleByUUID(self, uuid: Any, _device: Any) -> int:
        self.asked.append(uuid.value.decode())
        return SUCCESS if uuid.value.decode() == UUID else NOT_FOUND

    def nvmlDeviceGetClockInfo(self, _device: Any, clock: Any, mhz: Any) -> int:
        assert clock.value == 1, "NVML_CLOCK_SM"
        mhz._obj.value = self.mhz
        return SUCCESS

    def nvmlDeviceGetTemperature(self, _device: Any, sensor: Any, celsius: Any) -> int:
        assert sensor.value == 0, "NVML_TEMPERATURE_GPU"
        celsius._obj.value = self.celsius
        return SUCCESS

    def nvmlDeviceGetCurrentClocksEventReasons(self, _device: Any, reasons: Any) -> int:
        reasons._obj.value = self.reasons
        return SUCCESS

    def nvmlDeviceGetComputeRunningProcesses_v3(self, _device: Any, count: Any, infos: Any) -> int:
        size, count._obj.value = count._obj.value, len(self.pids)
        if infos is None:
            return INSUFFICIENT_SIZE if self.pids else SUCCESS
        if size < len(self.pids):
            return INSUFFICIENT_SIZE
        for info, pid in zip(infos, self.pids, strict=False):
            info.pid, info.usedGpuMemory = pid, 2**30
        return SUCCESS

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
        """Let the package find it in the place of NVIDIA's."""
        import pynvml

        monkeypatch.setattr(pynvml, "nvmlLib", self)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        return self
