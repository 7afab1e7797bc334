"""Each target its own network: what other targets' networks lose on it, where all networks are known.

A target is a device with runtime settings: this computer's CPU with one thread, with two, with int8, and
with ONNX Runtime; and its CUDA GPU, where it has one. Each is measured for real, blocks and whole networks,
and has a latency model of its own, in each small space whose networks are all trained. What networks are
worth comes from twelve recorded supernets (:mod:`benchmarks.record_losses`), one for all targets at a time:
the mean of a path's losses. Accuracy is that of trainings to the end (:mod:`benchmarks.tabular_space`).

A target's networks are its front: the best under each latency by its own model. Two figures say what another
target's networks lose here. Time: how much longer the first network of that front takes that has no more
than a certain loss, for eight such losses. Accuracy: how much less the best network of that front has that
keeps one of this target's latencies, for eight of them.

Control: in the own front's place that of a latency table whose times belong to other blocks.

Targets are measured one after the other, and only times of one target are compared with each other: one
thread is timed by its own processor time, two by the clock, which other programs move.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from android_bench.device import Device, RuntimeOptions
from android_bench.local.cuda_device import driver_is_here, find_gpus
from android_bench.local.device import LocalDevice
from benchmarks._permuted_tables import permuted_models
from benchmarks._report import Bar, above, at_least, say
from benchmarks._tabular import Tabular, TrainedSpace
from benchmarks.record_losses import CHOSEN_BY, CONFIRMED_BY, recorded, recorded_spaces
from benchmarks.tabular_space import silent
from nasflow.assemble import cuda_gpu, onnx_runtime
from pipeline.runner import Pipeline
from pipeline.store.store import Store
from stages.documents import LatencyModel, LatencyTable
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space.block_spec import Implementation

Array = NDArray[np.float64]

ONE = RuntimeOptions()
TARGETS: Mapping[str, RuntimeOptions] = {
    "local": ONE,
    "local@threads=2": RuntimeOptions(threads=2),
    "local@precision=int8": RuntimeOptions(precision="int8"),
    "onnxruntime": ONE,
}
GPU, GPU_OPTIONS = "cuda@batch=8@precision=float16", RuntimeOptions(batch=8, precision="float16")
"""As a server computes; the paper's batch."""
LEVELS, LEAST, MOST = 8, 0.1, 0.9
"""Latencies of a target: so many, evenly between these shares of its networks."""
GOOD, BEST = 0.5, 0.02
"""Losses that are to be reached: so many, evenly between these shares of all networks from the best one."""
PERMUTATIONS = 5
WORTHWHILE_PERCENT = 3.0
SHARE_OF_TARGETS = 2 / 3


@dataclass(frozen=True)
class Measured:
    """A target: its table and model, and what all paths take by that model (P)."""

    name: str
    table: LatencyTable
    model: LatencyModel
    ms_P: Array


def cross_figures(full: bool) -> dict[str, Any]:
    """Of each space that has data, by its name. Raises DeviceError, BadMeasurementError."""
    return {of.name: space_figures(of, full) for of in recorded_spaces("hardware")}


def space_figures(of: Tabular, full: bool) -> dict[str, Any]:
    """Measure all targets in a space, then compare."""
    targets = [measured(of, name, options, full) for name, options in targets_here().items()]
    supernets = (*CHOSEN_BY, *CONFIRMED_BY)
    loss_SP = np.array([recorded(of, "true", supernet).mean(axis=0) for supernet in supernets])
    truth = TrainedSpace.read(of)
    percent_P = np.array([truth.test_percent(path) for path in of.paths])
    rows = {target.name: _of_target(of, target, targets, loss_SP, percent_P) for target in targets}
    return {
        "networks": len(set(targets[0].ms_P.tolist())),
        "supernets": len(supernets),
        "models": {
            target.name: {
                "runtime": target.model.device.runtime,
                "mean_error_percent": target.model.held_out_error.mape_percent,
                "feasible_ms": list(target.model.feasible_ms),
            }
            for target in targets
        },
        "rank_correlation": _rank_correlations(targets),
        "targets": rows,
        "won": sum(row["own_is_better"] for row in rows.values()),
        "won_by_control": sum(row["control_is_better"] for row in rows.values()),
    }


def cross_bars(figures: Mapping[str, Any]) -> list[Bar]:
    """In each space two of three targets' own networks are better than every other's; with permuted tables
    none is."""
    bars = []
    for name, of_space in figures.items():
        share = of_space["won"] / len(of_space["targets"])
        bars += [
            at_least(f"cross_{name}_targets_won", share, SHARE_OF_TARGETS),
            above(f"cross_{name}_none_won_by_control", 1.0, float(of_space["won_by_control"])),
        ]
    return bars


def targets_here() -> dict[str, RuntimeOptions]:
    """Those of this computer; says why its GPU is not among them."""
    gpus, why_none = find_gpus() if driver_is_here() else ((), "NVIDIA's driver is not on this computer")
    if gpus:
        return {**TARGETS, GPU: GPU_OPTIONS}
    say(f"hardware: {GPU} is skipped: {why_none}")
    return dict(TARGETS)


def _device(name: str, options: RuntimeOptions) -> Device:
    if name == GPU:
        return cuda_gpu("cuda", options, say)
    return onnx_runtime(options) if name == "onnxruntime" else LocalDevice()


