"""A table of images: CSV, TSV or JSONL with ``file_name`` and ``label``, and maybe ``split`` and ``group``.

Also found in a folder as ``metadata.csv`` or ``metadata.jsonl``, as the layout "imagefolder" of Hugging
Face ``datasets`` has it. Paths are relative to the table's folder; an absolute one has to lie in it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

from nasflow.base import files
from nasflow.base.errors import UsageError
from stages.data.listed import PART_WORDS, ListedImage, Listing, Part, make_listing
from stages.data.names import label_of, shown, shown_list
from stages.data.walking import suffix_of

TABLE_SUFFIXES = frozenset({"csv", "tsv", "jsonl"})
TABLE_NAMES = ("metadata.csv", "metadata.jsonl")
_NEEDED = ("file_name", "label")
_COLUMNS_HINT = "A table needs the columns file_name and label, and may have split and group."

Row = dict[str, object]


def table_hint(root: Path, names: Iterable[str]) -> str:
    """What to do where one of the files in ``root`` may be a table of its images; empty where none is."""
    table = next((name for name in names if "/" not in name and suffix_of(name) in TABLE_SUFFIXES), None)
    if table is None:
        return ""
    return (
        f"If {shown(table)} names their classes, give it as the path: {shown(root / table)} (columns "
        "file_name and label). Else: "
    )


def list_table(table: Path) -> Listing:
    """List the images that a table names. Raises UsageError, MachineError."""
    images = read_table(table, root=table.parent, folder="", part=None)
    return make_listing(table.parent, images, (), f"the table {shown(table.name)}")


def read_table(table: Path, *, root: Path, folder: str, part: Part | None) -> list[ListedImage]:
    """The images of a table in ``root/folder``, whose rows belong to ``part`` if it is given.

    Raises UsageError with the first rows that are wrong, MachineError.
    """
    rows = list(_read_rows(table))
    if not rows:
        raise UsageError(f"{shown(table)} has no rows.", hint=_COLUMNS_HINT)
    disk = _Disk(os.fspath(root))
    table_name = shown(table)
    images: list[ListedImage] = []
    missing: list[str] = []
    seen: dict[str, int] = {}
    repeated: list[str] = []
    for number, row in rows:
        name = _cell(row, "file_name")
        where = f"{table_name}, line {number}"
        if not name:
            raise UsageError(f"{where}: file_name is empty.", hint="Name the image, or delete the row.")
        path = disk.find(_inside(name, root, folder, where))
        if path is None:
            missing.append(f"{name} (line {number})")
            continue
        if path in seen:
            repeated.append(f"{name} (lines {seen[path]} and {number})")
            continue
        seen[path] = number
        label = label_of(_cell(row, "label"))
        if not label:
            raise UsageError(
                f"{where}: the label of {shown(name)} is empty.", hint="Name its class, or delete the row."
            )
        images.append(
            ListedImage(path, label, _part(row, part, where), label_of(_cell(row, "group")) or None)
        )
    if missing:
        raise UsageError(
            f"{shown(table)} names {_files(missing)} that {'does' if len(missing) == 1 else 'do'} not exist: "
            f"{shown_list(missing)}.",
            hint=f"Paths are relative to {shown(table.parent)}. Correct or delete these rows.",
        )
    if repeated:
        raise UsageError(
            f"{shown(table)} names {_files(repeated)} more than once: {shown_list(repeated)}.",
            hint="Keep one row for each file: an image has one class.",
        )
    return _with_parts(table, images)


def _files(names: list[str]) -> str:
    return f"{len(names):,} file{'' if len(names) == 1 else 's'}"


def _with_parts(table: Path, images: list[ListedImage]) -> list[ListedImage]:
    """All rows have a part or none; where none has, the first folder of each path may say it."""
    without = [image for image in images if image.part is None]
    if not without:
        return images
    if len(without) < len(images):
        raise UsageError(
            f"{shown(table)} gives a split to {len(images) - len(without)} rows and none to {len(without)}: "
            f"{shown_list([image.path for image in without])}.",
            hint="Give every row a split, or none: then nasflow splits the images itself.",
        )
    parts = [PART_WORDS.get(image.path.partition("/")[0].lower()) for image in images if "/" in image.path]
    if len(parts) == len(images) and all(parts) and "train" in parts:
        return [
            ListedImage(image.path, image.label, part, image.group)
            for image, part in zip(images, parts, strict=True)
        ]
    return images


def _part(row: Row, given: Part | None, where: str) -> Part | None:
    word = _cell(row, "split").lower()
    if not word:
        return given
    part = PART_WORDS.get(word)
    if part is None:
        raise UsageError(
            f"{where}: the split {shown(word)!r} is not known.", hint="Write train, validation or test."
        )
    if given is not None and part != given:
        raise UsageError(
            f"{where}: the split is {part}, but the table lies in the folder of {given}.",
            hint="Leave the column split out, or move the table to the folder above.",
        )
    return part


def _inside(name: str, root: Path, folder: str, where: str) -> str:
    """The path relative to ``root``. Raises UsageError where it leaves the table's folder."""
    path = name
    if os.path.isabs(name):  # noqa: PTH117 - Path costs more than all the rest for 100,000 rows
        for start in (root / folder, (root / folder).resolve(), Path.cwd() / root / folder):
            if Path(name).is_relative_to(start):
                path = Path(name).relative_to(start).as_posix()
                break
    path = posixpath.normpath(path)
    if path.startswith(("/", "../")) or path in ("..", ".") or os.path.isabs(path):  # noqa: PTH117
        raise UsageError(
            f"{where}: {shown(name)} does not lie in the table's folder.",
            hint="Put the table into a folder above all its images, and give paths relative to it.",
        )
    return posixpath.join(folder, path)


