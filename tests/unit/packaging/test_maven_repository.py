"""The Maven repository: read by Maven's documented layout, and by Maven itself where it is there."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nasflow.base.errors import IntegrityError, UsageError
from stages.packaging.aar import android_archive
from stages.packaging.coordinates import Coordinates
from stages.packaging.maven import METADATA, listed_versions, version_files
from stages.packaging.package import Package
from stages.packaging.placing import REPOSITORY, place

AT = datetime(2026, 11, 30, 7, 8, 9, tzinfo=UTC)
DEBIAN_PACKAGES = Path("/usr/share/maven-repo")
DEPENDENCY_PLUGIN = DEBIAN_PACKAGES / "org/apache/maven/plugins/maven-dependency-plugin"
CHECKSUMS = ("md5", "sha1", "sha256", "sha512")
POM = "{http://maven.apache.org/POM/4.0.0}"


def package(version: str, content: bytes = b"model", name: str = "flowers") -> tuple[Package, Coordinates]:
    coordinates = Coordinates(name, version)
    archive = android_archive(coordinates, {"model.tflite": content})
    files = version_files(coordinates, archive, description='<Roses> & "tulips"', licence="A & B")
    return Package({"model.tflite": content}, files), coordinates


def ship(folder: Path, *versions: str, content: bytes = b"model", at: datetime = AT) -> bool:
    return [place(*package(version, content), folder, at) for version in versions][-1]


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_client_finds_each_version_by_the_layout(tmp_path: Path) -> None:
    """As maven.apache.org/repositories/layout.html and the page on metadata have it."""
    ship(tmp_path, "1.0.0", "1.1.0")
    artifact = tmp_path / REPOSITORY / "nasflow" / "flowers"
    metadata = ElementTree.fromstring((artifact / METADATA).read_bytes())
    assert [metadata.findtext(key) for key in ("groupId", "artifactId")] == ["nasflow", "flowers"]
    versions = [version.text for version in metadata.iterfind("versioning/versions/version")]
    assert versions == ["1.0.0", "1.1.0"]
    assert [metadata.findtext(f"versioning/{key}") for key in ("latest", "release")] == ["1.1.0", "1.1.0"]
    assert metadata.findtext("versioning/lastUpdated") == "20261130070809"
    for version in ("1.0.0", "1.1.0"):
        start = artifact / version / f"flowers-{version}"
        pom = ElementTree.parse(start.with_name(f"{start.name}.pom")).getroot()
        keys = ("modelVersion", "groupId", "artifactId", "version", "packaging", "description")
        assert [pom.findtext(f"{POM}{key}") for key in keys] == [
            "4.0.0", "nasflow", "flowers", version, "aar", '<Roses> & "tulips"',
        ]  # fmt: skip
        assert pom.findtext(f"{POM}licenses/{POM}license/{POM}name") == "A & B"
        assert start.with_name(f"{start.name}.aar").is_file()


def test_every_file_has_its_checksums(tmp_path: Path) -> None:
    ship(tmp_path, "1.0.0", "1.0.1")
    files = written(tmp_path / REPOSITORY)
    plain = {name for name in files if not name.endswith(CHECKSUMS)}
    assert len(plain) == 5
    assert files.keys() == plain | {f"{name}.{kind}" for name in plain for kind in CHECKSUMS}
    for name in plain:
        for kind in CHECKSUMS:
            assert files[f"{name}.{kind}"].decode() == hashlib.new(kind, files[name]).hexdigest()


def test_shipping_the_same_again_changes_nothing(tmp_path: Path) -> None:
    assert ship(tmp_path, "1.0.0", "2.0.0")
    before, times = written(tmp_path), [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))]
    later = datetime(2027, 1, 1, tzinfo=UTC)
    assert not ship(tmp_path, "1.0.0", at=later)
    assert written(tmp_path) == before
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))] == times


def test_a_version_is_not_changed(tmp_path: Path) -> None:
    ship(tmp_path, "1.0.0")
    before = written(tmp_path)
    with pytest.raises(UsageError, match=r"was shipped before with other content \(different: model.tflite"):
        ship(tmp_path, "1.0.0", content=b"another")
    assert written(tmp_path) == before


def test_another_file_in_a_version_is_told(tmp_path: Path) -> None:
    ship(tmp_path, "1.0.0")
    (tmp_path / "flowers-1.0.0" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"different: mine\.txt"):
        ship(tmp_path, "1.0.0")


@pytest.mark.parametrize(
    "lost",
    ["flowers-1.0.0", "maven", "maven/nasflow/flowers/1.0.0", "maven/nasflow/flowers/maven-metadata.xml",
     "maven/nasflow/flowers/maven-metadata.xml.sha1"],
)  # fmt: skip
def test_what_an_interrupted_run_has_not_written_is_written_by_the_next(lost: str, tmp_path: Path) -> None:
    ship(tmp_path, "1.0.0")
    whole, gone = written(tmp_path), tmp_path / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    (tmp_path / ".flowers-1.0.0.0123abcdef01.tmp").mkdir()
    assert ship(tmp_path, "1.0.0")
    assert written(tmp_path) == whole


def test_names_do_not_meet(tmp_path: Path) -> None:
    ship(tmp_path, "1.0.0")
    assert place(*package("1.0.0", name="trees"), tmp_path, AT)
    names = {path.name for path in (tmp_path / REPOSITORY / "nasflow").iterdir()}
    assert names == {"flowers", "trees"}


@pytest.mark.parametrize("damaged", [b"", b"<metadata>", b"\xff\xfe", b"no xml"])
def test_a_damaged_list_of_versions_is_told_and_nothing_is_written(damaged: bytes, tmp_path: Path) -> None:
    ship(tmp_path, "1.0.0")
    path = tmp_path / REPOSITORY / "nasflow" / "flowers" / METADATA
    path.write_bytes(damaged)
    before = written(tmp_path)
    with pytest.raises(IntegrityError, match=r"maven-metadata\.xml is damaged"):
        ship(tmp_path, "1.0.1")
    assert written(tmp_path) == before


def test_versions_are_read_as_they_were_listed() -> None:
    listed = b"<versions><version>2</version><version>1</version></versions>"
    text = b"<metadata><versioning>" + listed + b"</versioning></metadata>"
    assert listed_versions(text, source="x") == ["2", "1"]


def _lacks_maven() -> bool:
    there = any(DEPENDENCY_PLUGIN.glob("3.*/*.jar")) and any(
        (DEBIAN_PACKAGES / "junit/junit").glob("*/*.jar")
    )
    return shutil.which("mvn") is None or not there


@pytest.mark.skipif(
    _lacks_maven(),
    reason="this computer lacks maven, libmaven-dependency-plugin-java and junit4 (Debian's packages)",
)
def test_maven_resolves_the_newest_version_offline_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    """Starts Java twice, which takes some seconds each."""
    ship(tmp_path / "shipped", "1.0.0", "1.1.0")
    repository = tmp_path / "shipped" / REPOSITORY
    # Maven writes into its local repository: links to Debian's files stand for those that it needs.
    shutil.copytree(DEBIAN_PACKAGES, tmp_path / "local", copy_function=os.symlink)
    (tmp_path / "pom.xml").write_text(
        f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
        <groupId>client</groupId><artifactId>client</artifactId><version>1</version><packaging>pom</packaging>
        <repositories><repository><id>shipped</id><url>{repository.as_uri()}</url>
        <releases><checksumPolicy>fail</checksumPolicy></releases></repository></repositories>
        <dependencies><dependency><groupId>nasflow</groupId><artifactId>flowers</artifactId>
        <version>[1.0,2.0)</version><type>aar</type></dependency></dependencies></project>""",
        encoding="utf-8",
    )
    (version,) = (path.name for path in DEPENDENCY_PLUGIN.glob("3.*"))
    command = [
        "mvn", "-o", "-B", "-q", "-Daether.offline.protocols=file",
        f"-Dmaven.repo.local={tmp_path / 'local'}",
        f"org.apache.maven.plugins:maven-dependency-plugin:{version}:copy-dependencies",
        f"-DoutputDirectory={tmp_path / 'copied'}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    archive = repository / "nasflow" / "flowers" / "1.1.0" / "flowers-1.1.0.aar"
    assert {path.name: path.read_bytes() for path in (tmp_path / "copied").iterdir()} == {
        archive.name: archive.read_bytes()
    }
    shutil.rmtree(tmp_path / "local" / "nasflow")
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "checksum" in done.stdout.lower()
