"""How a folder of images is laid out: a folder per class, parts above the classes, or a table in it.

A class may well be called "test" or "train". Folders of such names are parts where all folders are so named,
or where two of them and more hold class folders of equal names. Else they are classes like any other, unless
that can hardly be meant: then a person is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nasflow.base.errors import UsageError
from stages.data.image_table import TABLE_NAMES, read_table, table_hint
from stages.data.listed import (
    LAYOUT_HINT,
    PART_WORDS,
    ListedImage,
    Listing,
    Part,
    is_to_convert,
    make_listing,
    no_images,
)
from stages.data.names import label_of, shown, shown_list
from stages.data.walking import (
    CONVERT_HINT,
    FolderContent,
    Identity,
    folder_identity,
    read_folder,
    walk,
)


def list_folder(root: Path) -> Listing:
    """List a folder by its layout. Raises UsageError, MachineError."""
    top = read_folder(root)
    tables = [name for name in TABLE_NAMES if name in top.others]
    if tables:
        return _with_table(root, [("", _only_table(root, tables), None)])
    named = {name: PART_WORDS[name.lower()] for name in top.folders if name.lower() in PART_WORDS}
    in_parts = [
        (name, _only_table(root / name, found), part)
        for name, part in named.items()
        if (found := [table for table in TABLE_NAMES if table in read_folder(root / name).others])
    ]
    if in_parts:
        without = sorted(set(named) - {name for name, _, _ in in_parts})
        if without:
            raise UsageError(
                f"{shown(root)}: {in_parts[0][0]} has a table {in_parts[0][1]}, but {shown_list(without)} "
                "has none.",
                hint="Give each part its table, or one table with the column split to the folder above.",
            )
        return _with_table(root, in_parts)
    return _ClassFolders(root, top).listing()


def _only_table(folder: Path, tables: list[str]) -> str:
    if len(tables) > 1:
        raise UsageError(
            f"{shown(folder)} holds {' and '.join(tables)}: which of them counts is not known.",
            hint="Name one of them as the path (key data.path).",
        )
    return tables[0]


def _with_table(root: Path, tables: Sequence[tuple[str, str, Part | None]]) -> Listing:
    images = [
        image
        for folder, name, part in tables
        for image in read_table(root / folder / name, root=root, folder=folder, part=part)
    ]
    listed = {image.path for image in images}
    ignored = [path for path, _ in walk(root, "") if path not in listed]
    names = " and ".join(f"{folder}/{name}" if folder else name for folder, name, _ in tables)
    return make_listing(root, images, ignored, f"the table {shown(names)}")


@dataclass(frozen=True)
class _ClassFolders:
    """A folder without a table, whose first level is ``top``."""

    root: Path
    top: FolderContent

    def listing(self) -> Listing:
        """Every image of every class folder. Raises UsageError where a folder cannot be a class."""
        parts, left_out, layout = self._parts()
        images: list[ListedImage] = []
        ignored = [*self.top.others, *self.top.images, *(f"{name}/" for name in left_out)]
        empty: dict[str, list[str]] = {}
        if parts:
            for folder, part in parts.items():
                content = self._second_level[folder]
                ignored += [f"{folder}/{name}" for name in (*content.others, *content.images)]
                if content.images and not content.folders:
                    raise self._without_classes(folder)
                for name in content.folders:
                    self._add_class(f"{folder}/{name}", name, part, images, ignored, empty)
        else:
            for name in self.top.folders:
                self._add_class(name, name, None, images, ignored, empty)
            if not images and self.top.images:
                raise self._without_classes("")
        if not images:
            raise no_images(self.root, ignored)
        if empty:
            raise self._empty_classes(empty)
        return make_listing(self.root, images, ignored, layout)

    def _parts(self) -> tuple[dict[str, Part], list[str], str]:
        """The folders that are parts, those left out because of them, and the decision in words."""
        named = {name: PART_WORDS[name.lower()] for name in self.top.folders if name.lower() in PART_WORDS}
        others = [name for name in self.top.folders if name not in named]
        words = " and ".join(f"{name}/" for name in named)
        if named and not others:
            return named, [], f"{words} with a folder per class"
        if len(set(named.values())) >= 2:
            classes = [{label_of(folder) for folder in self._second_level[name].folders} for name in named]
            if len(set.intersection(*classes)) >= 2:
                beside = shown_list([f"{name}/" for name in others])
                return named, others, f"{words} with a folder per class; {beside} beside them left out"
        for name in named:
            if doubt := self._doubt(name):
                raise self._ambiguous(name, doubt)
        if named:
            return {}, [], f"a folder per class; {words} counts as a class, as it stands beside other classes"
        return {}, [], "a folder per class"

    def _doubt(self, name: str) -> str:
        """Why a folder named as a part can hardly be a class; empty where it can.

        It holds folders alone, and a folder beside it holds some of the same names, is named as a part, too,
        or stands there alone.
        """
        own = self._second_level[name]
        beside = [other for other in self.top.folders if other != name]
        if not own.folders or own.images:
            return ""
        labels = {label_of(folder) for folder in own.folders}
        for other in beside:
            if shared := labels & {label_of(folder) for folder in read_folder(self.root / other).folders}:
                return f"{other}/ beside it has folders of the same names ({shown_list(sorted(shared))})"
        alike = beside if len(beside) == 1 else [other for other in beside if other in self._second_level]
        return f"{alike[0]}/ stands beside it" if alike else ""

    def _ambiguous(self, name: str, doubt: str) -> UsageError:
        part = PART_WORDS[name.lower()]
        words = ", ".join(word for word, of in PART_WORDS.items() if of == "validation")
        return UsageError(
            f"{shown(self.root)}: is {shown(name)}/ the part {part}, or a class? It holds folders "
            f"({shown_list(list(self._second_level[name].folders))}), and {shown(doubt)}.",
            hint=f"If it is a part, name the others test, or one of {words}, and move what is no part "
            f"elsewhere. If it is a class, put its images directly into {shown(name)}/.",
        )

    @cached_property
    def _second_level(self) -> dict[str, FolderContent]:
        return {
            name: read_folder(self.root / name) for name in self.top.folders if name.lower() in PART_WORDS
        }

    @cached_property
    def _above(self) -> frozenset[Identity]:
        """The folders that a link inside a class must not lead into again."""
        folders = [self.root, *self.root.resolve().parents]
        return frozenset(identity for folder in folders if (identity := folder_identity(folder)))

    def _add_class(
        self,
        folder: str,
        name: str,
        part: Part | None,
        images: list[ListedImage],
        ignored: list[str],
        empty: dict[str, list[str]],
    ) -> None:
        label = label_of(name) or shown(repr(name))
        before, skipped = len(images), []
        for path, is_image in walk(self.root, folder, seen=set(self._above)):
            if is_image:
                images.append(ListedImage(path, label, part))
            else:
                skipped.append(path)
        ignored += skipped
        if len(images) == before:
            empty[folder] = skipped

    def _without_classes(self, folder: str) -> UsageError:
        where = self.root / folder
        count = len(self.top.images if not folder else self._second_level[folder].images)
        hint = f"{table_hint(self.root, self.top.others)}{LAYOUT_HINT}"
        lie = "1 image lies" if count == 1 else f"{count} images lie"
        return UsageError(f"{lie} directly in {shown(where)}, without class folders.", hint=hint)

    def _empty_classes(self, empty: dict[str, list[str]]) -> UsageError:
        names = list(empty)
        if any(is_to_convert(path) for path in empty[names[0]]):
            hint = CONVERT_HINT
        else:
            hint = (
                "Put images into it, or move it elsewhere; a folder whose name begins with a dot is left out."
            )
        noun = "The class folder" if len(names) == 1 else f"{len(names)} class folders"
        verb = "holds" if len(names) == 1 else "hold"
        return UsageError(
            f"{noun} {shown_list(names)} of {shown(self.root)} {verb} no image that can be read.", hint=hint
        )
