"""What a step of the search costs, in memory and in time, over training the sampled network alone.

The paper's space at 224 pixels. Memory is the peak of activations: weights, gradients and optimizer state do
not count. It is shown for 2 to 12 candidates a layer too, beside a supernet that runs all its paths at once.
Steps are the search's own (:class:`stages.nas.search_loop.SearchLoop`'s). Two are of the architecture: the
paper's (``two_path_step``), and the default's, which runs whole paths forward (``architecture_step``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks._memory import PROMPT_MALLOC, cuda_peak, resident_peak, traced_peak
from benchmarks._report import Bar, Outcome, at_most, main, say
from benchmarks._search_subjects import (
    SIZES,
    AllPathsAtOnce,
    Alone,
    Pairs,
    Searching,
    Setting,
    common_pairs,
    space_of,
)
from stages.space import SpaceConfig, load_space
from stages.verification.statistics import latency_ratio

KINDS = ("weight_step", "two_path_step", "architecture_step")
MEMORY_LIMIT, FLAT_LIMIT, APART_LIMIT_PERCENT = 1.15, 1.05, 5.0
TIME_LIMITS = {"weight_step": 1.05, "two_path_step": 2.0, "architecture_step": 2.0}
METERS = {
    "cpu": "bytes that PyTorch's CPU allocator gave out, traced by torch.profiler",
    "cuda": "torch.cuda.max_memory_allocated minus what is allocated after the step",
}


def cpu_setting(full: bool) -> Setting:
    """The paper's space on the processor: small batches, float32."""
    space = load_space(SpaceConfig(name="proxyless_mobile"))
    draws, rounds = (5, 40) if full else (2, 10)
    return Setting(space, 4, torch.device("cpu"), bfloat16=False, draws=draws, rounds=rounds)


def gpu_setting(full: bool) -> Setting:
    """The paper's space on a GPU at the paper's batch size, bf16."""
    space = load_space(SpaceConfig(name="proxyless_mobile"))
    draws, rounds = (5, 60) if full else (2, 20)
    return Setting(space, 256, torch.device("cuda", 0), bfloat16=True, draws=draws, rounds=rounds)


Step = Callable[[], None]


@dataclass(frozen=True)
class Metered:
    """A step, and what of its memory is not activations."""

    step: Step
    learned: Callable[[], list[Tensor]]

    def prepare(self) -> None:
        """Take a first step, which makes what stays, and drop the gradients that it leaves."""
        self.step()
        for tensor in self.learned():
            tensor.grad = None


def steps_of(searching: Searching, pairs: Pairs) -> dict[str, Metered]:
    """Training the active network of a draw alone, and the steps of the search on that draw."""
    alone = Alone(searching, pairs)
    return {
        "alone": Metered(alone.step, alone.learned),
        "weight_step": Metered(partial(searching.weight_step, pairs), searching.learned),
        "two_path_step": Metered(partial(searching.two_path_step, pairs), searching.learned),
        "architecture_step": Metered(partial(searching.architecture_step, pairs), searching.learned),
    }


def activation_mb(setting: Setting, metered: Metered) -> float:
    """Peak of a step's activations, by the device's meter."""
    metered.prepare()
    if setting.device.type == "cuda":
        return cuda_peak(metered.step, setting.device) / 1e6
    return traced_peak(metered.step, metered.learned) / 1e6


def peaks_mb(searching: Searching, pairs: Pairs) -> dict[str, float]:
    """Activations' peak of all of them on one draw."""
    steps = steps_of(searching, pairs)
    return {name: activation_mb(searching.setting, metered) for name, metered in steps.items()}


def all_paths_mb(searching: Searching) -> float | None:
    """The same of a supernet that runs all paths; None where that does not fit into a GPU."""
    try:
        everything = AllPathsAtOnce(searching)
        return activation_mb(searching.setting, Metered(everything.step, everything.learned))
    except torch.OutOfMemoryError:
        return None


def memory(setting: Setting) -> dict[str, Any]:
    """Peaks of the space's own draws, and of one draw in spaces of 2 to 12 candidates a layer."""
    searching = Searching(setting)
    draws = []
    for seed in range(setting.draws):
        draws.append(peaks_mb(searching, searching.draw(seed)))
        say(f"memory: draw {seed + 1} of {setting.draws}: {draws[-1]}")
    del searching
    sizes, beside = {}, {}
    for size in SIZES:
        searching = Searching(setting, space_of(setting.space, size))
        sizes[size] = peaks_mb(searching, common_pairs(searching.loop.space))
        beside[size] = {
            "all_paths": all_paths_mb(searching),
            "weights_of_the_supernet": sum(p.nbytes for p in searching.loop.supernet.parameters()) / 1e6,
        }
        say(f"memory: {size} candidates a layer: {sizes[size]}, {beside[size]}")
    figures: dict[str, Any] = {"memory_meter": METERS[setting.device.type]}
    for kind in KINDS:
        figures[f"{kind}_memory_over_alone"] = max(draw[kind] / draw["alone"] for draw in draws)
        column = [row[kind] for row in sizes.values()]
        figures[f"{kind}_memory_largest_over_smallest"] = max(column) / min(column)
    by_size = {size: {**sizes[size], **beside[size]} for size in SIZES}
    return figures | {"draws_mb": draws, "candidates_mb": by_size}


