"""What trains on this computer, without loading torch; and in what two of these differ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache

from android_bench.local.host import local_info
from nasflow.base.processes import usable_cores
from nasflow.base.version import package_version
from pipeline.artifact import Document
from stages.documents import MadeBy, SearchResult, TrainedNetworks

DECIDING = ("torch", "processor", "instructions", "threads", "accelerator", "precision")
"""Fields of which each changes the numbers that training computes."""
COMPUTERS = tuple(name for name in DECIDING if name not in ("threads", "precision"))
"""Those of the computer. The number of threads also follows from how many networks a stage trains, and the
precision from the settings.
"""
_WORDS = {"omp_num_threads": "OMP_NUM_THREADS"}


@cache
def known_here() -> dict[str, str | int]:
    """Those fields of :class:`MadeBy` that can be told at once, as they are on this computer.

    Raises NoUsableDeviceError where LiteRT is not installed.
    """
    info = local_info()
    return {
        "torch": package_version("torch") or "not installed",
        "processor": f"{info.model}, {info.soc}",
        "cores": usable_cores(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def trained_by(document: Document) -> tuple[MadeBy, ...]:
    """All that made the output of a stage that trains, each once, in order; nothing for other documents."""
    if isinstance(document, SearchResult):
        return document.made_by
    networks = document.networks if isinstance(document, TrainedNetworks) else ()
    return tuple(dict.fromkeys(made_by for network in networks for made_by in network.made_by))


def differences(there: MadeBy, here: Mapping[str, str | int], fields: tuple[str, ...] = ()) -> list[str]:
    """``torch 2.12.0 there and 2.13.0 here``, for each of these fields (all that ``here`` has)."""
    return [
        f"{_WORDS.get(name, name)} {getattr(there, name) or 'none'} there and {here[name] or 'none'} here"
        for name in fields or tuple(here)
        if getattr(there, name) != here[name]
    ]


def describe(made_by: MadeBy) -> str:
    """``torch 2.13.0, AMD EPYC 9B14 (AVX512)``."""
    processor = f"{made_by.processor.partition(',')[0]} ({made_by.instructions})"
    words = [f"torch {made_by.torch}", processor]
    words += ["bfloat16"] if made_by.precision == "bf16" else []
    return ", ".join([*words, *([made_by.accelerator] if made_by.accelerator else [])])
