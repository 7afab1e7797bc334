"""A data set of the Hugging Face hub, or a folder of Parquet or WebDataset files, through ``datasets``.

Its tables are memory-mapped: images stay on the disk until they are decoded. From the bytes on, all is as
with a folder: hashes, copies, parts. Needs the optional package (``nasflow[hub]``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nasflow.base import files
from nasflow.base.errors import DatasetMissingError, MachineError, UsageError
from pipeline.artifact import sha256_hex
from stages.data.config import DataConfig
from stages.data.image_file import BrokenImageError, read_file
from stages.data.image_folder import ImageFolder
from stages.data.inventory_cache import FileState
from stages.data.listed import PART_WORDS, ListedImage, Listing, Part, make_listing
from stages.data.listing import check_listing
from stages.data.names import label_of, shown, shown_list

if TYPE_CHECKING:
    import datasets

LABEL_NAMES = ("label", "labels", "class", "category", "target", "cls", "fine_label")
IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp")
_WORDS: Mapping[str, Part] = {**PART_WORDS, "dev": "validation"}
_INSTALL = "Install it: pip install 'nasflow[hub]'"


@dataclass(frozen=True)
class HubImages(ImageFolder):
    """The images of ``config.name``."""

    name: ClassVar[str] = "hub"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels' names, sorted."""
        return self.catalogue.class_names

    def is_at_hand(self) -> bool:
        """Whether nothing has to be fetched."""
        try:
            self.check_at_hand()
        except DatasetMissingError:
            return False
        return True

    def check_at_hand(self) -> None:
        """Raises DatasetMissingError where it would have to be fetched; nothing is fetched after this."""
        go_offline()
        load_tables(self.config)

    def check_folder(self, part: object) -> None:
        """Raises UsageError where it cannot be learned from."""
        self.look()


@dataclass(frozen=True)
class HubBytes:
    """Images in the tables of several splits, one after another."""

    place: Path
    tables: tuple[datasets.Dataset, ...] = field(repr=False)
    column: str
    states: tuple[FileState, ...]

    def state(self, number: int) -> FileState | None:
        """That of the file that holds the image's table."""
        return self.states[self._at(number)[0]]

    def read(self, number: int) -> bytes:
        """The image's file as the table has it. Raises BrokenImageError."""
        table, row = self._at(number)
        value: Mapping[str, Any] | None = self.tables[table][row][self.column]
        if value is None:
            raise BrokenImageError("empty")
        content = value.get("bytes")
        if content is None and value.get("path"):
            return read_file(Path(value["path"]))
        if not content:
            raise BrokenImageError("empty")
        return bytes(content)

    def _at(self, number: int) -> tuple[int, int]:
        for index, table in enumerate(self.tables):
            if number < len(table):
                return index, number
            number -= len(table)
        raise IndexError(number)


def open_hub(config: DataConfig) -> tuple[Listing, HubBytes]:
    """The images of a configuration and their files, numbered alike.

    Raises UsageError where no images with one label each are in it, DatasetMissingError where it is not there
    and cannot be fetched, MachineError where the package is not installed.
    """
    import datasets

    name = str(config.name)
    loaded = load_tables(config)
    splits = _parts(list(loaded), name)
    first = loaded[next(iter(splits))].features
    column, label = _image_column(first, name), _label_column(first, name)
    images: list[ListedImage] = []
    tables: list[datasets.Dataset] = []
    for split, part in splits.items():
        table = loaded[split]
        if column not in table.features or label not in table.features:
            raise UsageError(f"{shown(name)}: split {split} lacks the column {column} or {label}.")
        labels = list(_labels(table, label, f"{shown(name)}, split {split}"))
        digits = len(str(len(labels)))
        images += [
            ListedImage(f"{label_of(split)}/{row:0{digits}d}", text, part) for row, text in enumerate(labels)
        ]
        tables.append(table.select_columns([column]).cast_column(column, datasets.Image(decode=False)))
    ignored = [f"split {split}" for split in loaded if split not in splits]
    sorted_listing = make_listing(Path(name), images, ignored, f"splits {', '.join(splits)}")
    # As the tables are, one after another, not by the images' names.
    listing = Listing(
        sorted_listing.root,
        tuple(images),
        sorted_listing.class_names,
        sorted_listing.ignored,
        sorted_listing.layout,
    )
    check_listing(listing)
    kept = [file["filename"] for table in tables for file in table.cache_files]
    place = Path("/hub") / sha256_hex("\n".join((*kept, column, label)).encode())
    return listing, HubBytes(place, tuple(tables), column, tuple(map(_state, tables)))


