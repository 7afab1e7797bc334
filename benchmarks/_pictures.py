"""Pictures that nobody here made, where Debian's packages put them.

Photos: ``tuxpaint-stamps-default``, nine folders of cut-out photos. Drawings: nine folders of
``openclipart-png`` (public domain). They are read where they are, and never copied: a folder for each class,
as a data set has it, is made of symbolic links.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nasflow.base.errors import DatasetMissingError


@dataclass(frozen=True)
class Package:
    """A package's pictures: by class the folder below ``root`` that holds them, folders in it included."""

    root: Path
    name: str
    classes: Mapping[str, str]

    def check(self) -> None:
        """Raises DatasetMissingError where the package is not installed."""
        if not self.root.is_dir():
            raise DatasetMissingError(
                f"The pictures of Debian's package {self.name} are not in {self.root}.",
                hint=f"Install them: sudo apt install {self.name}",
            )

    def files(self) -> Iterator[tuple[str, Path]]:
        """(class, file) of every picture, in order. Raises DatasetMissingError."""
        self.check()
        for name, folder in self.classes.items():
            for path in sorted((self.root / folder).rglob("*.png")):
                if "cartoon" not in path.parts:  # of the stamps, drawings
                    yield name, path

    def link(self, folder: Path) -> Path:
        """Make ``folder`` a data set of links: a folder for each class. Raises DatasetMissingError."""
        for name, path in self.files():
            below = path.relative_to(self.root / self.classes[name]).as_posix()
            link = folder / name / below.replace("/", "__")
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(path)
        return folder


PHOTOS = Package(
    Path("/usr/share/tuxpaint/stamps"),
    "tuxpaint-stamps-default",
    {
        "birds": "animals/birds",
        "mammals": "animals/mammals",
        "fish": "animals/fish",
        "fruit": "food/fruit",
        "vegetables": "food/vegetables",
        "flowers": "plants/flowers",
        "household": "household",
        "road signs": "town/roadsigns",
        "vehicles": "vehicles",
    },
)
_DRAWN = (
    "animals",
    "buildings",
    "food",
    "office",
    "people",
    "plants",
    "recreation",
    "tools",
    "transportation",
)
DRAWINGS = Package(Path("/usr/share/openclipart/png"), "openclipart-png", {name: name for name in _DRAWN})
ALIKE_BITS = 3
"""Pictures whose 64 comparisons of neighbouring grey values differ in at most so many count as copies."""


def picture_files() -> list[tuple[str, Path]]:
    """Name and path of every drawing and every stamp. Raises DatasetMissingError."""
    PHOTOS.check()
    files = [(f"openclipart/{path.relative_to(DRAWINGS.root)}", path) for _, path in DRAWINGS.files()]
    stamps = sorted(PHOTOS.root.rglob("*.png"))
    return files + [(f"stamps/{path.relative_to(PHOTOS.root)}", path) for path in stamps]


@dataclass(frozen=True)
class Pictures:
    """``pixels_NHWC`` uint8, on white; ``labels`` int64 (N,)."""

    pixels_NHWC: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    def batches(self, which: NDArray[np.int64], size: int = 32) -> list[Tensor]:
        """Pictures as networks take them: x_NCHW float32, -1..1."""
        chosen = [self.pixels_NHWC[which[start : start + size]] for start in range(0, len(which), size)]
        return [
            (torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) - 127.5) / 127.5
            for pixels in chosen
        ]

    def splits(self, count: int, training_share: float = 0.7) -> Iterator[tuple[NDArray[np.int64], ...]]:
        """(training, test) indices, stratified, of seeds 0, 1, ..."""
        for seed in range(count):
            chance = np.random.default_rng(seed)
            parts: tuple[list[int], list[int]] = ([], [])
            for label in range(len(self.class_names)):
                order = chance.permutation(np.flatnonzero(self.labels == label))
                cut = round(len(order) * training_share)
                parts[0].extend(order[:cut])
                parts[1].extend(order[cut:])
            yield np.array(sorted(parts[0])), np.array(sorted(parts[1]))


def photos(resolution: int) -> Pictures:
    """About 250 photos in nine classes, decoded. Raises DatasetMissingError."""
    return _read(PHOTOS, resolution)


def drawings(resolution: int) -> Pictures:
    """About 1,700 drawings in nine classes, decoded. Raises DatasetMissingError."""
    return _read(DRAWINGS, resolution)


def _read(package: Package, resolution: int) -> Pictures:
    """Left out: pictures that look like an earlier one, and decompression bombs, as Pillow calls them."""
    pixels: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    seen: list[NDArray[np.bool_]] = []
    names = tuple(package.classes)
    for name, path in package.files():
        picture = _square(path, resolution)
        if picture is None:
            continue
        look = _look(picture)
        if not any(np.count_nonzero(look != other) <= ALIKE_BITS for other in seen):
            seen.append(look)
            pixels.append(np.asarray(picture))
            labels.append(names.index(name))
    return Pictures(np.stack(pixels), np.array(labels), names)


def _square(path: Path, resolution: int) -> Image.Image | None:
    """On white, padded to a square, resized; None where it is too large."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as file:
                coloured = file.convert("RGBA")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            return None
    coloured.thumbnail((4 * resolution, 4 * resolution), Image.Resampling.BOX)
    side = max(coloured.size)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(coloured, ((side - coloured.width) // 2, (side - coloured.height) // 2))
    return canvas.convert("RGB").resize((resolution, resolution), Image.Resampling.BICUBIC)


def _look(picture: Image.Image) -> NDArray[np.bool_]:
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def chosen(indices: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """``count`` of these indices at random, or all where there are fewer."""
    return np.random.default_rng(seed).permutation(indices)[:count]


def names(pictures: Pictures) -> Sequence[str]:
    """``birds (35)``: the classes with their sizes."""
    sizes = np.bincount(pictures.labels, minlength=len(pictures.class_names))
    return [f"{name} ({size})" for name, size in zip(pictures.class_names, sizes, strict=True)]
