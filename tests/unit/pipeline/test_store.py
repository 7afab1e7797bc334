from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from toy_pipeline import Numbers, Toy

from nasflow.base.errors import IntegrityError, MachineError
from pipeline.artifact import Blob
from pipeline.events import Event, Message
from pipeline.store.records import RecordDraft, StageRecord, parse_record, record_bytes
from pipeline.store.store import Store


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def store(tmp_path: Path, heard: list[Event]) -> Store:
    return Store(tmp_path / "artifacts", heard.append)


def draft(fingerprint: str = "a" * 64, **changes: object) -> RecordDraft:
    values: dict[str, object] = {
        "stage": "draw",
        "version": 1,
        "fingerprint": fingerprint,
        "settings": {"config": {"rows": 4}, "pair": (1, 2)},
        "environment": {"device_model": "toy"},
        "inputs": {},
        "seconds": 1.5,
        **changes,
    }
    return RecordDraft(**values)  # type: ignore[arg-type]


def commit(store: Store, fingerprint: str = "a" * 64, **changes: object) -> StageRecord:
    raw = store.put_bytes(b"raw " + fingerprint.encode(), ".bin")
    return store.commit(draft(fingerprint, **changes), Numbers(values=(1, 2), raw=raw))


def test_a_store_that_is_only_looked_at_leaves_no_trace(store: Store) -> None:
    assert store.latest("draw") is None
    assert store.record("draw", "a" * 64) is None
    assert sum(store.usage().values()) == 0
    assert store.scratch("draw", "a" * 64).rows("rows") == []
    assert store.sweep(set(), dry_run=True).files == 0
    assert not store.root.exists()


def test_bytes_come_back_and_stand_under_the_hash_of_their_content(store: Store) -> None:
    blob = store.put_bytes(b"weights", ".safetensors")
    assert store.read_bytes(blob) == b"weights"
    path = store.path(blob)
    assert path.relative_to(store.root).as_posix() == f"objects/{blob.sha256[:2]}/{blob.sha256}.safetensors"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_equal_bytes_are_stored_once(store: Store) -> None:
    first = store.path(store.put_bytes(b"weights", ".bin"))
    before = first.stat().st_ino
    store.put_bytes(b"weights", ".bin")
    assert first.stat().st_ino == before


def test_putting_bytes_whose_file_is_damaged_mends_it(store: Store) -> None:
    blob = store.put_bytes(b"weights", ".bin")
    store.object_path(blob).write_bytes(b"weighty")
    assert store.put_bytes(b"weights", ".bin") == blob
    assert store.read_bytes(blob) == b"weights"


@pytest.mark.parametrize("damage", [b"", b"weightz", b"weights and more"])
def test_a_damaged_object_is_named_with_both_hashes(store: Store, damage: bytes) -> None:
    blob = store.put_bytes(b"weights", ".bin")
    store.object_path(blob).write_bytes(damage)
    for read in (store.read_bytes, store.path):
        with pytest.raises(IntegrityError, match="is damaged") as caught:
            read(blob)
        assert str(store.object_path(blob)) in caught.value.message
        assert blob.sha256 in caught.value.message
        assert caught.value.exit_code == 7


def test_a_missing_object_is_named(store: Store) -> None:
    blob = Blob(sha256="0" * 64, suffix=".tflite", size_bytes=3)
    for read in (store.read_bytes, store.path):
        with pytest.raises(IntegrityError, match=r"0000\.tflite is missing"):
            read(blob)


def test_a_record_comes_back_with_all_that_it_was_given(store: Store) -> None:
    record = commit(store)
    again = store.record("draw", "a" * 64)
    assert again == record
    assert again is not None
    assert again.settings == {"config": {"rows": 4}, "pair": [1, 2]}
    assert again.blobs == (store.put_bytes(b"raw " + b"a" * 64, ".bin"),)
    assert again.seconds == 1.5
    assert again.nasflow_version
    assert len(again.code_sha256) == 64
    assert store.document(again, Numbers).values == (1, 2)


def test_a_commit_whose_blob_is_not_in_the_store_is_refused(store: Store) -> None:
    missing = Numbers(values=(1,), raw=Blob(sha256="1" * 64, suffix=".bin", size_bytes=1))
    with pytest.raises(IntegrityError, match="is missing"):
        store.commit(draft(), missing)
    assert store.record("draw", "a" * 64) is None