def measured(of: Tabular, name: str, options: RuntimeOptions, full: bool) -> Measured:
    """A target's latency model, measured now, or by an earlier call that was stopped since."""
    say(f"hardware: measuring {name} in {of.name}")
    space, device = of.space, _device(name, options)
    profile = ProfileConfig() if full else ProfileConfig(rounds=4, extra_rounds=4)
    latency = LatencyConfig() if full else LatencyConfig(rounds=4, extra_rounds=4)
    with closing(device):
        ways: tuple[Implementation, ...] = ("native",) if name == "onnxruntime" else get_args(Implementation)
        stages = [
            ProfileOps(profile, space, options, 0, device, ways=ways),
            FitLatency(latency, space, options, 0, device),
        ]
        pipeline = Pipeline(stages, Store(work_folder(full), silent), silent)
        with pipeline.store.lock():
            documents = pipeline.run()
    table, model = documents["profile"], documents["latency"]
    assert isinstance(table, LatencyTable)
    assert isinstance(model, LatencyModel)
    return Measured(name, table, model, _path_ms(of, model))


def work_folder(full: bool) -> Path:
    """Where timings are kept until the benchmark has ended: one that was stopped goes on from there."""
    return user_cache_path("nasflow") / "benchmarks" / f"hardware-{'full' if full else 'quick'}"


def _path_ms(of: Tabular, model: LatencyModel) -> Array:
    return np.array([model.predict_ms(of.space.network(path)) for path in of.paths])


def front(ms_P: Array, loss_P: Array) -> list[int]:
    """The paths that are best under some latency: each has less loss than all that take no longer."""
    found: list[int] = []
    for path in np.lexsort((loss_P, ms_P)).tolist():
        if not found or loss_P[path] < loss_P[found[-1]]:
            found.append(path)
    return found


def brought_to(front_paths: Sequence[int], ms_P: Array, loss_P: Array, limit_ms: float) -> int | None:
    """Of a front, the path of the least loss that takes at most so long here; None: none does."""
    allowed = [path for path in front_paths if ms_P[path] <= limit_ms]
    return min(allowed, key=lambda path: loss_P[path]) if allowed else None


def time_to(front_paths: Sequence[int], ms_P: Array, loss_P: Array, wanted: float) -> float:
    """What the first path of a front takes here that has no more than the ``wanted`` loss.

    A front ends with the best path of all, so that there always is one.
    """
    return float(min(ms_P[path] for path in front_paths if loss_P[path] <= wanted))


def levels_ms(ms_P: Array) -> list[float]:
    """The latencies of a target that are looked at."""
    return [float(ms) for ms in np.quantile(ms_P, np.linspace(LEAST, MOST, LEVELS))]


def compare(
    own_front: Sequence[int],
    other_front: Sequence[int],
    ms_P: Array,
    loss_P: Array,
    percent_P: Array,
) -> tuple[float, float]:
    """Percent of time that the other loses, and accuracy that it has less (points): means over levels.

    A latency at which one of both has no network is left out.
    """
    times = [
        100 * (time_to(other_front, ms_P, loss_P, wanted) / time_to(own_front, ms_P, loss_P, wanted) - 1)
        for wanted in np.quantile(loss_P, np.linspace(BEST, GOOD, LEVELS)).tolist()
    ]
    points = []
    for limit_ms in levels_ms(ms_P):
        own = brought_to(own_front, ms_P, loss_P, limit_ms)
        other = brought_to(other_front, ms_P, loss_P, limit_ms)
        if own is not None and other is not None:
            points.append(percent_P[own] - percent_P[other])
    return mean(times), mean(points)


def _of_target(
    of: Tabular, target: Measured, targets: Sequence[Measured], loss_SP: Array, percent_P: Array
) -> dict[str, Any]:
    """A row of the table: the own network against every other's, and the control's."""
    wrong, _ = permuted_models(of.space, target.table, target.model, PERMUTATIONS, 0)
    wrong_ms = [_path_ms(of, model) for model in wrong]
    others: dict[str, Any] = {}
    control: dict[str, Any] = {}
    for other in targets:
        if other.name == target.name:
            continue
        found, by_control = [], []
        for loss_P in loss_SP:
            theirs = front(other.ms_P, loss_P)
            found.append(compare(front(target.ms_P, loss_P), theirs, target.ms_P, loss_P, percent_P))
            by_control.append(
                np.mean(
                    [compare(front(ms, loss_P), theirs, target.ms_P, loss_P, percent_P) for ms in wrong_ms],
                    axis=0,
                )
            )
        others[other.name] = _interval(np.array(found))
        control[other.name] = _interval(np.array(by_control))
    return {
        "others": others,
        "control": control,
        "own_is_better": _better(others),
        "control_is_better": _better(control),
    }


def _better(others: Mapping[str, Any]) -> bool:
    """Better than every other, and all together lose at least 3 % of time."""
    each = all(other["time_lost_percent"]["interval_95"][0] > 0 for other in others.values())
    together = mean(other["time_lost_percent"]["mean"] for other in others.values())
    return each and together >= WORTHWHILE_PERCENT


def _interval(found_S2: Array) -> dict[str, Any]:
    """Means over supernets, with 95 % intervals by Student's t."""
    from scipy.special import stdtrit

    named = {}
    for name, values in zip(("time_lost_percent", "points_lost"), found_S2.T, strict=True):
        half = float(stdtrit(len(values) - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(len(values))
        middle = float(values.mean())
        named[name] = {"mean": middle, "interval_95": [middle - half, middle + half]}
    return named


def _rank_correlations(targets: Sequence[Measured]) -> dict[str, float]:
    from scipy.stats import spearmanr

    return {
        f"{first.name}, {second.name}": float(spearmanr(first.ms_P, second.ms_P).statistic)
        for index, first in enumerate(targets)
        for second in targets[index + 1 :]
    }
