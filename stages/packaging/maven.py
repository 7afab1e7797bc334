"""A Maven repository in a folder: what Gradle and Maven look for, with checksums.

The layout is Maven's "default" one (maven.apache.org/repositories/layout.html); ``maven-metadata.xml`` as its
page "Metadata" has it, checksums beside every file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from nasflow.base.errors import IntegrityError
from stages.packaging.coordinates import GROUP, Coordinates

METADATA = "maven-metadata.xml"
_CHECKSUMS = ("md5", "sha1", "sha256", "sha512")


def artifact_folder(coordinates: Coordinates) -> str:
    """Where all versions of a name are, relative to the repository."""
    return f"{GROUP}/{coordinates.name}"


def version_files(
    coordinates: Coordinates, archive: bytes, *, description: str, licence: str
) -> Mapping[str, bytes]:
    """The files of one version's folder: the archive, its pom, and the checksums of both."""
    licences = (
        f"\n  <licenses><license><name>{escape(licence)}</name></license></licenses>" if licence else ""
    )
    pom = f"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://maven.apache.org/POM/4.0.0 https://maven.apache.org/xsd/maven-4.0.0.xsd">
  <modelVersion>4.0.0</modelVersion>
  <groupId>{GROUP}</groupId>
  <artifactId>{coordinates.name}</artifactId>
  <version>{coordinates.version}</version>
  <packaging>aar</packaging>
  <name>{coordinates.name}</name>
  <description>{escape(description)}</description>{licences}
</project>
"""
    return with_checksums({f"{coordinates.folder}.aar": archive, f"{coordinates.folder}.pom": pom.encode()})


def metadata_files(coordinates: Coordinates, versions: Sequence[str], at: datetime) -> Mapping[str, bytes]:
    """The list of versions, in the order in which they were shipped, with its checksums."""
    listed = "".join(f"\n      <version>{version}</version>" for version in versions)
    newest = versions[-1]
    text = f"""<?xml version="1.0" encoding="UTF-8"?>
<metadata>
  <groupId>{GROUP}</groupId>
  <artifactId>{coordinates.name}</artifactId>
  <versioning>
    <latest>{newest}</latest>
    <release>{newest}</release>
    <versions>{listed}
    </versions>
    <lastUpdated>{at:%Y%m%d%H%M%S}</lastUpdated>
  </versioning>
</metadata>
"""
    return with_checksums({METADATA: text.encode()})


def listed_versions(metadata: bytes, *, source: str) -> list[str]:
    """The versions of a ``maven-metadata.xml``. Raises IntegrityError where it is damaged."""
    try:
        root = ElementTree.fromstring(metadata)
    except ElementTree.ParseError as error:
        raise IntegrityError(
            f"{source} is damaged: {error}.",
            hint="Delete it and ship again; versions that were shipped before must be shipped again, too.",
        ) from error
    return [version.text or "" for version in root.iterfind("versioning/versions/version")]


def with_checksums(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files, and beside each its checksums as hexadecimal digits."""
    sums = {
        f"{name}.{kind}": hashlib.new(kind, content, usedforsecurity=False).hexdigest().encode()
        for name, content in files.items()
        for kind in _CHECKSUMS
    }
    return {**files, **sums}
