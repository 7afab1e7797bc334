"""This computer as a device: LiteRT in a process of its own."""

from __future__ import annotations

from typing import ClassVar

from android_bench.device import DeviceInfo
from android_bench.local.host import local_info
from android_bench.local.worker_device import WorkerDevice


class LocalDevice(WorkerDevice):
    """Runs `.tflite` models on this computer's CPU with LiteRT."""

    engine: ClassVar[str] = "LiteRT"

    def info(self) -> DeviceInfo:
        """This computer; starts nothing. Raises NoUsableDeviceError where LiteRT is not installed."""
        return local_info()
