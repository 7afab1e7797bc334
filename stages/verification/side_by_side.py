"""Every network's figures on the test images and on the device, and beside the found network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from pipeline.stage import BlobStore
from stages.documents import (
    AgainstFound,
    AgainstRandom,
    ConvertedNetwork,
    LatencyModel,
    Precision,
    VerifiedNetwork,
)
from stages.space.search_space import NetConfig
from stages.verification.answers import class_bytes
from stages.verification.classes import balanced_accuracy, balanced_difference, by_class, confusion
from stages.verification.counted import Counted
from stages.verification.estimate import Estimate
from stages.verification.rivals import REFERENCES
from stages.verification.statistics import (
    difference_from_mean,
    latency_ratio,
    paired_difference,
    wilson_interval,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Tested:
    """The test images' classes, and what every network answers.

    ``labels_N``: int64 (images,). ``answers``: the same for each network's name.
    """

    classes: int
    labels_N: NDArray[np.int64]
    answers: Mapping[str, NDArray[np.int64]]

    @property
    def images_K(self) -> NDArray[np.int64]:
        """Images of each class: (classes,)."""
        return np.bincount(self.labels_N, minlength=self.classes).astype(np.int64)

    def correct(self, name: str) -> NDArray[np.bool_]:
        """Which images a network classifies correctly: (images,)."""
        return np.equal(self.answers[name], self.labels_N)


@dataclass(frozen=True)
class Comparison:
    """All that was asked and measured, and who is compared with whom."""

    tested: Tested
    counted: Counted
    latency: LatencyModel
    found: str
    reference: str
    rivals: Sequence[str]
    """Networks that might have been the reference."""
    precision: Precision = "float32"
    """Of the files that are compared."""

    def verified(self, network: ConvertedNetwork, store: BlobStore) -> VerifiedNetwork:
        """One network's figures; its answers go into the store."""
        name, tested = network.name, self.tested
        correct_N, answers_N = tested.correct(name), tested.answers[name]
        correct_K = by_class(correct_N, tested.labels_N, tested.classes)
        accuracy = wilson_interval(int(correct_N.sum()), len(correct_N))
        balanced = balanced_accuracy(correct_K, tested.images_K)
        shown = name in (self.found, self.reference)
        return VerifiedNetwork(
            name=name,
            role=network.role,
            net=network.net,
            origin=network.origin,
            pretrained=network.pretrained,
            counts=name in self.rivals if network.role in REFERENCES else None,
            images_seen=network.images_seen,
            validation_accuracy_percent=network.validation_accuracy_percent,
            accuracy_percent=100 * accuracy.value,
            accuracy_interval_95=_percent(accuracy),
            balanced_accuracy_percent=100 * balanced.value,
            balanced_accuracy_interval_95=_percent(balanced),
            correct_by_class=tuple(correct_K.tolist()),
            confusion=confusion(tested.labels_N, answers_N, tested.classes) if shown else None,
            predicted_ms=_prediction(network.net, self.latency),
            measurement=self.counted.combined(name),
            parameters=network.net.parameters,
            macs=network.net.macs,
            against_found=None if name == self.found else self._against_found(name),
            model=network.file(self.precision).blob,
            correct=store.put_bytes(np.packbits(correct_N).tobytes(), ".bits"),
            answers=store.put_bytes(class_bytes(answers_N), ".labels"),
        )

    def _against_found(self, name: str) -> AgainstFound:
        tested = self.tested
        its, found = tested.correct(name), tested.correct(self.found)
        difference = paired_difference(its, found)
        balanced = balanced_difference(its, found, tested.labels_N, tested.classes)
        ratio = self.counted.ratio(name, self.found)
        return AgainstFound(
            accuracy_points=100 * difference.value,
            accuracy_points_interval_95=_percent(difference),
            only_correct=int((its & ~found).sum()),
            only_found_correct=int((found & ~its).sum()),
            balanced_points=100 * balanced.value,
            balanced_points_interval_95=_percent(balanced),
            latency_ratio=ratio.value,
            latency_ratio_interval_95=ratio.interval,
        )

    def against_random(self, networks: Sequence[ConvertedNetwork]) -> AgainstRandom | None:
        """The found network beside the random ones among ``networks``; None without any."""
        drawn = [network for network in networks if network.role == "random"]
        if not drawn:
            return None
        found, counted, latency = self.found, self.counted, self.latency
        correct = np.stack([self.tested.correct(network.name) for network in drawn])
        difference = difference_from_mean(self.tested.correct(found), correct)
        (own_ms,) = (latency.predict_ms(n.net) for n in networks if n.name == found)
        predicted = [latency.predict_ms(network.net) / own_ms for network in drawn]
        by_round = zip(*(counted.medians_ms(network.name) for network in drawn), strict=True)
        means_ms = [fmean(times_ms) for times_ms in by_round]
        steps_ms = max(counted.resolution_ms(n.name) for n in drawn), counted.resolution_ms(found)
        measured = latency_ratio(means_ms, counted.medians_ms(found), counted.error, steps_ms)
        return AgainstRandom(
            networks=len(drawn),
            accuracy_points=100 * difference.value,
            accuracy_points_interval_95=_percent(difference),
            predicted_ratio=fmean(predicted),
            predicted_ratio_range=(min(predicted), max(predicted)),
            latency_ratio=measured.value,
            latency_ratio_interval_95=measured.interval,
        )


def _percent(estimate: Estimate) -> tuple[float, float]:
    return 100 * estimate.low, 100 * estimate.high


def _prediction(net: NetConfig, latency: LatencyModel) -> float | None:
    """None where the network has a block that the space does not (MobileNetV2's have)."""
    if any(block.key not in latency.block_ms for block in net.blocks):
        return None
    return latency.predict_ms(net)
