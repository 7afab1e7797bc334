"""A small pipeline with everything a real one has, and a process that runs it until it is killed.

As a script it reads one JSON order per line and obeys each in a forked child (see :func:`obey`), so that
a test can kill many real processes without starting Python each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pipeline.artifact import Blob, Document, Record
from pipeline.events import Event
from pipeline.runner import Pipeline
from pipeline.stage import TOOL, Context, Stage
from pipeline.store.store import Store


class DrawConfig(Record):
    rows: int = 4
    bias: int = 0


class DoubleConfig(Record):
    factor: int = 2


class SumConfig(Record):
    label: str = "sum"
    parity_only: bool = False


class Numbers(Document):
    values: tuple[int, ...]
    raw: Blob


class Total(Document):
    label: str
    total: int


@dataclass
class Notes:
    """What a test sees of the stages at work; ``environment`` is what they find around them."""

    ran: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=lambda: {"device_model": "toy"})


@dataclass(frozen=True)
class Draw(Stage):
    """Takes one step per row, each kept in scratch."""

    config: DrawConfig
    seed: int
    notes: Notes = field(metadata=TOOL)
    name: ClassVar[str] = "draw"
    version: ClassVar[int] = 1
    inputs: ClassVar[Mapping[str, str]] = {}
    output: ClassVar[type[Document]] = Numbers

    def environment(self) -> Mapping[str, str]:
        return self.notes.environment

    def estimate_seconds(self) -> float:
        return 2.0 * self.config.rows

    def run(self, context: Context) -> Numbers:
        self.notes.ran.append(self.name)
        done = {row["row"]: row["value"] for row in context.scratch.rows("rows")}
        for row in range(self.config.rows):
            if row not in done:
                self.notes.steps.append(f"draw {row}")
                done[row] = 100 * self.seed + row * row + self.config.bias
                context.scratch.append("rows", {"row": row, "value": done[row]})
            context.progress(row + 1, self.config.rows, "rows")
        values = tuple(done[row] for row in range(self.config.rows))
        return Numbers(values=values, raw=context.store.put_bytes(bytes(str(values), "ascii"), ".txt"))


@dataclass(frozen=True)
class Double(Stage):
    """Keeps a whole entry in scratch, as a training loop keeps its checkpoint."""

    config: DoubleConfig
    notes: Notes = field(metadata=TOOL)
    name: ClassVar[str] = "double"
    version: ClassVar[int] = 1
    inputs: ClassVar[Mapping[str, str]] = {"numbers": "draw"}
    output: ClassVar[type[Document]] = Numbers

    def run(self, context: Context, numbers: Numbers) -> Numbers:
        self.notes.ran.append(self.name)
        assert context.store.read_bytes(numbers.raw) == bytes(str(numbers.values), "ascii")
        kept = context.scratch.load("checkpoint")
        values: list[int] = json.loads(kept) if kept else []
        for value in numbers.values[len(values) :]:
            self.notes.steps.append(f"double {len(values)}")
            values.append(value * self.config.factor)
            context.scratch.save("checkpoint", json.dumps(values).encode())
            context.progress(len(values), len(numbers.values), "values")
        blob = context.store.put_bytes(json.dumps(values).encode(), ".txt")
        return Numbers(values=tuple(values), raw=blob)


@dataclass(frozen=True)
class Alone(Stage):
    """Depends on nothing but the seed."""

    seed: int
    notes: Notes = field(metadata=TOOL)
    name: ClassVar[str] = "alone"
    version: ClassVar[int] = 1
    inputs: ClassVar[Mapping[str, str]] = {}
    output: ClassVar[type[Document]] = Total

    def run(self, context: Context) -> Total:
        self.notes.ran.append(self.name)
        return Total(label="alone", total=self.seed)


@dataclass(frozen=True)
class Sum(Stage):
    config: SumConfig
    notes: Notes = field(metadata=TOOL)
    name: ClassVar[str] = "sum"
    version: ClassVar[int] = 1
    inputs: ClassVar[Mapping[str, str]] = {"doubled": "double", "other": "alone"}
    output: ClassVar[type[Document]] = Total

    def run(self, context: Context, doubled: Numbers, other: Total) -> Total:
        self.notes.ran.append(self.name)
        total = sum(doubled.values) + other.total
        return Total(label=self.config.label, total=total % 2 if self.config.parity_only else total)


@dataclass(frozen=True)
class Show(Stage):
    seed: int
    notes: Notes = field(metadata=TOOL)
    name: ClassVar[str] = "show"
    version: ClassVar[int] = 1
    inputs: ClassVar[Mapping[str, str]] = {"total": "sum"}
    output: ClassVar[type[Document]] = Total

    def run(self, context: Context, total: Total) -> Total:
        self.notes.ran.append(self.name)
        return total


class Toy:
    """A toy pipeline on a folder, with all that a test wants to see of it."""

    def __init__(self, root: Path, notes: Notes | None = None, **settings: Any) -> None:
        seed = settings.pop("seed", 1)
        configs = {
            kind: kind(**{key: settings.pop(key) for key in kind.model_fields if key in settings})
            for kind in (DrawConfig, DoubleConfig, SumConfig)
        }
        assert not settings, settings
        self.notes = notes or Notes()
        self.events: list[Event] = []
        self.store = Store(root, self.events.append)
        stages = (
            Draw(configs[DrawConfig], seed, self.notes),
            Double(configs[DoubleConfig], self.notes),
            Alone(seed, self.notes),
            Sum(configs[SumConfig], self.notes),
            Show(seed, self.notes),
        )
        self.pipeline = Pipeline(stages, self.store, self.events.append)

    def run(self, **arguments: Any) -> dict[str, Document]:
        return self.pipeline.run(**arguments)

    def stale(self) -> dict[str, str]:
        return {status.name: status.why for status in self.pipeline.status() if not status.fresh}


# --- the process that is killed --------------------------------------------------------------------------


class Fate:
    """Kills this process at its ``kill_at``-th step on the disk.

    With ``tear``, a kill at an fsync first cuts off the end of what the file has got since the fsync
    before, as a power cut would.
    """

    def __init__(self, root: Path, kill_at: int | None, tear: int) -> None:
        self.steps = 0
        self._root = str(root)
        self._kill_at = kill_at
        self._tear = tear
        self._synced: dict[int, int] = {}
        os.fsync = self._fsync
        sys.addaudithook(self._on_audit)

    def _step(self) -> bool:
        self.steps += 1
        return self.steps == self._kill_at

    def _on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            path = arguments[0]
            if (
                isinstance(path, str | os.PathLike)
                and os.fspath(path).startswith(self._root)
                and self._step()
            ):
                os.kill(os.getpid(), signal.SIGKILL)

    def _fsync(self, descriptor: int) -> None:
        # The real one is left out: it is slow, and a killed process loses nothing that is written.
        status = os.fstat(descriptor)
        if self._step():
            with contextlib.suppress(OSError):  # a folder
                end = max(self._synced.get(status.st_ino, 0), status.st_size - self._tear)
                os.ftruncate(descriptor, end)
            os.kill(os.getpid(), signal.SIGKILL)
        self._synced[status.st_ino] = status.st_size


def plain(documents: Mapping[str, Document]) -> dict[str, Any]:
    return {name: document.model_dump(mode="json") for name, document in documents.items()}


def obey(order: dict[str, Any], report: int) -> None:
    """Run or sweep the toy pipeline in ``order["root"]``; write what came out to ``report``."""
    root = Path(order["root"])
    fate = Fate(root, order.get("kill_at"), order.get("tear", 0))
    toy = Toy(root, **order.get("settings", {}))
    if order.get("say"):
        toy.events = []
        emit = toy.store.emit

        def say(event: Event) -> None:
            emit(event)
            os.write(report, b".")

        toy.pipeline = Pipeline(toy.pipeline.stages, toy.store, say)
    if order.get("do") == "sweep":
        toy.pipeline.sweep()
        answer: dict[str, Any] = {}
    else:
        answer = {"documents": plain(toy.run(force=order.get("force", ()))), "ran": toy.notes.ran}
    answer["steps"] = fate.steps
    os.write(report, b"\n" + json.dumps(answer).encode() + b"\n")


def serve() -> None:
    import importlib.metadata

    import filelock

    assert filelock and importlib.metadata  # imported here once, not in every child
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            obey(order, 1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, b"\n" + json.dumps({"exit": status}).encode() + b"\n")


if __name__ == "__main__":
    serve()
