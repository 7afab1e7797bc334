"""Several finished runs side by side: seeds, devices, precisions, targets.

Accuracies are compared image by image on the same test images. Latencies of different runs were not taken
in the same rounds: what speed the device had then is taken out by the latency model's reference, which every
run times between its networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from pydantic import Field

from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from pipeline.artifact import Record
from stages.data.names import shown_list
from stages.documents import CrossTable, Verdict, Verification
from stages.reporting.result import DeviceResult, ResultDocument
from stages.space.block_spec import ModelOutput
from stages.space.preferences import Shares, shares_of_network
from stages.space.search_space import NetConfig
from stages.verification.estimate import Estimate
from stages.verification.statistics import latency_ratio, paired_difference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ComparedRun:
    """What is read of one run.

    ``correct_N``: which test images its found network classifies correctly, bool (images,). ``images``: what
    identifies them. ``settings``: of each stage, as its record holds them.
    """

    name: str
    result: ResultDocument
    verification: Verification
    correct_N: NDArray[np.bool_]
    images: Mapping[str, str]
    settings: Mapping[str, Mapping[str, Any]]
    learned: Shares | None = None
    """By the probabilities that its search ended with."""


class BesideFirst(Record):
    """A run's found network beside the first run's. ``accuracy_points``: its accuracy minus that one's.

    ``latency_ratio``: its latency over that one's, both against the latency model's reference in their own
    rounds; None where the two are of different devices or models, and ``not_compared`` says of which.
    """

    accuracy_points: float
    accuracy_points_interval_95: tuple[float, float]
    latency_ratio: float | None
    latency_ratio_interval_95: tuple[float, float] | None
    not_compared: str = Field(default="", description="why there is no ratio of latencies, in words")


class RunFigures(Record):
    """One run's figures."""

    name: str
    seed: int | None
    device: DeviceResult
    target_ms: float
    architecture: str
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    median_ms: float
    parameters: int
    macs: int
    size_bytes: int
    reference: str
    speedup: float = Field(description="at equal accuracy, over the run's own reference")
    speedup_interval_95: tuple[float, float]
    verdict: Verdict
    output: ModelOutput | None = Field(
        default=None, description="what the measured file answers: logits, or a softmax more"
    )
    beside_first: BesideFirst | None = Field(description="None for the first run")
    net: NetConfig
    shares: Shares = Field(description="what the network is made of")
    learned: Shares | None = Field(default=None, description="by the probabilities of its search")


class Differing(Record):
    """A setting in which the runs differ, and its value in each; None: the run has no such setting."""

    key: str
    values: tuple[Any, ...]


class Seeds(Record):
    """Runs that differ by their seed alone: the spread that chance makes. ``runs``: their names."""

    runs: tuple[str, ...]
    accuracy_percent: float = Field(description="mean")
    accuracy_points_sd: float = Field(description="standard deviation between the runs")
    median_ms: float = Field(description="mean")
    median_ms_sd: float


class RunComparison(Record):
    """The outcome of ``nasflow compare``. The first run is the one that others are compared with."""

    test_images: int
    runs: tuple[RunFigures, ...]
    differing: tuple[Differing, ...]
    seeds: tuple[Seeds, ...] = ()
    cross_table: CrossTable | None = Field(
        default=None, description="of the first run that stands in one (nasflow run --devices A,B --train)"
    )


def compare_runs(runs: Sequence[ComparedRun]) -> RunComparison:
    """Set runs side by side. Raises UsageError where they were not tested on the same images."""
    first = runs[0]
    for other in runs[1:]:
        _check_images(first, other)
    return RunComparison(
        test_images=first.verification.test_images,
        runs=tuple(_figures(run, None if run is first else first) for run in runs),
        differing=tuple(_differing(runs)),
        seeds=tuple(_seeds(runs)),
        cross_table=next((run.result.cross_table for run in runs if run.result.cross_table), None),
    )


def _check_images(first: ComparedRun, other: ComparedRun) -> None:
    names = f"{plain_line(first.name)} and {plain_line(other.name)}"
    hint = (
        "Accuracies on different images say nothing about the networks: compare runs on the same test images."
    )
    sets = [run.images.get("dataset_sha256") or run.images.get("dataset") for run in (first, other)]
    if sets[0] != sets[1]:
        called = [plain_line(run.images.get("dataset", "unknown")) for run in (first, other)]
        words = f"{called[0]} and {called[1]}" if called[0] != called[1] else f"two states of {called[0]}"
        raise UsageError(f"{names} cannot be compared: their images differ ({words}).", hint=hint)
    labels = [run.verification.labels and run.verification.labels.sha256 for run in (first, other)]
    if first.images != other.images or labels[0] != labels[1] or len(first.correct_N) != len(other.correct_N):
        counts = " and ".join(f"{run.verification.test_images:,}" for run in (first, other))
        raise UsageError(
            f"{names} cannot be compared: their images are the same, but were split differently: they were "
            f"tested on others ({counts} test images).",
            hint=f"{hint} 'nasflow data split' writes a split down for all of them (data.split_file).",
        )
    classes = [_classes(run) for run in (first, other)]
    if all(classes) and classes[0] != classes[1]:
        counts = " and ".join(f"{len(names)}" for names in classes)
        differ = sorted(set(classes[0]) ^ set(classes[1])) or ["their order"]
        raise UsageError(
            f"{names} cannot be compared: their classes differ ({counts}; {shown_list(differ)}).",
            hint="Accuracies among other classes say nothing about the networks.",
        )


def _classes(run: ComparedRun) -> tuple[str, ...]:
    return tuple(one.name for one in run.result.verification.classes)


