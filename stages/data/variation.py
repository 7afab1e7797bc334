"""How an image is varied in training: a random crop, mirrored or not, and by how much its colours change.

The colours themselves are changed in whole batches (:mod:`stages.data.colours`).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from stages.data.geometry import Picture, as_evaluated, height_width, window_of
from stages.data.view import View

ASPECT = (3 / 4, 4 / 3)
CROP_TRIES = 10

Varied = tuple[Tensor, NDArray[np.float64]]
"""Pixels uint8 (resolution, resolution, channels); factors of saturation, contrast and brightness (3,)."""


def as_varied(picture: Picture, view: View, rng: np.random.Generator) -> Varied:
    """A random crop of an image, perhaps mirrored, and the factors by which its colours are to change.

    Without a random crop it is shown as in evaluation. All that is random is drawn from ``rng``, in a fixed
    order. PyTorch resizes 8-bit pixels of this order three times as fast as Pillow.
    """
    augmentation, resolution = view.augmentation, view.resolution
    if augmentation.crop_scale < 1:
        rows, columns = _random_window(*height_width(picture), augmentation.crop_scale, rng)
        pixels_HWC = _resized(torch.from_numpy(window_of(picture, rows, columns)), resolution)
    else:
        pixels_HWC = torch.from_numpy(as_evaluated(picture, resolution, view.fit).copy())
    if augmentation.flip and rng.random() < 0.5:
        pixels_HWC = pixels_HWC.flip(1)
    if not augmentation.colour:
        return pixels_HWC, np.ones(3)
    return pixels_HWC, rng.uniform(1 - augmentation.colour, 1 + augmentation.colour, 3)


def _resized(pixels_HWC: Tensor, resolution: int) -> Tensor:
    """Bilinear over the whole area of each new pixel, as Pillow does it."""
    x_NCHW = pixels_HWC[None].permute(0, 3, 1, 2)
    resized = interpolate(x_NCHW, (resolution, resolution), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0)


def _random_window(height: int, width: int, smallest: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns: of ``smallest`` to all of the area and an aspect of 3:4 to 4:3 (arXiv 1409.4842).

    Where that does not fit, the largest square in the middle; at least one pixel.
    """
    for _ in range(CROP_TRIES):
        area = height * width * rng.uniform(smallest, 1.0)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        crop_width, crop_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if crop_width <= width and crop_height <= height:
            rows, columns = max(1, round(crop_height)), max(1, round(crop_width))
            top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
            return slice(top, top + rows), slice(left, left + columns)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)
