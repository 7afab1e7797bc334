"""Labels and normalization read from models of anybody."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_classifiers import small_classifier

from nasflow.base.errors import UsageError
from stages.packaging.embedding import with_metadata
from stages.packaging.labels import LABELS, label_file
from stages.packaging.metadata import CALIBRATION, Description, calibration_file, model_metadata
from stages.packaging.reading import ReadMetadata, labels_in, read_metadata
from stages.packaging.tflite_file import read_facts

DESCRIPTION = Description("m", "1.0.0", "text", "author", "licence")
NAMES = ("Katze", "hund", "名前")
PLAIN = small_classifier(classes=3)
METADATA = model_metadata(read_facts(PLAIN, name="m"), DESCRIPTION)
FILES = {LABELS: label_file(NAMES, 3)}


def with_files(model: bytes, files: dict[str, bytes] | None = None) -> bytes:
    facts = read_facts(model, name="m")
    return with_metadata(model, model_metadata(facts, DESCRIPTION), FILES if files is None else files)


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_what_was_written_is_read_back(output: str) -> None:
    model = small_classifier(classes=3, output=output)  # type: ignore[arg-type]
    files = FILES if output == "probabilities" else {**FILES, CALIBRATION: calibration_file(3)}
    assert read_metadata(with_files(model, files), name="m") == ReadMetadata(NAMES, stated=True)


def test_another_normalization_is_heeded() -> None:
    old, new = struct.pack("<f", 127.5), struct.pack("<f", 100.25)
    assert METADATA.count(old) == 2
    model = with_metadata(PLAIN, METADATA.replace(old, new), FILES)
    found = read_metadata(model, name="m")
    assert (found.mean, found.std) == ((100.25,), (100.25,))


def test_a_model_without_metadata_takes_what_ours_take_and_names_nothing() -> None:
    assert read_metadata(PLAIN, name="m") == ReadMetadata(None, (127.5,), (127.5,), stated=False)


@pytest.mark.parametrize(
    ("metadata", "files"),
    [
        (METADATA, {"other.txt": b"a\n"}),
        (METADATA, {LABELS: b""}),
        (METADATA, {LABELS: b"\xff\xfe\n"}),
        (METADATA[:40], FILES),
        (b"\xff" * 200, FILES),
        (METADATA.replace(struct.pack("<f", 127.5), struct.pack("<f", 0.0)), FILES),
        (METADATA.replace(struct.pack("<f", 127.5), struct.pack("<f", float("nan"))), FILES),
    ],
)
def test_metadata_that_cannot_be_meant_are_refused(metadata: bytes, files: dict[str, bytes]) -> None:
    with pytest.raises(UsageError, match="the metadata of m cannot be read"):
        read_metadata(with_metadata(PLAIN, metadata, files), name="m")


@given(st.data())
def test_whatever_is_damaged_it_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(METADATA)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_metadata(with_metadata(PLAIN, bytes(damaged), FILES), name="m")
    except UsageError:
        return


def packed_by(method: int) -> bytes:
    archive = io.BytesIO(PLAIN_WITH_METADATA)
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr(LABELS, FILES[LABELS] * 50, method)
    return archive.getvalue()


def changed(model: bytes, field: int, value: bytes) -> bytes:
    """The model with other bytes in the only entry of its archive's list: APPNOTE.TXT, 4.3.12."""
    begin = model.rindex(b"PK\x01\x02") + field
    return model[:begin] + value + model[begin + len(value) :]


def hostile(what: str) -> bytes:
    if what == "encrypted":
        model = changed(packed_by(zipfile.ZIP_STORED), 8, struct.pack("<H", 1))
        local = model.rindex(b"PK\x03\x04")
        return model[: local + 6] + struct.pack("<H", 1) + model[local + 8 :]
    if what == "longer than the archive":
        longer = struct.pack("<II", 7_000_000, 7_000_000)
        return changed(packed_by(zipfile.ZIP_STORED), 20, longer)
    if what == "a bomb":
        return changed(packed_by(zipfile.ZIP_DEFLATED), 24, struct.pack("<I", 2**31))
    if what == "endless list":
        model = packed_by(zipfile.ZIP_STORED)
        end = model.rindex(b"PK\x05\x06")
        return model[: end + 12] + struct.pack("<I", 2**31) + model[end + 16 :]
    method = zipfile.ZIP_LZMA if what == "bad lzma" else zipfile.ZIP_BZIP2
    model = packed_by(method)
    begin = model.rindex(b"PK\x03\x04") + 30 + len(LABELS)
    return model[:begin] + b"\xff" * 20 + model[begin + 20 :]


PLAIN_WITH_METADATA = with_metadata(PLAIN, METADATA, {})


@pytest.mark.parametrize(
    "what", ["encrypted", "longer than the archive", "bad lzma", "bad bz2", "a bomb", "endless list"]
)
def test_an_archive_that_is_meant_to_harm_is_refused(what: str) -> None:
    with pytest.raises(UsageError, match="the metadata of m cannot be read"):
        read_metadata(hostile(what), name="m")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_labels_may_be_stored_or_deflated(method: int) -> None:
    assert read_metadata(packed_by(method), name="m").labels == NAMES * 50


def test_a_label_file_ends_where_its_last_name_does() -> None:
    assert labels_in(b"a\r\n b \n\n\n") == ("a", "b")
    with pytest.raises(ValueError, match="0 lines"):
        labels_in(b"\n\n")
