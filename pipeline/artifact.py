"""What flows between stages: frozen documents, and blobs named by their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """A frozen value. Unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Record):
    """What one stage hands to the next. A change of meaning raises ``schema_version``."""

    schema_version: int = 1


class Blob(Record):
    """A file in the store (weights, a model), named by what it holds."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    suffix: str = Field(pattern=r"^\.[a-z0-9]{1,16}$")
    size_bytes: int = Field(ge=0)


def canonical_text(value: Any) -> str:
    """One spelling for equal values, as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """One spelling for equal values, so that equal values have equal hashes."""
    return canonical_text(value).encode()


def document_bytes(document: BaseModel) -> bytes:
    """A document as it is stored and hashed."""
    return canonical_json(document.model_dump(mode="json"))


def sha256_hex(data: bytes) -> str:
    """SHA-256 as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def blobs_of(value: Any) -> list[Blob]:
    """All blobs that a document refers to, at any depth."""
    if isinstance(value, Blob):
        return [value]
    if isinstance(value, BaseModel):
        return [b for name in type(value).model_fields for b in blobs_of(getattr(value, name))]
    if isinstance(value, dict):
        return [b for item in value.values() for b in blobs_of(item)]
    if isinstance(value, list | tuple):
        return [b for item in value for b in blobs_of(item)]
    return []


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """The single values of plain data by their dotted names: ``space.stages.1.width``."""
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list):
        inner = {str(index): item for index, item in enumerate(value)}.items()
    else:
        return {name: value}
    parts = [flat(item, f"{name}.{key}" if name else str(key)) for key, item in inner]
    return {key: single for part in parts for key, single in part.items()}