def test_the_latest_record_is_the_one_finished_last(store: Store) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    commit(store, "b" * 64, finished_at=now + timedelta(hours=1))
    commit(store, "a" * 64, finished_at=now)
    latest = store.latest("draw")
    assert latest is not None
    assert latest.fingerprint == "b" * 64


def damaged_records(whole: bytes) -> list[bytes]:
    changed = json.loads(whole)
    changed["record"]["seconds"] = 0.5
    return [
        b"",
        b"null",
        b"[]",
        b"{}",
        whole[: len(whole) // 2],
        whole.replace(b'"seconds":1.5', b'"seconds":9.5'),
        json.dumps(changed).encode(),
        b"\xff" + whole,
        b"[" * 100_000,
    ]


def test_a_damaged_record_is_warned_of_and_does_not_count(store: Store, heard: list[Event]) -> None:
    commit(store)
    path = store.record_path("draw", "a" * 64)
    for damage in damaged_records(path.read_bytes()):
        path.write_bytes(damage)
        heard.clear()
        assert store.record("draw", "a" * 64) is None
        assert store.latest("draw") is None
        (warning,) = heard
        assert isinstance(warning, Message)
        assert warning.level == "warning"
        assert str(path) in warning.text
        with pytest.raises(IntegrityError, match="does not match its checksum"):
            store.read_record("draw", "a" * 64)


def test_a_record_under_another_records_name_does_not_count(store: Store) -> None:
    commit(store)
    whole = store.record_path("draw", "a" * 64).read_bytes()
    store.record_path("draw", "c" * 64).write_bytes(whole)
    with pytest.raises(IntegrityError):
        store.read_record("draw", "c" * 64)
    assert [record.fingerprint for record in store.records("draw")] == ["a" * 64]


def test_a_record_survives_the_way_to_bytes_and_back(store: Store) -> None:
    record = commit(store)
    assert parse_record(record_bytes(record)) == record


def test_a_document_of_an_older_shape_is_an_integrity_error(store: Store) -> None:
    record = commit(store)

    class Numbers2(Numbers):
        unit: str

    with pytest.raises(IntegrityError, match="Numbers2 of this version of nasflow"):
        store.document(record, Numbers2)


@pytest.mark.parametrize(
    ("stage", "fingerprint"), [("../x", "a" * 64), ("draw", "../../x"), ("Draw", "a" * 64)]
)
def test_names_that_lead_elsewhere_are_refused(store: Store, stage: str, fingerprint: str) -> None:
    for method in (store.record, store.scratch):
        with pytest.raises(ValueError, match="not a stage and its fingerprint"):
            method(stage, fingerprint)


# --- the disk says no --------------------------------------------------------------------------------------

REFUSALS = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "quota",
    errno.EACCES: "permission is denied",
    errno.EPERM: "not permitted",
    errno.EROFS: "read-only",
    errno.EIO: "input/output error",
    errno.EBUSY: "busy",
}


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_a_refused_write_is_one_clear_line_and_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(MachineError) as caught:
            store.put_bytes(b"weights", ".bin")
    error = caught.value
    assert error.exit_code == 8
    assert REFUSALS[number].lower() in error.message.lower()
    assert str(store.root) in error.message
    assert "\n" not in str(error)
    assert error.hint
    assert not [path for path in store.root.rglob("*") if path.is_file()]
    store.put_bytes(b"weights", ".bin")


def test_a_disk_that_is_full_in_the_middle_of_a_run_costs_only_the_step_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, 0

    def full_after_a_while(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 14:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    toy = Toy(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_a_while)
        with pytest.raises(MachineError, match=r"no space is left on the disk \([0-9.]+ MB are free\)"):
            toy.run()
    assert toy.notes.steps, "the disk was full too early for this test"
    toy.run()
    assert len(toy.notes.steps) <= 4 + 4 + 1


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("not a folder")
    with pytest.raises(MachineError, match="a file"):
        Toy(tmp_path / "artifacts").run()


def test_an_unreadable_object_is_an_environment_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = store.put_bytes(b"weights", ".bin")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MachineError, match=r"Cannot read .*: permission is denied"):
        store.path(blob)


def test_what_is_written_is_forced_to_the_disk_before_it_gets_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        sync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        order.append("rename")
        replace(source, target)

    store.put_bytes(b"first", ".bin")
    (store.root / "objects" / "da").mkdir()
    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    blob = store.put_bytes(b"2", ".bin")
    assert order[-3:] == ["file", "rename", "folder"]
    assert store.read_bytes(blob) == b"2"
