"""From an image of any size to the square that a network takes: as evaluated, and as varied in training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

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
LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue, as Pillow's mode L has it (ITU-R BT.601)."""
ASPECT = (3 / 4, 4 / 3)
CROP_TRIES = 10


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
    return _array(_resized(pixels_HWC, box, resolution))


def evaluated_NHWC(pixels: PixelSource, numbers_N: NDArray[np.int64], view: View) -> NDArray[np.uint8]:
    """Chosen images as evaluation shows them: uint8 (n, resolution, resolution, channels)."""
    return np.stack([as_evaluated(pixels.read(int(n)), view.resolution, view.fit) for n in numbers_N])


def as_varied(pixels_HWC: Pixels, view: View, rng: np.random.Generator) -> Pixels:
    """A random crop of an image, perhaps mirrored, its colours changed: (resolution, resolution, channels).

    Without a random crop it is shown as in evaluation. All that is random is drawn from ``rng``, in a fixed
    order.
    """
    augmentation, resolution = view.augmentation, view.resolution
    height, width = pixels_HWC.shape[:2]
    if augmentation.crop_scale < 1:
        image = _resized(pixels_HWC, _random_box(height, width, augmentation.crop_scale, rng), resolution)
    else:
        image = Image.fromarray(_as_image(as_evaluated(pixels_HWC, resolution, view.fit)))
    if augmentation.flip and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.colour:
        image = _recoloured(image, *rng.uniform(1 - augmentation.colour, 1 + augmentation.colour, 3))
    return _array(image)


def _recoloured(image: Image.Image, saturation: float, contrast: float, brightness: float) -> Image.Image:
    """The changes of Pillow's ImageEnhance, in that order, as one linear map of each pixel's channels."""
    grey = image.convert("L")
    offset = brightness * (1 - contrast) * ImageStat.Stat(grey).mean[0]
    gain = brightness * contrast
    if image.mode == "L":
        return image.point([min(255, max(0, round(gain * value + offset))) for value in range(256)])
    matrix_33 = gain * (saturation * np.eye(3) + (1 - saturation) * np.array(LUMINANCE))
    rows_34 = np.hstack([matrix_33, np.full((3, 1), offset)])
    return image.convert("RGB", matrix=tuple(map(float, rows_34.ravel())))


def _random_box(height: int, width: int, smallest: float, rng: np.random.Generator) -> Box:
    """Of ``smallest`` to all of the area and an aspect of 3:4 to 4:3, where it fits (arXiv 1409.4842)."""
    for _ in range(CROP_TRIES):
        area = height * width * rng.uniform(smallest, 1.0)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        crop_width, crop_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if crop_width <= width and crop_height <= height:
            left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    side = float(min(height, width))
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _resized(pixels_HWC: Pixels, box: Box, resolution: int) -> Image.Image:
    image = Image.fromarray(_as_image(pixels_HWC))
    return image.resize((resolution, resolution), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)


def _as_image(pixels_HWC: Pixels) -> Pixels:
    """Pillow's greyscale images have no axis of channels."""
    return pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC


def _array(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