def load_tables(config: DataConfig) -> datasets.DatasetDict:
    """All splits; fetched where they are not in the cache.

    Raises DatasetMissingError, UsageError, and MachineError where the package is not installed.
    """
    if find_spec("datasets") is None:
        raise MachineError(
            "data.source hub needs the package datasets, which is not installed.", hint=_INSTALL
        )
    import datasets
    from datasets.exceptions import DatasetGenerationError

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    where = config.path or str(config.name)
    try:
        loaded = datasets.load_dataset(
            where, revision=config.revision, cache_dir=str(files.cache_folder() / "hub")
        )
    except (FileNotFoundError, ConnectionError) as error:  # the first: no such data set
        raise DatasetMissingError(
            f"The data set {shown(where)} cannot be fetched, and is not in the cache.",
            hint="Check data.name, data.revision, offline and the network; a private one needs HF_TOKEN. A "
            "folder of Parquet or WebDataset files on this computer needs no network.",
            raw=str(error),
        ) from error
    except (ValueError, RuntimeError, DatasetGenerationError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"The data set {shown(where)} cannot be read: {shown(first[:200])}",
            hint="It must hold Parquet, WebDataset or image files, and have one configuration.",
            raw=str(error),
        ) from error
    except OSError as error:
        raise DatasetMissingError(
            f"The data set {shown(where)} cannot be fetched: {shown(str(error)[:200])}",
            hint="Check data.name, data.revision, the network and the space on the disk.",
            raw=str(error),
        ) from error
    if not isinstance(loaded, datasets.DatasetDict):
        raise UsageError(f"The data set {shown(where)} has no splits.")
    return loaded


def go_offline() -> None:
    """Let nothing be fetched by this process from now on."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if find_spec("datasets") is None:
        return
    import datasets
    import huggingface_hub.constants

    datasets.config.HF_HUB_OFFLINE = True
    huggingface_hub.constants.HF_HUB_OFFLINE = True


def _parts(splits: Sequence[str], name: str) -> dict[str, Part | None]:
    """Which splits are used, and as which part: one alone is cut by nasflow."""
    known = {split: _WORDS[split.lower()] for split in splits if split.lower() in _WORDS}
    if len(known) > 1:
        return dict(known)
    if len(splits) == 1 or known:
        return {next(iter(known), splits[0]): None}
    raise UsageError(
        f"{shown(name)} has the splits {shown_list(list(splits))}: which of them to learn from is not known.",
        hint="A split named train is looked for.",
    )


def _image_column(features: datasets.Features, name: str) -> str:
    import datasets

    found: list[str] = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if len(found) == 1:
        return found[0]
    if preferred := [column for column in IMAGE_NAMES if column in found]:
        return preferred[0]
    raise UsageError(
        f"{shown(name)} has {len(found)} columns of images among {shown_list(list(features), 8)}.",
        hint="One column of images is needed.",
    )


def _label_column(features: datasets.Features, name: str) -> str:
    import datasets

    classes: list[str] = [
        column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)
    ]
    if len(classes) == 1:
        return classes[0]
    plain = [
        column
        for column, kind in features.items()
        if isinstance(kind, datasets.Value)
        and (kind.dtype == "string" or kind.dtype.startswith(("int", "uint")))
    ]
    for candidates in (classes, plain):
        if preferred := [column for column in LABEL_NAMES if column in candidates]:
            return preferred[0]
    raise UsageError(
        f"{shown(name)} has no column of labels among {shown_list(list(features), 8)}.",
        hint=f"One is needed: of type ClassLabel, or named {', '.join(LABEL_NAMES[:5])}.",
    )


def _labels(table: datasets.Dataset, column: str, where: str) -> Iterator[str]:
    import datasets

    kind = table.features[column]
    names = kind.names if isinstance(kind, datasets.ClassLabel) else None
    for row, value in enumerate(table[column]):
        if value is None or (names is not None and not 0 <= value < len(names)):
            raise UsageError(
                f"{where}: image {row} has no label.",
                hint="Only images with one label each can be learned from.",
            )
        label = label_of(names[value] if names is not None else str(value))
        if not label:
            raise UsageError(f"{where}: the label of image {row} is empty.")
        yield label


def _state(table: datasets.Dataset) -> FileState:
    """Of the table's files together: the fetched tables are never changed, but may be made anew."""
    statuses = [Path(file["filename"]).stat() for file in table.cache_files]
    return FileState(
        sum(status.st_size for status in statuses),
        max((status.st_mtime_ns for status in statuses), default=1),
        0,
        0,
    )
