"""Do networks that were chosen under a latency target keep it?

A latency model that is right about random networks may still be wrong about chosen ones: where many
networks compete under a target, those win whose time it thinks too low (the winner's curse). So the space
``fashion`` is profiled, modelled and searched on this computer by the product's own stages, and networks
for twenty targets are chosen by the probabilities that one search learned for each of them. They are
measured as ranked first, before any has been timed, in a measurement of their own; beside them what the
stage ships, which has dropped those that it measured late.

The negative control goes the same way with a latency table whose times are dealt out to the wrong blocks,
the model fitted to it on the same whole networks. Networks chosen with that, by probabilities learned from
the same evaluations, must miss the bars.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from platformdirs import user_cache_path

from android_bench.device import Device, LatencyMeasurement, RuntimeOptions
from android_bench.local.device import LocalDevice
from benchmarks._permuted_tables import permuted_models
from benchmarks._report import Bar, Outcome, at_least, at_most, main, say
from nasflow.base.errors import InfeasibleTargetError
from pipeline.events import Emit, Event, Progress
from pipeline.reporters.reporters import PlainReporter
from pipeline.runner import Pipeline
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.config import DataConfig
from stages.documents import LatencyModel, LatencyTable, PrunedNetworks, SearchResult
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.measurement.config import MeasurementConfig
from stages.measurement.interval import interval_percent
from stages.measurement.rounds import Measured, measure_rounds
from stages.measurement.work import Work
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.ranking import Ranking
from stages.nas.targets import TargetConfig
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.prune import Prune
from stages.search import Search
from stages.space import SpaceConfig, load_space
from stages.space.network_name import network_name
from stages.space.search_space import SearchSpace

OFF_PERCENT, OVER_TARGET = 3.0, 1.10
SEED = 0

Path = tuple[int, ...]
Choice = tuple[float, Path]
"""A target in ms, and the network that was chosen under it."""


@dataclass(frozen=True)
class Depth:
    """How much work is done."""

    targets: int
    permutations: int
    data: DataConfig
    search: SearchConfig
    prune: PruneConfig


# Latency is evaluated: the search need not be thorough, only a real one.
FULL = Depth(
    20,
    5,
    DataConfig(train_images=20_000, architecture_images=2_000),
    SearchConfig(),
    PruneConfig(recalibration_batches=10),
)
QUICK = Depth(
    5,
    2,
    DataConfig(train_images=2_000, architecture_images=2_000),
    SearchConfig(epochs=1),
    PruneConfig(candidates=2, recalibration_batches=5),
)


@dataclass(frozen=True)
class Evaluated:
    """Measured times beside predictions and targets.

    ``off_percent`` is the median of measured over predicted, less 1, without its sign; ``signed_percent``
    with it.
    """

    networks: int
    off_percent: float
    worst_off_percent: float
    signed_percent: float
    worst_over_target: float
    above_target: int

    @property
    def passes(self) -> bool:
        """Whether both bars hold."""
        return self.off_percent <= OFF_PERCENT and self.worst_over_target <= OVER_TARGET


def run(full: bool) -> Outcome:
    """All of it on this computer."""
    folder = user_cache_path("nasflow") / "benchmarks" / f"latency-target-{'full' if full else 'quick'}"
    reporter = PlainReporter(sys.stderr)
    store = Store(folder, reporter)
    with LocalDevice() as device, store.lock():
        space = load_space(SpaceConfig(name="fashion"))
        figures = investigate(FULL if full else QUICK, space, device, store, reporter)
    reporter.close()
    # It has served to go on after a kill; the next benchmark measures anew.
    shutil.rmtree(folder)
    return Outcome(figures, bars(figures) if full else [])


def bars(figures: Mapping[str, Any]) -> list[Bar]:
    """What the figures of a full run must reach."""
    chosen, permuted = figures["chosen_by_prediction"], figures["permuted_tables"]
    return [
        at_least("targets", chosen["networks"], FULL.targets),
        at_most("off_percent", chosen["off_percent"], OFF_PERCENT),
        at_most("worst_over_target", chosen["worst_over_target"], OVER_TARGET),
        at_least("ranked_as_by_the_stage", figures["ranked_as_by_the_stage"], figures["ranked_by_the_stage"]),
        at_least("permuted_tables_measured", len(permuted["each"]), FULL.permutations),
        at_most("permuted_tables_that_pass", permuted["passing"], 0),
    ]


def investigate(depth: Depth, space: SearchSpace, device: Device, store: Store, emit: Emit) -> dict[str, Any]:
    """Profile, fit, search and choose; then measure what was chosen once more, the control's among it."""
    options = RuntimeOptions()
    stages = [
        ProfileOps(ProfileConfig(), space, options, SEED, device),
        FitLatency(LatencyConfig(), space, options, SEED, device),
    ]
    documents = Pipeline(stages, store, emit).run()
    table, latency = documents["profile"], documents["latency"]
    assert isinstance(table, LatencyTable)
    assert isinstance(latency, LatencyModel)
    targets_ms = spread_targets_ms(latency, depth.targets)
    middle = targets_ms.pop(len(targets_ms) // 2)  # which the supernet is searched for
    target = TargetConfig(ms=middle, further=tuple(targets_ms))
    last = [
        Search(depth.search, target, space, depth.data, SEED),
        Prune(depth.prune, target, space, depth.data, options, SEED, device),
    ]
    documents = Pipeline([*stages, *last], store, emit).run()
    search, pruned = documents["search"], documents["prune"]
    assert isinstance(search, SearchResult)
    assert isinstance(pruned, PrunedNetworks)

    def progress_of(event: Event) -> None:
        # Advice on how to run a stage again would be wrong here.
        if isinstance(event, Progress):
            emit(event)

    def context(work: str) -> Context:
        return Context(work, "", store, FleetingScratch(), progress_of)

    say("latency_target: the networks that are ranked first")
    targets_ms = [middle, *targets_ms]
    chosen = choose(search, latency, targets_ms, context("probabilities"))
    models, refused = permuted_models(space, table, latency, depth.permutations, SEED)
    controls = [
        choose(search, model, spread_targets_ms(model, depth.targets), context("permuted"))
        for model in models
    ]
    shipped = shipped_choices(pruned)
    say("latency_target: the second measurement")
    everything = [path for choices in (chosen, shipped, *controls) for _, path in choices]
    everything += [point.choices for point in latency.held_out]
    again = measure(space, latency, everything, context("again"), device, depth.prune)
    return summarise(
        space, latency, pruned, again, chosen, shipped, list(zip(models, controls, strict=True))
    ) | {"permuted_tables_refused": refused, "minutes_of_search": search.seconds / 60}


def spread_targets_ms(latency: LatencyModel, count: int) -> list[float]:
    """Targets whose ratios are evenly spread over what networks take, the slowest's time last."""
    fastest_ms, slowest_ms = latency.feasible_ms
    step = (slowest_ms / fastest_ms) ** (1 / count)
    return [fastest_ms * step ** (index + 1) for index in range(count)]


def choose(
    search: SearchResult, latency: LatencyModel, targets_ms: Sequence[float], context: Context
) -> list[Choice]:
    """The network that is ranked first under each target, as the stage does it; no target without one.

    Targets that were not searched for get their probabilities from the search's evaluations.
    """
    ranking = Ranking(TargetConfig().minimum_share, SEED, search, latency, context)
    choices = []
    for target_ms in targets_ms:
        try:
            first, *_ = ranking.best(target_ms, 1)
        except InfeasibleTargetError as error:
            say(f"latency_target: no network for {target_ms:.4g} ms: {error.message}")
            continue
        choices.append((target_ms, first))
    return choices


def shipped_choices(pruned: PrunedNetworks) -> list[Choice]:
    """What the stage gives, each network with the target that it was first picked for."""
    return [(network.target_ms, network.choices) for network in (pruned.found, *pruned.front)]


def measure(
    space: SearchSpace,
    latency: LatencyModel,
    paths: Sequence[Path],
    context: Context,
    device: Device,
    config: MeasurementConfig,
) -> Measured:
    """Whole networks, timed in turn with the anchor."""
    from stages.conversion.flatbuffer import network_model

    reference = latency.reference
    work = Work(
        {
            network_name(path): network_model(
                space.network(path), seed=SEED, implementations=latency.implementations
            )
            for path in dict.fromkeys(paths)
        },
        anchor=(reference.name, network_model(reference.net, seed=SEED)),
        reference_ms=reference.measurement.median_ms,
    )
    return measure_rounds(context, device, work, config, latency.runtime, SEED + 1)


def model_times(
    by_name: Mapping[str, LatencyMeasurement], latency: LatencyModel, paths: Iterable[Path]
) -> dict[Path, float]:
    """Networks' times, against the anchor of the same measurement: milliseconds as the model means them."""
    reference = latency.reference
    faster = reference.measurement.median_ms / by_name[reference.name].median_ms
    return {path: faster * by_name[network_name(path)].median_ms for path in paths}


def evaluate(
    space: SearchSpace, latency: LatencyModel, choices: Sequence[Choice], times_ms: Mapping[Path, float]
) -> Evaluated:
    """Chosen networks by what they take and what the model that they were chosen by predicted."""
    off = [times_ms[path] / latency.predict_ms(space.network(path)) for _, path in choices]
    over = [times_ms[path] / target_ms for target_ms, path in choices]
    return Evaluated(
        networks=len(choices),
        **_deviations(off),
        worst_over_target=max(over),
        above_target=sum(ratio > 1 for ratio in over),
    )


def _deviations(ratios: Sequence[float]) -> dict[str, float]:
    """Of measured over predicted times."""
    off_percent = [100 * (ratio - 1) for ratio in ratios]
    return {
        "off_percent": median(map(abs, off_percent)),
        "worst_off_percent": max(map(abs, off_percent)),
        "signed_percent": median(off_percent),
    }


def summarise(
    space: SearchSpace,
    latency: LatencyModel,
    pruned: PrunedNetworks,
    again: Measured,
    chosen: Sequence[Choice],
    shipped: Sequence[Choice],
    controls: Sequence[tuple[LatencyModel, Sequence[Choice]]],
) -> dict[str, Any]:
    """All figures. ``first`` is the stage's own measurement, by which it chose what it ships."""
    considered = [(network.target_ms, network.choices) for network in pruned.considered]
    first_ranked: dict[float, Path] = {}
    for target_ms, path in considered:
        first_ranked.setdefault(target_ms, path)
    first_ms = model_times(
        {network_name(n.choices): n.measurement for n in pruned.considered}
        | {pruned.anchor.name: pruned.anchor.measurement},
        latency,
        {path for _, path in considered},
    )
    timed_again = [path for choices in (chosen, shipped, *(of for _, of in controls)) for _, path in choices]
    timed_again += [point.choices for point in latency.held_out]
    second_ms = model_times(again.by_name, latency, dict.fromkeys(timed_again))
    evaluated = [evaluate(space, model, choices, second_ms) for model, choices in controls]
    held_out = [point.measurement.median_ms / point.predicted_ms for point in latency.held_out]
    held_out_again = [second_ms[point.choices] / point.predicted_ms for point in latency.held_out]
    return {
        "space": space.name,
        "feasible_ms": list(latency.feasible_ms),
        "anchor_ms": latency.reference.measurement.median_ms,
        "prediction_interval_percent": latency.interval_percent,
        # What both measurements of random networks have in common with the chosen ones is not the choice's.
        "random_networks_first": _deviations(held_out),
        "random_networks": _deviations(held_out_again),
        "chosen_by_prediction": asdict(evaluate(space, latency, chosen, second_ms)),
        "chosen_by_prediction_different": len({path for _, path in chosen}),
        "chosen_by_prediction_first": asdict(
            evaluate(space, latency, [choice for choice in chosen if choice[1] in first_ms], first_ms)
        ),
        "ranked_by_the_stage": len(first_ranked),
        "ranked_as_by_the_stage": sum(first_ranked.get(target_ms) == path for target_ms, path in chosen),
        "candidates_first": asdict(evaluate(space, latency, considered, first_ms)),
        "shipped_first": asdict(evaluate(space, latency, shipped, first_ms)),
        "shipped": asdict(evaluate(space, latency, shipped, second_ms)),
        "permuted_tables": {
            "passing": sum(each.passes for each in evaluated),
            "least_off_percent": min(each.off_percent for each in evaluated),
            "least_worst_over_target": min(each.worst_over_target for each in evaluated),
            "each": [asdict(each) for each in evaluated],
        },
        "widest_interval_percent": max(
            interval_percent(again.by_name[network_name(path)].round_medians_ms) for _, path in chosen
        ),
        "slowdown": median(timing.slowdown for timing in again.timings),
        "seconds_of_the_second_measurement": again.seconds,
        "points": [
            {
                "target_ms": target_ms,
                "predicted_ms": latency.predict_ms(space.network(path)),
                "measured_ms": second_ms[path],
                "choices": list(path),
            }
            for target_ms, path in sorted(chosen)
        ],
    }


if __name__ == "__main__":
    sys.exit(main("latency_target", run))
