"""How much accuracy a gate may cost, from answers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from stages.documents.gate import AccuracyCompared, GatePlan, GateVerdict
from stages.verification.accuracy_gate import compare_accuracy, recomputed_accuracy
from stages.verification.gate import joined_verdict
from stages.verification.statistics import paired_difference

SHA = "c" * 64


def answered(
    both: int, only_candidate: int, only_baseline: int, neither: int
) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, only_candidate, only_baseline, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def compared(counts: tuple[int, int, int, int], most_points: float) -> AccuracyCompared:
    return compare_accuracy(*answered(*counts), most_points, classes=3, data_sha256=SHA)


def test_the_interval_is_that_of_the_pairs_in_points() -> None:
    candidate, baseline = answered(700, 30, 50, 220)
    order = np.random.default_rng(0).permutation(1000)
    found = compare_accuracy(candidate[order], baseline[order], 1.0, classes=3, data_sha256=SHA)
    drop = paired_difference(baseline, candidate)
    assert found.drop_points == pytest.approx(2.0)
    assert found.drop_points_interval_95 == pytest.approx((100 * drop.low, 100 * drop.high))
    assert (found.candidate_percent, found.baseline_percent) == (73.0, 75.0)


@pytest.mark.parametrize(
    ("most_points", "verdict"), [(4.0, "pass"), (2.0, "inconclusive"), (0.1, "fail"), (0.0, "fail")]
)
def test_pass_fail_and_inconclusive(most_points: float, verdict: str) -> None:
    assert compared((700, 30, 50, 220), most_points).verdict == (
        "inconclusive" if verdict == "x" else verdict
    )


def test_few_images_do_not_tell() -> None:
    assert compared((2, 0, 0, 0), 5.0).verdict == "inconclusive"


def test_the_verdict_follows_from_the_counts_alone() -> None:
    found = compared((700, 30, 50, 220), 4.0)
    assert recomputed_accuracy(found, 4.0) == found
    changed = found.model_copy(update={"only_baseline": 150})
    assert recomputed_accuracy(changed, 4.0).verdict == "fail"
    with pytest.raises(ValidationError, match="more images"):
        AccuracyCompared.model_validate(found.model_dump() | {"both_correct": 10_000})


@pytest.mark.parametrize(
    ("latency", "accuracy", "together"),
    [
        ("pass", "pass", "pass"),
        ("pass", "fail", "fail"),
        ("inconclusive", "fail", "fail"),
        ("pass", "inconclusive", "inconclusive"),
        ("fail", "pass", "fail"),
    ],
)
def test_a_gate_passes_where_all_limits_are_kept_and_fails_where_one_is_broken(
    latency: GateVerdict, accuracy: GateVerdict, together: GateVerdict
) -> None:
    found = compared((700, 30, 50, 220), 4.0).model_copy(update={"verdict": accuracy})
    assert joined_verdict(latency, found) == together
    assert joined_verdict(latency, None) == latency


@pytest.mark.parametrize("wrong", [-1.0, 101.0, float("nan"), float("inf")])
def test_a_drop_without_sense_is_refused(wrong: float) -> None:
    with pytest.raises(ValidationError):
        GatePlan(max_accuracy_drop=wrong)
