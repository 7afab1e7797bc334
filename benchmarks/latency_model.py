"""How far the latency model is off on networks that it has not seen, and what drift does to it.

The paper's space (``proxyless_mobile``, 224 pixels) on this computer: all blocks measured, the model
fitted, and then held against other networks, drawn evenly over the latency range, each of which is measured
until the interval of its median is within +-1 %. Beside it, fitted on the same networks, multiply-accumulates
as a predictor, and the plain sum of the blocks. All of it under four conditions: quiet, beside a busy
process, stopped twice and resumed, and resumed beside a busy process. Then the same program on a simulated
device that drifts and throttles, with and without its anchor.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from platformdirs import user_cache_path

from android_bench.device import Device, LatencyMeasurement, RuntimeOptions
from android_bench.local.device import LocalDevice
from benchmarks._drift import drift_sessions
from benchmarks._report import Bar, Outcome, at_least, at_most, main, say
from benchmarks._sittings import CONDITIONS, Condition, least_timings, measure_in_sittings
from pipeline.artifact import Document
from pipeline.reporters.reporters import PlainReporter
from pipeline.runner import Pipeline
from pipeline.store.store import Store
from stages.documents import LatencyModel, LatencyTable, Timing
from stages.latency.config import LatencyConfig
from stages.latency.fit import fit_line
from stages.latency.model import NetworkTimings, fit_model
from stages.latency_model import FitLatency
from stages.measurement.interval import interval_percent, scatter
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space import SpaceConfig, load_space
from stages.space.search_space import SearchSpace
from stages.verification.statistics import wilson_interval

HELD_OUT, WITHIN_5 = 120, 114
WITHIN_INTERVAL = 0.90
TRUTH_ROUNDS = 32  # at most: the truth is measured until it is known
SLOWER_PHONE = 4.0
SESSIONS = 20
SEED = 0


def run(full: bool) -> Outcome:
    """The real device first, then the simulated one."""
    chosen = CONDITIONS if full else {"quiet": CONDITIONS["quiet"]}
    conditions = {}
    for name, condition in chosen.items():
        say(f"latency_model: {name}")
        conditions[name] = _measured(full, name, condition)
    figures = {"conditions": conditions, "drift": drift_sessions(SESSIONS if full else 3)}
    return Outcome(figures, _bars(figures) if full else [])


def _bars(figures: dict[str, Any]) -> list[Bar]:
    bars = []
    for name, found in figures["conditions"].items():
        ours = found["ours"]
        networks = ours["networks"]
        bars += [
            at_least(f"{name}_within_5_percent", ours["within_5_percent"], WITHIN_5 * networks / HELD_OUT),
            at_least(f"{name}_within_10_percent", ours["within_10_percent"], networks),
            at_least(f"{name}_within_interval", found["within_interval"], WITHIN_INTERVAL * networks),
            at_least(f"{name}_spearman", ours["spearman"], 0.98),
            at_least(f"{name}_spearman_middle_third", ours["spearman_middle_third"], 0.9),
        ]
    quiet, drift = figures["conditions"]["quiet"], figures["drift"]
    return [
        *bars,
        at_most("table_minutes", quiet["table_minutes"], 5.0),
        at_most("phone_minutes", quiet["phone_minutes"], 10.0),
        at_most("worst_truth_interval_percent", quiet["worst_truth_interval_percent"], 2.0),
        at_least("drift_worst_session_within_5_percent", drift["anchored_worst_session_share"], 0.95),
    ]


def _measured(full: bool, name: str, condition: Condition) -> dict[str, Any]:
    space = load_space(SpaceConfig(name="proxyless_mobile"))
    depth = "full" if full else "quick"
    folder = user_cache_path("nasflow") / "benchmarks" / f"latency-model-{depth}-{name}"
    if condition.stops and folder.exists():
        # Left by a kill, nobody knows in which sitting: begun anew, they are what they are called.
        shutil.rmtree(folder)
    reporter = PlainReporter(sys.stderr)
    networks, usual = HELD_OUT if full else 12, LatencyConfig()
    latency = LatencyConfig(extra_rounds=TRUTH_ROUNDS - usual.rounds, held_out_networks=networks)
    profile = ProfileConfig()
    least = {
        "profile": least_timings(profile, len(space.distinct_blocks())),
        "latency": least_timings(latency, latency.calibration_networks + networks),
    }

    def run_both(devices: Mapping[str, Device]) -> dict[str, Document]:
        options = RuntimeOptions()
        pipeline = Pipeline(
            [
                ProfileOps(profile, space, options, SEED, devices["profile"]),
                FitLatency(latency, space, options, SEED, devices["latency"]),
            ],
            Store(folder, reporter),
            reporter,
        )
        with pipeline.store.lock():
            return pipeline.run()

    documents = measure_in_sittings(condition, least, LocalDevice, run_both)
    reporter.close()
    table, model = documents["profile"], documents["latency"]
    assert isinstance(table, LatencyTable)
    assert isinstance(model, LatencyModel)
    figures = summarise(space, table, model)
    # It has served to go on after a kill; the next benchmark measures anew.
    shutil.rmtree(folder)
    return figures


def summarise(space: SearchSpace, table: LatencyTable, model: LatencyModel) -> dict[str, Any]:
    """All figures that a table and a model hold."""
    shipped = as_shipped(space, table, model)
    truth = [point.measurement.median_ms for point in model.held_out]
    nets = [space.network(point.choices) for point in model.held_out]
    predicted = [shipped.predict_ms(net) for net in nets]
    reach = shipped.interval_percent / 100
    seen = [space.network(point.choices) for point in shipped.calibration]
    seen_ms = [point.measurement.median_ms for point in shipped.calibration]
    per_mac, offset_ms = fit_line([net.macs / 1e6 for net in seen], seen_ms)
    raw = {row.block.key: row.measurement.median_ms for row in reversed(table.rows)}
    raw |= {key: shipped.block_ms[key] + shipped.invoke_ms for key in shipped.implementations}
    timings = (*table.timings, *model.timings)
    spread = median(scatter(point.measurement.round_medians_ms) for point in model.held_out)
    widths = [interval_percent(point.measurement.round_medians_ms, spread) for point in model.held_out]
    return {
        "ours": _error(predicted, truth),
        "plain_sum": _error([sum(raw[block.key] for block in net.blocks) for net in nets], truth),
        "macs": _error([per_mac * net.macs / 1e6 + offset_ms for net in nets], truth),
        "within_interval": sum(
            abs(true / guess - 1) <= reach for guess, true in zip(predicted, truth, strict=True)
        ),
        "interval_percent": shipped.interval_percent,
        "scale": shipped.scale,
        "overhead_ms": shipped.overhead_ms,
        "ms_per_weight_megabyte": shipped.ms_per_weight_megabyte,
        "ms_per_activation_megabyte": shipped.ms_per_activation_megabyte,
        "range_ms": [min(truth), max(truth)],
        "worst_truth_interval_percent": max(widths),
        "blocks": len(model.block_ms),
        "split_blocks": sum(way == "split" for way in model.implementations.values()),
        "split_over_native": _split_gain(table),
        "table_minutes": table.seconds / 60,
        "phone_minutes": SLOWER_PHONE * _invocation_seconds(table.timings) / 60,
        "disturbed_timings_percent": 100 * sum(t.disturbed for t in timings) / len(timings),
        "networks_minutes": (model.seconds - table.seconds) / 60,
    }


def as_shipped(space: SearchSpace, table: LatencyTable, model: LatencyModel) -> LatencyModel:
    """The model that these timings give whom the usual rounds are enough for.

    The truth is measured in more rounds than usual, and the calibration networks with it: they are joined
    again from as many as a user's. As many of the held-out networks as a user has, evenly over the latencies,
    take part in the interval, with as many rounds. All else, the widening for what differs between sittings
    among it, is the model's own.
    """
    usual = LatencyConfig()
    rounds = usual.rounds + usual.extra_rounds
    few = min(usual.held_out_networks, len(model.held_out))
    chosen = [model.held_out[index * len(model.held_out) // few] for index in range(few)]

    def first_rounds(measured: LatencyMeasurement) -> LatencyMeasurement:
        medians = measured.round_medians_ms[:rounds]
        return measured.model_copy(update={"median_ms": median(medians), "round_medians_ms": medians})

    return fit_model(
        space,
        table,
        [(point.choices, first_rounds(point.measurement)) for point in model.calibration],
        [(point.choices, first_rounds(point.measurement)) for point in chosen],
        NetworkTimings(
            device=model.device,
            runtime=model.runtime,
            reference=model.reference,
            timings=model.timings,
            seconds=model.seconds - table.seconds,
            table_check=model.table_check,
            shift_percent=model.shift_percent,
        ),
    )


def _error(predicted: Sequence[float], truth: Sequence[float]) -> dict[str, Any]:
    import numpy as np
    from scipy.stats import spearmanr

    guess, true = np.asarray(predicted), np.asarray(truth)
    errors = np.abs(guess / true - 1)
    low, high = true.min(), true.max()
    middle = (true >= low + (high - low) / 3) & (true <= high - (high - low) / 3)
    five, ten = int((errors <= 0.05).sum()), int((errors <= 0.10).sum())
    return {
        "networks": len(true),
        "within_5_percent": five,
        "within_5_percent_interval_95": list(wilson_interval(five, len(true)).interval),
        "within_10_percent": ten,
        "within_10_percent_interval_95": list(wilson_interval(ten, len(true)).interval),
        "mean_error_percent": float(100 * errors.mean()),
        "worst_error_percent": float(100 * errors.max()),
        "spearman": float(spearmanr(guess, true).statistic),
        "spearman_middle_third": float(spearmanr(guess[middle], true[middle]).statistic),
        "networks_in_middle_third": int(middle.sum()),
    }


def _split_gain(table: LatencyTable) -> list[float]:
    """Least and greatest ratio of a k7 block's time in parts to its time as written."""
    times = {(row.block.key, row.implementation): row.measurement.median_ms for row in table.rows}
    ratios = [ms / times[key, "native"] for (key, way), ms in times.items() if way == "split"]
    return [min(ratios), max(ratios)]


def _invocation_seconds(timings: Sequence[Timing]) -> float:
    """Time spent in models: counted invocations, and those that warm up."""
    total_ms = 0.0
    for timing in timings:
        ms = timing.measurement.median_ms
        warming = max(1.0, ProfileConfig().warmup_ms / ms)
        total_ms += (timing.measurement.runs + warming) * ms
    return total_ms / 1000


if __name__ == "__main__":
    sys.exit(main("latency_model", run))
