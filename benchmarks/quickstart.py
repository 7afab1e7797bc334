"""The quick start taken seriously: how much faster is the found network than MobileNetV2 at equal accuracy?

For each seed the whole pipeline runs anew: profile, latency model, search, and then every network trained
from *fresh* weights by one recipe for the same number of epochs. Accuracies are compared image by image
over all seeds, latencies round by round. The ablation stands beside it: random networks of equal latency,
the pick of a search without a limit of latency, the fastest network. ``--full`` is resumable: killed, it
goes on where it was.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from benchmarks import _ablation
from benchmarks._ablation import Finished, ablation_pipeline, ablation_table
from benchmarks._report import Bar, Outcome, above, at_least, at_most, main, say
from nasflow.assemble import build_pipeline
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config
from pipeline.reporters.reporters import PlainReporter
from stages.documents import EpochPoint
from stages.verification.estimate import Estimate
from stages.verification.statistics import Contender, EqualAccuracy, equal_accuracy_speedup

if TYPE_CHECKING:
    from collections.abc import Mapping

SEEDS = (0, 1, 2)
RANDOM_NETWORKS = 5
SETTLED_POINTS = 0.2
SPEEDUP, SPEEDUP_LOWER_BOUND = 2.0, 1.83  # the second is the paper's (arXiv 1812.00332, section 4.2)


def configuration(seed: int, *, full: bool, changes: Sequence[str] = ()) -> PipelineConfig:
    """The quick start's ``pipeline.yaml``, with fresh weights for every network and more patience."""
    own = [f"seed={seed}", "training.start=fresh", "baseline.published_widths=[]"]
    if full:
        own += ["search.warmup_epochs=2", "search.epochs=6", "training.epochs=9"]
        own += [f"prune.random_networks={RANDOM_NETWORKS}", "baseline.widths=[0.35, 0.5, 0.75, 1.0]"]
    else:
        own += ["data.train_images=5000", "training.epochs=1"]
        own += ["prune.random_networks=2", "baseline.widths=[0.35]"]
    return load_config(PipelineConfig, Path(__file__).parents[1] / "pipeline.yaml", [*own, *changes])


def run(full: bool) -> Outcome:
    """Run the pipeline and its ablation once for each seed and put the seeds together."""
    seeds = SEEDS if full else SEEDS[:1]
    runs: list[Finished] = []
    ablations: list[Finished] = []
    folders: list[Path] = []
    reporter = PlainReporter(sys.stderr)
    for seed in seeds:
        # In the user's cache, so that hours of training outlive a clone.
        folder = (
            user_cache_path("nasflow") / "benchmarks" / f"quickstart-{'full' if full else 'quick'}-{seed}"
        )
        folders.append(folder)
        say(f"quickstart: seed {seed}")
        runs.append(Finished.run(build_pipeline(configuration(seed, full=full), folder, reporter)))
        say(f"quickstart: seed {seed}, ablation")
        free = configuration(seed, full=full, changes=_ablation.CHANGES)
        ablations.append(Finished.run(ablation_pipeline(free, folder, reporter)))
    reporter.close()
    outcome = summarise(runs, ablations, full=full)
    # They have served to go on after a kill; the next benchmark trains anew.
    for folder in folders:
        shutil.rmtree(folder)
    return outcome


