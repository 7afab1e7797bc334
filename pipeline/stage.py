"""The contract of a stage: what it declares, and what it is given when it runs.

A stage is a frozen dataclass. Its fields are everything that decides its output: its own section of
the configuration, shared sections, the seed. A field that only does the work (a device) is marked
``field(metadata=TOOL)``: it enters the fingerprint through :meth:`Stage.environment` alone; so is what only
an estimate needs. A field named
``config`` holds the section of the stage's own name, any other field the section of the field's name;
where that is not so, ``field(metadata={"section": "finetune"})`` says what a user calls it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from pipeline.artifact import Blob, Document, canonical_json, sha256_hex
from pipeline.events import Distribution, Emit, Message, Metric, Progress

TOOL: Mapping[str, bool] = {"tool": True}


class BlobStore(Protocol):
    """Content-addressed files (see :mod:`pipeline.store.store`)."""

    def put_bytes(self, data: bytes, suffix: str) -> Blob:
        """Store ``data`` (atomically, once) and return its name."""

    def read_bytes(self, blob: Blob) -> bytes:
        """The blob's content. Raises IntegrityError where it is missing or damaged."""

    def path(self, blob: Blob) -> Path:
        """The blob's file, verified. Raises IntegrityError where it is missing or damaged."""


class Scratch(Protocol):
    """What an unfinished stage has done so far; survives SIGKILL, keyed by the fingerprint."""

    def save(self, name: str, payload: bytes) -> None:
        """Replace entry ``name`` atomically."""

    def load(self, name: str) -> bytes | None:
        """Entry ``name``; None where there is none, or (with a warning) where it is damaged."""

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to the log ``name``; it is on the disk when this returns."""

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The whole rows of log ``name``; a torn last line is dropped."""


@dataclass(frozen=True)
class Context:
    """What a running stage may use of the engine."""

    stage: str
    fingerprint: str
    store: BlobStore
    scratch: Scratch
    emit: Emit

    def progress(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Tell how far the stage is."""
        self.emit(Progress(self.stage, done, total, unit, note))

    def metric(self, name: str, value: float, step: int) -> None:
        """Tell one point of a curve."""
        self.emit(Metric(self.stage, name, value, step))

    def distribution(self, name: str, labels: Sequence[str], values: Sequence[float], step: int) -> None:
        """Tell the probabilities of candidates at one step."""
        self.emit(Distribution(self.stage, name, tuple(labels), tuple(values), step))

    def say(self, text: str) -> None:
        """Tell the user something worth knowing."""
        self.emit(Message(self.stage, text))

    def warn(self, text: str) -> None:
        """Tell the user something that may spoil the result."""
        self.emit(Message(self.stage, text, level="warning"))


@dataclass(frozen=True)
class Stage(ABC):
    """One step of the pipeline.

    ``inputs`` maps a parameter of :meth:`run` to the stage whose output it receives. ``after`` names stages
    that, where a pipeline has them, must have been run before, and whose output it does not see: it stays
    fresh whatever they make.
    ``version`` is raised when the same inputs would give another output.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    inputs: ClassVar[Mapping[str, str]]
    after: ClassVar[tuple[str, ...]] = ()
    output: ClassVar[type[Document]]

    @abstractmethod
    def run(self, context: Context, **inputs: Any) -> Document:
        """Do the work, or what is left of it in ``context.scratch``."""

    def environment(self) -> Mapping[str, str]:
        """What outside the configuration decides the output: device, runtime, data set."""
        return {}

    def check(self) -> None:  # noqa: B027 - most stages have nothing to refuse
        """Raises UsageError where the settings alone show that :meth:`run` would fail.

        Asked before any stage runs: what cannot be done is told before hours of work, not after.
        """

    def check_files(self) -> None:  # noqa: B027 - most stages read no files of the user's own
        """Raises MachineError where a file that :meth:`run` reads is not there.

        Asked before any stage runs, of those that are to run: what is fresh needs its files no more.
        """

    def estimate_seconds(self) -> float:
        """A rough guess of the work, for ``--dry-run``."""
        return 0.0

    def settings(self) -> dict[str, Any]:
        """All fields that decide the output, as plain data."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if not f.metadata.get("tool")}

    def fingerprint(
        self, input_digests: Mapping[str, str], environment: Mapping[str, str] | None = None
    ) -> str:
        """Equal fingerprint, equal output: the stage need not run again.

        ``environment`` is what :meth:`environment` said, where the caller has asked already.
        """
        return sha256_hex(
            canonical_json(
                {
                    "stage": self.name,
                    "version": self.version,
                    "settings": self.settings(),
                    "environment": dict(self.environment() if environment is None else environment),
                    "inputs": dict(input_digests),
                }
            )
        )


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
