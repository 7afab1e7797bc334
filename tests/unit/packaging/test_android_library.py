"""The AAR: what Android's tools read of it, and what its bytes depend on."""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.requirements import FRAMEWORK
from support.small_classifiers import small_classifier

from stages.packaging.aar import android_archive
from stages.packaging.archive import ALIGNMENT, zip_archive
from stages.packaging.coordinates import Coordinates

COORDINATES = Coordinates("My-flowers", "1.0.0")
MODEL = small_classifier()
ASSETS = {"model.tflite": MODEL, "labels.txt": b"a\nb\n"}


def content_of(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def test_it_holds_what_an_android_library_must() -> None:
    files = content_of(android_archive(COORDINATES, ASSETS))
    assert files.keys() == {
        "AndroidManifest.xml",
        "META-INF/com/android/build/gradle/aar-metadata.properties",
        "R.txt",
        "assets/My-flowers/labels.txt",
        "assets/My-flowers/model.tflite",
        "classes.jar",
    }
    assert files["R.txt"] == b""
    assert files["assets/My-flowers/model.tflite"] == MODEL
    assert content_of(files["classes.jar"]).keys() == {"META-INF/MANIFEST.MF"}
    assert ElementTree.fromstring(files["AndroidManifest.xml"]).get("package") == COORDINATES.android_package
    lines = files["META-INF/com/android/build/gradle/aar-metadata.properties"].decode().splitlines()
    properties = dict(line.split("=") for line in lines)
    assert properties["aarFormatVersion"] == "1.0"
    assert properties["minCompileSdk"] == "1"


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_entries_are_stored_at_places_that_are_multiples_of_16(size: int) -> None:
    archive = zip_archive({"a" * (size % 7 + 1): b"x" * size, "é": b"accent", "z.tflite": MODEL})
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for entry in opened.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            name, extra = archive[entry.header_offset + 26 :][:2], archive[entry.header_offset + 28 :][:2]
            begin = (
                entry.header_offset + 30 + int.from_bytes(name, "little") + int.from_bytes(extra, "little")
            )
            assert begin % ALIGNMENT == 0
            assert archive[begin : begin + entry.file_size] == opened.read(entry)


def test_neither_the_order_of_files_nor_the_time_decides_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = android_archive(COORDINATES, ASSETS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert android_archive(COORDINATES, dict(reversed(ASSETS.items()))) == first


@pytest.mark.needs("aapt and android-framework-res")
def test_aapt_links_an_app_in_which_the_model_is_stored(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(android_archive(COORDINATES, ASSETS))) as archive:
        archive.extractall(tmp_path)
    apk = tmp_path / "app.apk"
    link = ["aapt2", "link", "-o", apk, "-I", FRAMEWORK, "--manifest", tmp_path / "AndroidManifest.xml"]
    linked = subprocess.run(
        [*link, "-A", tmp_path / "assets", "-0", ".tflite"], capture_output=True, text=True, check=False
    )
    assert linked.returncode == 0, linked.stderr
    listed = subprocess.run(["aapt", "l", "-v", apk], capture_output=True, text=True, check=True).stdout
    (row,) = (line.split() for line in listed.splitlines() if line.endswith("model.tflite"))
    assert row[:2] == [str(len(MODEL)), "Stored"]
    assert row[-1] == "assets/My-flowers/model.tflite"
    dump = subprocess.run(
        ["aapt2", "dump", "badging", apk], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(rf"package: name='{re.escape(COORDINATES.android_package)}'", dump)
    assert "sdkVersion:'21'" in dump
    with zipfile.ZipFile(apk) as opened:
        assert opened.read("assets/My-flowers/model.tflite") == MODEL
