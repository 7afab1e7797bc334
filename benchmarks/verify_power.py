"""How often is a gate wrong, and how often does it tell what is true? On simulated devices, and here.

Simulated gates measure through the product's own code a device whose truth is known: *independent* timings,
or a device that *drifts* (an AR(1) process: 5 %, correlation 0.8 from one timing to the next), throttles at a
random moment by a quarter, and has one timing in fifty disturbed. One *tells* of its throttling, as a phone
does; the other is known by its anchor alone. The true ratio lies exactly at the limit, or 3 % above it. Then
real gates of a model against itself on this computer, which should decide nothing, and one whose answer is
clear, as a person calls it.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from android_bench.device import BenchmarkRequest, DeviceInfo, LatencyMeasurement
from android_bench.local.device import LocalDevice
from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Bar, Outcome, at_least, at_most, main
from benchmarks._simulated_device import SimulatedDevice, described, timed
from nasflow.gate.measure import requests_of
from pipeline.store.scratch import FleetingScratch
from stages.documents.gate import GateLook, GatePlan
from stages.verification.gate import looks_of, verdict_of, with_drops
from stages.verification.gate_blocks import GateBlocks, Timed

GATES, QUICK_GATES, BATCH = 4000, 200, 50
LOCAL_GATES, QUICK_LOCAL_GATES = 20, 2
DEVIATION = 0.02  # of a block's log-ratio, where timings are independent
DRIFT, CORRELATION, THROTTLED, DISTURBED, DISTURBED_SHARE = 0.05, 0.8, 1.25, 1.3, 0.02
OWN_DEVIATION = 0.01  # of a timing on the drifting device, beside its drift
TIMES_MS: dict[Timed, float] = {"candidate": 3.0, "baseline": 3.0, "anchor": 2.0}
SLOWER = 1.03
WRONG_PERCENT, COVER_PERCENT, POWER_PERCENT, LOCAL_DECIDED = 3.3, 94.0, 95.0, 3
CLEAR_PIXELS, CLEAR_WIDTHS, CLEAR_SECONDS = 224, (0.75, 1.0), 60.0
Scenario = tuple[str, float, float]
"""Device, true ratio, limit."""
SCENARIOS: dict[str, Scenario] = {
    "independent_at_the_limit": ("independent", 1.0, 1.0),
    "drifting_at_the_limit": ("drifting", 1.0, 1.0),
    "telling_at_the_limit": ("telling", 1.0, 1.0),
    "independent_slower": ("independent", SLOWER, 1.0),
    "drifting_slower": ("drifting", SLOWER, 1.0),
    "independent_slower_limit_1.02": ("independent", SLOWER, 1.02),
}
_DECIDED_BY = (
    "stages.verification.gate",
    "stages.verification.gate_blocks",
    "stages.verification.sequential",
    "stages.measurement.disturbed",
    "stages.measurement.paired",
    "benchmarks.verify_power",
)


class GatedDevice(SimulatedDevice):
    """Times whose truth is known. ``kind``: independent, drifting, or telling of its throttling, too."""

    device_info: ClassVar[DeviceInfo] = described("local", "Gated device")

    def __init__(self, ratio: float, *, kind: str, seed: str) -> None:
        self._random = random.Random(seed)
        self._ms = {str(name): ms for name, ms in TIMES_MS.items()}
        self._ms["candidate"] = ratio * TIMES_MS["baseline"]
        self._kind = kind
        self._state = self._random.gauss(0, DRIFT)
        self._throttle_from = self._random.randrange(400)
        self._throttle_to = self._throttle_from + self._random.randrange(20, 200)
        self.throttled: list[bool] = []
        """Whether it was, in each timing so far."""

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """One timing, by its model's name."""
        number = len(self.throttled) + 1
        self.throttled.append(
            self._kind != "independent" and self._throttle_from <= number < self._throttle_to
        )
        measured = timed(self._ms[request.name] * self._slowdown())
        if self._kind != "telling":
            return measured
        told = self.conditions().model_copy(update={"thermal_status": int(self.throttled[-1])})
        return measured.model_copy(update={"conditions": told})

    def _slowdown(self) -> float:
        if self._kind == "independent":
            return math.exp(self._random.gauss(0, DEVIATION))
        innovation = DRIFT * math.sqrt(1 - CORRELATION**2)
        self._state = CORRELATION * self._state + self._random.gauss(0, innovation)
        slowdown = math.exp(self._state + self._random.gauss(0, OWN_DEVIATION))
        if self.throttled[-1]:
            slowdown *= THROTTLED
        if self._random.random() < DISTURBED_SHARE:
            slowdown *= DISTURBED
        return slowdown


def gate(device: Any, plan: GatePlan, requests: dict[Timed, BenchmarkRequest]) -> tuple[GateBlocks, GateLook]:
    """Measure until the gate decides."""
    measured = GateBlocks(FleetingScratch(), device, requests, plan.seed)
    while len(measured.blocks) < plan.min_blocks or verdict_of(plan, measured.blocks) is None:
        measured.measure()
    return measured, looks_of(plan, measured.blocks)[-1]


