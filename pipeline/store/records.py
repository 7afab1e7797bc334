"""The record of a finished stage: what it was given and what it made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, Field

from nasflow.base.version import code_sha256, nasflow_version
from pipeline.artifact import Blob, Record, canonical_json, document_bytes, sha256_hex


class StageRecord(Record):
    """What a finished stage was given and what it made; found by stage and fingerprint."""

    schema_version: int = 1
    stage: str
    version: int
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    settings: dict[str, Any] = Field(description="all fields that decide the output")
    environment: dict[str, str] = Field(description="device, runtime, data set: what else decides the output")
    inputs: dict[str, str] = Field(
        description="parameter of the stage -> SHA-256 of the document it received"
    )
    output: Blob = Field(description="the document that the stage returned")
    blobs: tuple[Blob, ...] = Field(description="all files that the document refers to")
    seconds: float = Field(ge=0, description="time of the work, including interrupted runs")
    estimated_seconds: float = Field(default=0.0, ge=0, description="the stage's estimate before it ran")
    finished_at: AwareDatetime
    nasflow_version: str
    code_sha256: str = Field(
        default="", description="of all source files of the packages that did it; empty: an earlier version"
    )

    @property
    def digest(self) -> str:
        """One name for this very run of the stage."""
        return sha256_hex(document_bytes(self))


@dataclass(frozen=True)
class RecordDraft:
    """What a stage was given and how long it took; the store adds what it made."""

    stage: str
    version: int
    fingerprint: str
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    inputs: Mapping[str, str]
    seconds: float
    estimated_seconds: float = 0.0
    finished_at: datetime | None = None

    def record(self, output: Blob, blobs: tuple[Blob, ...]) -> StageRecord:
        """The record of a stage that made ``output``."""
        return StageRecord(
            stage=self.stage,
            version=self.version,
            fingerprint=self.fingerprint,
            settings=plain_settings(self.settings),
            environment=dict(self.environment),
            inputs=dict(self.inputs),
            output=output,
            blobs=blobs,
            seconds=round(self.seconds, 3),
            estimated_seconds=self.estimated_seconds,
            finished_at=self.finished_at or datetime.now(UTC),
            nasflow_version=nasflow_version(),
            code_sha256=code_sha256(),
        )


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a record: lists for tuples, text for keys."""
    plain: dict[str, Any] = json.loads(canonical_json(dict(settings)))
    return plain


def record_bytes(record: StageRecord) -> bytes:
    """A record as it is stored: with its own checksum."""
    body = document_bytes(record)
    return b'{"record":' + body + b',"sha256":"' + sha256_hex(body).encode() + b'"}\n'


def parse_record(data: bytes) -> StageRecord | None:
    """The record in a file's bytes; None where the checksum does not hold."""
    try:
        whole = json.loads(data)
        if sha256_hex(canonical_json(whole["record"])) != whole["sha256"]:
            return None
        return StageRecord.model_validate(whole["record"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
