"""Whether the found network takes as long as was predicted, and what a gate makes of it where it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sample_documents import sample_documents

from stages.documents import FoundLatency, LatencyModel, PrunedNetworks, Verdict, Verification
from stages.reporting.html import render_report
from stages.reporting.run_result import build_result
from stages.reporting.summary import summary_text
from stages.verification.estimate import Estimate
from stages.verification.prediction import evaluate_latency, not_as_expected, verdict

DOCUMENTS = sample_documents()
LATENCY, PRUNED = DOCUMENTS["latency"], DOCUMENTS["prune"]
assert isinstance(LATENCY, LatencyModel)
assert isinstance(PRUNED, PrunedNetworks)
NET, TARGET_MS = PRUNED.found.net, PRUNED.found.target_ms
PREDICTED_MS = LATENCY.predict_ms(NET)
REFERENCE_MS = LATENCY.reference.measurement.median_ms
ROUNDS = [1.0, 1.004, 0.997, 1.001, 0.999, 1.002, 0.998, 1.003]
BELOW = Estimate(0.45, 0.4, 0.5)


def evaluated(factor: float, *, slowdown: float = 1.0, target_ms: float = TARGET_MS) -> FoundLatency:
    """A network that takes ``factor`` times its prediction, on a device that is slower at present."""
    found_ms = [factor * PREDICTED_MS * slowdown * noise for noise in ROUNDS]
    anchor_ms = [REFERENCE_MS * slowdown * noise for noise in reversed(ROUNDS)]
    return evaluate_latency(NET, target_ms, LATENCY, found_ms, anchor_ms)


@given(st.floats(0.9, 5.0), st.sampled_from([0.7, 1.0, 1.02, 1.1, 5.0]))
def test_a_device_that_is_slower_at_present_changes_nothing(slowdown: float, factor: float) -> None:
    quiet, slow = evaluated(factor), evaluated(factor, slowdown=slowdown)
    assert slow.ms == pytest.approx(quiet.ms)
    assert (slow.prediction, slow.target) == (quiet.prediction, quiet.target)


@pytest.mark.parametrize(
    ("factor", "prediction", "target"),
    [
        (1.0, "holds", "kept"),
        (1.03, "holds", "kept"),
        (0.85, "faster", "kept"),
        (1.2, "slower", "missed"),
        (5.0, "slower", "missed"),
    ],
)
def test_only_an_interval_wholly_outside_is_a_departure(factor: float, prediction: str, target: str) -> None:
    """The model's interval is +-4.4 %, the target 2 % above the prediction, the reference known to 1-2 %."""
    found = evaluated(factor)
    assert found.ms == pytest.approx(factor * PREDICTED_MS, rel=0.01)
    assert found.interval_95[0] < found.ms < found.interval_95[1]
    assert (found.prediction, found.target) == (prediction, target)


def test_what_is_known_of_the_reference_is_in_the_interval() -> None:
    low, high = evaluated(1.0).interval_95
    certain = LATENCY.reference.measurement.model_copy(update={"round_medians_ms": (REFERENCE_MS,) * 5})
    reference = LATENCY.reference.model_copy(update={"measurement": certain})
    found_ms = [PREDICTED_MS * noise for noise in ROUNDS]
    anchor_ms = [REFERENCE_MS * noise for noise in reversed(ROUNDS)]
    narrow = evaluate_latency(
        NET, TARGET_MS, LATENCY.model_copy(update={"reference": reference}), found_ms, anchor_ms
    )
    assert low < narrow.interval_95[0] < narrow.interval_95[1] < high


@pytest.mark.parametrize(("factor", "expected"), [(1.0, "pass"), (1.2, "fail"), (0.85, "inconclusive")])
def test_by_a_model_of_another_device_the_reference_tells_the_speed(factor: float, expected: Verdict) -> None:
    """This device takes a third of the time; its network may yet take longer, beside the reference."""
    foreign = LATENCY.model_copy(update={"foreign": ("chip: A in the table, B here",)})
    found_ms = [factor * PREDICTED_MS / 3 * noise for noise in ROUNDS]
    anchor_ms = [REFERENCE_MS / 3 * noise for noise in reversed(ROUNDS)]
    found = evaluate_latency(NET, TARGET_MS, foreign, found_ms, anchor_ms)
    assert found == evaluate_latency(NET, TARGET_MS, LATENCY, found_ms, anchor_ms)
    assert found.ms == pytest.approx(factor * PREDICTED_MS, rel=0.01)
    assert verdict(BELOW, 0.55, found) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, "pass"),
        (evaluated(1.0), "pass"),
        (evaluated(0.85), "inconclusive"),
        (evaluated(1.2), "fail"),
        (evaluated(1.2, target_ms=9.0), "inconclusive"),
        (evaluated(1.0, target_ms=0.9 * PREDICTED_MS), "inconclusive"),
    ],
)
def test_no_gate_passes_a_network_that_takes_another_time_than_promised(
    found: FoundLatency | None, expected: Verdict
) -> None:
    assert verdict(BELOW, 0.55, found) == expected


@pytest.mark.parametrize(("limit", "expected"), [(None, "ungated"), (0.45, "inconclusive"), (0.35, "fail")])
def test_a_gate_that_would_not_pass_stays_as_it_is(limit: float | None, expected: Verdict) -> None:
    for factor in (0.85, 1.0, 5.0):
        assert verdict(BELOW, limit, evaluated(factor)) == expected


def test_summary_and_report_say_it_loudly_and_once() -> None:
    verified = DOCUMENTS["verify"]
    assert isinstance(verified, Verification)
    slow = evaluated(5.0)
    wrong = not_as_expected(slow)
    assert "slower than the predicted" in wrong
    assert "above its target" in wrong
    changes = {"found_latency": slow, "max_ratio": 0.9, "verdict": "fail", "ratio_interval_95": (0.5, 0.6)}
    documents = {**DOCUMENTS, "verify": verified.model_copy(update=changes)}
    result = build_result(documents)
    assert result.verification.found_latency == slow
    summary = " ".join(summary_text(result).split())
    assert f"Prediction {wrong}" in summary
    assert f"Fail. The latency ratio is {verified.ratio:.3f} (95 % interval 0.500 to 0.600)" in summary
    report = render_report(documents, result).replace("&#39;", "'")
    assert f"<strong>Latency not as predicted.</strong> {wrong}" in report
    for good in (None, evaluated(1.0)):
        documents["verify"] = verified.model_copy(update={"found_latency": good})
        assert "Prediction " not in summary_text(build_result(documents))
