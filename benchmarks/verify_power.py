"""How often is a gate wrong, and how often does it tell what is true? On simulated devices, and here.

Simulated gates measure through the product's own code a device whose truth is known: *independent* timings,
or a device that *drifts* (an AR(1) process: 5 %, correlation 0.8 from one timing to the next), throttles at a
random moment by a quarter, and has one timing in fifty disturbed. The true ratio lies exactly at the limit,
or 3 % above it. Then real gates of a model against itself on this computer, which should decide nothing.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from android_bench.device import BenchmarkRequest, DeviceInfo, LatencyMeasurement
from android_bench.local.device import LocalDevice
from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Bar, Outcome, at_least, at_most, main
from benchmarks._simulated_device import SimulatedDevice, described, timed
from pipeline.store.scratch import FleetingScratch
from stages.documents.gate import GateLook, GatePlan
from stages.verification.gate import looks_of, verdict_of, with_drops
from stages.verification.gate_blocks import GateBlocks

GATES, QUICK_GATES, BATCH = 4000, 200, 50
LOCAL_GATES, QUICK_LOCAL_GATES = 20, 2
DEVIATION = 0.02  # of a block's log-ratio, where timings are independent
DRIFT, CORRELATION, THROTTLED, DISTURBED, DISTURBED_SHARE = 0.05, 0.8, 1.25, 1.3, 0.02
OWN_DEVIATION = 0.01  # of a timing on the drifting device, beside its drift
TIMES_MS = {"candidate": 3.0, "baseline": 3.0, "anchor": 2.0}
SLOWER = 1.03
WRONG_PERCENT, COVER_PERCENT, POWER_PERCENT, LOCAL_DECIDED = 3.3, 94.0, 95.0, 3
Scenario = tuple[str, float, float]
"""Device, true ratio, limit."""
SCENARIOS: dict[str, Scenario] = {
    "independent_at_the_limit": ("independent", 1.0, 1.0),
    "drifting_at_the_limit": ("drifting", 1.0, 1.0),
    "independent_slower": ("independent", SLOWER, 1.0),
    "drifting_slower": ("drifting", SLOWER, 1.0),
    "independent_slower_limit_1.02": ("independent", SLOWER, 1.02),
}


class GatedDevice(SimulatedDevice):
    """Times whose truth is known; ``drifting`` or not."""

    device_info: ClassVar[DeviceInfo] = described("local", "Gated device")

    def __init__(self, ratio: float, *, drifting: bool, seed: str) -> None:
        self._random = random.Random(seed)
        self._ms = {**TIMES_MS, "candidate": ratio * TIMES_MS["baseline"]}
        self._drifting = drifting
        self._state = self._random.gauss(0, DRIFT)
        self._throttle_from = self._random.randrange(400)
        self._throttle_to = self._throttle_from + self._random.randrange(20, 200)
        self.timings = 0
        self.throttled = 0
        """Timings that were made while it was throttled."""

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """One timing, by its model's name."""
        return timed(self._ms[request.name] * self._slowdown())

    def _slowdown(self) -> float:
        self.timings += 1
        if not self._drifting:
            return math.exp(self._random.gauss(0, DEVIATION))
        innovation = DRIFT * math.sqrt(1 - CORRELATION**2)
        self._state = CORRELATION * self._state + self._random.gauss(0, innovation)
        slowdown = math.exp(self._state + self._random.gauss(0, OWN_DEVIATION))
        if self._throttle_from <= self.timings < self._throttle_to:
            slowdown *= THROTTLED
        if self._random.random() < DISTURBED_SHARE:
            slowdown *= DISTURBED
        return slowdown


def gate(device: Any, plan: GatePlan, requests: dict[Any, BenchmarkRequest]) -> tuple[GateBlocks, GateLook]:
    """Measure until the gate decides."""
    measured = GateBlocks(FleetingScratch(), device, requests, plan.seed)
    while len(measured.blocks) < plan.min_blocks or verdict_of(plan, measured.blocks) is None:
        measured.measure()
    return measured, looks_of(plan, measured.blocks)[-1]