def summarise(runs: Sequence[Finished], ablations: Sequence[Finished], *, full: bool) -> Outcome:
    """Figures and bars from the documents of all seeds."""
    verified = [run.verification for run in runs]
    contenders = {network.name: _contender(network.name, runs) for network in verified[0].networks}
    comparison = equal_accuracy_speedup(
        contenders["found"], [contenders[name] for name in runs[0].named("baseline")]
    )
    gains = {name: max(_gain(_curve(run, name)) for run in runs) for name in contenders}
    ablation = ablation_table(runs, ablations)
    against_random: list[float] = ablation["rows"]["random_mean"]["found_minus_points"]
    drawn = [v.against_random for v in verified if v.against_random is not None]
    comparable = sum(against.comparable for against in drawn)
    further = sum(_further_seconds(run) for run in runs)
    seconds = sum(run.seconds(list(run.documents)) for run in runs) - further
    figures = {
        "seeds": len(runs),
        "networks": {
            name: {
                "accuracy_percent": 100 * c.accuracy,
                "accuracy_percent_by_seed": [100 * float(seed.mean()) for seed in c.correct],
                "median_ms": c.median_ms,
                "last_gain_points_per_epoch": gains[name],
            }
            for name, c in contenders.items()
        },
        "found_architectures": [list(run.pruned.found.choices) for run in runs],
        "share_of_target_used": [run.pruned.found.predicted_ms / run.pruned.target_ms for run in runs],
        "found_minus_mean_random_points": against_random,
        "random_over_found_latency_by_seed": [
            {"predicted": against.predicted_ratio, "measured": against.latency_ratio} for against in drawn
        ],
        "seeds_whose_random_networks_take_as_long": comparable,
        "ablation": ablation,
        "reference": comparison.reference,
        "reference_reason": comparison.reason,
        "reference_minus_found_points": [100 * v for v in _triple(comparison.difference)],
        "equal_accuracy_speedup": _triple(comparison.speedup),
        "equal_accuracy_speedup_by_seed": [v.equal_accuracy_speedup for v in verified],
        "seconds": seconds,
        "ablation_seconds": further + sum(run.seconds(_ablation.REPEATED) for run in ablations),
    }
    if not full:
        return Outcome(figures, [])
    bars = _bars(comparison, gains, seconds)
    bars.append(at_least("seeds_whose_random_networks_take_as_long", comparable, len(runs)))
    if comparable == len(runs):  # else nothing is concluded about the search and chance
        bars.append(above("found_minus_mean_random_points", against_random[0], 0.0))
    return Outcome(figures, bars)


def _bars(comparison: EqualAccuracy, gains: Mapping[str, float], seconds: float) -> list[Bar]:
    return [
        at_least("equal_accuracy_speedup", comparison.speedup.value, SPEEDUP),
        at_least("equal_accuracy_speedup_lower_bound", comparison.speedup.low, SPEEDUP_LOWER_BOUND),
        # Equal accuracy cuts both ways: the found network must not be significantly below its reference.
        at_most("reference_minus_found_points_lower_bound", 100 * comparison.difference.low, 0.0),
        at_most("last_gain_points_per_epoch", max(gains.values()), SETTLED_POINTS),
        at_most("hours", seconds / 3600, 3.0),
    ]


def _gain(curve: Sequence[EpochPoint]) -> float:
    """Points of validation accuracy an epoch at the end: the last two epochs against the two before.

    Five thousand images leave half a point of noise on one epoch, a mean of two less.
    """
    accuracies = [point.validation_accuracy_percent for point in curve]
    if len(accuracies) < 4:
        return accuracies[-1] - accuracies[0]
    return (sum(accuracies[-2:]) - sum(accuracies[-4:-2])) / 4


def _contender(name: str, runs: Sequence[Finished]) -> Contender:
    import numpy as np

    rounds = [ms for run in runs for ms in run.verified(name).measurement.round_medians_ms]
    return Contender(name, np.stack([run.correct[name] for run in runs]), rounds)


def _curve(run: Finished, name: str) -> Sequence[EpochPoint]:
    return next(n.curve for n in run.trained("finetune", "baseline") if n.name == name)


def _further_seconds(run: Finished) -> float:
    """Training of all random networks but the first: they belong to the ablation."""
    drawn = [network.seconds for network in run.trained("finetune") if network.role == "random"]
    return sum(drawn[1:])


def _triple(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


if __name__ == "__main__":
    sys.exit(main("quickstart", run))
