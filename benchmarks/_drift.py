"""What drift does to a latency model: a simulated device that fluctuates and throttles, its truth known."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from android_bench.device import (
    BenchmarkRequest,
    DeviceInfo,
    LatencyMeasurement,
    RuntimeOptions,
)
from android_bench.virtual_phone.described_cost import operators_ms
from benchmarks._report import say
from benchmarks._simulated_device import SimulatedDevice, described, timed
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.conversion.flatbuffer import block_model, network_model
from stages.documents import LatencyModel, LatencyTable
from stages.latency.calibration import draw_networks
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space import SpaceConfig, load_space
from stages.space.search_space import NetConfig

DEVIATION, CORRELATION, THROTTLED = 0.05, 0.8, 1.25
SPACE = load_space(SpaceConfig(name="fashion"))
NETWORKS, SEED = 120, 0


class DriftingDevice(SimulatedDevice):
    """True times of models, at a speed that fluctuates and is a quarter slower from a certain timing on.

    The speed's logarithm is an AR(1) process: standard deviation 5 %, correlation 0.8 from one timing to
    the next.
    """

    device_info: ClassVar[DeviceInfo] = described("local", "Drifting device")

    def __init__(self, true_ms: Callable[[BenchmarkRequest], float], *, seed: int, throttle_at: int) -> None:
        self._true_ms = true_ms
        self._chance = random.Random(seed)
        self._state = self._chance.gauss(0, DEVIATION)
        self._throttle_at = throttle_at
        self.timings = 0

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """One timing; the next finds the device a little faster or slower."""
        throttled = THROTTLED if self.timings >= self._throttle_at else 1.0
        ms = self._true_ms(request) * math.exp(self._state) * throttled
        self.timings += 1
        innovation = DEVIATION * math.sqrt(1 - CORRELATION**2)
        self._state = CORRELATION * self._state + self._chance.gauss(0, innovation)
        return timed(ms)


def true_ms(model: bytes) -> float:
    """What a model takes at the reference speed: a whole network more than its parts together."""
    total_ms, whole = operators_ms(model)
    return 0.02 + 1.08 * total_ms if whole else 0.0005 + total_ms


def network_ms(net: NetConfig) -> float:
    """The same of a network."""
    return true_ms(network_model(net))


def drift_sessions(sessions: int) -> dict[str, Any]:
    """Errors of models that were made on the drifting device, with and without its anchor.

    In each session the device throttles at a random moment of the whole work, profile and calibration
    together; without the anchor, as many timings are spent on the models themselves. Judged on networks
    drawn evenly over the latency range, by their true latency.
    """
    chance = random.Random(SEED)
    times = {block.key: true_ms(block_model(block)) for block in SPACE.distinct_blocks()}
    evaluated = [SPACE.network(choices) for choices in draw_networks(SPACE, times, NETWORKS, SEED + 1)]
    errors: dict[str, list[list[float]]] = {"anchored": [], "plain": []}
    expected = 1300  # timings of a session
    for session in range(sessions):
        say(f"latency_model: a drifting device, session {session + 1} of {sessions}")
        throttle_at = int(chance.random() * expected)
        table, model = _session(session, throttle_at, {}, {})
        expected = len(table.timings) + len(model.timings)
        plain = {"anchor_every": 0, "extra_rounds": 0}
        networks = len(model.calibration) + len(model.held_out)
        _, without = _session(
            session,
            throttle_at,
            {**plain, "rounds": round(len(table.timings) / (1 + len(table.rows)))},
            {**plain, "rounds": round(len(model.timings) / networks)},
        )
        for kind, made in (("anchored", model), ("plain", without)):
            errors[kind].append([abs(made.predict_ms(net) / network_ms(net) - 1) for net in evaluated])
    figures: dict[str, Any] = {
        "space": SPACE.name,
        "sessions": sessions,
        "networks": NETWORKS,
        "timings_per_session": expected,
    }
    for kind, found in errors.items():
        # All networks of a session stand on one fit: sessions are what repeats.
        shares = [sum(size <= 0.05 for size in session) / len(session) for session in found]
        sizes = [size for session in found for size in session]
        figures[f"{kind}_share_within_5_percent"] = sum(shares) / len(shares)
        figures[f"{kind}_worst_session_share"] = min(shares)
        figures[f"{kind}_mean_error_percent"] = 100 * sum(sizes) / len(sizes)
        figures[f"{kind}_worst_error_percent"] = 100 * max(sizes)
    return figures


def _session(
    seed: int, throttle_at: int, profile: Mapping[str, int], latency: Mapping[str, int]
) -> tuple[LatencyTable, LatencyModel]:
    device = DriftingDevice(lambda request: true_ms(request.model), seed=seed, throttle_at=throttle_at)
    options = RuntimeOptions()
    first = ProfileOps(ProfileConfig.model_validate(profile), SPACE, options, SEED, device)
    second = FitLatency(LatencyConfig.model_validate(latency), SPACE, options, SEED, device)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), _silent)
        table = first.run(Context("profile", "", store, FleetingScratch(), _silent))
        return table, second.run(Context("latency", "", store, FleetingScratch(), _silent), table=table)


def _silent(_: object) -> None:
    """Three thousand timings are not worth a line each."""
