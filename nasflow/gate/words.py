"""A gate's result in sentences, for a terminal and for the summary of a CI run."""

from __future__ import annotations

from collections import Counter

from nasflow.base.text import plain_line
from stages.documents.gate import AccuracyCompared, GateModel, GatePlan, GateResult, OutputsCompared
from stages.verification.gate import block_deviation, ratio_clock_error
from stages.verification.sequential import FEWEST_BLOCKS, smallest_shown

VERDICTS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}
_DROPPED = {
    "throttled": "the device throttled",
    "asleep": "the screen was off",
    "disturbed": "the device was slower than usual",
}


def verdict_word(result: GateResult) -> str:
    """What the outcome is called."""
    return "SELF-TEST" if result.verdict is None else VERDICTS[result.verdict]


def headline(result: GateResult) -> str:
    """The verdict and why, in one sentence; of a self-test what it shows."""
    look, verdict, plan, said = result.last_look, verdict_word(result), result.plan, list[str]()
    if result.kind == "self-test":
        return f"{verdict}: {noise_floor(result)}"
    if look is None:
        return f"{verdict}: too few blocks could be measured undisturbed."
    if look.ratio is not None and look.ratio_interval is not None and _shows_ratio(plan):
        low, high = look.ratio_interval
        ratio = f"{look.ratio:.3f} times the baseline's latency ({low:.3f} to {high:.3f})"
        if plan.max_ratio is not None:
            side = "below" if high < plan.max_ratio else "above" if low > plan.max_ratio else "around"
            ratio += f", {side} the limit of {plan.max_ratio:g}"
        said.append(ratio)
    low, high = look.candidate_ms_interval
    if plan.max_ms is not None:
        side = "below" if high < plan.max_ms else "above" if low > plan.max_ms else "around"
        said.append(
            f"{look.candidate_ms:.4g} ms ({low:.4g} to {high:.4g}), {side} the limit of {plan.max_ms:g} ms"
        )
    if result.accuracy is not None and plan.max_accuracy_drop is not None:
        said.append(accuracy_side(result.accuracy, plan.max_accuracy_drop))
    return f"{verdict}: {'; '.join(said)}."


def _shows_ratio(plan: GatePlan) -> bool:
    return plan.max_ratio is not None or plan.max_ms is plan.max_accuracy_drop is None


def accuracy_side(found: AccuracyCompared, most: float) -> str:
    """``accuracy 0.41 points lower (-0.20 to 1.02), around the limit of 0.5``."""
    low, high = found.drop_points_interval_95
    side = {"pass": "within", "fail": "beyond", "inconclusive": "around"}[found.verdict]
    # A drop below 0 is a gain: said with its sign, so that interval and value read alike.
    return (
        f"accuracy lower by {found.drop_points:.2f} points ({low:.2f} to {high:.2f}), {side} the limit of "
        f"{most:g}"
    )


def details(result: GateResult) -> list[str]:
    """What else a reader should know, a sentence each."""
    info = result.device
    where = (
        f"{plain_line(info.model)}, {plain_line(info.runtime)}, {result.runtime.describe(info.kind)}: "
        f"{result.blocks_counted} blocks in {result.seconds:.0f} s."
    )
    if result.kind == "self-test":
        lines = [_against_itself(result), where]
    else:
        lines = [f"Candidate: {_model(result.candidate)}."]
        if result.baseline is not None:
            lines.append(f"Baseline: {_model(result.baseline)}.")
        lines.append(where)
        if result.baseline is not None and result.candidate.takes != result.baseline.takes:
            lines.append(
                f"The models do different work: the candidate takes {plain_line(result.candidate.takes)}, "
                f"the baseline {plain_line(result.baseline.takes)}."
            )
        lines.append(answers(result))
    if result.accuracy is not None:
        found = result.accuracy
        lines.append(
            f"Accuracy on {found.images:,} test images of {found.classes} classes, on this computer: "
            f"candidate {found.candidate_percent:.2f} %, baseline {found.baseline_percent:.2f} %."
        )
    reasons = Counter(block.dropped for block in result.blocks if block.dropped is not None)
    lines += [f"{number} blocks did not count: {_DROPPED[why]}." for why, number in reasons.items()]
    if info.virtual:
        lines.append("A simulated phone: these are this computer's latencies.")
    if result.verdict == "inconclusive" and result.looks:
        lines.append(
            "A limit lies within its interval, so that pass and fail are both possible. For latency, measure "
            "more blocks (--max-blocks), or stop other programs; for accuracy, use more test images."
        )
    return lines


def _model(model: GateModel) -> str:
    return f"{plain_line(model.name)} ({model.size_bytes:,} bytes)"


def _against_itself(result: GateResult) -> str:
    look, model = result.last_look, _model(result.candidate)
    if look is None or look.ratio is None or look.ratio_interval is None:
        return f"{model} against itself: too few blocks for a ratio."
    low, high = look.ratio_interval
    return f"{model} against itself: a ratio of {look.ratio:.4f} ({low:.4f} to {high:.4f})."


def answers(result: GateResult) -> str:
    """Whether the models answer the same on the device as on this computer."""
    compared = [
        (who, outputs)
        for who, outputs in (("candidate", result.outputs), ("baseline", result.baseline_outputs))
        if outputs is not None
    ]
    if not compared:
        return "Outputs not compared on the device."
    return " ".join(_answers(who, outputs) for who, outputs in compared)


def _answers(who: str, outputs: OutputsCompared) -> str:
    kind = "given" if outputs.given else "random"
    return (
        f"The {who}'s outputs for {outputs.inputs} {kind} inputs are those of this computer: they differ by "
        f"{outputs.largest_share:.2g} of the largest value (allowed: {outputs.allowed_share:g})."
    )


def noise_floor(result: GateResult) -> str:
    """What a gate on this device could tell at all, from a model against itself."""
    most = result.plan.max_blocks
    if result.blocks_counted < FEWEST_BLOCKS:
        return "Too few blocks could be measured undisturbed to tell what a gate here can show."
    deviation = block_deviation(result.blocks)
    error = result.looks[-1].error if result.looks else 0.05
    # Half of what the clock hides lies on either side: a difference must be as large as all of it.
    shown = smallest_shown(deviation, most, error) + 2 * ratio_clock_error(result.blocks)
    return (
        f"One block's ratio varies by {100 * deviation:.2g} % (standard deviation, with what one block does "
        f"to the next). In {most} blocks a gate here shows a difference of {100 * shown:.2g} % about four "
        "times out of five."
    )


def text(result: GateResult) -> str:
    """For a terminal."""
    return "\n".join([headline(result), "", *details(result)])
