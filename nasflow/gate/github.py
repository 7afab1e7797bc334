"""A gate's result as Markdown for a summary page, and as an annotation of a GitHub Actions run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nasflow.base.errors import NasflowError
from nasflow.base.files import disk_faults
from nasflow.base.text import markdown_text
from nasflow.gate.words import details, headline
from stages.documents.gate import GateLook, GateResult

MOST_BYTES = 1024 * 1024
_LEFT_OUT = (
    b"\nA gate of nasflow is left out here: the summary is as long as GitHub shows. Its result file has it.\n"
)
"""Of one step's summary; GitHub shows none of a larger one (docs.github.com, "Workflow commands")."""
_LEVELS = {"pass": "notice", "fail": "error", "inconclusive": "warning"}


def markdown(result: GateResult) -> str:
    """A heading, the details, and every look as a table."""
    lines = [f"### {markdown_text(headline(result))}", ""]
    lines += [f"- {markdown_text(line)}" for line in details(result)]
    if result.looks:
        lines += ["", "| blocks | ratio | interval | candidate, ms |", "|---:|---:|---:|---:|"]
        lines += map(_row, result.looks)
    return "\n".join(lines) + "\n"


def error_markdown(error: NasflowError, name: str) -> str:
    """A gate that an error ended; ``name``: what a CI calls the gate."""
    heading = f"### ERROR: {markdown_text(name)} ({error.reference})"
    return (
        "\n\n".join(filter(None, [heading, markdown_text(error.message), markdown_text(error.hint)])) + "\n"
    )


def _row(look: GateLook) -> str:
    ratio = interval = ""
    if look.ratio is not None and look.ratio_interval is not None:
        low, high = look.ratio_interval
        ratio, interval = f"{look.ratio:.4f}", f"{low:.4f} to {high:.4f}"
    return f"| {look.blocks} | {ratio} | {interval} | {look.candidate_ms:.4g} |"


def append_summary(path: Path, result: GateResult) -> None:
    """Add the Markdown to a file: ``$GITHUB_STEP_SUMMARY`` is one that several commands write to.

    Nothing is added where the file would grow beyond what GitHub shows. Raises MachineError.
    """
    append_text(path, markdown(result))


def append_text(path: Path, added: str) -> None:
    """As :func:`append_summary`, of any Markdown."""
    text = added.encode()
    with disk_faults(path, "write"), path.open("ab") as file:
        left = MOST_BYTES - file.tell()
        if len(text) <= left:
            file.write(text)
        elif len(_LEFT_OUT) <= left:
            file.write(_LEFT_OUT)


def annotation(result: GateResult, environment: Mapping[str, str] = os.environ) -> str:
    """The line that makes GitHub Actions show the verdict beside the run; empty elsewhere."""
    level = "notice" if result.verdict is None else _LEVELS[result.verdict]
    return _annotation(level, headline(result), environment)


def error_annotation(error: NasflowError, environment: Mapping[str, str] = os.environ) -> str:
    """The same of a gate that an error ended."""
    return _annotation("error", f"{error.message} {error.hint}".strip(), environment)


def _annotation(level: str, words: str, environment: Mapping[str, str]) -> str:
    if environment.get("GITHUB_ACTIONS") != "true":
        return ""
    escaped = words.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title=nasflow verify::{escaped}"