def times(setting: Setting) -> dict[str, Any]:
    """A draw for each round: its network's own step and those of the search, in rotating order.

    The network alone has trained on that draw before; the search has not, as in a real search.
    """
    searching = Searching(setting)
    searching.warm_up()
    seen: dict[str, list[float]] = {"alone": [], **{kind: [] for kind in KINDS}}
    for number in range(setting.rounds):
        steps = steps_of(searching, searching.draw(number))
        steps["alone"].step()
        for name in islice(cycle(steps), number % len(steps), number % len(steps) + len(steps)):
            seen[name].append(_timed_ms(setting, steps[name].step))
        say(f"time: round {number + 1} of {setting.rounds}")
    figures: dict[str, Any] = {f"{name}_ms": median(values) for name, values in seen.items()}
    for kind in KINDS:
        ratio = latency_ratio(seen[kind], seen["alone"])
        figures |= {
            f"{kind}_time_over_alone": ratio.value,
            f"{kind}_time_over_alone_interval": ratio.interval,
        }
    return figures


def _timed_ms(setting: Setting, step: Step) -> float:
    setting.synchronise()
    started = time.perf_counter()
    step()
    setting.synchronise()
    return 1e3 * (time.perf_counter() - started)


def both_meters(setting: Setting, kind: str) -> dict[str, int | None]:
    """One step by both of the processor's meters, gradients and all, in bytes. Wants a fresh process."""
    searching = Searching(setting)
    metered = steps_of(searching, searching.draw(0))[kind]
    metered.prepare()
    seen = resident_peak(metered.step)
    metered.prepare()
    return {"resident": seen, "traced": traced_peak(metered.step)}


def second_meter(full: bool) -> dict[str, Any]:
    """The first draw by the second meter too, each kind of step in a fresh process; empty without Linux."""
    meters = {}
    for kind in ("alone", *KINDS):
        program = (
            "import json; from benchmarks.search_step import both_meters, cpu_setting; "
            f"print(json.dumps(both_meters(cpu_setting({full}), {kind!r})))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).resolve().parents[1],
            env=os.environ | PROMPT_MALLOC,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        meters[kind] = json.loads(done.stdout)
        say(f"both meters, {kind}: {meters[kind]}")
        if meters[kind]["resident"] is None:
            return {}
    apart = [abs(bytes_of["resident"] / bytes_of["traced"] - 1) for bytes_of in meters.values()]
    return {
        "second_meter": "growth of resident memory (VmHWM) in a fresh process",
        "both_meters_bytes": meters,
        "meters_apart_percent": 100 * max(apart),
    }


def measure(setting: Setting) -> dict[str, Any]:
    """Memory and time of one setting."""
    return {
        "device": _name(setting.device),
        "resolution": setting.space.resolution,
        "batch_size": setting.batch_size,
        "precision": "bfloat16" if setting.bfloat16 else "float32",
        **memory(setting),
        **times(setting),
    }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def bars_of(figures: Mapping[str, Any], prefix: str = "") -> list[Bar]:
    """The bars of one setting."""
    limits = {f"{kind}_memory_over_alone": MEMORY_LIMIT for kind in KINDS}
    limits |= {f"{kind}_memory_largest_over_smallest": FLAT_LIMIT for kind in KINDS}
    limits |= {f"{kind}_time_over_alone": limit for kind, limit in TIME_LIMITS.items()}
    if "meters_apart_percent" in figures:
        limits["meters_apart_percent"] = APART_LIMIT_PERCENT
    return [at_most(f"{prefix}{name}", figures[name], limit) for name, limit in limits.items()]


def summary(figures: Mapping[str, Any], gpu: Mapping[str, Any] | str) -> Outcome:
    """The processor's figures and bars, and a GPU's, or why there are none."""
    if isinstance(gpu, str):
        return Outcome({**figures, "gpu": None, "gpu_left_out": gpu}, bars_of(figures))
    return Outcome({**figures, "gpu": gpu}, bars_of(figures) + bars_of(gpu, "gpu_"))


def measure_gpu(setting: Setting) -> dict[str, Any] | str:
    """The figures of a CUDA GPU, or why there are none."""
    if not torch.cuda.is_available():
        return "no CUDA GPU"
    try:
        return measure(setting)
    except torch.OutOfMemoryError:
        return f"{_name(setting.device)} has too little memory for batches of {setting.batch_size}"


def run(full: bool) -> Outcome:
    """Measure on the processor, and on a GPU where there is one."""
    figures = measure(cpu_setting(full)) | second_meter(full)
    return summary(figures, measure_gpu(gpu_setting(full)))


if __name__ == "__main__":
    sys.exit(main("search_step", run))
