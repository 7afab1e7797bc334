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


def as_evaluated(pixels_HWC: Pixels, resolution: int, fit: Fit) -> Pixels:
    """The middle of an image, or all of it squeezed into a square: (resolution, resolution, channels)."""
    height, width = pixels_HWC.shape[:2]
    box: Box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        side = SHOWN * min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    shown = Image.fromarray(_as_image(pixels_HWC)).resize(
        (resolution, resolution), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0
    )
    return with_channels(np.asarray(shown))


def evaluated_NHWC(pixels: PixelSource, numbers_N: NDArray[np.int64], view: View) -> NDArray[np.uint8]:
    """Chosen images as evaluation shows them: uint8 (n, resolution, resolution, channels)."""
    return np.stack([as_evaluated(pixels.read(int(n)), view.resolution, view.fit) for n in numbers_N])


def _as_image(pixels_HWC: Pixels) -> Pixels:
    """Pillow's greyscale images have no axis of channels."""
    return pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC


def with_channels(pixels: Pixels) -> Pixels:
    """(H, W, channels) also of a greyscale image."""
    return pixels if pixels.ndim == 3 else pixels[..., None]
