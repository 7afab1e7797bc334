"""A folder of small photos, a folder for each class: random mosaics, no two alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

_LONG_AGO = 1_600_000_000


def mosaic(seed: int, width: int = 80, height: int = 60) -> Image.Image:
    """Like no other: random colours."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.NEAREST)


def photo_folder(root: Path, counts: Mapping[str, int], *, width: int = 80, height: int = 60) -> Path:
    """``counts`` images of each class below ``root``, as PNG."""
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            seed += 1
            mosaic(seed, width, height).save(root / name / f"{number:03d}.png")
    return root


def settle(root: Path) -> None:
    """Make all files look old: what was changed just now is read again, as it might change once more."""
    for path in root.rglob("*"):
        os.utime(path, (_LONG_AGO, _LONG_AGO))


def contents(root: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }
