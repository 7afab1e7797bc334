"""The artifacts folder: content-addressed objects, records of finished stages, scratch of unfinished ones.

::

    objects/ab/<sha256>.<suffix>        blobs, and documents as canonical JSON
    records/<stage>/<fingerprint>.json  what a finished stage was given and what it made
    scratch/<stage>-<fingerprint[:16]>/ what an unfinished stage has done so far
    lock, lock.owner                    one run at a time

Nothing is ever changed in place: every file is written whole under another name and renamed. A record is
written last, after all that it refers to, so that a run may be killed at any moment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from nasflow.base.errors import IntegrityError
from nasflow.base.files import disk_faults, files_below, hash_or_none, read_or_none, write_atomic
from pipeline import signals
from pipeline.artifact import Blob, Document, blobs_of, document_bytes, sha256_hex
from pipeline.events import Emit, Message
from pipeline.store import sweeping
from pipeline.store.lock import FolderLock
from pipeline.store.records import RecordDraft, StageRecord, parse_record, record_bytes
from pipeline.store.scratch import FolderScratch, scratch_folder
from pipeline.store.sweeping import Freed

__all__ = ["Freed", "RecordDraft", "StageRecord", "Store"]

AnyDocument = TypeVar("AnyDocument", bound=Document)

_AGAIN = "Run the pipeline again: it repeats the stage that makes this file."
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class Store:
    """All that is kept between runs, under ``root``. Making a Store touches no disk."""

    def __init__(self, root: Path, emit: Emit) -> None:
        self.root = root
        self.emit = emit
        self._lock = FolderLock(root)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out while the block runs; may be nested. Raises StoreLockedError."""
        return self._lock.held()

    # --- objects ---------------------------------------------------------------------------------------

    def object_path(self, blob: Blob) -> Path:
        """Where the blob's file stands, whether or not it is there."""
        return self.root / "objects" / blob.sha256[:2] / f"{blob.sha256}{blob.suffix}"

    def put_bytes(self, data: bytes, suffix: str) -> Blob:
        """Store ``data`` (atomically, once) and return its name. Raises MachineError.

        A damaged file of that name is replaced.
        """
        blob = Blob(sha256=sha256_hex(data), suffix=suffix, size_bytes=len(data))
        path = self.object_path(blob)
        if hash_or_none(path) != blob.sha256:
            write_atomic(path, data)
        return blob

    def read_bytes(self, blob: Blob) -> bytes:
        """The blob's content. Raises IntegrityError where it is missing or damaged."""
        path = self.object_path(blob)
        data = read_or_none(path)
        if data is None or sha256_hex(data) != blob.sha256:
            raise _not_what_it_should_be(path, blob, None if data is None else sha256_hex(data))
        return data

    def path(self, blob: Blob) -> Path:
        """The blob's file, verified. Raises IntegrityError where it is missing or damaged."""
        path = self.object_path(blob)
        seen = hash_or_none(path)
        if seen != blob.sha256:
            raise _not_what_it_should_be(path, blob, seen)
        return path

    def document(self, record: StageRecord, model: type[AnyDocument]) -> AnyDocument:
        """The document that a stage returned, all it refers to verified. Raises IntegrityError."""
        data = self.read_bytes(record.output)
        try:
            document = model.model_validate_json(data)
        except ValidationError as error:
            raise IntegrityError(
                f"{self.object_path(record.output)} is not a {model.__name__} of this version of nasflow "
                f"({error.error_count()} fields differ).",
                hint=_AGAIN,
                raw=str(error),
            ) from error
        for blob in record.blobs:
            self.path(blob)
        return document

    # --- records ---------------------------------------------------------------------------------------

    def record_path(self, stage: str, fingerprint: str) -> Path:
        """Where a finished stage's record stands, whether or not it is there."""
        if not _STAGE_NAME.fullmatch(stage) or not _FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"not a stage and its fingerprint: {stage!r}, {fingerprint!r}")
        return self.root / "records" / stage / f"{fingerprint}.json"

    def read_record(self, stage: str, fingerprint: str) -> StageRecord | None:
        """A finished stage's record, None where it never finished. Raises IntegrityError."""
        path = self.record_path(stage, fingerprint)
        data = read_or_none(path)
        if data is None:
            return None
        record = parse_record(data)
        if record is None or (record.stage, record.fingerprint) != (stage, fingerprint):
            raise IntegrityError(f"{path} is damaged: its content does not match its checksum.", hint=_AGAIN)
        return record

    def record(self, stage: str, fingerprint: str) -> StageRecord | None:
        """As :meth:`read_record`, but a damaged record is only warned of: None."""
        try:
            return self.read_record(stage, fingerprint)
        except IntegrityError as error:
            self.emit(Message(stage, str(error), level="warning"))
            return None

    def records(self, stage: str) -> Iterator[StageRecord]:
        """All whole records of a stage, in no particular order."""
        for path in files_below(self.root / "records" / stage):
            record = parse_record(read_or_none(path) or b"")
            if record is not None and path == self.record_path(record.stage, record.fingerprint):
                yield record

    def latest(self, stage: str) -> StageRecord | None:
        """The record of a stage that was finished last, whatever its fingerprint."""
        return max(self.records(stage), key=lambda record: record.finished_at, default=None)

    def commit(self, draft: RecordDraft, document: Document) -> StageRecord:
        """Keep a stage's output, then the record that makes it count.

        Raises IntegrityError where a blob that the document refers to is not in the store, and
        MachineError. A first SIGINT or SIGTERM waits until it is done.
        """
        with signals.deferred():
            blobs = tuple({(blob.sha256, blob.suffix): blob for blob in blobs_of(document)}.values())
            for blob in blobs:
                self.path(blob)
            record = draft.record(self.put_bytes(document_bytes(document), ".json"), blobs)
            write_atomic(self.record_path(record.stage, record.fingerprint), record_bytes(record))
        return record

    # --- scratch, weight, tidying ----------------------------------------------------------------------

    def scratch(self, stage: str, fingerprint: str) -> FolderScratch:
        """What the unfinished stage of this fingerprint has done so far."""
        self.record_path(stage, fingerprint)  # refuses names that would lead elsewhere
        return FolderScratch(scratch_folder(self.root, stage, fingerprint), stage, self.emit)

    def scratch_folders(self, stage: str) -> list[Path]:
        """All scratch folders of a stage that hold work, the one changed last at the end."""
        with disk_faults(self.root, "read"):
            found = [
                (path.stat().st_mtime_ns, path)
                for path in (self.root / "scratch").glob(f"{stage}-*")
                if FolderScratch(path, stage, self.emit).holds_work()
            ]
        return [path for _, path in sorted(found)]

    def usage(self) -> dict[str, int]:
        """Bytes per kind: blobs, documents, records, scratch, logs, left over, other."""
        return sweeping.usage(self.root)

    def sweep(
        self, keep: Collection[str], *, keep_scratch: Collection[str] = (), dry_run: bool = False
    ) -> Freed:
        """Delete what the records with the fingerprints ``keep`` do not need. Takes the lock.

        Kept are these records, all that they refer to, the scratch of every fingerprint in ``keep`` that
        is not finished, and the scratch folders named in ``keep_scratch``. Files that the store did not
        make are left alone. With ``dry_run`` nothing is deleted, only counted.
        """
        if dry_run:
            return sweeping.sweep(self.root, keep, keep_scratch, dry_run=True)
        with self.lock():
            return sweeping.sweep(self.root, keep, keep_scratch, dry_run=False)


def _not_what_it_should_be(path: Path, blob: Blob, seen: str | None) -> IntegrityError:
    if seen is None:
        return IntegrityError(f"{path} is missing (SHA-256 {blob.sha256} was expected).", hint=_AGAIN)
    return IntegrityError(
        f"{path} is damaged: its SHA-256 should be {blob.sha256} and is {seen}.", hint=_AGAIN
    )
