"""What this computer says about itself."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from android_bench.device import Conditions, DeviceInfo
from nasflow.base.errors import NoUsableDeviceError

RUNTIMES = ("ai-edge-litert", "tflite-runtime")
_CPUINFO = Path("/proc/cpuinfo")
_BOARD = Path("/proc/device-tree/model")
_FREQUENCY = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")


def local_info() -> DeviceInfo:
    """This computer with LiteRT. Raises NoUsableDeviceError where that is not installed."""
    return this_computer(runtime_version())


@cache
def this_computer(runtime: str) -> DeviceInfo:
    """This computer with an inference ``runtime`` (name and version), the same in every run."""
    cpu = parse_cpuinfo(_head(_CPUINFO))
    return DeviceInfo(
        kind="local",
        model=_head(_BOARD).strip("\0 \n") or cpu.get("model name") or platform.processor() or "CPU",
        soc=" ".join([platform.machine(), *(f"{key} {cpu[key]}" for key in _SOC_KEYS if key in cpu)]),
        os_build=platform.platform(),
        runtime=runtime,
    )


def runtime_version() -> str:
    """Name and version of the LiteRT package. Raises NoUsableDeviceError where there is none."""
    for name in RUNTIMES:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    raise NoUsableDeviceError(
        f"this computer cannot run TFLite models: none of {', '.join(RUNTIMES)} is installed.",
        hint=f"Install it: pip install {RUNTIMES[0]}.",
    )


def local_conditions() -> Conditions:
    """Load and clock rate, as far as they can be read."""
    try:
        load_1min: float | None = os.getloadavg()[0]
    except OSError:
        load_1min = None
    return Conditions(at=datetime.now(UTC), load_1min=load_1min, cpu_mhz=_cpu_mhz())


_SOC_KEYS = ("cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU revision")


def parse_cpuinfo(text: str) -> dict[str, str]:
    """Fields of the first processor in the text of ``/proc/cpuinfo``."""
    first = text.strip().split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _cpu_mhz() -> float | None:
    khz = _head(_FREQUENCY).strip()
    if khz.isdigit():
        return int(khz) / 1000
    mhz = parse_cpuinfo(_head(_CPUINFO)).get("cpu MHz", "")
    return float(mhz) if re.fullmatch(r"\d+(\.\d+)?", mhz) else None


def _head(path: Path) -> str:
    """The first 4 KiB: reading all of a large machine's cpuinfo would wake every core."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(4096).decode(errors="replace")
    except OSError:
        return ""
