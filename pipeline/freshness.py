"""Whether a stage's stored output may be used, and if not, why, in words that a user knows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nasflow.base.errors import IntegrityError, NasflowError
from pipeline.artifact import Document
from pipeline.stage import Stage
from pipeline.store.records import StageRecord, plain_settings
from pipeline.store.scratch import read_basis
from pipeline.store.store import Store

_MOST_CHANGES = 3
_MOST_CHARACTERS = 48


@dataclass(frozen=True)
class StageStatus:
    """One stage as it stands: what ``status`` and ``--dry-run`` show."""

    name: str
    fresh: bool
    why: str
    """Why the stage is stale; empty where it is fresh."""
    estimate_seconds: float
    """How long it would take to run it, from its last run where there is one."""
    partly_done: bool = False
    """An earlier run was interrupted: the next one goes on where it was."""
    fingerprint: str | None = None
    """None where it cannot be known yet: an input is stale, or the environment cannot be read."""
    record: StageRecord | None = None
    """The record that is used where the stage is fresh, else that of its latest run."""
    problem: NasflowError | None = None
    """Why the stage cannot be assessed at all: its device or data set is not there."""


@dataclass(frozen=True)
class Assessment:
    """A status, and what was read on the way to it."""

    status: StageStatus
    fingerprint: str
    environment: Mapping[str, str]
    basis: str
    """Digest of the record that a new run would replace; empty where there is none."""
    document: Document | None = None
    damage: IntegrityError | None = None


def assess(
    stage: Stage, store: Store, inputs: Mapping[str, str], environment: Mapping[str, str]
) -> Assessment:
    """Look for a whole output of ``stage`` for these inputs (parameter -> SHA-256 of the document).

    Raises MachineError.
    """
    fingerprint = stage.fingerprint(inputs, environment)
    damage: IntegrityError | None = None
    record: StageRecord | None = None
    scratch = store.scratch(stage.name, fingerprint)
    try:
        record = store.read_record(stage.name, fingerprint)
        document = store.document(record, stage.output) if record else None
    except IntegrityError as error:
        damage, document = error, None
    basis = record.digest if record else ""
    begun = read_basis(scratch.folder) == basis
    if record and document and not begun:
        status = StageStatus(
            name=stage.name,
            fresh=True,
            why="",
            estimate_seconds=estimate(stage, record),
            fingerprint=fingerprint,
            record=record,
        )
        return Assessment(status, fingerprint, environment, basis, document)
    partly_done = begun and scratch.holds_work()
    latest = store.latest(stage.name)
    if damage:
        reasons = [damage.message]
    elif record:
        reasons = ["a repeated run was interrupted"]
    else:
        reasons = changes(stage, latest, inputs, environment)
    if partly_done:
        reasons.append("partly done: it will continue where it stopped")
    status = StageStatus(
        name=stage.name,
        fresh=False,
        why="; ".join(reason.rstrip(".") for reason in reasons),
        estimate_seconds=estimate(stage, latest),
        partly_done=partly_done,
        fingerprint=fingerprint,
        record=latest,
    )
    return Assessment(status, fingerprint, environment, basis, damage=damage)


def waiting(stage: Stage, store: Store, stale_inputs: Sequence[str]) -> StageStatus:
    """The status of a stage that cannot be assessed before its inputs have run."""
    latest = store.latest(stage.name)
    names = list(dict.fromkeys(stale_inputs))
    listed = " and ".join(f"`{name}`" for name in names)
    reasons = [f"its inputs {listed} are stale" if len(names) > 1 else f"its input {listed} is stale"]
    reasons += changes(stage, latest, None, None) if latest else ["never ran"]
    return StageStatus(
        name=stage.name,
        fresh=False,
        why="; ".join(reasons),
        estimate_seconds=estimate(stage, latest),
        record=latest,
    )


def unknown(stage: Stage, store: Store, problem: NasflowError) -> StageStatus:
    """The status of a stage whose environment cannot be read."""
    latest = store.latest(stage.name)
    return StageStatus(
        name=stage.name,
        fresh=False,
        why=f"cannot be determined: {problem.message.rstrip('.')}",
        estimate_seconds=estimate(stage, latest),
        record=latest,
        problem=problem,
    )


def estimate(stage: Stage, latest: StageRecord | None) -> float:
    """Seconds of the latest run, scaled by how the stage's own guess has changed since."""
    guess = stage.estimate_seconds()
    if latest is None or latest.seconds == 0:  # adopted, not run
        return guess
    if guess > 0 and latest.estimated_seconds > 0:
        return latest.seconds * guess / latest.estimated_seconds
    return latest.seconds


def changes(
    stage: Stage,
    latest: StageRecord | None,
    inputs: Mapping[str, str] | None,
    environment: Mapping[str, str] | None,
) -> list[str]:
    """What differs from the stage's latest run; ``inputs`` and ``environment`` None: not known yet."""
    if latest is None:
        return ["never ran"]
    found: list[str] = []
    if latest.version != stage.version:
        found.append(f"the stage's version changed from {latest.version} to {stage.version}")
    found += _few(
        f"setting `{key}` {change}"
        for key, change in differences(
            _sections(stage, latest.settings), _sections(stage, plain_settings(stage.settings()))
        )
    )
    if environment is not None:
        found += _few(
            f"environment `{key}` {change}"
            for key, change in differences(latest.environment, dict(environment))
        )
    if inputs is not None:
        found += [
            f"the output of its input `{stage.inputs[parameter]}` changed"
            for parameter in stage.inputs
            if latest.inputs.get(parameter) != inputs[parameter]
        ]
    if inputs is not None and not found:
        found.append("the record of its last run is missing")
    return found


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys under which plain data differ, each with the change in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*new, *old)):
            dotted = f"{key}.{name}" if key else str(name)
            if name not in old:
                yield dotted, f"is new ({_shown(new[name])})"
            elif name not in new:
                yield dotted, f"was removed (it was {_shown(old[name])})"
            else:
                yield from differences(old[name], new[name], dotted)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, f"{key}[{index}]")
    elif type(old) is not type(new) or old != new:
        yield key, f"changed from {_shown(old)} to {_shown(new)}"


def _sections(stage: Stage, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under the names that they have in the configuration file."""
    names = {
        field.name: field.metadata.get("section", stage.name if field.name == "config" else field.name)
        for field in fields(stage)
    }
    return {names.get(name, name): value for name, value in settings.items()}


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."


def _few(found: Iterator[str]) -> list[str]:
    listed = list(found)
    rest = len(listed) - _MOST_CHANGES
    return listed if rest <= 1 else [*listed[:_MOST_CHANGES], f"{rest} more changes"]