def simulated(job: Job) -> list[dict[str, Any]]:
    """A batch of gates of one scenario: what each came to."""
    name, batch = str(job[0]), int(job[1])
    kind, ratio, limit = SCENARIOS[name]
    requests = requests_of(dict.fromkeys(TIMES_MS, b""))
    found = []
    for number in range(BATCH * batch, BATCH * (batch + 1)):
        device = GatedDevice(ratio, kind=kind, seed=f"{name}/{number}")
        plan = GatePlan(max_ratio=limit, seed=number)
        measured, last = gate(device, plan, requests)
        blocks, each = with_drops(plan, measured.blocks), len(measured.blocks[0].timings)
        found.append(
            {
                "verdict": last.verdict,
                "blocks": len(blocks),
                "dropped": sum(block.dropped is not None for block in blocks),
                "throttled_that_count": sum(
                    block.dropped is None and any(device.throttled[each * index : each * (index + 1)])
                    for index, block in enumerate(blocks)
                ),
                "holds": _holds(last, ratio),
                "all_hold": all(_holds(look, ratio) for look in looks_of(plan, measured.blocks)),
            }
        )
    return found


def _holds(look: GateLook, ratio: float) -> bool:
    low, high = look.ratio_interval or (math.nan, math.nan)
    return low <= ratio <= high


def against_itself(seed: int) -> dict[str, Any]:
    """A gate of MobileNetV2 0.5 at 96 pixels against the same file, on this computer."""
    from stages.conversion.flatbuffer import network_model
    from stages.space.mobilenet_v2 import mobilenet_v2

    model = network_model(mobilenet_v2(resolution=96, classes=10, width=0.5), seed=1)
    with LocalDevice() as device:
        measured, last = gate(
            device, GatePlan(max_ratio=1.0, seed=seed), requests_of(dict.fromkeys(TIMES_MS, model))
        )
    assert last.ratio is not None and last.ratio_interval is not None  # there is a baseline
    return {
        "verdict": last.verdict,
        "ratio": last.ratio,
        "ratio_interval": list(last.ratio_interval),
        "blocks": len(measured.blocks),
        "seconds": sum(block.seconds for block in measured.blocks),
    }


def clear_gate() -> dict[str, Any]:
    """The command on two MobileNetV2s, the smaller of which takes clearly less: its verdict and its time."""
    from stages.conversion.flatbuffer import network_model
    from stages.space.mobilenet_v2 import mobilenet_v2

    with tempfile.TemporaryDirectory() as folder:
        for width in CLEAR_WIDTHS:
            net = mobilenet_v2(resolution=CLEAR_PIXELS, classes=1000, width=width)
            Path(folder, f"{width:g}.tflite").write_bytes(network_model(net))
        ours, theirs = (f"{width:g}.tflite" for width in CLEAR_WIDTHS)
        words = ["verify", ours, "--against", theirs, "--max-ratio", "1", "--json"]
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "nasflow", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "XDG_CACHE_HOME": folder},
            stdout=subprocess.PIPE,
            check=True,
        )
        seconds = time.monotonic() - started
    result = json.loads(done.stdout)
    return {"verdict": result["verdict"], "blocks": len(result["blocks"]), "seconds": seconds}


def run(full: bool) -> Outcome:
    """All scenarios, then the gates on this computer."""
    batches = (GATES if full else QUICK_GATES) // BATCH
    jobs: list[Job] = [(name, batch) for name in SCENARIOS for batch in range(batches)]
    # What a gate is decided by has no version of its own: its source stands for it.
    kept = KeptLines("verify_power", [*map(_source, _DECIDED_BY)])
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
    figures["clear_gate_here"] = clear_gate()
    return Outcome(figures, _bars(figures) if full else [])


def _source(module: str) -> str:
    from importlib.util import find_spec

    spec = find_spec(module)
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
        "throttled_blocks_that_count": sum(one["throttled_that_count"] for one in gates),
        "gates_with_such_percent": 100 * sum(one["throttled_that_count"] > 0 for one in gates) / count,
    }


def _bars(figures: dict[str, Any]) -> list[Bar]:
    bars = []
    for name, (kind, ratio, limit) in SCENARIOS.items():
        of = figures[name]
        bars.append(
            at_least(f"{name}_intervals_hold_percent", of["all_intervals_hold_percent"], COVER_PERCENT)
        )
        if kind == "telling":
            bars.append(at_most(f"{name}_throttled_blocks_that_count", of["throttled_blocks_that_count"], 0))
        if ratio == limit:
            bars += [
                at_most(f"{name}_{verdict}_percent", of[f"{verdict}_percent"], WRONG_PERCENT)
                for verdict in ("pass", "fail")
            ]
        elif (kind, limit) == ("independent", 1.0):
            bars.append(at_least(f"{name}_fail_percent", of["fail_percent"], POWER_PERCENT))
    bars.append(at_most("decided_against_itself", figures["against_itself_here"]["decided"], LOCAL_DECIDED))
    bars.append(at_most("clear_gate_seconds", figures["clear_gate_here"]["seconds"], CLEAR_SECONDS))
    return bars


if __name__ == "__main__":
    sys.exit(main("verify_power", run))
