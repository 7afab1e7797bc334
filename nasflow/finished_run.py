"""A finished run, read from ``artifacts/latest`` and the store beside it, without its device and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from pydantic import ValidationError

from nasflow.base.errors import IntegrityError, UsageError
from nasflow.base.files import read_or_none
from nasflow.publish import COMPLETE, RESULT, artifacts_of, read_manifest, record_of
from pipeline.artifact import Document, sha256_hex
from pipeline.events import Emit
from pipeline.store.store import StageRecord, Store
from stages.reporting.result import ResultDocument
from stages.reporting.run_documents import RunDocuments

_AGAIN = "Bring it up to date: nasflow run."


@dataclass(frozen=True)
class FinishedRun:
    """What a run left: its stages' documents and records, by the stages' names, and its figures."""

    store: Store
    documents: RunDocuments
    records: Mapping[str, StageRecord]
    result: ResultDocument


def read_finished(latest: Path, emit: Emit) -> FinishedRun:
    """Read what ``latest`` (a folder ``artifacts/latest`` or ``artifacts/devices/NAME``) was made from.

    Raises UsageError where no run has finished there, or the store beside it no longer has its results,
    IntegrityError where a file is damaged, MachineError.
    """
    manifest = read_manifest(latest)
    if manifest is None:
        raise UsageError(f"No finished run is in {latest}.", hint="Finish one first: nasflow run.")
    if not manifest.documents:
        raise UsageError(f"{latest} was written by an earlier version of nasflow.", hint=_AGAIN)
    store = Store(artifacts_of(latest), emit)
    types: Mapping[str, type[Document]] = get_type_hints(RunDocuments)
    digests = manifest.documents
    records = {name: _record(store, name, digests.get(name, ""), latest) for name in sorted(COMPLETE)}
    documents = {name: store.document(record, types[name]) for name, record in records.items()}
    return FinishedRun(store, RunDocuments.of(documents), records, _result(latest, manifest.sha256[RESULT]))


def _record(store: Store, stage: str, digest: str, latest: Path) -> StageRecord:
    record = record_of(store, stage, digest)
    if record is None:
        raise UsageError(f"{store.root} no longer holds what stage {stage} made for {latest}.", hint=_AGAIN)
    return record


def _result(latest: Path, sha256: str) -> ResultDocument:
    path = latest / RESULT
    content = read_or_none(path)
    if content is None or sha256_hex(content) != sha256:
        state = "missing" if content is None else "damaged or was changed"
        raise IntegrityError(f"{path} is {state}.", hint="Write it again: nasflow report.")
    try:
        return ResultDocument.model_validate_json(content)
    except ValidationError as error:
        raise UsageError(
            f"{path} was written by another version of nasflow ({error.error_count()} fields differ).",
            hint="Write it again: nasflow report.",
        ) from error
