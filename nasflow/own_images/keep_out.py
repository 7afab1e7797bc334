"""Nothing is written into the folder of a person's images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nasflow.base.errors import UsageError
from stages.data.names import shown


def check_outside(target: Path, root: Path | None, paths: Iterable[str] = (), *, hint: str) -> None:
    """Raises UsageError where ``target`` lies in the data folder ``root``, or beside an image.

    ``root`` None: the images lie in no folder of a person's. ``paths``: of the images below ``root``; a
    folder of them may be a link to another place.
    """
    if root is None:
        return
    where = target.resolve()
    folders = {path.rpartition("/")[0] for path in paths}
    kept = {root.resolve(), *((root / folder).resolve() for folder in folders)}
    if any(where == folder or folder in where.parents for folder in kept):
        raise UsageError(
            f"{shown(target)} lies in the folder of the images, {shown(root)}; nothing is written there.",
            hint=hint,
        )
