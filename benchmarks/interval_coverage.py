"""Do the 95 % intervals of latency predictions hold 95 % of networks? Simulated calibrations, and real ones.

Each calibration is the product's own: ``profile`` and ``latency`` with their usual settings. Simulated ones
measure a device whose truth is known (:mod:`benchmarks._noisy_device`), in simulated time. Real ones
(``--real N``) measure the paper's space at 224 pixels on this computer; networks that none of it has seen are
then measured side by side with the model's reference, in a new process each round, and in so many rounds that
what is left of their noise is small beside the interval (``measured_to_percent``).
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from android_bench.local.device import LocalDevice
from benchmarks._drift import SPACE, network_ms, true_ms
from benchmarks._kept_lines import Job, KeptLines
from benchmarks._noisy_device import NoiseSources, NoisyDevice
from benchmarks._report import Bar, Outcome, at_least, at_most, main, say
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.conversion.measured import measured_network
from stages.documents import LatencyModel
from stages.latency.calibration import Choices, draw_networks
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.measurement.paired import PairedRounds
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space import SpaceConfig, load_space
from stages.space.network_name import network_name
from stages.space.search_space import SearchSpace
from stages.verification.estimate import Estimate
from stages.verification.statistics import latency_ratio

SIMULATED, QUICK = 200, 6
NETWORKS = 120  # of a simulated calibration, that it has not seen
REAL_SPACE, REAL_NETWORKS, REAL_ROUNDS, REAL_MS = "proxyless_mobile", 20, 30, 100
REFERENCES = 5  # times that each round times the reference, each at another place in memory
TIMINGS = 1300  # of a simulated calibration, roughly: the device throttles at one of them
MEAN_LEAST, MEAN_MOST, REAL_LEAST = 0.93, 0.97, 0.80


def run(full: bool, real: int = 0) -> Outcome:
    """The simulated calibrations, then the real ones."""
    kept = KeptLines("interval_coverage", _sources())
    jobs: list[Job] = [("simulated", seed) for seed in range(SIMULATED if full else QUICK)]
    results = dict(kept.results(jobs, simulated))
    figures: dict[str, Any] = {"simulated": summary([results[job] for job in jobs])}
    bars = _simulated_bars(figures["simulated"]) if full else []
    if real:
        # One at a time: two would disturb each other's timings.
        one_by_one: list[Job] = [("real", seed) for seed in range(real)]
        found = dict(kept.results(one_by_one, real_one, workers=1))
        figures["real"] = {"calibrations": [found[job] for job in one_by_one]}
        if real > 1:
            figures["real"] |= summary(figures["real"]["calibrations"])
        worst = min(one["share"] for one in figures["real"]["calibrations"])
        bars.append(at_least("real_worst_share", worst, REAL_LEAST))
    kept.finish()
    return Outcome(figures, bars)


def simulated(job: Job) -> dict[str, float]:
    """How many networks' true latencies one simulated calibration's intervals hold."""
    seed = int(job[1])
    noise, times_ms = NoiseSources.drawn(seed), dict[str, float]()

    def time_ms(request: BenchmarkRequest) -> float:
        # A model is read once: a calibration times each some twenty times.
        if request.name not in times_ms:
            of_space = request.name.startswith("network_")  # the anchor and the blocks are what they are
            own = noise.network_factor(seed, request.name) if of_space else 1.0
            times_ms[request.name] = own * true_ms(request.model)
        return times_ms[request.name]

    throttle_at = random.Random(f"{seed}/throttle").randrange(TIMINGS)
    device = NoisyDevice(time_ms, noise, seed=seed, throttle_at=throttle_at)
    model = calibrate(SPACE, device, seed)
    # Truth at the speed that predictions stand for, as the reference tells it: see evaluate_latency.
    speed = model.reference.measurement.median_ms / network_ms(model.reference.net)
    ratios = [
        noise.network_factor(seed, network_name(choices))
        * speed
        * ms
        / model.predict_ms(SPACE.network(choices))
        for choices, ms in _unseen()
    ]
    return _held(model, ratios)


@cache
def _unseen() -> tuple[tuple[Choices, float], ...]:
    """Networks evenly over the latencies, and what is computed from their blocks."""
    times = {block.key: 1.0 * block.macs for block in SPACE.distinct_blocks()}
    drawn = draw_networks(SPACE, times, NETWORKS, 1)
    return tuple((choices, network_ms(SPACE.network(choices))) for choices in drawn)


def real_one(job: Job) -> dict[str, float]:
    """The same of a calibration on this computer; the truth is measured after it."""
    seed = int(job[1])
    space = load_space(SpaceConfig(name=REAL_SPACE))
    with LocalDevice() as device:
        model = calibrate(space, device, seed)
        ratios = measured_again(space, model, device, seed)
    held = _held(model, [ratio.value for ratio in ratios])
    held["measured_to_percent"] = 100 * fmean((ratio.high - ratio.low) / 2 for ratio in ratios)
    say(f"interval_coverage: {held}")
    return held


def calibrate(space: SearchSpace, device: Device, seed: int) -> LatencyModel:
    """Table and latency model, as ``profile`` and ``latency`` make them."""
    options = RuntimeOptions()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), _silent)

        def context(stage: str) -> Context:
            return Context(stage, "", store, FleetingScratch(), _silent)

        table = ProfileOps(ProfileConfig(), space, options, seed, device).run(context("profile"))
        stage = FitLatency(LatencyConfig(), space, options, seed, device)
        return stage.run(context("latency"), table=table)


def measured_again(space: SearchSpace, model: LatencyModel, device: Device, seed: int) -> list[Estimate]:
    """Measured over predicted time of networks that the model was neither fitted on nor evaluated with.

    Each with the 95 % interval of the measurement.
    """
    seen = {point.choices for point in (*model.calibration, *model.held_out)}
    times = {block.key: model.block_latency_ms(block) for block in space.distinct_blocks()}
    drawn = draw_networks(space, times, REAL_NETWORKS + len(seen), seed + 1)  # the fastest first
    unseen = [choices for choices in drawn if choices not in seen]
    others = random.Random(f"{seed}/unseen").sample(unseen, REAL_NETWORKS)
    reference = model.reference
    models = {
        network_name(choices): measured_network(
            space.network(choices),
            model.precision,
            seed=seed,
            implementations=model.implementations,
            output=model.output,
        )
        for choices in others
    }
    references = [f"{reference.name} {number}" for number in range(REFERENCES)]
    # With weights of their own: of equal files the process loads one.
    models |= {
        name: measured_network(reference.net, model.precision, seed=number, output=model.output)
        for number, name in enumerate(references)
    }
    usual = LatencyConfig()
    requests = {
        name: BenchmarkRequest(
            name=name,
            model=content,
            warmup_ms=usual.warmup_ms,
            min_ms=REAL_MS,
            min_runs=usual.min_runs,
        )
        for name, content in models.items()
    }
    timed = PairedRounds(FleetingScratch(), device, requests, seed)
    while len(timed) < REAL_ROUNDS:
        timed.measure()
    of_reference = [median(of_round) for of_round in zip(*map(timed.medians_ms, references), strict=True)]
    ratios = []
    for choices in others:
        measured = latency_ratio(timed.medians_ms(network_name(choices)), of_reference)
        over_predicted = reference.measurement.median_ms / model.predict_ms(space.network(choices))
        ratios.append(Estimate(*(over_predicted * end for end in (measured.value, *measured.interval))))
    return ratios


def _held(model: LatencyModel, ratios: Sequence[float]) -> dict[str, float]:
    errors = [ratio - 1 for ratio in ratios]
    held = [abs(error) <= model.interval_percent / 100 for error in errors]
    return {
        "share": sum(held) / len(held),
        "interval_percent": model.interval_percent,
        "mean_error_percent": 100 * fmean(abs(error) for error in errors),
        "to_one_side_percent": 100 * fmean(errors),
        "shift_percent": model.shift_percent,
        "disagreement_percent": model.table_check.disagreement_percent if model.table_check else 0.0,
    }


def summary(calibrations: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Mean coverage with its 95 % interval: calibrations are what repeats, not networks."""
    shares = [one["share"] for one in calibrations]
    mean, half = fmean(shares), 1.96 * stdev(shares) / len(shares) ** 0.5
    ordered = sorted(shares)
    return {
        "count": len(shares),
        "mean_share": mean,
        "mean_share_interval_95": [mean - half, min(1.0, mean + half)],
        "worst_share": ordered[0],
        "tenth_share": ordered[len(ordered) // 10],
        "below_80_percent": sum(share < REAL_LEAST for share in shares),
        "mean_interval_percent": fmean(one["interval_percent"] for one in calibrations),
        "mean_error_percent": fmean(one["mean_error_percent"] for one in calibrations),
    }


def _simulated_bars(found: dict[str, Any]) -> list[Bar]:
    return [
        at_least("simulated_mean_share", found["mean_share"], MEAN_LEAST),
        at_most("simulated_mean_share_at_most", found["mean_share"], MEAN_MOST),
    ]


def _sources() -> list[str]:
    """What decides the results has no version of its own: its source stands for it."""
    from importlib.util import find_spec

    names = (
        *("android_bench.warm_up", "android_bench.local.timing"),
        *("benchmarks._noisy_device", "benchmarks._drift", "benchmarks.interval_coverage"),
        *(f"stages.latency.{name}" for name in ("fit", "model", "reference_error", "table_check")),
        *("stages.latency_model", "stages.profile_ops"),
        *(f"stages.measurement.{name}" for name in ("alignment", "assessment", "drift", "paired", "rounds")),
    )
    sources = []
    for name in names:
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None  # a module of this repository
        sources.append(Path(spec.origin).read_text(encoding="utf-8"))
    return sources


def _silent(_: object) -> None:
    """A thousand timings are not worth a line each."""


if __name__ == "__main__":
    counts = {"real": "calibrate this computer so many times, too; some minutes each"}
    sys.exit(main("interval_coverage", run, counts=counts))
