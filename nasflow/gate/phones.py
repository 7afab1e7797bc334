"""The gates of several phones in one table, one JUnit suite and one document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasflow.base.errors import NasflowError
from nasflow.base.text import markdown_text
from nasflow.gate import junit
from nasflow.gate.github import markdown
from nasflow.gate.words import VERDICTS, last_look
from stages.documents.gate import GateResult

if TYPE_CHECKING:
    from junitparser import TestCase

HEADINGS = ("phone", "ratio", "interval", "blocks", "verdict")


@dataclass(frozen=True)
class OnePhone:
    """A result with its file, or why there is none. ``name``: the phone's number and model."""

    name: str
    result: GateResult | None = None
    file: Path | None = None
    error: NasflowError | None = None

    @property
    def dropped(self) -> int:
        """Blocks that did not count."""
        return 0 if self.result is None else sum(block.dropped is not None for block in self.result.blocks)

    def row(self) -> tuple[str, ...]:
        """The cells under :data:`HEADINGS`."""
        if self.result is None:
            assert self.error is not None
            return self.name, "", "", "", f"ERROR ({self.error.reference}): {self.error.message}"
        blocks = str(len(self.result.blocks) - self.dropped)
        if self.dropped:
            blocks += f" ({self.dropped} did not count)"
        verdict, look = VERDICTS[self.result.verdict], last_look(self.result)
        if look is None:
            return self.name, "", "", blocks, verdict
        low, high = look.ratio_interval
        return self.name, f"{look.ratio:.3f}", f"{low:.3f} to {high:.3f}", blocks, verdict

    def case(self, gate: str) -> tuple[TestCase, dict[str, str]]:
        """Its case of the JUnit suite, and its figures there; ``gate``: what a CI calls the gate."""
        name = f"{gate} on {self.name}"
        if self.result is None:
            assert self.error is not None
            return junit.error_case(self.error, name), {}
        figures = {f"{self.name}: {key}": value for key, value in junit.properties(self.result).items()}
        return junit.case_of(self.result, name), figures

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "result": None if self.file is None else str(self.file),
            "gate": None if self.result is None else self.result.model_dump(mode="json"),
            "error": None
            if self.error is None
            else {
                "reference": self.error.reference,
                "message": self.error.message,
                "hint": self.error.hint,
                "exit_code": self.error.exit_code,
            },
        }


def markdown_of_all(phones: Sequence[OnePhone], note: str = "") -> str:
    """A table with a row for each phone, what is to be said of all of them, and then each gate."""
    lines = ["### All phones", "", f"| {' | '.join(HEADINGS)} |", "|---|---:|---|---:|---|"]
    lines += [f"| {' | '.join(map(markdown_text, one.row()))} |" for one in phones]
    if note:
        lines += ["", markdown_text(note)]
    measured = [(one.name, one.result) for one in phones if one.result is not None]
    parts = [f"#### {markdown_text(name)}\n\n{markdown(result)}" for name, result in measured]
    return "\n".join(["\n".join(lines) + "\n", *parts])


def table(phones: Sequence[OnePhone]) -> list[str]:
    """For a terminal."""
    rows = [HEADINGS, *(one.row() for one in phones)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
