"""What a phone offers to compute with: clusters of cores, its GPU, drivers of its NPU.

A phone tells its GPU in ``dumpsys SurfaceFlinger``, in a line ``GLES: vendor, renderer, version`` (AOSP,
``libs/renderengine``, ``dump``). It does not tell its NPU: which drivers lie in its folders of libraries is
looked at, by the names that LiteRT loads (``litert/vendors``) or that its runtime speaks through. That a
driver is there says nothing about which models it takes: ``benchmark_model`` decides that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from android_bench.device import CpuPolicy
from android_bench.phone.conditions import CPUFREQ_COMMAND
from android_bench.phone.text import parse_cpufreq
from android_bench.transport import Transport
from nasflow.base.text import plain_line, plain_text

NPU_DRIVERS: Mapping[str, str] = {
    "libcdsprpc.so": "Qualcomm Hexagon",
    "libneuronusdk_adapter.mtk.so": "MediaTek NeuroPilot",
    "libneuronusdk_adapter.9.mtk.so": "MediaTek NeuroPilot",
    "libneuron_adapter_mgvi.so": "MediaTek NeuroPilot",
}
"""Qualcomm's remote calls to its signal processor, which QNN's libraries need; MediaTek's adapters, in the
order in which LiteRT tries them."""
_FOLDERS = ("/vendor/lib64", "/system_ext/lib64", "/system/lib64")

GPU_COMMAND = ("sh", "-c", "dumpsys SurfaceFlinger | grep -m 1 '^GLES: '")
"""The one line of it that is read: the whole has hundreds of KB."""
NPU_COMMAND = ("ls", *(f"{folder}/{name}" for folder in _FOLDERS for name in NPU_DRIVERS))
"""Prints those that are there; complains of the others, and ends with another code than 0."""

_GLES = re.compile(r"^GLES: ([^,\n]{1,80}), ([^,\n]{1,80}), [^\n]{0,400}$", re.MULTILINE)
_TEXT_CHARACTERS = 100_000
_KHZ_PER_GHZ = 1e6


@dataclass(frozen=True)
class Offers:
    """What a phone said; what it did not say is empty.

    ``cores``: ``4 x 1.70 GHz, 1 x 2.91 GHz``, the slowest cluster first. ``gpu``: ``Mali-G715 (ARM)``.
    ``npu``: ``Qualcomm Hexagon``, by its driver.
    """

    cores: str = ""
    gpu: str = ""
    npu: str = ""


def read_offers(transport: Transport, timeout_s: float) -> Offers:
    """Ask a phone by three short commands. Raises DeviceLostError and what else the way to it raises."""

    def ask(words: tuple[str, ...]) -> str:
        return plain_text(transport.run(words, timeout_s=timeout_s).stdout, limit=_TEXT_CHARACTERS)

    return offers_of(ask)


def offers_of(ask: Callable[[tuple[str, ...]], str]) -> Offers:
    """What a phone offers, from what the commands printed."""
    return Offers(
        cores=describe_clusters(parse_cpufreq(ask(CPUFREQ_COMMAND))),
        gpu=parse_gpu(ask(GPU_COMMAND)),
        npu=parse_npu(ask(NPU_COMMAND)),
    )


def describe_clusters(policies: tuple[CpuPolicy, ...]) -> str:
    """Number and highest clock of each cluster's cores; without the clock where that is not told."""
    ordered = sorted(policies, key=lambda policy: (policy.hardware_max_khz or 0, policy.number))
    return ", ".join(
        f"{len(policy.cores)}"
        if policy.hardware_max_khz is None
        else f"{len(policy.cores)} x {policy.hardware_max_khz / _KHZ_PER_GHZ:.2f} GHz"
        for policy in ordered
    )


def parse_gpu(text: str) -> str:
    """``Adreno (TM) 630 (Qualcomm)``; empty where no line tells it."""
    found = _GLES.search(text)
    if found is None:
        return ""
    vendor, renderer = (plain_line(word) for word in found.groups())
    return f"{renderer} ({vendor})" if vendor and renderer else ""


def parse_npu(text: str) -> str:
    """Whose NPU drivers are there, from what ``ls`` printed; empty where none is."""
    there = {line.strip().rpartition("/")[2] for line in text.split("\n") if line.startswith("/")}
    return ", ".join(dict.fromkeys(NPU_DRIVERS[name] for name in NPU_DRIVERS if name in there))
