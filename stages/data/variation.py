"""How an image is varied in training: a random crop, mirrored or not, its colours changed.

Each step is done on 8-bit pixels and takes the fastest way that was found (``benchmarks.photo_loading``):
PyTorch resizes 8-bit pixels in the order height, width, channel three times as fast as Pillow, and Pillow
applies a matrix to colours faster than NumPy or PyTorch do.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from stages.data.geometry import Pixels, as_evaluated, with_channels
from stages.data.view import View

LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue, as Pillow's mode L has it (ITU-R BT.601)."""
ASPECT = (3 / 4, 4 / 3)
CROP_TRIES = 10
_MEAN_SIDE = 32
"""The mean grey value is that of about so many rows and columns."""

Window = tuple[slice, slice]
"""Rows and columns of an image, at least one of each."""


def as_varied(pixels_HWC: Pixels, view: View, rng: np.random.Generator) -> Pixels:
    """A random crop of an image, perhaps mirrored, its colours changed: (resolution, resolution, channels).

    Without a random crop it is shown as in evaluation. All that is random is drawn from ``rng``, in a fixed
    order.
    """
    augmentation, resolution = view.augmentation, view.resolution
    if augmentation.crop_scale < 1:
        window = _random_window(*pixels_HWC.shape[:2], augmentation.crop_scale, rng)
        shown_HWC = _resized(_tensor(pixels_HWC[window]), resolution)
    else:
        shown_HWC = _tensor(as_evaluated(pixels_HWC, resolution, view.fit))
    if augmentation.flip and rng.random() < 0.5:
        shown_HWC = shown_HWC.flip(1)
    varied_HWC: Pixels = shown_HWC.numpy()
    if augmentation.colour:
        return _recoloured(varied_HWC, *rng.uniform(1 - augmentation.colour, 1 + augmentation.colour, 3))
    return varied_HWC


def _tensor(pixels_HWC: Pixels) -> Tensor:
    """A copy: what is cached may not be written, and PyTorch takes only what may."""
    return torch.from_numpy(np.array(pixels_HWC, order="C", copy=True))


def _resized(pixels_HWC: Tensor, resolution: int) -> Tensor:
    """Bilinear over the whole area of each new pixel, as Pillow does it."""
    x_NCHW = pixels_HWC[None].permute(0, 3, 1, 2)
    resized = interpolate(x_NCHW, (resolution, resolution), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0)


def _recoloured(pixels_HWC: Pixels, saturation: float, contrast: float, brightness: float) -> Pixels:
    """The changes of Pillow's ImageEnhance, in that order, as one linear map of each pixel's channels."""
    step = max(1, len(pixels_HWC) // _MEAN_SIDE)
    mean_C = pixels_HWC[::step, ::step].mean((0, 1))
    gain = brightness * contrast
    if pixels_HWC.shape[2] == 1:
        offset = brightness * (1 - contrast) * float(mean_C[0])
        table = (gain * np.arange(256) + offset).round().clip(0, 255).astype(np.uint8)
        return table[pixels_HWC]
    offset = brightness * (1 - contrast) * float(mean_C @ LUMINANCE)
    matrix_33 = gain * (saturation * np.eye(3) + (1 - saturation) * np.array(LUMINANCE))
    rows_34 = np.hstack([matrix_33, np.full((3, 1), offset)])
    image = Image.fromarray(pixels_HWC).convert("RGB", matrix=tuple(map(float, rows_34.ravel())))
    return with_channels(np.asarray(image))


def _random_window(height: int, width: int, smallest: float, rng: np.random.Generator) -> Window:
    """Of ``smallest`` to all of the area and an aspect of 3:4 to 4:3, where it fits (arXiv 1409.4842).

    In whole pixels.
    """
    for _ in range(CROP_TRIES):
        area = height * width * rng.uniform(smallest, 1.0)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        crop_width, crop_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if crop_width <= width and crop_height <= height:
            rows, columns = max(1, round(crop_height)), max(1, round(crop_width))
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            return slice(top, top + rows), slice(left, left + columns)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)
