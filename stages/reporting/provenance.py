"""How every number of the report was made, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.artifact import Document
from stages.documents import LatencyModel, LatencyTable, PrunedNetworks, Timing, TrainedNetwork, Verification
from stages.reporting.notation import amount
from stages.reporting.run_documents import RunDocuments
from stages.space.equal_latency import TOLERANCE
from stages.training.made_here import describe, trained_by


@dataclass(frozen=True)
class Provenance:
    """One kind of figure: how it was made, from how much, and how long that took."""

    figure: str
    made: str
    seconds: float | None = None


def provenance(run: RunDocuments) -> list[Provenance]:
    """In the order of the pipeline."""
    rounds = sorted({row.measurement.rounds for row in run.profile.rows})
    invocations = sum(row.measurement.runs for row in run.profile.rows)
    latency, verify = run.latency, run.verify
    images = sorted({check.file().check.images for check in run.convert.networks})
    trained = (*run.finetune.networks, *run.baseline.networks)
    epochs = sorted({len(network.curve) for network in trained})
    return [
        Provenance(
            "Block latency",
            f"{len(run.profile.rows)} one-block models, each alone in a .tflite file, timed in random order "
            f"in {_range(rounds)} rounds ({amount(invocations)} counted invocations); median of the rounds' "
            f"medians.{_copies(run.profile)}{_invocation(latency)}{_drift(run.profile.timings)}",
            run.profile.seconds,
        ),
        Provenance(
            "Latency model",
            _adapted(latency)
            or f"Scale {latency.scale:.3f} and overhead {1000 * latency.overhead_ms:.1f} µs fitted to "
            f"{len(latency.calibration)} random networks; its error is that on "
            "other random networks, which were not used in the fit. The time is that of profile and "
            "latency together.",
            latency.seconds,
        ),
        Provenance(
            "Search",
            f"{len(run.search.history)} epochs in a space of {amount(run.search.space.size)} networks. "
            f"Weights learned on the part train, architecture parameters on {_choosing(run)}."
            f"{_by(run.search)}",
            run.search.seconds,
        ),
        Provenance(
            "Choice",
            f"{_choice(run)}{_drawn_at_random(run.prune)}",
        ),
        Provenance(
            "Training",
            f"Found network{_random_networks(run.prune)}{_full(run)} and MobileNetV2s with one recipe, "
            f"{_range(epochs)} "
            "epochs each after the architecture was fixed; the checkpoint with the best validation accuracy "
            f"was kept{_part_of_the_way(trained)}.{_by(run.finetune, run.baseline)}",
            sum(network.seconds for network in trained),
        ),
        Provenance(
            "Conversion",
            "PyTorch to ONNX to TensorFlow to TFLite; outputs compared with PyTorch's on "
            f"{_range(images)} real images.",
        ),
        Provenance(
            "Test accuracy",
            f"The .tflite files themselves on {verify.test_images:,} test images, which nothing had read "
            "before and no choice has seen; Wilson's 95 % interval. Differences between networks are paired "
            f"image by image.{_mean_of_random(verify)}",
        ),
        Provenance(
            "Latency of whole networks",
            f"{verify.rounds} rounds, in each of which every network was timed once in random order by a "
            "fresh process; median of the rounds' medians. Ratios are paired round by round: the trimmed "
            "mean of their logarithms, with an interval that allows for looking several times (all looks "
            f"together miss in 5 %, this one in {100 * verify.interval_error:.2g} "
            f"%).{_dropped_rounds(verify)} The time is that of all of verify.",
            verify.seconds,
        ),
    ]


def _by(*documents: Document) -> str:
    makers = dict.fromkeys(describe(made_by) for document in documents for made_by in trained_by(document))
    return f" Computed by {'; '.join(makers)}." if makers else ""


def _drift(timings: Sequence[Timing]) -> str:
    """What the anchor showed of the device's speed meanwhile."""
    counted = [timing.slowdown for timing in timings if not timing.disturbed]
    disturbed = len(timings) - len(counted)
    slowest = max(counted, default=1.0)
    sentence = f" A MobileNetV2 between them showed the device's speed: at times {slowest:.2f} times as slow"
    sentence += " as at its reference level; that is corrected."
    return f"{sentence} {disturbed} of {len(timings)} timings were excluded as outliers."


def _copies(table: LatencyTable) -> str:
    """What was done where the resolution of the device's clock is too low for a block."""
    copies = [row.copies for row in table.rows if row.copies > 1]
    if not copies:
        return ""
    step_us = 1000 * max(row.measurement.resolution_ms for row in table.rows)
    sentence = (
        f" The device's clock counts steps of {step_us:.3g} µs: in {len(copies)} of the models the block "
        f"stands {_range(sorted(set(copies)))} times, and their time is divided by that."
    )
    coarse = sum(not row.resolved for row in table.rows)
    return f"{sentence} {coarse} of them are less precise than required." if coarse else sentence


def _invocation(latency: LatencyModel) -> str:
    if not latency.invoke_ms:
        return ""
    return (
        f" What every invocation costs, {1000 * latency.invoke_ms:.2f} µs, is measured on a model that does "
        "next to nothing and subtracted."
    )


def _adapted(latency: LatencyModel) -> str:
    if (adaptation := latency.adaptation) is None:
        return ""
    return (
        f"Adapted from a model of {adaptation.device.model}: the ratio of each block's time was inferred "
        f"from {adaptation.networks} networks chosen to tell most; its error is that on "
        f"{len(latency.held_out)} random networks, which were not used for that. The time is that of these "
        "networks alone."
    )


def _random_networks(prune: PrunedNetworks) -> str:
    count = len(prune.randoms)
    return "" if count == 0 else ", random network" if count == 1 else f", {count} random networks"


def _full(run: RunDocuments) -> str:
    return ", full network" if any(n.role == "full" for n in run.verify.networks) else ""


def _drawn_at_random(prune: PrunedNetworks) -> str:
    if not prune.randoms:
        return ""
    return (
        " Random networks were drawn from all different ones whose predicted latency is within "
        f"{100 * TOLERANCE:g} % of the found one's, each equally likely; where there were too few, the "
        "next ones joined them."
    )


def _dropped_rounds(verify: Verification) -> str:
    count = verify.rounds_dropped
    if count == 0:
        return ""
    if verify.disturbed:
        return f" In {count} of them the device was slowed down: too few are left to decide anything by."
    rounds = "round was" if count == 1 else "rounds were"
    return f" {count} more {rounds} left out, in which the device was slowed down."


def _mean_of_random(verify: Verification) -> str:
    if verify.against_random is None or verify.against_random.networks == 1:
        return ""
    return (
        f" The {verify.against_random.networks} random networks stand for all of that latency: the interval "
        "of the difference from their mean takes networks and images as random."
    )


def _range(values: list[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _choosing(run: RunDocuments) -> str:
    images = run.verify.images
    return (
        "the part architecture, which is the part choice, too"
        if images and images.shared_choice
        else ("the part architecture")
    )


def _part_of_the_way(trained: Sequence[TrainedNetwork]) -> str:
    """What is kept of networks from published weights (:mod:`stages.training.partway`)."""
    if all(network.pretrained is None for network in trained):
        return ""
    return (
        "; of a network from pretrained weights, the point on the line from their start to that checkpoint "
        "with the least cross entropy on the images for choices"
    )


def _choice(run: RunDocuments) -> str:
    prune = run.prune
    considered = [c for c in prune.considered if c.target_ms == prune.target_ms]
    return (
        f"The {len(considered)} networks that the search finds most probable within the target were measured "
        "whole; the most probable of those that kept the target there was taken."
    )
