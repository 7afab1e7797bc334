"""Model files of any origin, opened in a child process with limits.

A damaged model can bring LiteRT down, or make it compute for days. It then ends the child, which the next
file starts again; what the child answers is not trusted either.
"""

from __future__ import annotations

from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from android_bench.local.process import WorkerProcess
from nasflow.base.errors import ConversionError, NasflowError
from nasflow.base.text import plain_line
from stages.conversion.file_check import looks_like_tflite, what_it_is_instead

Depth = Literal["read", "open", "invoke"]
"""How far a file is tried: read without LiteRT, opened by LiteRT with all memory for it, computed once."""

WORKER = "stages.conversion.inspection_worker"
CPU_SECONDS = 60
"""Processor time for one file: a network that computes longer than that once is for no phone."""

Name = Annotated[str, AfterValidator(plain_line), Field(max_length=1_000)]
_MOST_OPERATORS, _MOST_ENDS = 100_000, 1_000


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TensorFacts(_Answer):
    """One input or output. ``type`` is numpy's name of it (``float32``), where numpy has one."""

    name: Name
    shape: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(max_length=100)
    type: Name

    def describe(self) -> str:
        """``float32 1x224x224x3``."""
        return f"{self.type} {'x'.join(map(str, self.shape)) or 'value'}"


class NotFiniteFacts(_Answer):
    """A constant with NaN or infinite values, and the layer that reads it."""

    tensor: Name
    layer: Name
    count: int = Field(ge=1)


class InspectedModel(_Answer):
    """What a file is made of.

    ``delegate_partitions`` and ``undelegated`` (operators that LiteRT runs itself, in the graph's order) are
    None where the file was only read.
    """

    operator_counts: dict[Name, Annotated[int, Field(ge=1)]] = Field(max_length=_MOST_OPERATORS)
    inputs: list[TensorFacts] = Field(max_length=_MOST_ENDS)
    outputs: list[TensorFacts] = Field(max_length=_MOST_ENDS)
    not_finite: list[NotFiniteFacts] = Field(max_length=100)
    delegate_partitions: int | None = Field(default=None, ge=0)
    undelegated: list[Name] | None = Field(default=None, max_length=_MOST_OPERATORS)


class ModelInspector:
    """Opens model files one after the other in one child process; a context manager."""

    def __init__(
        self, *, timeout_s: float = 120.0, cpu_seconds: int = CPU_SECONDS, worker: str = WORKER
    ) -> None:
        self._timeout_s, self._cpu_seconds = timeout_s, cpu_seconds
        self._program = ("-m", worker)
        self._worker: WorkerProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def inspect(self, model: bytes, *, name: str = "model", depth: Depth = "open") -> InspectedModel:
        """Tell what a file is made of, after it was read, opened or computed once.

        ``name`` is what an error calls it. Raises ConversionError where it cannot be.
        """
        subject = f"{plain_line(name)} ({len(model)} bytes)"
        if not looks_like_tflite(model):  # no process is needed to see that
            raise _unusable(subject, what_it_is_instead(model))
        if self._worker is None or not self._worker.alive:
            self._worker = WorkerProcess(self._program, _brought_down)
        request = {"depth": depth, "cpu_seconds": self._cpu_seconds}
        answer, _ = self._worker.ask(
            request, model, subject=subject, timeout_seconds=self._timeout_s, max_payload=0
        )
        return _as_inspected(answer, subject)


def _as_inspected(answer: dict[str, Any], subject: str) -> InspectedModel:
    if "error" in answer:
        raise _unusable(subject, plain_line(str(answer["error"]), limit=600))
    try:
        return InspectedModel.model_validate(answer.get("model"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise _unusable(
            subject, f"the process that opened it gave an impossible answer ({where}: {first['msg']})"
        ) from error


def _brought_down(subject: str, how: str, raw: str) -> NasflowError:
    lines = raw.splitlines()
    last = f" ({plain_line(lines[-1], limit=300)})" if lines and how.startswith("ended") else ""
    return _unusable(subject, f"the process that opened it {how}{last}", raw)


def _unusable(subject: str, what: str, raw: str = "") -> ConversionError:
    return ConversionError(
        f"{subject} is not a usable .tflite model: {what}.",
        hint="The file is damaged, needs what this LiteRT lacks, or does not take inputs that are made up: "
        "copy or convert it again.",
        raw=raw,
    )
