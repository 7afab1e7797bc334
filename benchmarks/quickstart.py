"""The quick start taken seriously: how much faster is the found network than MobileNetV2 at equal accuracy?

For each seed the whole pipeline runs anew: profile, latency model, search, and then every network trained
from *fresh* weights by one recipe for the same number of epochs. Accuracies are compared image by image
over all seeds, latencies round by round. ``--full`` is resumable: killed, it goes on where it was.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from benchmarks._report import Bar, Outcome, at_least, at_most, main, say
from nasflow.assemble import PipelineConfig, build_pipeline
from pipeline.artifact import Document
from pipeline.config import load_config
from pipeline.reporters import PlainReporter
from pipeline.runner import Pipeline
from stages.documents import EpochPoint, PrunedNetworks, TrainedNetworks, Verification
from stages.statistics import Contender, EqualAccuracy, Estimate, equal_accuracy_speedup, paired_difference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEEDS = (0, 1, 2)
SETTLED_POINTS = 0.2
SPEEDUP, SPEEDUP_LOWER_BOUND = 2.0, 1.83  # the second is the paper's (arXiv 1812.00332, section 4.2)


def configuration(seed: int, *, full: bool) -> PipelineConfig:
    """The quick start's ``pipeline.yaml``, with fresh weights for every network and more patience."""
    changes = [f"seed={seed}", "finetune.start=fresh", "baseline.published_widths=[]"]
    if full:
        changes += ["search.warmup_epochs=2", "search.epochs=6", "finetune.epochs=9"]
        changes += ["baseline.widths=[0.35, 0.5, 0.75, 1.0]"]
    else:
        changes += ["data.train_images=5000", "finetune.epochs=1", "baseline.widths=[0.35]"]
    return load_config(PipelineConfig, Path(__file__).parents[1] / "pipeline.yaml", changes)


def run(full: bool) -> Outcome:
    """Run the pipeline once for each seed and put the seeds together."""
    seeds = SEEDS if full else SEEDS[:1]
    outcomes: list[Mapping[str, Document]] = []
    folders: list[Path] = []
    correct: list[dict[str, NDArray[np.bool_]]] = []
    reporter = PlainReporter(sys.stderr)
    for seed in seeds:
        say(f"quickstart: seed {seed}")
        # In the user's cache, so that hours of training outlive a clone.
        folder = (
            user_cache_path("nasflow") / "benchmarks" / f"quickstart-{'full' if full else 'quick'}-{seed}"
        )
        folders.append(folder)
        pipeline = build_pipeline(configuration(seed, full=full), folder, reporter)
        with pipeline.store.lock():
            documents = pipeline.run()
        outcomes.append(documents)
        correct.append(_correct(pipeline, _verification(documents)))
    reporter.close()
    outcome = summarise(outcomes, correct, full=full)
    # They have served to go on after a kill; the next benchmark trains anew.
    for folder in folders:
        shutil.rmtree(folder)
    return outcome


def summarise(
    outcomes: Sequence[Mapping[str, Document]],
    correct: Sequence[Mapping[str, NDArray[np.bool_]]],
    *,
    full: bool,
) -> Outcome:
    """Figures and bars from the documents of all seeds; ``correct[s][name]`` has a bit per test image."""
    verified = [_verification(documents) for documents in outcomes]
    contenders = {name: _contender(name, verified, correct) for name in correct[0]}
    counted = [n.name for n in verified[0].networks if n.role == "baseline"]
    comparison = equal_accuracy_speedup(contenders["found"], [contenders[name] for name in counted])
    gains = {
        network.name: max(_gain(_curve(documents, network.name)) for documents in outcomes)
        for network in verified[0].networks
    }
    against_random = paired_difference(contenders["found"].correct, contenders["random"].correct)
    seconds = sum(_seconds(documents) for documents in outcomes)
    figures = {
        "seeds": len(outcomes),
        "networks": {
            name: {
                "accuracy_percent": 100 * c.accuracy,
                "accuracy_percent_by_seed": [100 * float(seed.mean()) for seed in c.correct],
                "median_ms": c.median_ms,
                "last_gain_points_per_epoch": gains[name],
            }
            for name, c in contenders.items()
        },
        "found_architectures": [list(_pruned(documents).found.choices) for documents in outcomes],
        "share_of_target_used": [
            _pruned(documents).found.predicted_ms / _pruned(documents).target_ms for documents in outcomes
        ],
        "found_minus_random_points": [100 * v for v in _triple(against_random)],
        "reference": comparison.reference,
        "reference_reason": comparison.reason,
        "reference_minus_found_points": [100 * v for v in _triple(comparison.difference)],
        "equal_accuracy_speedup": _triple(comparison.speedup),
        "equal_accuracy_speedup_by_seed": [v.equal_accuracy_speedup for v in verified],
        "seconds": seconds,
    }
    return Outcome(figures, _bars(comparison, gains, seconds) if full else [])


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


def _contender(
    name: str, verified: Sequence[Verification], correct: Sequence[Mapping[str, NDArray[np.bool_]]]
) -> Contender:
    import numpy as np

    rounds = [
        ms
        for verification in verified
        for network in verification.networks
        if network.name == name
        for ms in network.measurement.round_medians_ms
    ]
    return Contender(name, np.stack([seed[name] for seed in correct]), rounds)


def _correct(pipeline: Pipeline, verification: Verification) -> dict[str, NDArray[np.bool_]]:
    import numpy as np

    return {
        network.name: np.unpackbits(
            np.frombuffer(pipeline.store.read_bytes(network.correct), np.uint8),
            count=verification.test_images,
        ).astype(bool)
        for network in verification.networks
    }


def _verification(documents: Mapping[str, Document]) -> Verification:
    document = documents["verify"]
    assert isinstance(document, Verification)
    return document


def _pruned(documents: Mapping[str, Document]) -> PrunedNetworks:
    document = documents["prune"]
    assert isinstance(document, PrunedNetworks)
    return document


def _curve(documents: Mapping[str, Document], name: str) -> Sequence[EpochPoint]:
    for stage in ("finetune", "baseline"):
        document = documents[stage]
        assert isinstance(document, TrainedNetworks)
        for network in document.networks:
            if network.name == name:
                return network.curve
    raise KeyError(name)


def _seconds(documents: Mapping[str, Document]) -> float:
    total = 0.0
    for document in documents.values():
        if isinstance(document, TrainedNetworks):
            total += sum(network.seconds for network in document.networks)
        else:
            total += getattr(document, "seconds", 0.0)
    return total


def _triple(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


if __name__ == "__main__":
    sys.exit(main("quickstart", run))
