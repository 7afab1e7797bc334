"""A package brought to its places: its own folder, and a version of the Maven repository beside it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from nasflow.base.files import read_or_none, write_atomic
from stages.packaging.coordinates import Coordinates
from stages.packaging.maven import (
    METADATA,
    artifact_folder,
    listed_versions,
    metadata_files,
    with_checksums,
)
from stages.packaging.package import Package
from stages.packaging.writing import is_up_to_date, write_folder

REPOSITORY = "maven"
"""The folder of the Maven repository beside the packages' own, whose names all have a ``-``."""


def place(package: Package, coordinates: Coordinates, shipped: Path, at: datetime) -> bool:
    """Write what is not there yet below ``shipped``; tells whether there was something to write.

    ``at``: when the network was verified, for the repository. Raises UsageError where this version was
    shipped with other content, IntegrityError where the list of versions is damaged, MachineError.
    """
    hint = "Ship it as another version (--version), or delete that folder if nobody uses it yet."
    artifact = shipped / REPOSITORY / artifact_folder(coordinates)
    wanted = {shipped / coordinates.folder: package.files, artifact / coordinates.version: package.version}
    missing = [folder for folder, files in wanted.items() if not is_up_to_date(folder, files, hint=hint)]
    lists = {
        name: content
        for name, content in _lists(artifact, coordinates, at).items()
        if read_or_none(artifact / name) != content
    }
    # The package's own folder last: an app that finds it finds all of it.
    for folder in reversed(missing):
        write_folder(folder, wanted[folder])
    for name, content in lists.items():
        write_atomic(artifact / name, content)
    return bool(missing or lists)


def _lists(artifact: Path, coordinates: Coordinates, at: datetime) -> Mapping[str, bytes]:
    """The repository's list of versions as it should be, with its checksums."""
    there = read_or_none(artifact / METADATA)
    versions = [] if there is None else listed_versions(there, source=str(artifact / METADATA))
    if there is not None and coordinates.version in versions:
        return with_checksums({METADATA: there})
    return metadata_files(coordinates, [*versions, coordinates.version], at)
