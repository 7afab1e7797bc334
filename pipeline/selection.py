"""Which stages a run is about, and whether stages fit together at all."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Sequence

from nasflow.base.errors import UsageError
from pipeline.stage import Stage


def validate(stages: Sequence[Stage]) -> None:
    """Refuse a pipeline that cannot work: a programmer's mistake, so ValueError."""
    known: set[str] = set()
    for stage in stages:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", stage.name):
            raise ValueError(f"stage name {stage.name!r}: lower-case letters, digits and _ only")
        if stage.name in known:
            raise ValueError(f"two stages are named {stage.name!r}")
        for parameter, source in stage.inputs.items():
            if source not in known:
                raise ValueError(f"stage {stage.name!r} needs {source!r}, which no earlier stage makes")
            parameters = inspect.signature(stage.run).parameters.values()
            if not any(p.name == parameter or p.kind is p.VAR_KEYWORD for p in parameters):
                raise ValueError(f"stage {stage.name!r}: run() takes no parameter {parameter!r}")
        known.add(stage.name)
        if late := sorted(set(stage.after) & ({other.name for other in stages} - known)):
            raise ValueError(f"stage {stage.name!r} comes after {late[0]!r}, which is not an earlier stage")


def find(stages: Sequence[Stage], name: str) -> Stage:
    """The stage of this name. Raises UsageError with the nearest name."""
    for stage in stages:
        if stage.name == name:
            return stage
    names = [stage.name for stage in stages]
    nearest = difflib.get_close_matches(name, names, n=1)
    raise UsageError(
        f"There is no stage {name!r}.",
        hint=(f"Did you mean {nearest[0]}? " if nearest else "") + f"Stages: {', '.join(names)}.",
    )


def needed_for(stages: Sequence[Stage], until: str | None) -> tuple[Stage, ...]:
    """The stage ``until`` and those that it needs, in order; all where it is None."""
    if until is None:
        return tuple(stages)
    needed = {find(stages, until).name}
    for stage in reversed(stages):
        if stage.name in needed:
            needed.update(stage.inputs.values(), stage.after)
    return tuple(stage for stage in stages if stage.name in needed)


def depending_on(stages: Sequence[Stage], name: str) -> set[str]:
    """The stage ``name`` and all that, directly or not, use what it makes."""
    onwards = {find(stages, name).name}
    for stage in stages:
        if onwards.intersection(stage.inputs.values()):
            onwards.add(stage.name)
    return onwards


def forced(
    stages: Sequence[Stage], selected: Sequence[Stage], from_stage: str | None, force: Collection[str]
) -> tuple[str, ...]:
    """Names of the selected stages that run even if they are fresh, in order. Raises UsageError."""
    names = [stage.name for stage in selected]
    wanted = {find(stages, name).name for name in (*force, *([] if from_stage is None else [from_stage]))}
    outside = sorted(wanted.difference(names))
    if outside:
        raise UsageError(
            f"Stage {outside[0]} is to run, but the run stops at stage {names[-1]}, which does not need it.",
            hint="Leave out one of the two.",
        )
    if from_stage is not None:
        wanted |= depending_on(stages, from_stage)
    return tuple(name for name in names if name in wanted)
