"""Reach a stored verdict again, from the timings in the result file alone."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from nasflow.base.errors import IntegrityError, UsageError
from nasflow.base.files import read_or_none
from nasflow.base.text import plain_line
from stages.documents.gate import GateResult, GateVerdict, UnfinishedGate
from stages.verification.accuracy_gate import recomputed_accuracy
from stages.verification.gate import joined_verdict, looks_of, verdict_of, with_drops


def read_result(path: Path) -> GateResult:
    """A gate's result file. Raises UsageError where it is none, or of another version."""
    content = read_or_none(path)
    if content is None:
        raise UsageError(
            f"{plain_line(str(path))} does not exist.", hint="Give the file that --result named."
        )
    try:
        result = GateResult.model_validate_json(content)
    except ValidationError as error:
        _check_finished(path, content)
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise UsageError(
            f"{plain_line(str(path))} is no result of a gate: {plain_line(where)}: {first['msg']}.",
            hint="Give the file that 'nasflow verify MODEL --result FILE' wrote.",
        ) from error
    known = GateResult.model_fields["schema_version"].default
    if result.schema_version != known:
        raise UsageError(
            f"{plain_line(str(path))} has version {result.schema_version}; this nasflow reads {known}.",
            hint="Use the version of nasflow that wrote it.",
        )
    return result


def _check_finished(path: Path, content: bytes) -> None:
    """Raises UsageError where an error ended the gate: there is no verdict to be reached again."""
    try:
        unfinished = UnfinishedGate.model_validate_json(content)
    except ValidationError:
        return
    raise UsageError(
        f"{plain_line(str(path))} is of a gate that an error ended after {len(unfinished.blocks)} blocks: "
        f"{plain_line(unfinished.error.message)}",
        hint="Call that gate again: on the same device, its blocks are kept.",
    )


def recomputed(result: GateResult) -> GateResult:
    """The same timings, and what follows from them. Raises IntegrityError where the file says otherwise."""
    accuracy, most_points = result.accuracy, result.plan.max_accuracy_drop
    if accuracy is not None and most_points is not None:  # a result has both or neither
        accuracy = recomputed_accuracy(accuracy, most_points)
    verdict: GateVerdict | None = None
    if result.kind == "gate":
        verdict = joined_verdict(verdict_of(result.plan, result.blocks) or "inconclusive", accuracy)
    again = result.model_copy(
        update={
            "blocks": with_drops(result.plan, result.blocks),
            "looks": looks_of(result.plan, result.blocks),
            "accuracy": accuracy,
            "verdict": verdict,
        }
    )
    if verdict != result.verdict:
        raise IntegrityError(
            f"the file says {result.verdict}, but its own timings give {verdict}.",
            hint="It was changed after it was measured, or by another version of nasflow: measure again.",
        )
    return again
