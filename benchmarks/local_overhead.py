"""What measuring on this computer costs and how well it repeats.

``empty_invoke_us`` is the time of a model that does next to nothing: calling, clock and delegate. The
same network is timed in several fresh processes; ``between_processes_percent`` is the half-range of their
medians over their median, ``between_rounds_percent`` the same for rounds within one process.
"""

from __future__ import annotations

import sys
from statistics import median

from android_bench.device import BenchmarkRequest, combine
from android_bench.local.device import LocalDevice
from benchmarks._report import Outcome, at_most, main, say
from stages.conversion.flatbuffer import empty_model, network_model
from stages.space import SpaceConfig, load_space
from stages.space.mobilenet_v2 import fit_strides, mobilenet_v2


def run(full: bool) -> Outcome:
    """Time two models in several processes, several rounds each."""
    processes, rounds = (20, 20) if full else (6, 8)
    space = load_space(SpaceConfig())
    net = mobilenet_v2(
        resolution=space.resolution,
        classes=space.classes,
        width=0.5,
        strides=fit_strides(space.stride_plan),
    )
    empty = BenchmarkRequest(name="empty", model=empty_model(), min_ms=5)
    network = BenchmarkRequest(name="mobilenet_v2_0.5", model=network_model(net), min_ms=20)
    empty_ms, network_ms, within = [], [], []
    for number in range(processes):
        with LocalDevice() as device:
            empty_ms.append(device.benchmark(empty).median_ms)
            together = combine([device.benchmark(network) for _ in range(rounds)])
        network_ms.append(together.median_ms)
        within.append(together.spread)
        say(f"process {number + 1} of {processes}: {1000 * together.median_ms:.1f} us")
    between = (max(network_ms) - min(network_ms)) / (2 * median(network_ms))
    empty_us = 1000 * median(empty_ms)
    return Outcome(
        figures={
            "processes": processes,
            "rounds": rounds,
            "empty_invoke_us": empty_us,
            "network": network.name,
            "network_us": 1000 * median(network_ms),
            "between_processes_percent": 100 * between,
            "between_rounds_percent": 100 * median(within),
        },
        bars=[
            at_most("empty_invoke_us", empty_us, 5.0),
            at_most("between_processes_percent", 100 * between, 5.0),
        ],
    )


if __name__ == "__main__":
    sys.exit(main("local_overhead", run))
