"""A gate's result in sentences, for a terminal and for the summary of a CI run."""

from __future__ import annotations

from collections import Counter

from nasflow.base.text import plain_line
from stages.documents.gate import AccuracyCompared, GateLook, GateResult, OutputsCompared
from stages.verification.gate import block_deviation
from stages.verification.sequential import FEWEST_BLOCKS, smallest_shown

VERDICTS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}
_DROPPED = {
    "throttled": "the device throttled",
    "asleep": "the screen was off",
    "disturbed": "the device was slower than usual",
}


def last_look(result: GateResult) -> GateLook | None:
    """The look that decided; None: too few blocks counted for any."""
    return result.looks[-1] if result.looks else None


def headline(result: GateResult) -> str:
    """The verdict and why, in one sentence."""
    look, verdict = last_look(result), VERDICTS[result.verdict]
    if look is None:
        return f"{verdict}: too few blocks could be measured undisturbed."
    plan, said = result.plan, []
    low, high = look.ratio_interval
    if plan.max_ratio is not None:
        side = "below" if high < plan.max_ratio else "above" if low > plan.max_ratio else "around"
        said.append(
            f"{look.ratio:.3f} times the baseline's latency ({low:.3f} to {high:.3f}), {side} the limit of "
            f"{plan.max_ratio:g}"
        )
    low, high = look.candidate_ms_interval
    if plan.max_ms is not None:
        side = "below" if high < plan.max_ms else "above" if low > plan.max_ms else "around"
        said.append(
            f"{look.candidate_ms:.4g} ms ({low:.4g} to {high:.4g}), {side} the limit of {plan.max_ms:g} ms"
        )
    if result.accuracy is not None and plan.max_accuracy_drop is not None:
        said.append(accuracy_side(result.accuracy, plan.max_accuracy_drop))
    if not said:
        said.append(
            f"{look.ratio:.3f} times the baseline's latency "
            f"({look.ratio_interval[0]:.3f} to {look.ratio_interval[1]:.3f})"
        )
    return f"{verdict}: {'; '.join(said)}."


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
    count = sum(block.dropped is None for block in result.blocks)
    lines = [
        f"Candidate: {plain_line(result.candidate.name)} ({result.candidate.size_bytes:,} bytes).",
        f"Baseline: {plain_line(result.baseline.name)} ({result.baseline.size_bytes:,} bytes).",
        f"{plain_line(info.model)}, {plain_line(info.runtime)}, {result.runtime.describe(info.kind)}: "
        f"{count} blocks in {result.seconds:.0f} s.",
    ]
    if result.candidate.takes != result.baseline.takes:
        lines.append(
            f"The models do different work: the candidate takes {plain_line(result.candidate.takes)}, the "
            f"baseline {plain_line(result.baseline.takes)}."
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
    if result.verdict == "inconclusive":
        lines.append(
            "A limit lies within its interval, so that pass and fail are both possible. For latency, measure "
            "more blocks (--max-blocks), or stop other programs; for accuracy, use more test images."
        )
    return lines


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
    count, most = sum(block.dropped is None for block in result.blocks), result.plan.max_blocks
    if count < FEWEST_BLOCKS:
        return "Too few blocks could be measured undisturbed to tell what a gate here can show."
    deviation = block_deviation(result.blocks)
    error = result.looks[-1].error if result.looks else 0.05
    shown = smallest_shown(deviation, most, error)
    return (
        f"One block's ratio varies by {100 * deviation:.2g} % (standard deviation). In {most} blocks a gate "
        f"here shows a difference of {100 * shown:.2g} % four times out of five."
    )


def text(result: GateResult) -> str:
    """For a terminal."""
    return "\n".join([headline(result), "", *details(result)])


def self_test(result: GateResult) -> str:
    """What a model against itself says of gates on this device, for a terminal."""
    look, count = last_look(result), sum(block.dropped is None for block in result.blocks)
    info = result.device
    lines = [noise_floor(result), ""]
    if look is not None:
        low, high = look.ratio_interval
        lines.append(f"A model against itself: a ratio of {look.ratio:.4f} ({low:.4f} to {high:.4f}).")
    lines.append(
        f"{plain_line(info.model)}, {plain_line(info.runtime)}, {result.runtime.describe(info.kind)}: "
        f"{count} blocks in {result.seconds:.0f} s."
    )
    return "\n".join(lines)
