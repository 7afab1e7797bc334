"""Who may be the reference, and when accuracies count as equal."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from stages.documents import FoundLatency, Origin, Role
from stages.space.weights_origin import WeightsOrigin
from stages.verification.estimate import Estimate
from stages.verification.prediction import verdict
from stages.verification.rivals import accuracy_relation, counting

LITE0 = WeightsOrigin(name="lite0", sha256="0" * 64)


@dataclass(frozen=True)
class One:
    name: str
    role: Role
    origin: Origin = "fresh"
    pretrained: WeightsOrigin | None = None


FRESH = [
    One("found", "found", "inherited"),
    One("mobilenet_v2_1", "baseline"),
    One("published", "baseline_published"),
    One("random", "random", "inherited"),
]


def test_mobilenets_with_the_spaces_strides_count_and_others_where_asked_for() -> None:
    assert counting(FRESH) == ["mobilenet_v2_1"]
    assert counting(FRESH, published=True) == ["mobilenet_v2_1", "published"]


@pytest.mark.parametrize(
    "found", [One("found", "found", "pretrained"), One("found", "found", "inherited", LITE0)]
)
def test_beside_a_pretrained_find_only_pretrained_networks_count(found: One) -> None:
    full = One("efficientnet_lite0", "full", "pretrained", LITE0)
    fresh = One("mobilenet_v2_1", "baseline")
    own = One("mobilenet_v2_1_own", "baseline", "pretrained")
    assert counting([found, full, fresh]) == ["efficientnet_lite0"]
    assert counting([found, full, own, fresh]) == ["efficientnet_lite0", "mobilenet_v2_1_own"]
    assert counting([found, fresh]) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 4.0, "better"),
        (-4.0, -0.1, "worse"),
        (-0.7, 0.2, "equal"),
        (-3.0, 9.0, "equal"),
        (-3.1, 0.5, "unknown"),
        (-9.1, 6.2, "unknown"),
    ],
)
def test_accuracies_are_equal_only_where_the_interval_excludes_a_loss_that_matters(
    low: float, high: float, expected: str
) -> None:
    assert accuracy_relation(low, high, 3.0) == expected


def latency(prediction: str, target: str) -> FoundLatency:
    return FoundLatency.model_validate(
        {
            "ms": 1.0,
            "interval_95": (0.9, 1.1),
            "predicted_ms": 1.0,
            "predicted_interval_95": (0.9, 1.1),
            "target_ms": 1.0,
            "prediction": prediction,
            "target": target,
        }
    )


def test_a_fast_network_whose_accuracy_cannot_be_told_passes_no_gate() -> None:
    fast, slow = Estimate(0.45, 0.4, 0.5), Estimate(0.65, 0.6, 0.7)
    kept = latency("holds", "kept")
    assert verdict(fast, 0.55, kept, "equal") == "pass"
    assert verdict(fast, 0.55, kept, "unknown") == "inconclusive"
    assert verdict(fast, 0.55, None, "unknown") == "inconclusive"
    assert verdict(slow, 0.55, kept, "unknown") == "fail"
    assert verdict(fast, 0.55, latency("slower", "missed"), "unknown") == "fail"
    assert verdict(fast, None, kept, "unknown") == "ungated"
