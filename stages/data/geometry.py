"""From an image of any size to the square that a network takes, as evaluated; see also :mod:`.variation`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.data.view import Fit, View

if TYPE_CHECKING:
    from stages.data.decoded import PixelSource

Pixels = NDArray[np.uint8]
"""uint8 (H, W, channels)."""
Picture = Pixels | Image.Image
"""A decoded image: its pixels, or Pillow's image of mode L or RGB, whose pixels need not all be copied."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, as Pillow counts them."""

SHOWN = 7 / 8
"""Share of the shorter side that evaluation shows, as EfficientNet's (224 of 256 pixels)."""
STORED, NOT_WORTH_IT = 1.5, 1.25
"""Shorter side of a decoded image over the network's resolution: what random crops are taken from. An image
of up to ``NOT_WORTH_IT`` times that is kept as it is: to resize it would take longer than it saves."""


def stored_side(shorter_side: int, resolution: int) -> int:
    """Shorter side to which an image is decoded for networks of a resolution, in pixels: never enlarged."""
    wanted = math.ceil(STORED * resolution)
    return wanted if shorter_side > NOT_WORTH_IT * wanted else shorter_side


def height_width(picture: Picture) -> tuple[int, int]:
    """In pixels."""
    return picture.size[::-1] if isinstance(picture, Image.Image) else picture.shape[:2]


def pixels_of(picture: Picture) -> Pixels:
    """All of its pixels."""
    if not isinstance(picture, Image.Image):
        return picture
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def window_of(picture: Picture, rows: slice, columns: slice) -> Pixels:
    """A copy of some of its pixels, in the order of rows, columns, channels."""
    if isinstance(picture, Image.Image):
        picture = pixels_of(picture.crop((columns.start, rows.start, columns.stop, rows.stop)))
        return picture.copy()
    return picture[rows, columns].copy(order="C")


def as_evaluated(picture: Picture, resolution: int, fit: Fit) -> Pixels:
    """The middle of an image, or all of it squeezed into a square: (resolution, resolution, channels)."""
    height, width = height_width(picture)
    box: Box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        side = SHOWN * min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(_as_image(picture))
    square = (resolution, resolution)
    return pixels_of(image.resize(square, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0))


def evaluated_NHWC(pixels: PixelSource, numbers_N: NDArray[np.int64], view: View) -> NDArray[np.uint8]:
    """Chosen images as evaluation shows them: uint8 (n, resolution, resolution, channels)."""
    return np.stack([as_evaluated(pixels.read(int(n)), view.resolution, view.fit) for n in numbers_N])


def _as_image(pixels_HWC: Pixels) -> Pixels:
    """Pillow's greyscale images have no axis of channels."""
    return pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC
