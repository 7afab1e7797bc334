"""A context for running one stage in memory: what it stores, keeps and tells can be looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifact import Blob, sha256_hex
from pipeline.events import Event, Message
from pipeline.stage import Context


@dataclass
class MemoryStore:
    """Blobs in a dictionary."""

    content: dict[str, bytes] = field(default_factory=dict)

    def put_bytes(self, data: bytes, suffix: str) -> Blob:
        blob = Blob(sha256=sha256_hex(data), suffix=suffix, size_bytes=len(data))
        self.content[blob.sha256] = data
        return blob

    def read_bytes(self, blob: Blob) -> bytes:
        return self.content[blob.sha256]

    def path(self, blob: Blob) -> Path:
        raise AssertionError(f"{blob.sha256} has no file: this store is in memory")


@dataclass
class MemoryScratch:
    """Entries and logs in dictionaries; rows pass through JSON as they would on a disk."""

    entries: dict[str, bytes] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)

    def save(self, name: str, payload: bytes) -> None:
        self.entries[name] = payload

    def load(self, name: str) -> bytes | None:
        return self.entries.get(name)

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        self.logs.setdefault(name, []).append(json.dumps(dict(row), allow_nan=False))

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.logs.get(name, [])]


@dataclass
class Told:
    """Everything that was emitted."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> list[str]:
        return [e.text for e in self.events if isinstance(e, Message) and e.level == "warning"]


def memory_context(
    stage: str,
    *,
    store: MemoryStore | None = None,
    scratch: MemoryScratch | None = None,
    told: Told | None = None,
) -> Context:
    """A context whose parts may be shared between two runs of a stage."""
    return Context(stage, "0" * 64, store or MemoryStore(), scratch or MemoryScratch(), told or Told())
