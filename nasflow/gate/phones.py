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
from nasflow.gate.unfinished import fault_of
from nasflow.gate.words import verdict_word
from stages.documents.gate import GateResult

if TYPE_CHECKING:
    from junitparser import TestCase

HEADINGS = ("phone", "ratio or ms", "interval", "blocks", "verdict")


@dataclass(frozen=True)
class OnePhone:
    """A result, or why there is none, and the file that says so. ``name``: the phone's number and model."""

    name: str
    result: GateResult | None = None
    file: Path | None = None
    error: NasflowError | None = None

    @property
    def dropped(self) -> int:
        """Blocks that did not count."""
        return 0 if self.result is None else len(self.result.blocks) - self.result.blocks_counted

    def row(self) -> tuple[str, ...]:
        """The cells under :data:`HEADINGS`."""
        if self.result is None:
            assert self.error is not None
            return self.name, "", "", "", f"ERROR ({self.error.reference}): {self.error.message}"
        blocks = str(self.result.blocks_counted)
        if self.dropped:
            blocks += f" ({self.dropped} did not count)"
        verdict, look = verdict_word(self.result), self.result.last_look
        if look is None:
            return self.name, "", "", blocks, verdict
        if look.ratio is None or look.ratio_interval is None:
            low, high = look.candidate_ms_interval
            return self.name, f"{look.candidate_ms:.4g} ms", f"{low:.4g} to {high:.4g} ms", blocks, verdict
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
            "error": None if self.error is None else fault_of(self.error).model_dump(mode="json"),
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
