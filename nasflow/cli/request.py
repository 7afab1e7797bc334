"""What a person may choose on the command line, as plain data. Imported for ``--help``: keep it light."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class StageName(StrEnum):
    """The stages in order: each is a sub-command."""

    PROFILE = "profile"
    LATENCY = "latency"
    PRECHECK = "precheck"
    SEARCH = "search"
    PRUNE = "prune"
    FINETUNE = "finetune"
    BASELINE = "baseline"
    CONVERT = "convert"
    VERIFY = "verify"


STAGE_NAMES = tuple(name.value for name in StageName)


@dataclass(frozen=True)
class Outcome:
    """What a command has to say: ``text`` for a person, ``document`` for ``--json``."""

    document: Mapping[str, Any]
    text: str = ""
    exit_code: int = 0


Action = Callable[[], Outcome]
"""A command that is ready to go. It runs outside of typer, which would swallow some exceptions."""


@dataclass(frozen=True)
class Selection:
    """Which configuration a command is about."""

    config: Path | None = None
    assignments: tuple[str, ...] = ()
    device: str | None = None
    seed: str | None = None
    offline: bool = False

    @property
    def overrides(self) -> tuple[str, ...]:
        """All assignments, the options' own last: they win."""
        named = {
            "device": self.device and as_yaml(self.device),
            "seed": self.seed,
            "offline": "true" if self.offline else None,
        }
        return (*self.assignments, *(f"{key}={value}" for key, value in named.items() if value is not None))

    def arguments(self) -> list[str]:
        """The options that select the same configuration again."""
        words: list[str] = []
        if self.config is not None:
            words += ["--config", str(self.config)]
        for assignment in self.assignments:
            words += ["--set", assignment]
        if self.device is not None:
            words += ["--device", self.device]
        if self.seed is not None:
            words += ["--seed", self.seed]
        if self.offline:
            words.append("--offline")
        return words


def as_yaml(text: str) -> str:
    """The words of an option as a YAML text: the name of a phone may hold anything, ``#`` and quotes too."""
    return text if re.fullmatch(r"[\w.-]+(:[\w.()\[\]-]+)*", text, re.ASCII) else json.dumps(text)


@dataclass(frozen=True)
class RunOptions:
    """What ``nasflow run`` and its per-stage relatives were asked for."""

    selection: Selection = field(default_factory=Selection)
    from_stage: str | None = None
    until: str | None = None
    force: tuple[str, ...] = ()
    dry_run: bool = False
    as_json: bool = False
    part_of: tuple[str, ...] = ()
    """The words of the command that this run is a part of, and that goes on where it is interrupted."""

    def resume_command(self, still_forced: Sequence[str] = ()) -> str:
        """The command that goes on after an interruption: what is done is not asked for again.

        ``still_forced``: stages that were to run in any case and have not begun.
        """
        words = [*program(), *(self.part_of or ("run", *self.selection.arguments()))]
        if self.until is not None and not self.part_of:
            words += ["--until", self.until]
        for stage in still_forced:
            words += ["--force", stage]
        if self.as_json:
            words.append("--json")
        return shlex.join(words)

    def with_selection(self, text: str) -> str:
        """A stage's words, whose ``nasflow run ...`` are made commands for this run's configuration.

        Stages know neither how the program was called nor with what options.
        """
        command = shlex.join([*program(), *(self.part_of or ("run", *self.selection.arguments()))])
        return _RUN.sub(lambda _match: command, text)


_RUN = re.compile(r"(?<![\w/-])nasflow run(?![\w-])")


def program(*, anywhere: bool = False) -> list[str]:
    """How this program was called, in words that work from the present folder, or ``anywhere``."""
    called = Path(sys.argv[0])
    if called == Path(__file__).parents[1] / "__main__.py":
        return [sys.executable, "-m", "nasflow"]
    if called.name != "nasflow":
        return ["nasflow"]
    found = shutil.which("nasflow")
    if found is not None and Path(found).resolve() == called.resolve():
        return ["nasflow"]
    return [str(called.absolute() if anywhere else called)]