def _cell(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value).strip()


@dataclass
class _Disk:
    """Finds files whose name in a table is written in another form than on the disk."""

    root: str
    _names: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, path: str) -> str | None:
        """The path as the disk has it; None where there is no such file.

        Tried besides: the other Unicode form (macOS), and ``\\`` for ``/`` (Windows).
        """
        if self._is_file(path):
            return path
        for candidate in dict.fromkeys((path, path.replace("\\", "/"))):
            found = self._resolve(posixpath.normpath(candidate))
            if found is not None and self._is_file(found):
                return found
        return None

    def _is_file(self, path: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(f"{self.root}/{path}").st_mode)  # noqa: PTH116
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return False

    def _resolve(self, path: str) -> str | None:
        folder, _, name = path.rpartition("/")
        if not name or name == "..":
            return None
        on_disk = self._resolve(folder) if folder else ""
        if on_disk is None:
            return None
        if on_disk not in self._names:
            try:
                names = os.listdir(f"{self.root}/{on_disk}")  # noqa: PTH208
            except (OSError, ValueError):
                names = []
            self._names[on_disk] = {normalize("NFC", entry): entry for entry in sorted(names)}
        found = self._names[on_disk].get(normalize("NFC", name))
        return None if found is None else posixpath.join(on_disk, found)


def _read_rows(table: Path) -> Iterator[tuple[int, Row]]:
    """Line number and cells of each row. Raises UsageError, MachineError."""
    with files.disk_faults(table, "read"):
        data = table.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{shown(table)} is not encoded as UTF-8 (line {line}).",
            hint='Save it as UTF-8 (in Excel: "CSV UTF-8").',
        ) from error
    return _read_jsonl(table, text) if suffix_of(table.name) == "jsonl" else _read_csv(table, text)


def _read_csv(table: Path, text: str) -> Iterator[tuple[int, Row]]:
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max("\t;," if suffix_of(table.name) == "tsv" else ",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = [cell.strip().lower() for cell in cells]
                _check_columns(table, columns)
                continue
            if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
                raise UsageError(
                    f"{shown(table)}, line {reader.line_num}: {len(cells)} cells, but {len(columns)} "
                    "columns.",
                    hint='Put a name that holds the separator into quotes ("a, b.jpg").',
                )
            yield reader.line_num, dict(zip(columns, cells, strict=False))
    except csv.Error as error:
        raise UsageError(
            f"{shown(table)}, line {reader.line_num}, is not valid CSV: {error}.", hint=_COLUMNS_HINT
        ) from error


def _check_columns(table: Path, columns: list[str]) -> None:
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise UsageError(
            f"{shown(table)} has no column {' and '.join(missing)}; it has {shown_list(columns, 8)}.",
            hint=f"{_COLUMNS_HINT} The first line names them.",
        )
    doubled = sorted({name for name in columns if name and columns.count(name) > 1})
    if doubled:
        raise UsageError(
            f"{shown(table)} has several columns named {shown(doubled[0])}.", hint="Keep one of them."
        )


def _read_jsonl(table: Path, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{shown(table)}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{where}, is not valid JSON: {error}.", hint="Each line is one JSON object."
            ) from error
        if not isinstance(value, dict):
            raise UsageError(f"{where}, is no JSON object.", hint="Each line is one JSON object.")
        row: Row = {str(key).strip().lower(): cell for key, cell in value.items()}
        _check_columns(table, list(row))
        for column in (*_NEEDED, "split", "group"):
            cell = row.get(column)
            if cell is not None and (isinstance(cell, bool) or not isinstance(cell, str | int)):
                raise UsageError(
                    f"{where}: {column} is {type(cell).__name__}, not text or a whole number.",
                    hint="One image has one class: images with several labels or boxes are not read.",
                )
        yield number, row
