"""Where the images of a WebDataset's tar file lie: each is a member, its bytes in the file as they are.

Members whose names differ in nothing but what follows the first dot are one example, as ``datasets`` has it.
"""

from __future__ import annotations

import re
import tarfile
from typing import IO

from nasflow.base.errors import UsageError
from stages.data.hub_columns import Labels
from stages.data.names import shown
from stages.data.shards import Shard
from stages.data.spans import ABSENT, BYTES, SpansBuilder, Unit

_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)
_RUN_BYTES = 2**24
_BLOCK = bytes(tarfile.BLOCKSIZE)
_MOST_LABEL_BYTES = 2**12
_NUMBERS = ("cls", "cls2", "index", "inx", "id")
_TEXTS = ("txt", "text", "transcript")


def holds_labels(column: str) -> bool:
    """Whether members of this suffix are numbers or text."""
    return column.rpartition(".")[2].lower() in (*_NUMBERS, *_TEXTS)


def index_tar(shard: Shard, number: int, column: str, labels: Labels, out: SpansBuilder) -> None:
    """Add a tar file's images.

    Raises UsageError where it is cut off, compressed, or no WebDataset; OSError where it cannot be read.
    """
    try:
        with shard.open() as file, tarfile.open(fileobj=file, mode="r:") as archive:
            _Examples(shard, number, column, labels, out).add_all(archive)
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != _BLOCK:  # tarfile takes a cut or damaged head for the end
                raise tarfile.ReadError("its end is missing")
    except tarfile.TarError as error:
        raise UsageError(
            f"{shard.name} is cut off, damaged, or no plain tar file: {error}.",
            hint="Fetch it again. A tar file that is compressed as a whole has to be unpacked.",
        ) from error


class _Examples:
    def __init__(self, shard: Shard, number: int, column: str, labels: Labels, out: SpansBuilder) -> None:
        self.shard, self.number, self.column, self.labels, self.out = shard, number, column, labels, out
        self._fields: set[str] = set()
        self._image: tuple[int, int] = (ABSENT, 0)
        self._label: int | str | None = None

    def add_all(self, archive: tarfile.TarFile) -> None:
        key: str | None = None
        self.out.add_unit(Unit(self.number, BYTES, 0, 0))
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else all stay in memory
            match = _NAME.match(member.name)
            hidden = member.name.rpartition("/")[2].startswith((".", "__"))
            if not member.isreg() or hidden or match is None:
                continue
            if match[1] != key:
                self._finish()
                key = match[1]
            self._add(archive, member, match[2])
        self._finish()
        self.out.stretch_unit(archive.offset)

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, field: str) -> None:
        if field in self._fields:
            raise UsageError(f"{self.shard.name} holds {shown(member.name)} twice.")
        self._fields.add(field)
        if field == self.column:
            if member.issparse():
                raise UsageError(f"{self.shard.name}: {shown(member.name)} is a sparse file.")
            self._image = member.offset_data, member.size
        elif field == self.labels.column:
            with archive.extractfile(member) or _nothing() as file:
                self._label = self._read(file.read(_MOST_LABEL_BYTES), member.name)

    def _read(self, content: bytes, name: str) -> int | str:
        try:
            is_number = self.labels.column.rpartition(".")[2].lower() in _NUMBERS
            return int(content) if is_number else content.decode()
        except ValueError as error:
            raise UsageError(f"{self.shard.name}: {shown(name)} holds no label.") from error

    def _finish(self) -> None:
        """The example is complete; images that follow one another for so long are one unit."""
        if not self._fields:
            return
        start, size = self._image
        unit = self.out.units[-1]
        if start + size - unit.start > _RUN_BYTES and unit.stop > unit.start:
            self.out.add_unit(Unit(self.number, BYTES, start, start + size))
        elif start != ABSENT:
            self.out.stretch_unit(start + size)
        self.out.add_image(start, size, self.labels.text(self._label))
        self._fields.clear()
        self._image, self._label = (ABSENT, 0), None


def _nothing() -> IO[bytes]:
    raise tarfile.ReadError("a member cannot be opened")
