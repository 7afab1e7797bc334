"""Which files lie below a folder: images, and what is left out. No file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nasflow.base import files
from nasflow.base.errors import MachineError

IMAGE_SUFFIXES = frozenset(
    {"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm"}
)
TO_CONVERT = frozenset(
    {
        "heic",
        "heif",
        "hif",
        "avif",
        "jxl",
        "jp2",
        "dng",
        "cr2",
        "cr3",
        "nef",
        "arw",
        "raf",
        "orf",
        "rw2",
        "svg",
        "psd",
        "xcf",
    }
)
"""Images by their suffix, in formats that are not read on every computer."""
CONVERT_HINT = "Convert them to JPEG or PNG first: this format is not read."

_LEFT_OUT = frozenset(
    {
        "thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information",
        "lost+found",
    }
)  # fmt: skip

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FolderContent:
    """What stands directly in one folder. ``images``, ``others``, ``folders`` are names, sorted.

    ``others``: files that are no images, and everything hidden or made by an operating system; a folder
    among them ends in ``/``.
    """

    images: tuple[str, ...]
    others: tuple[str, ...]
    folders: tuple[str, ...]


def suffix_of(name: str) -> str:
    """``jpg`` for ``A.JPG``; empty where there is none."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def read_folder(folder: Path) -> FolderContent:
    """The names in one folder. Raises MachineError where it cannot be read.

    A link counts as what it leads to; one that leads nowhere counts as a file, so that it is reported as
    an image that cannot be read. Pipes, sockets and devices are left out: opening one may never return.
    """
    images: list[str] = []
    others: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                hidden = name.startswith(".") or name.lower() in _LEFT_OUT
                if _is_folder(entry):
                    (others if hidden else folders).append(name + "/" if hidden else name)
                elif hidden or suffix_of(name) not in IMAGE_SUFFIXES or not _is_readable_kind(entry):
                    others.append(name)
                else:
                    images.append(name)
    except OSError as error:
        fault = files.fault(error, folder, "read the folder")
        raise MachineError(
            fault.message, hint="Give your account permission to read it, or remove it.", raw=fault.raw
        ) from error
    return FolderContent(tuple(sorted(images)), tuple(sorted(others)), tuple(sorted(folders)))


def walk(root: Path, below: str, *, seen: set[Identity] | None = None) -> Iterator[tuple[str, bool]]:
    """Everything below ``root/below``: the path relative to ``root`` (POSIX) and whether it is an image.

    Each real folder is read once, however many links lead to it; folders in ``seen`` are not read, so that
    a link to a parent is not followed. Raises MachineError.
    """
    seen = set() if seen is None else seen
    waiting = [below]
    linked: list[str] = []
    while waiting or linked:  # links last: a folder is known by its own name rather than by a link's
        folder = waiting.pop() if waiting else linked.pop()
        path = root / folder
        identity = folder_identity(path)
        if identity is None or identity in seen:
            continue
        seen.add(identity)
        content = read_folder(path)
        prefix = f"{folder}/" if folder else ""
        for name in content.images:
            yield prefix + name, True
        for name in content.others:
            yield prefix + name, False
        for name in reversed(content.folders):
            (linked if (path / name).is_symlink() else waiting).append(prefix + name)


def folder_identity(folder: Path) -> Identity | None:
    """Device and inode of a folder; None where it is not there any more."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where this account may not look
        return False


def _is_readable_kind(entry: os.DirEntry[str]) -> bool:
    try:
        if entry.is_file():
            return True
    except OSError:
        return True
    return entry.is_symlink() and not Path(entry.path).exists()