def simulated(job: Job) -> list[dict[str, Any]]:
    """A batch of gates of one scenario: what each came to."""
    name, batch = str(job[0]), int(job[1])
    kind, ratio, limit = SCENARIOS[name]
    requests: dict[Any, BenchmarkRequest] = {
        model: BenchmarkRequest(name=model, model=b"") for model in TIMES_MS
    }
    found = []
    for number in range(BATCH * batch, BATCH * (batch + 1)):
        device = GatedDevice(ratio, drifting=kind == "drifting", seed=f"{name}/{number}")
        measured, last = gate(device, GatePlan(max_ratio=limit, seed=number), requests)
        looks = looks_of(GatePlan(max_ratio=limit, seed=number), measured.blocks)
        found.append(
            {
                "verdict": last.verdict,
                "blocks": len(measured.blocks),
                "dropped": sum(block.dropped is not None for block in with_drops(measured.blocks)),
                "holds": last.ratio_interval[0] <= ratio <= last.ratio_interval[1],
                "all_hold": all(one.ratio_interval[0] <= ratio <= one.ratio_interval[1] for one in looks),
            }
        )
    return found


def against_itself(seed: int) -> dict[str, Any]:
    """A gate of MobileNetV2 0.5 at 96 pixels against the same file, on this computer."""
    from stages.conversion.flatbuffer import network_model
    from stages.space.mobilenet_v2 import mobilenet_v2

    model = network_model(mobilenet_v2(resolution=96, classes=10, width=0.5), seed=1)
    requests: dict[Any, BenchmarkRequest] = {
        name: BenchmarkRequest(name=name, model=model, warmup_ms=10, min_ms=30) for name in TIMES_MS
    }
    with LocalDevice() as device:
        measured, last = gate(device, GatePlan(max_ratio=1.0, seed=seed), requests)
    return {
        "verdict": last.verdict,
        "ratio": last.ratio,
        "ratio_interval": list(last.ratio_interval),
        "blocks": len(measured.blocks),
        "seconds": sum(block.seconds for block in measured.blocks),
    }


def run(full: bool) -> Outcome:
    """All scenarios, then the gates on this computer."""
    batches = (GATES if full else QUICK_GATES) // BATCH
    jobs: list[Job] = [(name, batch) for name in SCENARIOS for batch in range(batches)]
    # What a gate is decided by has no version of its own: its source stands for it.
    kept = KeptLines("verify_power", [repr(SCENARIOS), *map(_source, ("gate", "gate_blocks", "sequential"))])
    results = dict(kept.results(jobs, simulated))
    figures: dict[str, Any] = {
        name: _summary([one for job in jobs if job[0] == name for one in results[job]]) for name in SCENARIOS
    }
    kept.finish()
    here = [against_itself(seed) for seed in range(LOCAL_GATES if full else QUICK_LOCAL_GATES)]
    figures["against_itself_here"] = {
        "gates": len(here),
        "decided": sum(one["verdict"] != "inconclusive" for one in here),
        "ratios": [one["ratio"] for one in here],
        "half_widths_percent": [
            50 * (one["ratio_interval"][1] - one["ratio_interval"][0]) / one["ratio"] for one in here
        ],
        "seconds": [one["seconds"] for one in here],
    }
    return Outcome(figures, _bars(figures) if full else [])


def _source(module: str) -> str:
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec(f"stages.verification.{module}")
    assert spec is not None and spec.origin is not None  # a module of this repository
    return Path(spec.origin).read_text(encoding="utf-8")


def _summary(gates: Sequence[dict[str, Any]]) -> dict[str, Any]:
    count = len(gates)

    def percent(key: str, value: object) -> float:
        return 100.0 * len([one for one in gates if one[key] == value]) / count

    return {
        "gates": count,
        **{f"{verdict}_percent": percent("verdict", verdict) for verdict in ("pass", "fail", "inconclusive")},
        "deciding_interval_holds_percent": percent("holds", value=True),
        "all_intervals_hold_percent": percent("all_hold", value=True),
        "mean_blocks": sum(one["blocks"] for one in gates) / count,
        "dropped_percent": 100 * sum(one["dropped"] for one in gates) / sum(one["blocks"] for one in gates),
    }


def _bars(figures: dict[str, Any]) -> list[Bar]:
    bars = []
    for name, (kind, ratio, limit) in SCENARIOS.items():
        of = figures[name]
        bars.append(
            at_least(f"{name}_intervals_hold_percent", of["all_intervals_hold_percent"], COVER_PERCENT)
        )
        if ratio == limit:
            bars += [
                at_most(f"{name}_{verdict}_percent", of[f"{verdict}_percent"], WRONG_PERCENT)
                for verdict in ("pass", "fail")
            ]
        elif (kind, limit) == ("independent", 1.0):
            bars.append(at_least(f"{name}_fail_percent", of["fail_percent"], POWER_PERCENT))
    bars.append(at_most("decided_against_itself", figures["against_itself_here"]["decided"], LOCAL_DECIDED))
    return bars


if __name__ == "__main__":
    sys.exit(main("verify_power", run))