def _output(run: ComparedRun) -> ModelOutput | None:
    """What the file that was measured answers."""
    precision = run.result.device.precision
    return next((file.output for file in run.result.conversion if file.precision == precision), None)


def _figures(run: ComparedRun, first: ComparedRun | None) -> RunFigures:
    result, network = run.result, run.result.network
    net = next(one.net for one in run.verification.networks if one.role == "found")
    return RunFigures(
        name=run.name,
        seed=result.run.seed if result.run else None,
        device=result.device,
        target_ms=result.search.target_ms,
        architecture=network.architecture,
        accuracy_percent=network.accuracy_percent,
        accuracy_interval_95=network.accuracy_interval_95,
        median_ms=network.median_ms,
        parameters=network.parameters,
        macs=network.macs,
        size_bytes=network.size_bytes,
        reference=result.verification.reference,
        speedup=result.verification.equal_accuracy_speedup,
        speedup_interval_95=result.verification.equal_accuracy_speedup_interval_95,
        verdict=result.verification.verdict,
        output=_output(run),
        beside_first=None if first is None else _beside(run, first),
        net=net,
        shares=shares_of_network(net, result.search.layers),
        learned=run.learned,
    )


def _beside(run: ComparedRun, first: ComparedRun) -> BesideFirst:
    points = paired_difference(run.correct_N, first.correct_N)
    why = _why_not(run, first)
    ratio = None if why else _ratio(run.verification, first.verification)
    return BesideFirst(
        accuracy_points=100 * points.value,
        accuracy_points_interval_95=(100 * points.low, 100 * points.high),
        latency_ratio=None if ratio is None else ratio.value,
        latency_ratio_interval_95=None if ratio is None else ratio.interval,
        not_compared=why or ("" if ratio is not None else "their rounds do not match"),
    )


def _why_not(run: ComparedRun, first: ComparedRun) -> str:
    """What keeps two runs' latencies from being compared, in words; empty: nothing."""
    one, other = run.verification, first.verification
    if one.device.identity() != other.device.identity():
        return "they are of different devices"
    if one.runtime != other.runtime:
        return "they were run in different ways (section runtime)"
    outputs = _output(run), _output(first)
    if outputs[0] != outputs[1]:  # a softmax takes time, too
        ours, theirs = (output or "what is not known" for output in outputs)
        return f"its network answers with {ours}, the first one with {theirs}"
    if one.anchor is None or other.anchor is None or one.anchor.net != other.anchor.net:
        return "they have no reference in common"
    return ""


def same_device(one: Verification, other: Verification) -> bool:
    """Whether latencies of the two are of the same device, run in the same way."""
    return (one.device.identity(), one.runtime) == (other.device.identity(), other.runtime)


def _ratio(run: Verification, first: Verification) -> Estimate | None:
    """A quotient of two ratios that were taken apart: the half-widths of their logarithms add as squares."""
    ours, theirs = (_against_anchor(each) for each in (run, first))
    if ours is None or theirs is None:
        return None
    value = ours.value / theirs.value
    below = math.hypot(math.log(ours.value / ours.low), math.log(theirs.high / theirs.value))
    above = math.hypot(math.log(ours.high / ours.value), math.log(theirs.value / theirs.low))
    return Estimate(value, value * math.exp(-below), value * math.exp(above))


def _against_anchor(verification: Verification) -> Estimate | None:
    assert verification.anchor is not None
    found = next(network for network in verification.networks if network.role == "found")
    measured = found.measurement, verification.anchor.measurement
    found_ms, anchor_ms = (each.round_medians_ms for each in measured)
    if len(found_ms) != len(anchor_ms) or len(found_ms) < 2:
        return None
    steps_ms = measured[0].resolution_ms, measured[1].resolution_ms
    return latency_ratio(found_ms, anchor_ms, resolutions_ms=steps_ms)


def _differing(runs: Sequence[ComparedRun]) -> Iterator[Differing]:
    """Every setting with more than one value, once where several stages have it."""
    flat = [dict(_flat(run.settings)) for run in runs]
    seen: set[str] = set()
    for key in dict.fromkeys(key for settings in flat for key in settings):
        values = tuple(settings.get(key) for settings in flat)
        if all(value == values[0] for value in values) or key in seen:
            continue
        seen.add(key)
        yield Differing(key=key, values=values)


def _flat(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """(key, value) as they are called in pipeline.yaml: a stage's own section has the stage's name."""
    sections = {"config": None, "recipe": "training", "shared": "measurement"}
    for stage, fields in settings.items():
        for name, value in fields.items():
            section = sections.get(name, name)
            yield from _leaves(_section(stage) if section is None else section, value)


def _section(stage: str) -> str:
    return "training" if stage == "finetune" else stage


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, value


def _seeds(runs: Sequence[ComparedRun]) -> Iterator[Seeds]:
    """Groups of runs in which all but the seed is the same, and the device, too."""
    left = list(runs)
    while left:
        first = left[0]
        group = [run for run in left if _but_for_the_seed(run, first)]
        left = [run for run in left if run not in group]
        if len({_seed(run) for run in group}) < 2:
            continue
        accuracies = [run.result.network.accuracy_percent for run in group]
        latencies = [run.result.network.median_ms for run in group]
        yield Seeds(
            runs=tuple(run.name for run in group),
            accuracy_percent=fmean(accuracies),
            accuracy_points_sd=stdev(accuracies),
            median_ms=fmean(latencies),
            median_ms_sd=stdev(latencies),
        )


def _but_for_the_seed(run: ComparedRun, other: ComparedRun) -> bool:
    if not same_device(run.verification, other.verification):
        return False
    return all(one.key == "seed" for one in _differing([run, other]))


def _seed(run: ComparedRun) -> int | None:
    return run.result.run.seed if run.result.run else None
