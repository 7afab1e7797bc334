"""The files that a data set of the hub consists of, on this computer or on the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec

from nasflow.base.errors import DatasetMissingError, UsageError
from stages.data.inventory_cache import FileState
from stages.data.names import shown, shown_list

_NUMBERED = re.compile(r"(\d+)-of-(\d+)")
_AHEAD_BYTES = 2**24


@dataclass(frozen=True)
class Shard:
    """``url``: a path on this computer, or one that fsspec knows (``hf://``), whose files never change."""

    url: str
    state: FileState

    @property
    def remote(self) -> bool:
        """Whether it lies elsewhere."""
        return "://" in self.url

    @property
    def name(self) -> str:
        """For messages."""
        return shown(self.url.rpartition("/")[2])

    def open(self) -> IO[bytes]:
        """For reading at any place. Raises OSError, and what the hub's client raises."""
        if not self.remote:
            return Path(self.url).open("rb")
        file_system, path = fsspec.core.url_to_fs(self.url)
        file: IO[bytes] = file_system.open(path, "rb", block_size=_AHEAD_BYTES)
        return file

    def fetch(self, start: int, stop: int) -> bytes:
        """A range of its bytes, by one request. Raises as :meth:`open`."""
        file_system, path = fsspec.core.url_to_fs(self.url)
        return bytes(file_system.cat_file(path, start=start, end=stop))


def find_shards(data_files: Mapping[Any, Iterable[str]], name: str) -> dict[str, tuple[Shard, ...]]:
    """The files of each split. Raises UsageError where some of a numbered set are missing."""
    found: dict[str, tuple[Shard, ...]] = {}
    try:
        for split, urls in data_files.items():
            found[str(split)] = tuple(Shard(str(url), _state(str(url))) for url in urls)
    except OSError as error:
        raise DatasetMissingError(
            f"A file of the data set {shown(name)} cannot be found: {shown(str(error)[:200])}",
            hint="Check that it was not deleted, and the network.",
            raw=str(error),
        ) from error
    check_complete([shard for shards in found.values() for shard in shards], name)
    return found


def check_complete(shards: Iterable[Shard], name: str) -> None:
    """Raises UsageError where of files named ``train-00000-of-00002`` some are missing."""
    sets: dict[tuple[str, str], set[int]] = {}
    for shard in shards:
        folder, _, file = shard.url.rpartition("/")
        if match := _NUMBERED.search(file):
            key = f"{folder}/{file[: match.start()]}", match[2]
            sets.setdefault(key, set()).add(int(match[1]))
    for (start, total), present in sets.items():
        if len(present) == int(total):
            continue
        first = 0 if 0 in present or int(total) not in present else 1
        digits = len(total)
        missing = [
            f"{start.rpartition('/')[2]}{number:0{digits}d}-of-{total}"
            for number in range(first, min(int(total), 100_000) + first)
            if number not in present
        ]
        raise UsageError(
            f"{shown(name)}: {len(missing)} of {int(total)} files are missing: {shown_list(missing)}.",
            hint="Fetch them. To learn from the others alone, take '-of-' out of their names.",
        )


def total_bytes(shards: Mapping[str, Iterable[Shard]]) -> int:
    """What all files take."""
    return sum(shard.state.size for of_split in shards.values() for shard in of_split)


def _state(url: str) -> FileState:
    if "://" not in url:
        status = os.stat(url)  # noqa: PTH116
        return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    file_system, path = fsspec.core.url_to_fs(url)
    file_system.ls(path.rpartition("/")[0], detail=True)  # one request for all files of a folder
    return FileState(int(file_system.info(path)["size"]), 1, 0, 0)
