"""Copies of a picture, made on purpose: recompressed, resized, mirrored, cropped."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

CHANGES = ("recompressed", "resized", "mirrored", "cropped")
KINDS: tuple[tuple[str, ...], ...] = (*((one,) for one in CHANGES), *itertools.combinations(CHANGES, 2))
_LARGEST_SIDE = 1024
_MOST_PIXELS = 89_000_000
_SIDES = ("left", "top", "right", "bottom", "all")


@dataclass(frozen=True)
class Picture:
    """One picture of a package, decoded. ``name``: package's folder and path in it."""

    name: str
    sha256: str
    image: Image.Image


def read_picture(name: str, path: Path) -> Picture | None:
    """Decode one picture to RGB or RGBA; None where it has more than 89 million pixels."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of PNG's first chunk
    if width * height > _MOST_PIXELS:
        return None
    with Image.open(io.BytesIO(content)) as opened:
        clear = "A" in opened.getbands() or "transparency" in opened.info
        image = opened.convert("RGBA" if clear else "RGB")
    return Picture(name, hashlib.sha256(content).hexdigest(), image)


def copy_of(picture: Picture, kind: Sequence[str], chance: random.Random) -> Image.Image:
    """The picture on white, at most 1,024 pixels, changed in each of the ways of ``kind``."""
    image = picture.image.copy()
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    for change in sorted(kind, key=("mirrored", "cropped", "resized", "recompressed").index):
        image = _changed(image, change, chance)
    return image


def _changed(image: Image.Image, change: str, chance: random.Random) -> Image.Image:
    width, height = image.size
    if change == "mirrored":
        return ImageOps.mirror(image)
    if change == "resized":
        share = chance.uniform(0.5, 0.8)
        size = (max(1, round(share * width)), max(1, round(share * height)))
        return image.resize(size, Image.Resampling.LANCZOS)
    if change == "cropped":
        side = chance.choice(_SIDES)
        x, y = round(0.05 * width), round(0.05 * height)
        left, top = x * (side in ("left", "all")), y * (side in ("top", "all"))
        right, bottom = x * (side in ("right", "all")), y * (side in ("bottom", "all"))
        return image.crop((left, top, width - right, height - bottom))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=chance.randint(40, 80))
    return Image.open(io.BytesIO(written.getvalue())).convert("RGB")
